//! The note beside a record that a stage has changed: a TXT record at `_stagewright.NAME`, with the token and the run of the change,
//! and what the record was before. It changes together with the record.

use std::time::Duration;

/// How a note begins.
const START: &str = "stagewright";
/// The longest text of a TXT record in one piece (RFC 1035, section 3.3.14).
const PIECE: usize = 255;

/// The values of a name, and how long others may keep them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    /// Sorted; none if the name has no such record.
    pub(crate) data: Vec<String>,
    /// In seconds.
    pub(crate) ttl: u64,
}

/// What a stage has noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) token: u64,
    pub(crate) run: String,
    /// What the record was before the run.
    pub(crate) before: Values,
}

impl Values {
    pub(crate) fn lifetime(&self) -> Duration {
        Duration::from_secs(self.ttl)
    }
}

impl Note {
    pub(crate) fn text(&self) -> String {
        let Note { token, run, before } = self;
        let mut words =
            vec![START.to_owned(), format!("token={token}"), format!("run={run}"), format!("ttl={}", before.ttl)];
        words.extend(before.data.iter().map(|value| format!("before={value}")));
        words.join(" ")
    }

    /// None for a text that isn't a note.
    pub(crate) fn parse(text: &str) -> Option<Note> {
        let mut words = text.split(' ');
        (words.next() == Some(START)).then_some(())?;
        let mut note = Note { token: 0, run: String::new(), before: Values::default() };
        for word in words {
            match word.split_once('=')? {
                ("token", token) => note.token = token.parse().ok()?,
                ("run", run) => run.clone_into(&mut note.run),
                ("ttl", ttl) => note.before.ttl = ttl.parse().ok()?,
                ("before", value) => note.before.data.push(value.to_owned()),
                _ => return None,
            }
        }
        Some(note)
    }

    /// Its text as a TXT record has it: in quotes, in pieces.
    pub(crate) fn data(&self) -> String {
        let text = self.text();
        let pieces = text.as_bytes().chunks(PIECE).map(String::from_utf8_lossy);
        pieces.map(|piece| format!("\"{piece}\"")).collect::<Vec<_>>().join(" ")
    }
}

/// The name of the note beside a record.
pub(crate) fn name_of(record: &str, kind: &str) -> String {
    format!("_stagewright-{}.{record}", kind.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let before = Values { data: vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()], ttl: 60 };
        let note = Note { token: 7, run: "r-1".to_owned(), before };
        assert_eq!(note.text(), "stagewright token=7 run=r-1 ttl=60 before=192.0.2.1 before=192.0.2.2");
        assert_eq!(Note::parse(&note.text()), Some(note.clone()));
        let long = Note { before: Values { data: vec!["x".repeat(200); 2], ttl: 1 }, ..note };
        assert_eq!(long.data().matches('"').count(), 4);
        for other in ["", "v=spf1 -all", "stagewright token=x", "stagewright sign=1"] {
            assert_eq!(Note::parse(other), None, "{other}");
        }
    }
}
