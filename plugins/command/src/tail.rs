//! The last lines of a stream.

/// How many lines are returned: enough for a panic or the top of a stack trace.
const LINES: usize = 20;
/// How many bytes at the end of the stream are searched for them.
const KEPT: usize = 64 << 10;

/// Keeps the end of a stream.
#[derive(Default)]
pub(crate) struct Tail(Vec<u8>);

impl Tail {
    pub(crate) fn push(&mut self, data: &[u8]) {
        let data = &data[data.len().saturating_sub(KEPT)..];
        // `drain` moves the bytes that are kept, so it is called only once the buffer has twice as many as needed.
        if self.0.len() + data.len() > 2 * KEPT {
            self.0.drain(..self.0.len().saturating_sub(KEPT - data.len()));
        }
        self.0.extend_from_slice(data);
    }

    /// The last lines that aren't blank.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.0);
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let mut last: Vec<String> = lines.rev().take(LINES).map(str::to_owned).collect();
        last.reverse();
        last
    }
}
