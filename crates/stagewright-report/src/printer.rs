//! The one writer of what people and programs read: it takes text that is safe to show, and no other.

use std::io::{self, Write};

use serde::Serialize;

use crate::printable::{Block, Printable, escaped_json, without_commands};
use crate::wrap::wrapped;

/// Writes to a terminal, a file or a pipe. It has no method that takes a string: see [`text!`](macro@crate::text).
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
    /// Onto `writer`.
    pub fn new(writer: impl Write + Send + 'static) -> Printer {
        Printer { writer: Box::new(writer), columns: None }
    }

    /// The same, for a terminal of so many columns: wider lines are broken between words.
    #[must_use]
    pub fn wrapping(self, columns: usize) -> Printer {
        Printer { columns: Some(columns), ..self }
    }

    /// A line.
    ///
    /// # Errors
    /// The writer's, here and below.
    pub fn line(&mut self, line: Printable) -> io::Result<()> {
        self.lines([line])
    }

    /// Lines, in one piece.
    ///
    /// # Errors
    /// The writer's.
    pub fn lines(&mut self, lines: impl IntoIterator<Item = Printable>) -> io::Result<()> {
        self.block(&lines.into_iter().collect())
    }

    /// Lines, in one piece, so that nothing else gets in between.
    ///
    /// # Errors
    /// The writer's.
    pub fn block(&mut self, block: &Block) -> io::Result<()> {
        let Some(columns) = self.columns else { return self.verbatim(block) };
        let mut text = String::with_capacity(block.as_str().len());
        for line in block.as_str().lines().flat_map(|line| wrapped(line, columns)) {
            text.push_str(&line);
            text.push('\n');
        }
        self.writer.write_all(text.as_bytes())
    }

    /// Lines that are left whole, whatever the terminal's width: those of a file, such as a picture or a script.
    ///
    /// # Errors
    /// The writer's.
    pub fn verbatim(&mut self, block: &Block) -> io::Result<()> {
        self.writer.write_all(block.as_str().as_bytes())
    }

    /// The beginning of a line that a person is to end, shown at once.
    ///
    /// # Errors
    /// The writer's.
    pub fn prompt(&mut self, text: &Printable) -> io::Result<()> {
        self.writer.write_all(without_commands(text.as_str()).as_bytes())?;
        self.writer.flush()
    }

    /// A line of JSON, in which every invisible character is escaped.
    ///
    /// # Errors
    /// The writer's, and those of a value that JSON can't express.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.written_json(serde_json::to_string(value)?)
    }

    /// The same over several lines.
    ///
    /// # Errors
    /// The writer's, and those of a value that JSON can't express.
    pub fn json_pretty(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.written_json(serde_json::to_string_pretty(value)?)
    }

    fn written_json(&mut self, json: String) -> io::Result<()> {
        let mut json = escaped_json(json);
        json.push('\n');
        self.writer.write_all(json.as_bytes())
    }

    /// What was written is to be seen now.
    ///
    /// # Errors
    /// The writer's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A printer that takes nothing more after the first error, for readers of events, which can't report it.
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
