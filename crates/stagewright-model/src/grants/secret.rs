//! Entries of `permissions.secrets`.

use crate::entry::entry;
use crate::format_error::{FormatError, refuse};

/// How a stage may use a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretUse {
    /// Attach it to HTTP requests: `NAME:header`.
    Header,
    /// Put it into the environment of processes and services: `NAME:env`.
    Env,
}

impl SecretUse {
    const ALL: [SecretUse; 2] = [SecretUse::Header, SecretUse::Env];

    /// The word after the colon.
    pub fn word(self) -> &'static str {
        match self {
            SecretUse::Header => "header",
            SecretUse::Env => "env",
        }
    }
}

/// One entry: `NAME`, `NAME:header` or `NAME:env`.
#[derive(Clone, Debug)]
pub struct SecretRule {
    text: String,
    /// None for every use.
    only: Option<SecretUse>,
}

impl SecretRule {
    /// Parses an entry.
    pub fn parse(entry: &str) -> Result<SecretRule, FormatError> {
        let (name, word) = match entry.split_once(':') {
            Some((name, word)) => (name, Some(word)),
            None => (entry, None),
        };
        if name.is_empty() {
            return refuse("stagewright::bad-name", "doesn't name a secret", "write a key of `[secrets]`");
        }
        let only = match word {
            None => None,
            Some(word) => match SecretUse::ALL.into_iter().find(|known| known.word() == word) {
                Some(known) => Some(known),
                None => {
                    return refuse(
                        "stagewright::unknown-secret-use",
                        format!("has the unknown use `{word}`"),
                        format!(
                            "write `{name}:header` for requests, `{name}:env` for processes, or `{name}` for either"
                        ),
                    );
                }
            },
        };
        Ok(SecretRule { text: entry.to_owned(), only })
    }

    /// The entry as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The secret's name: a key of `[secrets]`.
    pub fn name(&self) -> &str {
        self.text.split_once(':').map_or(&self.text, |(name, _)| name)
    }

    /// The only granted use, or none if every use is granted.
    pub fn only(&self) -> Option<SecretUse> {
        self.only
    }

    /// Whether a use is granted.
    pub fn allows(&self, requested: SecretUse) -> bool {
        self.only.is_none_or(|only| only == requested)
    }

    /// Whether this entry grants everything that `other` grants.
    pub fn covers(&self, other: &SecretRule) -> bool {
        self.name() == other.name() && (self.only.is_none() || self.only == other.only)
    }
}

entry!(SecretRule, FormatError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_can_be_limited_to_one_use() {
        let rule = |entry: &str| SecretRule::parse(entry).unwrap();
        assert!(rule("token").allows(SecretUse::Env) && rule("token").allows(SecretUse::Header));
        let header = rule("token:header");
        assert_eq!((header.name(), header.allows(SecretUse::Header)), ("token", true));
        assert!(!header.allows(SecretUse::Env) && rule("token").covers(&header) && !header.covers(&rule("token")));
        for bad in ["token:stdin", "", ":env"] {
            assert!(SecretRule::parse(bad).is_err(), "{bad:?}");
        }
    }
}
