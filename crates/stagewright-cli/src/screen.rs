//! Shows a run in the requested format, and asks the person at the terminal.

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

/// The time between two redraws of the running stages.
const TICK: Duration = Duration::from_millis(100);

/// How often a prompt checks whether its question is still open.
const POLL: Duration = Duration::from_millis(200);

/// The output of a run, at which a person can be asked.
#[derive(Default)]
pub(crate) struct Screen {
    terminal: Option<Terminal>,
    written: WriteErrors,
}

impl Screen {
    /// Runs `question` while nothing else draws; the run continues meanwhile. The question's input ends as soon as
    /// `is_open` returns false, because the gate was answered elsewhere or the run has ended.
    pub(crate) fn ask<T>(
        &self,
        is_open: &dyn Fn() -> bool,
        question: impl FnOnce(&mut dyn BufRead, &mut Printer) -> T,
    ) -> T {
        let ask = || {
            let mut input = PromptInput { input: std::io::stdin().lock(), unread: 0, is_open };
            let answer = question(&mut input, &mut console::err());
            if !is_open() {
                console::show(&Block::of("\n  (the question is closed)"));
            }
            answer
        };
        match &self.terminal {
            Some(terminal) => terminal.suspend(ask),
            None => ask(),
        }
    }

    /// The first error of what was written to standard output.
    pub(crate) fn written(&self) -> io::Result<()> {
        self.written.take()
    }

    /// Waits until a question that is no longer open has released the terminal.
    ///
    /// While a question has the terminal, the lines of the run are held, and they are printed only when it returns. A
    /// process that exits before that would lose the last of them, the summary included. The wait is bounded, since a
    /// prompt notices within one `POLL` that its question is closed.
    pub(crate) fn close_question(&self) {
        let deadline = Instant::now() + 4 * POLL;
        while self.terminal.as_ref().is_some_and(Terminal::is_suspended) && Instant::now() < deadline {
            std::thread::sleep(POLL / 10);
        }
    }
}

/// Standard input that ends when the question is no longer open.
///
/// A blocking read can't be interrupted: after the gate was answered elsewhere, the prompt would still wait for a line,
/// and hold the terminal. So this waits for input with a timeout, and checks between two waits whether the question is
/// still open.
struct PromptInput<'a> {
    input: StdinLock<'static>,
    /// Bytes in the buffer of `input` that were returned by `fill_buf` and not consumed. While there are any, polling the
    /// descriptor would wait for input that has been read already.
    unread: usize,
    is_open: &'a dyn Fn() -> bool,
}

impl PromptInput<'_> {
    /// Waits for input. Returns false if the question is closed before any arrives.
    fn wait(&self) -> io::Result<bool> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: POLL.subsec_nanos().into() };
        while (self.is_open)() {
            if poll(&mut [PollFd::new(&self.input, PollFlags::IN)], Some(&timeout))? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Read for PromptInput<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let typed = self.fill_buf()?;
        let length = typed.len().min(buffer.len());
        buffer[..length].copy_from_slice(&typed[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for PromptInput<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.unread == 0 && !self.wait()? {
            return Ok(&[]);
        }
        let typed = self.input.fill_buf()?;
        self.unread = typed.len();
        Ok(typed)
    }

    fn consume(&mut self, amount: usize) {
        self.unread -= amount;
        self.input.consume(amount);
    }
}

/// Opens the reader for a format. Live progress goes to standard error, everything else to standard output.
pub(crate) fn open(global: &Global, format: OutputFormat) -> (Arc<Screen>, Box<dyn RunReader>) {
    let target = ProgressDrawTarget::stderr();
    // A hidden target drops everything, including the lines that are meant to stay.
    if format == OutputFormat::Text && console::can_redraw(global.color) && !target.is_hidden() {
        return live(global, target);
    }
    let (reader, written) = lines(format);
    (Arc::new(Screen { terminal: None, written }), reader)
}

/// A reader that writes lines to standard output, with the errors of those writes.
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
