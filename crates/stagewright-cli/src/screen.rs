//! What a person sees of a run, in the format that was asked for; and the one place where they are asked something.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use stagewright_engine::Observer;
use stagewright_report::{Github, Json, Plain, ProgressDrawTarget, Terminal, TerminalOptions};

use crate::args::{ColorChoice, Format, Global};
use crate::clock::SystemClock;

/// Between two redraws of what runs now.
const TICK: Duration = Duration::from_millis(100);

/// Where the run is shown; a terminal can also be asked at.
#[derive(Default)]
pub(crate) struct Screen {
    terminal: Option<Terminal>,
}

impl Screen {
    /// Runs `question` with nothing else drawing. The run goes on meanwhile.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&mut dyn BufRead, &mut dyn Write) -> T) -> T {
        let asked = || question(&mut std::io::stdin().lock(), &mut std::io::stderr());
        match &self.terminal {
            Some(terminal) => terminal.suspend(asked),
            None => asked(),
        }
    }
}

/// Whether both ends of a conversation are there.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Whether to colour what goes to standard error.
pub(crate) fn colors(global: &Global) -> bool {
    match global.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    }
}

/// The reader of events for a format. Live progress goes to standard error, everything else to standard output.
pub(crate) fn open(global: &Global, format: Format) -> (Arc<Screen>, Box<dyn Observer>) {
    if format == Format::Text && std::io::stderr().is_terminal() && global.color != ColorChoice::Never {
        return live(global);
    }
    (Arc::new(Screen::default()), lines(format))
}

/// A reader that writes lines to standard output and draws nothing.
pub(crate) fn lines(format: Format) -> Box<dyn Observer> {
    let out = || Box::new(std::io::stdout());
    match format {
        Format::Text => Box::new(Plain::new(out())),
        Format::Json => Box::new(Json::new(out())),
        Format::Github => Box::new(Github::new(out())),
    }
}

fn live(global: &Global) -> (Arc<Screen>, Box<dyn Observer>) {
    let options = TerminalOptions { width: width(), color: colors(global), verbose: global.verbose > 0 };
    let terminal = Terminal::new(ProgressDrawTarget::stderr(), options);
    let screen = Arc::new(Screen { terminal: Some(terminal.clone()) });
    let ticking = Arc::downgrade(&screen);
    std::thread::spawn(move || {
        while let Some(screen) = ticking.upgrade() {
            screen.terminal.iter().for_each(|terminal| terminal.tick(SystemClock::timestamp()));
            drop(screen);
            std::thread::sleep(TICK);
        }
    });
    (screen, Box::new(terminal))
}

/// Columns of the terminal that standard error is; 80 where it is none.
pub(crate) fn width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col.max(20)))
}
