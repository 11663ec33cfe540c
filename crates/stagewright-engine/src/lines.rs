//! Log lines in one string, so that no line is allocated or sent individually.

use memchr::memchr_iter;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stagewright_model::StageIndex;

use crate::event::{Event, EventKind, Stream, Timestamp};

/// Complete log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Each with its line end.
    text: String,
    count: usize,
}

impl Lines {
    /// Splits the text at `\n`; a missing `\n` at the end is added.
    pub fn new(mut text: String) -> Lines {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let count = memchr_iter(b'\n', text.as_bytes()).count();
        Lines { text, count }
    }

    /// The number of lines.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The size in bytes, line ends included.
    pub fn size(&self) -> usize {
        self.text.len()
    }

    /// The lines without their line ends.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut next = 0;
        let line = move |end| &self.text[std::mem::replace(&mut next, end + 1)..end];
        memchr_iter(b'\n', self.text.as_bytes()).map(line)
    }

    /// The leading lines: at most `count`, and at most `size` bytes in total.
    #[must_use]
    pub fn first(mut self, count: usize, size: usize) -> Lines {
        if count < self.count || size < self.text.len() {
            let mut end = 0;
            self.count = 0;
            for line in self.text.split_inclusive('\n').take(count) {
                if end + line.len() > size {
                    break;
                }
                end += line.len();
                self.count += 1;
            }
            self.text.truncate(end);
        }
        self
    }
}

/// Lines that a stage logged at once: each is an [`EventKind::Log`].
#[derive(Clone, Copy, Debug)]
pub struct LogChunk<'a> {
    /// The `seq` of the run's last event before them.
    pub seq: u64,
    /// The time at which they arrived.
    pub at: Timestamp,
    /// The stage that logged them.
    pub stage: StageIndex,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Where they came from.
    pub stream: Stream,
    /// The lines themselves.
    pub lines: &'a Lines,
}

impl LogChunk<'_> {
    /// One event per line.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        let LogChunk { seq, at, stage, attempt, stream, lines } = *self;
        let event = move |line: &str| {
            let kind = EventKind::Log { stage, attempt, stream, line: line.to_owned() };
            Event { seq, at, kind }
        };
        lines.iter().map(event)
    }
}

/// Serialised as one string, each line with its line end.
impl Serialize for Lines {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lines, D::Error> {
        String::deserialize(deserializer).map(Lines::new)
    }
}

impl From<&str> for Lines {
    fn from(text: &str) -> Lines {
        Lines::new(text.to_owned())
    }
}

impl<T: AsRef<str>> FromIterator<T> for Lines {
    fn from_iter<I: IntoIterator<Item = T>>(lines: I) -> Lines {
        let mut text = String::new();
        for line in lines {
            text.extend([line.as_ref(), "\n"]);
        }
        Lines::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_split_at_line_feeds() {
        for (text, expected) in [("", &[][..]), ("a", &["a"]), ("\n", &[""]), ("a\n\nb\r\n", &["a", "", "b\r"])] {
            let lines = Lines::from(text);
            assert_eq!(lines.iter().collect::<Vec<_>>(), expected);
            assert_eq!((lines.count(), Lines::from_iter(expected)), (expected.len(), lines));
        }
    }

    #[test]
    fn truncation_keeps_whole_lines() {
        let first = |count, size| Lines::from("one\ntwo\nthree").first(count, size).iter().collect::<String>();
        assert_eq!(
            (first(9, 99), first(2, 99), first(9, 8), first(9, 7)),
            ("onetwothree".to_owned(), "onetwo".to_owned(), "onetwo".to_owned(), "one".to_owned())
        );
        assert_eq!(Lines::from("one\ntwo").first(1, 99), Lines::from("one"));
    }
}
