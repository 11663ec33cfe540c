//! Standard output and standard error. No other module opens them: all output of commands goes through a [`Printer`],
//! which accepts only text that is safe to show.
#![expect(clippy::disallowed_methods, reason = "everything else gets its printer from here")]

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Mutex, PoisonError};

use clap::error::ContextValue;
use stagewright_report::{Block, Printable, Printer, text};

use crate::global::ColorChoice;

/// The smallest width that is used, in columns, whatever the terminal reports.
const NARROWEST: usize = 20;

/// A printer for results, on standard output.
pub(crate) fn out() -> Printer {
    wrapping(Printer::new(io::stdout()), io::stdout())
}

/// The same for an observer of events, which can't return errors: they are recorded in the second value.
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

/// The first error of a writer that was handed to an observer.
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

/// A printer for everything but results, on standard error.
pub(crate) fn err() -> Printer {
    wrapping(Printer::new(io::stderr()), io::stderr())
}

/// Writes a line to standard error. A write error is ignored: it doesn't affect the command.
pub(crate) fn say(line: Printable) {
    let _ = err().line(line);
}

/// The same for several lines.
pub(crate) fn show(block: &Block) {
    let _ = err().block(block);
}

/// Whether a person can be asked: both standard input and standard error are terminals.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && is_terminal()
}

/// Whether standard error is a terminal.
fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether lines on standard error can be redrawn in place.
pub(crate) fn can_redraw(color: ColorChoice) -> bool {
    is_terminal() && color != ColorChoice::Never && is_capable()
}

fn is_capable() -> bool {
    knows_sequences(std::env::var("TERM").ok().as_deref())
}

/// Whether a terminal with this `TERM` understands control sequences. False without a value: the progress library draws
/// nothing at all in that case, so plain lines have to be written instead.
fn knows_sequences(term: Option<&str>) -> bool {
    term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Whether to use colours on standard error.
pub(crate) fn colors(color: ColorChoice) -> bool {
    match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => may_color(is_terminal()),
    }
}

fn may_color(is_terminal: bool) -> bool {
    // By <https://no-color.org>, an empty value has no effect.
    is_terminal && is_capable() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Width of standard error in columns; 80 if it isn't a terminal.
pub(crate) fn width() -> usize {
    columns(io::stderr()).unwrap_or(80)
}

/// Width of the terminal `stream` in columns; none if it isn't a terminal. A terminal that doesn't know its size, such as
/// a serial line, reports 0: then `COLUMNS` is used, or else 80.
fn columns(stream: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    let named = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|&columns| columns > 0);
    let columns = Some(usize::from(size.ws_col)).filter(|&columns| columns > 0).or_else(named).unwrap_or(80);
    Some(columns.max(NARROWEST))
}

/// Shows an error in the command line, or the requested help. Clap repeats arguments verbatim and returns text that is
/// already laid out, so the arguments have to be escaped before it renders them.
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
            // All other values are made by clap from our own option names.
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

/// Writes the records of `tracing` to standard error; each call of `write` is one line.
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

/// Installs a panic hook that escapes the panic message, which may contain untrusted text.
pub(crate) fn hook_panics() {
    panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        show(&Block::of(&info.to_string()));
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => show(&Block::of(&trace.to_string())),
            _ => say(text!("note: run with RUST_BACKTRACE=1 for a backtrace")),
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_without_a_name_and_dumb_ones_get_plain_lines() {
        assert!(knows_sequences(Some("xterm")) && knows_sequences(Some("dumber")));
        for term in [None, Some(""), Some("dumb")] {
            assert!(!knows_sequences(term), "{term:?}");
        }
    }
}
