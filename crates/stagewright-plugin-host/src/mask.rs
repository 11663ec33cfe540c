//! Keeps the values of secrets out of what people and guests read.
//!
//! A backstop, not a boundary: a program that was handed a secret can always write it in a way that is not known here.
//! Which ways are known, `spelling` says, and `unescape` those that can be mixed; `needles` finds them, however the text is
//! cut into pieces or lines; `stream` replaces them.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value as Json;
use stagewright_model::SecretValue;

mod needles;
mod spelling;
mod stream;
mod unescape;

use crate::strip::stripped;
use needles::Needles;
pub(crate) use stream::MaskStream;

/// Bytes of the shortest secret that is masked: shorter ones are found by chance in any text, and masking them would
/// destroy logs and hide nothing.
pub const SHORTEST_MASKED: usize = 4;

/// A shorter spelling isn't looked for across lines: columns of numbers would be full of it.
const WRAPPED: usize = 16;

/// The secrets that are kept out of what an attempt says; shared between all that it writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masker(Arc<RwLock<Known>>);

#[derive(Clone, Debug, Default)]
struct Known {
    secrets: Vec<KnownSecret>,
    /// Made of the secrets when they are first looked for; forgotten when there is one more.
    for_person: Option<Arc<Needles>>,
    for_guest: Option<Arc<Needles>>,
}

#[derive(Clone)]
struct KnownSecret {
    value: SecretValue,
    guest: Guest,
}

impl std::fmt::Debug for KnownSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KnownSecret(…)")
    }
}

/// What a guest has to do with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Guest {
    /// Nothing: another stage's. What the guest reads is as it is, or else a short secret of some stage would spoil the
    /// answers that another one works with.
    Stranger,
    /// It holds a handle, and must not see the value.
    Holder,
    /// It may read the value, so that only people are kept from seeing it.
    Reader,
}

/// Who is going to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Everything is masked.
    Person,
    /// What it holds is masked, unless it was revealed to it.
    Guest,
}

impl Masker {
    /// From now on `value`, which the guest holds, is masked. `revealed`: the guest may read it.
    pub(crate) fn add(&self, value: impl Into<SecretValue>, revealed: bool) {
        self.learn(value.into(), if revealed { Guest::Reader } else { Guest::Holder });
    }

    /// From now on `value`, which is another stage's, is kept from people.
    pub(crate) fn add_foreign(&self, value: impl Into<SecretValue>) {
        self.learn(value.into(), Guest::Stranger);
    }

    fn learn(&self, value: SecretValue, guest: Guest) {
        if value.expose().len() < SHORTEST_MASKED {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match known.secrets.iter_mut().find(|secret| secret.value == value) {
            Some(secret) if secret.guest >= guest => return,
            Some(secret) => secret.guest = guest,
            None => {
                known.secrets.push(KnownSecret { value, guest });
                known.for_person = None;
            }
        }
        known.for_guest = None;
    }

    /// One that knows the same secrets, and learns others by itself.
    pub(crate) fn fork(&self) -> Masker {
        // Made here, so that all who fork share it.
        self.needles(Reader::Person);
        Masker(Arc::new(RwLock::new(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())))
    }

    fn needles(&self, reader: Reader) -> Arc<Needles> {
        let made = |known: &Known| match reader {
            Reader::Person => known.for_person.clone(),
            Reader::Guest => known.for_guest.clone(),
        };
        if let Some(needles) = made(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return needles;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let hidden = |secret: &&KnownSecret| reader == Reader::Person || secret.guest == Guest::Holder;
        let needles = Arc::new(Needles::new(known.secrets.iter().filter(hidden).map(|secret| secret.value.expose())));
        let place = match reader {
            Reader::Person => &mut known.for_person,
            Reader::Guest => &mut known.for_guest,
        };
        place.get_or_insert(needles).clone()
    }

    /// `text` with every secret replaced by `***`. When what a terminal would obey, or is not seen, stands between the
    /// parts of a secret, the text loses that.
    pub(crate) fn text(&self, text: &str) -> String {
        let shown = stripped(text);
        let masked = self.shown_text(&shown);
        if masked == shown { text.to_owned() } else { masked }
    }

    fn shown_text(&self, text: &str) -> String {
        let (mut stream, mut bytes) = (MaskStream::new(self.clone(), Reader::Person), Vec::new());
        stream.push(text.as_bytes(), &mut bytes);
        stream.finish(&mut bytes);
        // Needles are text, so that what is left of text is text.
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The same for a JSON value: its strings, keys included, and numbers whose digits are a secret.
    pub(crate) fn json(&self, value: &Json) -> Json {
        match value {
            Json::String(text) => Json::String(self.text(text)),
            Json::Number(number) => {
                let digits = number.to_string();
                Some(self.text(&digits)).filter(|masked| *masked != digits).map_or_else(|| value.clone(), Json::String)
            }
            Json::Array(items) => items.iter().map(|item| self.json(item)).collect(),
            Json::Object(entries) => entries
                .iter()
                .map(|(key, item)| (self.text(key), self.json(item)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Json::Bool(_) | Json::Null => value.clone(),
        }
    }

    /// Whether there is a secret in `text`.
    pub(crate) fn finds_in(&self, text: &str) -> bool {
        self.text(text) != text
    }
}

/// What people see of a log that comes in `chunks`, when `secrets` are masked: for fuzzing.
#[doc(hidden)]
pub fn mask<'a>(secrets: &[&str], chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let masker = Masker::default();
    for secret in secrets {
        masker.add(*secret, false);
    }
    let mut stream = MaskStream::new(masker, Reader::Person);
    let mut shown = Vec::new();
    for chunk in chunks {
        stream.push(chunk, &mut shown);
    }
    stream.finish(&mut shown);
    shown
}

#[cfg(test)]
mod tests;
