//! What a person sees of a run, in the format that was asked for; and the one place where they are asked something.

use std::io::{self, BufRead, Read, StdinLock};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stagewright_report::{
    Block, Github, Json, Plain, Printer, ProgressDrawTarget, RunReader, Terminal, TerminalOptions,
};
use stagewright_session::SystemClock;

use crate::console::{self, WriteErrors};
use crate::drive_args::OutputFormat;
use crate::global::Global;

/// Between two redraws of what runs now.
const TICK: Duration = Duration::from_millis(100);

/// How often a question looks whether it is still one.
const LOOK: Duration = Duration::from_millis(200);

/// Where the run is shown; a terminal can also be asked at.
#[derive(Default)]
pub(crate) struct Screen {
    terminal: Option<Terminal>,
    written: WriteErrors,
}

impl Screen {
    /// Runs `question` with nothing else drawing. The run goes on meanwhile. The input ends when nobody wants an answer
    /// any more.
    pub(crate) fn ask<T>(
        &self,
        wanted: &dyn Fn() -> bool,
        question: impl FnOnce(&mut dyn BufRead, &mut Printer) -> T,
    ) -> T {
        let asked = || {
            let mut input = Typed { input: std::io::stdin().lock(), left: 0, wanted };
            let answer = question(&mut input, &mut console::err());
            if !wanted() {
                console::show(&Block::of("\n  (no longer asked)"));
            }
            answer
        };
        match &self.terminal {
            Some(terminal) => terminal.suspend(asked),
            None => asked(),
        }
    }

    /// The first error of what was written to standard output.
    pub(crate) fn written(&self) -> io::Result<()> {
        self.written.take()
    }

    /// Waits until a question that nobody wants answered has left the screen, so that the end of the run is seen.
    pub(crate) fn settle(&self) {
        let deadline = Instant::now() + 4 * LOOK;
        while self.terminal.as_ref().is_some_and(Terminal::is_suspended) && Instant::now() < deadline {
            std::thread::sleep(LOOK / 10);
        }
    }
}

/// Standard input as long as somebody wants to read it.
struct Typed<'a> {
    input: StdinLock<'static>,
    /// Bytes that were read and not used.
    left: usize,
    wanted: &'a dyn Fn() -> bool,
}

impl Typed<'_> {
    /// Waits for something to be typed. False when nobody wants it any more.
    fn comes(&self) -> io::Result<bool> {
        let look = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
        while (self.wanted)() {
            if poll(&mut [PollFd::new(&self.input, PollFlags::IN)], Some(&look))? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Read for Typed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let typed = self.fill_buf()?;
        let length = typed.len().min(buffer.len());
        buffer[..length].copy_from_slice(&typed[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Typed<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 && !self.comes()? {
            return Ok(&[]);
        }
        let typed = self.input.fill_buf()?;
        self.left = typed.len();
        Ok(typed)
    }

    fn consume(&mut self, amount: usize) {
        self.left -= amount;
        self.input.consume(amount);
    }
}

/// The reader of events for a format. Live progress goes to standard error, everything else to standard output.
pub(crate) fn open(global: &Global, format: OutputFormat) -> (Arc<Screen>, Box<dyn RunReader>) {
    let target = ProgressDrawTarget::stderr();
    // A hidden target draws nothing, not even what has ended.
    if format == OutputFormat::Text && console::can_redraw(global.color) && !target.is_hidden() {
        return live(global, target);
    }
    let (reader, written) = lines(format);
    (Arc::new(Screen { terminal: None, written }), reader)
}

/// A reader that writes lines to standard output and draws nothing, and what errors that gives.
pub(crate) fn lines(format: OutputFormat) -> (Box<dyn RunReader>, WriteErrors) {
    let (out, written) = console::watched_out();
    let reader: Box<dyn RunReader> = match format {
        OutputFormat::Text => Box::new(Plain::new(out)),
        OutputFormat::Json => Box::new(Json::new(out)),
        OutputFormat::Github => Box::new(Github::new(out)),
    };
    (reader, written)
}

fn live(global: &Global, target: ProgressDrawTarget) -> (Arc<Screen>, Box<dyn RunReader>) {
    let options =
        TerminalOptions { width: console::width(), color: console::colors(global.color), verbose: global.verbose > 0 };
    let terminal = Terminal::new(target, options);
    let screen = Arc::new(Screen { terminal: Some(terminal.clone()), written: WriteErrors::default() });
    let ticking = Arc::downgrade(&screen);
    std::thread::spawn(move || {
        while let Some(screen) = ticking.upgrade() {
            screen.terminal.iter().for_each(|terminal| {
                terminal.resize(console::width());
                terminal.tick(SystemClock::timestamp());
            });
            drop(screen);
            std::thread::sleep(TICK);
        }
    });
    (screen, Box::new(terminal))
}
