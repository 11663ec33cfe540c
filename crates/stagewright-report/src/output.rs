//! The writer that a reader of events was given.

use std::io::{self, Write};

/// Takes whole texts, and nothing more after the first error.
pub(crate) struct Output {
    writer: Box<dyn Write + Send>,
    result: io::Result<()>,
}

impl Output {
    pub(crate) fn new(writer: Box<dyn Write + Send>) -> Output {
        Output { writer, result: Ok(()) }
    }

    /// In one piece, so that nothing else gets in between.
    pub(crate) fn write(&mut self, text: &str) {
        if self.result.is_ok() && !text.is_empty() {
            self.result = self.writer.write_all(text.as_bytes()).and_then(|()| self.writer.flush());
        }
    }

    /// The first error since the last call.
    pub(crate) fn take_result(&mut self) -> io::Result<()> {
        std::mem::replace(&mut self.result, Ok(()))
    }
}
