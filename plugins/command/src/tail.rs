//! The last lines of a stream.

/// Enough to hold a panic or a stack trace's top.
const LINES: usize = 20;
/// Bytes that they are looked for in.
const KEPT: usize = 64 << 10;

/// Keeps the end of what is pushed.
#[derive(Default)]
pub(crate) struct Tail(Vec<u8>);

impl Tail {
    pub(crate) fn push(&mut self, data: &[u8]) {
        let data = &data[data.len().saturating_sub(KEPT)..];
        // Not each time: what is kept is moved.
        if self.0.len() + data.len() > 2 * KEPT {
            self.0.drain(..self.0.len().saturating_sub(KEPT - data.len()));
        }
        self.0.extend_from_slice(data);
    }

    /// The last lines that aren't blank.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.0);
        let said = text.lines().filter(|line| !line.trim().is_empty());
        let mut last: Vec<String> = said.rev().take(LINES).map(str::to_owned).collect();
        last.reverse();
        last
    }
}
