//! Masks the values of secrets in everything that people and guests read.
//!
//! This is a backstop, not a boundary: a program that was given a secret can always encode it in a way that isn't known
//! here. `spelling` lists the known encodings, and `unescape` resolves escapes, which can be mixed with plain characters.
//! `needles` finds the spellings, even across lines and chunks, and `stream` replaces them.

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

/// The fewest bytes of a secret that is masked. Shorter ones occur by chance in any text: masking them would make logs
/// unreadable and hide nothing.
pub const SHORTEST_MASKED: usize = 4;

/// The fewest bytes of a spelling that is also found across line breaks. Shorter ones would match columns of numbers.
const WRAPPED: usize = 16;

/// The secrets that are masked in the output of an attempt; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masker(Arc<RwLock<KnownSecrets>>);

#[derive(Clone, Debug, Default)]
struct KnownSecrets {
    secrets: Vec<KnownSecret>,
    /// Built from the secrets on first use, and dropped when a secret is added.
    for_person: Option<Arc<Needles>>,
    for_guest: Option<Arc<Needles>>,
}

#[derive(Clone)]
struct KnownSecret {
    value: SecretValue,
    guest: GuestAccess,
}

impl std::fmt::Debug for KnownSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KnownSecret(…)")
    }
}

/// The access that a guest has to a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum GuestAccess {
    /// None: another stage requested the secret. It isn't masked in what this guest reads, since a short secret of one
    /// stage would otherwise corrupt the data that another one works with.
    None,
    /// The guest holds a handle, and must not see the value.
    Handle,
    /// The guest may read the value, so that it is only masked for people.
    Value,
}

/// Who reads the masked text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// A person: every secret is masked.
    Person,
    /// The guest: the secrets whose handles it holds are masked, unless they were revealed to it.
    Guest,
}

impl Masker {
    /// Adds a secret whose handle the guest holds. `revealed`: the guest may read its value.
    pub(crate) fn add(&self, value: impl Into<SecretValue>, revealed: bool) {
        self.insert(value.into(), if revealed { GuestAccess::Value } else { GuestAccess::Handle });
    }

    /// Adds a secret that another stage requested; it is only masked for people.
    pub(crate) fn add_foreign(&self, value: impl Into<SecretValue>) {
        self.insert(value.into(), GuestAccess::None);
    }

    fn insert(&self, value: SecretValue, guest: GuestAccess) {
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

    /// A masker with the same secrets, to which others are added independently.
    pub(crate) fn fork(&self) -> Masker {
        // Built before the fork, so that all forks share it.
        self.needles(Audience::Person);
        Masker(Arc::new(RwLock::new(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())))
    }

    fn needles(&self, audience: Audience) -> Arc<Needles> {
        let made = |known: &KnownSecrets| match audience {
            Audience::Person => known.for_person.clone(),
            Audience::Guest => known.for_guest.clone(),
        };
        if let Some(needles) = made(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return needles;
        }
        // Built under the write lock, although that takes long for many secrets: a secret that was added meanwhile must not
        // be missing in needles that are stored after it. Another thread may have stored some since the check above, which
        // are then used instead.
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let hidden = |secret: &&KnownSecret| audience == Audience::Person || secret.guest == GuestAccess::Handle;
        let needles = Arc::new(Needles::new(known.secrets.iter().filter(hidden).map(|secret| secret.value.expose())));
        let place = match audience {
            Audience::Person => &mut known.for_person,
            Audience::Guest => &mut known.for_guest,
        };
        place.get_or_insert(needles).clone()
    }

    /// `text` with every secret replaced by `***`. A text that contains a secret also loses its terminal codes and
    /// invisible characters, since a secret can be split by them; one without is returned unchanged.
    pub(crate) fn text(&self, text: &str) -> String {
        let shown = stripped(text);
        let masked = self.shown_text(&shown);
        if masked == shown { text.to_owned() } else { masked }
    }

    /// The first `most` bytes of `text`, like [`Masker::text`], without terminal codes and invisible characters. What could
    /// be the beginning of a secret at their end is left out.
    pub(crate) fn beginning(&self, text: &str, most: usize) -> String {
        let shown = stripped(&text[..text.floor_char_boundary(most)]);
        let (mut stream, mut bytes) = (MaskStream::new(self.clone(), Audience::Person), Vec::new());
        // Not finished, so that the stream keeps what it would otherwise emit at the end.
        stream.push(shown.as_bytes(), &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// `data`, a whole value and not a part of a stream, with every secret replaced by `***`.
    pub(crate) fn bytes(&self, audience: Audience, data: &[u8]) -> Vec<u8> {
        let (mut stream, mut masked) = (MaskStream::new(self.clone(), audience), Vec::new());
        stream.push(data, &mut masked);
        stream.finish(&mut masked);
        masked
    }

    fn shown_text(&self, text: &str) -> String {
        let bytes = self.bytes(Audience::Person, text.as_bytes());
        // Needles are valid UTF-8, so the rest of a text from which they are cut is valid too.
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Masks a JSON value: its strings, including keys, and numbers whose digits contain a secret.
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

    /// Whether `text` contains a secret.
    pub(crate) fn finds_in(&self, text: &str) -> bool {
        self.text(text) != text
    }
}

/// Masks `secrets` in a log that arrives in `chunks`, for people; exported for fuzzing.
#[doc(hidden)]
pub fn mask<'a>(secrets: &[&str], chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let masker = Masker::default();
    for secret in secrets {
        masker.add(*secret, false);
    }
    let mut stream = MaskStream::new(masker, Audience::Person);
    let mut shown = Vec::new();
    for chunk in chunks {
        stream.push(chunk, &mut shown);
    }
    stream.finish(&mut shown);
    shown
}

#[cfg(test)]
mod tests;
