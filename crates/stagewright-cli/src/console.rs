//! Standard output and standard error: the only place that opens them. All that a command says goes through a
//! [`Printer`], which takes nothing but text that is safe to show.
#![expect(clippy::disallowed_methods, reason = "everything else gets its printer from here")]

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Mutex, PoisonError};

use clap::error::ContextValue;
use stagewright_report::{Block, Printable, Printer, text};

use crate::global::ColorChoice;

/// Columns that a terminal is taken to have at least.
const NARROWEST: usize = 20;

/// Where results go.
pub(crate) fn out() -> Printer {
    wrapping(Printer::new(io::stdout()), io::stdout())
}

/// The same for a reader of events, which can't return errors: they are found in what comes with it.
pub(crate) fn watched_out() -> (Printer, WriteErrors) {
    let errors = WriteErrors::default();
    let writer = WatchedStdout { writer: io::stdout(), errors: errors.clone() };
    (wrapping(Printer::new(writer), io::stdout()), errors)
}

fn wrapping(printer: Printer, stream: impl AsFd) -> Printer {
    match columns(stream) {
        Some(columns) => printer.wrapping(columns),
        None => printer,
    }
}

/// The first error of a writer that someone else has.
#[derive(Clone, Default)]
pub(crate) struct WriteErrors(Arc<Mutex<Option<io::Error>>>);

impl WriteErrors {
    pub(crate) fn take(&self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            kind.into()
        })
    }
}

struct WatchedStdout {
    writer: io::Stdout,
    errors: WriteErrors,
}

impl Write for WatchedStdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.errors.note(self.writer.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.errors.note(self.writer.flush())
    }
}

/// Where everything else goes.
pub(crate) fn err() -> Printer {
    wrapping(Printer::new(io::stderr()), io::stderr())
}

/// Says a line on standard error. When it can't be written, the command continues.
pub(crate) fn say(line: Printable) {
    let _ = err().line(line);
}

/// The same for several lines.
pub(crate) fn show(block: &Block) {
    let _ = err().block(block);
}

/// Whether both ends of a conversation are there.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && is_terminal()
}

/// Whether standard error is a terminal, at which a person may be.
fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether what is on the screen of standard error can be drawn over.
pub(crate) fn can_redraw(color: ColorChoice) -> bool {
    is_terminal() && color != ColorChoice::Never && is_capable()
}

fn is_capable() -> bool {
    knows_sequences(std::env::var("TERM").ok().as_deref())
}

/// Whether a terminal with this `TERM` understands control sequences. Without a name it can't be known, and the library
/// that redraws would draw nothing at all.
fn knows_sequences(term: Option<&str>) -> bool {
    term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Whether to colour what goes to standard error.
pub(crate) fn colors(color: ColorChoice) -> bool {
    match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => may_color(is_terminal()),
    }
}

fn may_color(is_terminal: bool) -> bool {
    // As <https://no-color.org> has it, empty is as good as not set.
    is_terminal && is_capable() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns of the terminal that standard error is; 80 where it is none.
pub(crate) fn width() -> usize {
    columns(io::stderr()).unwrap_or(80)
}

/// Columns of the terminal that `stream` is. One that doesn't know its size says 0, as serial lines do.
fn columns(stream: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    let named = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|&columns| columns > 0);
    let columns = Some(usize::from(size.ws_col)).filter(|&columns| columns > 0).or_else(named).unwrap_or(80);
    Some(columns.max(NARROWEST))
}

/// Shows why the command line can't be used, or the help that was asked for. Clap repeats arguments as they were given,
/// and lays the text out before anybody can look at it.
pub(crate) fn show_usage(mut error: clap::Error) -> io::Result<()> {
    let given: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in given {
        let shown = |text: String| Printable::new(text).as_str().to_owned();
        match value {
            ContextValue::String(text) => drop(error.insert(kind, ContextValue::String(shown(text)))),
            ContextValue::Strings(texts) => {
                let texts = texts.into_iter().map(shown).collect();
                error.insert(kind, ContextValue::Strings(texts));
            }
            // Made by clap from the names of our options.
            _ => {}
        }
    }
    let is_terminal = if error.use_stderr() { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
    let rendered = error.render();
    let text = if may_color(is_terminal) { rendered.ansi().to_string() } else { rendered.to_string() };
    let mut printer = if error.use_stderr() { err() } else { out() };
    printer.block(&Block::styled(&text))?;
    printer.flush()
}

/// For what a library writes to standard error in pieces, a line each.
pub(crate) struct TraceWriter;

impl Write for TraceWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = text.strip_suffix('\n').unwrap_or(&text).replace('\n', "\\n");
        err().block(&Block::styled(&text))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From now on a defect is told in text that is safe to show, too.
pub(crate) fn hook_panics() {
    panic::set_hook(Box::new(|defect: &PanicHookInfo<'_>| {
        show(&Block::of(&defect.to_string()));
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => show(&Block::of(&trace.to_string())),
            _ => say(text!("note: run with RUST_BACKTRACE=1 to see where it comes from")),
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_without_a_name_gets_plain_lines() {
        assert!(knows_sequences(Some("xterm")) && knows_sequences(Some("dumber")));
        for term in [None, Some(""), Some("dumb")] {
            assert!(!knows_sequences(term), "{term:?}");
        }
    }
}
