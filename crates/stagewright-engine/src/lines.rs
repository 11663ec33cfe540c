//! Lines of a log in one text: no line is allocated or sent by itself.

use memchr::memchr_iter;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stagewright_model::StageIndex;

use crate::event::{Event, EventKind, Stream, Timestamp};

/// Complete lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Each with its line end.
    text: String,
    count: usize,
}

impl Lines {
    /// What is missing of a last line's end is added.
    pub fn new(mut text: String) -> Lines {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let count = memchr_iter(b'\n', text.as_bytes()).count();
        Lines { text, count }
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes, line ends included.
    pub fn size(&self) -> usize {
        self.text.len()
    }

    /// Each without its line end.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut next = 0;
        let line = move |end| &self.text[std::mem::replace(&mut next, end + 1)..end];
        memchr_iter(b'\n', self.text.as_bytes()).map(line)
    }

    /// The first `count` of them, as far as they come to no more than `size` bytes.
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
    /// Of the run's last event before them.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The stage.
    pub stage: StageIndex,
    /// Which try.
    pub attempt: u32,
    /// Where they came from.
    pub stream: Stream,
    /// What was logged.
    pub lines: &'a Lines,
}

impl LogChunk<'_> {
    /// An event a line.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        let LogChunk { seq, at, stage, attempt, stream, lines } = *self;
        let event = move |line: &str| {
            let kind = EventKind::Log { stage, attempt, stream, line: line.to_owned() };
            Event { seq, at, kind }
        };
        lines.iter().map(event)
    }
}

/// As one text, each line with its line end.
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
    fn lines_are_those_of_the_text() {
        for (text, expected) in [("", &[][..]), ("a", &["a"]), ("\n", &[""]), ("a\n\nb\r\n", &["a", "", "b\r"])] {
            let lines = Lines::from(text);
            assert_eq!(lines.iter().collect::<Vec<_>>(), expected);
            assert_eq!((lines.count(), Lines::from_iter(expected)), (expected.len(), lines));
        }
    }

    #[test]
    fn the_first_lines_are_whole() {
        let first = |count, size| Lines::from("one\ntwo\nthree").first(count, size).iter().collect::<String>();
        assert_eq!(
            (first(9, 99), first(2, 99), first(9, 8), first(9, 7)),
            ("onetwothree".to_owned(), "onetwo".to_owned(), "onetwo".to_owned(), "one".to_owned())
        );
        assert_eq!(Lines::from("one\ntwo").first(1, 99), Lines::from("one"));
    }
}
