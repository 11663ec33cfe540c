//! The writer of all output; it accepts only text that is safe to show.

use std::io::{self, Write};

use serde::Serialize;

use crate::printable::{Block, Printable, escaped_json, without_commands};
use crate::wrap::wrapped;

/// Writes to a terminal, a file or a pipe. No method accepts a plain string; see [`text!`](macro@crate::text).
///
/// ```compile_fail
/// # fn show(out: &mut stagewright_report::Printer, name: String) -> std::io::Result<()> {
/// out.line(name)
/// # }
/// ```
/// ```compile_fail
/// # fn show(out: &mut stagewright_report::Printer, name: String) -> std::io::Result<()> {
/// writeln!(out, "{name}")
/// # }
/// ```
/// ```
/// # use stagewright_report::text;
/// # fn show(out: &mut stagewright_report::Printer, name: String) -> std::io::Result<()> {
/// out.line(text!("{name}"))
/// # }
/// ```
pub struct Printer {
    writer: Box<dyn Write + Send>,
    columns: Option<usize>,
}

impl Printer {
    /// Writes to `writer`, and doesn't wrap lines.
    pub fn new(writer: impl Write + Send + 'static) -> Printer {
        Printer { writer: Box::new(writer), columns: None }
    }

    /// The same for a terminal of this width: longer lines are wrapped between words.
    #[must_use]
    pub fn wrapping(self, columns: usize) -> Printer {
        Printer { columns: Some(columns), ..self }
    }

    /// Writes a line.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn line(&mut self, line: Printable) -> io::Result<()> {
        self.lines([line])
    }

    /// Writes lines in a single call of the writer.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn lines(&mut self, lines: impl IntoIterator<Item = Printable>) -> io::Result<()> {
        self.block(&lines.into_iter().collect())
    }

    /// Writes a block in a single call of the writer, so that the output of other threads can't come in between.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn block(&mut self, block: &Block) -> io::Result<()> {
        let Some(columns) = self.columns else { return self.verbatim(block) };
        let mut text = String::with_capacity(block.as_str().len());
        for line in block.as_str().lines().flat_map(|line| wrapped(line, columns)) {
            text.push_str(&line);
            text.push('\n');
        }
        self.writer.write_all(text.as_bytes())
    }

    /// Writes a block without wrapping it, whatever the terminal's width: for file contents such as an image or a script.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn verbatim(&mut self, block: &Block) -> io::Result<()> {
        self.writer.write_all(block.as_str().as_bytes())
    }

    /// Writes a prompt without a line end, and flushes.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn prompt(&mut self, text: &Printable) -> io::Result<()> {
        self.writer.write_all(without_commands(text.as_str()).as_bytes())?;
        self.writer.flush()
    }

    /// Writes a value as a line of JSON, with every invisible character escaped.
    ///
    /// # Errors
    /// When the writer fails, or JSON can't express the value.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.write_json(serde_json::to_string(value)?)
    }

    /// The same, indented over several lines.
    ///
    /// # Errors
    /// When the writer fails, or JSON can't express the value.
    pub fn json_pretty(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.write_json(serde_json::to_string_pretty(value)?)
    }

    fn write_json(&mut self, json: String) -> io::Result<()> {
        let mut json = escaped_json(json);
        json.push('\n');
        self.writer.write_all(json.as_bytes())
    }

    /// Flushes the writer.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A printer for observers, which have no way to return an error: it keeps the first error, and writes nothing after it.
pub(crate) struct ObserverOutput {
    printer: Printer,
    result: io::Result<()>,
}

impl ObserverOutput {
    pub(crate) fn new(printer: Printer) -> ObserverOutput {
        ObserverOutput { printer, result: Ok(()) }
    }

    pub(crate) fn block(&mut self, block: &Block) {
        if self.result.is_ok() && !block.as_str().is_empty() {
            self.result = self.printer.block(block).and_then(|()| self.printer.flush());
        }
    }

    pub(crate) fn json(&mut self, value: &impl Serialize) {
        if self.result.is_ok() {
            self.result = self.printer.json(value).and_then(|()| self.printer.flush());
        }
    }

    /// The first error since the last call.
    pub(crate) fn take_result(&mut self) -> io::Result<()> {
        std::mem::replace(&mut self.result, Ok(()))
    }
}
