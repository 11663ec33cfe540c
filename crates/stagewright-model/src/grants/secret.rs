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
    /// Let the proxy add it to what programs download: `NAME:proxy`.
    Proxy,
}

impl SecretUse {
    /// All uses, in the order in which they are shown.
    pub const ALL: [SecretUse; 3] = [SecretUse::Header, SecretUse::Env, SecretUse::Proxy];

    /// The word after the colon.
    pub fn word(self) -> &'static str {
        match self {
            SecretUse::Header => "header",
            SecretUse::Env => "env",
            SecretUse::Proxy => "proxy",
        }
    }
}

/// One entry: `NAME`, `NAME:header`, `NAME:env` or `NAME:proxy`.
#[derive(Clone, Debug)]
pub struct SecretRule {
    text: String,
    /// None for the uses of a handle: [`SecretUse::Header`] and [`SecretUse::Env`].
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
                            "write `{name}:header` for requests, `{name}:env` for processes, `{name}` for either, or \
                             `{name}:proxy` for downloads"
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

    /// The only granted use, or none if all uses of a handle are granted.
    pub fn only(&self) -> Option<SecretUse> {
        self.only
    }

    /// Whether a use is granted.
    pub fn allows(&self, requested: SecretUse) -> bool {
        match self.only {
            Some(only) => only == requested,
            None => requested != SecretUse::Proxy,
        }
    }

    /// Whether the plugin may have a handle of the secret. The proxy adds a secret without the plugin.
    pub fn opens_handle(&self) -> bool {
        self.only != Some(SecretUse::Proxy)
    }

    /// Whether this entry grants everything that `other` grants.
    pub fn covers(&self, other: &SecretRule) -> bool {
        self.name() == other.name() && (self.only == other.only || (self.only.is_none() && other.opens_handle()))
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
        let proxy = rule("token:proxy");
        assert!(proxy.allows(SecretUse::Proxy) && !proxy.allows(SecretUse::Header) && !proxy.allows(SecretUse::Env));
        assert!(!rule("token").allows(SecretUse::Proxy) && !rule("token").covers(&proxy) && proxy.covers(&proxy));
        assert!(!proxy.covers(&rule("token")) && !proxy.opens_handle() && header.opens_handle());
        for bad in ["token:stdin", "", ":env"] {
            assert!(SecretRule::parse(bad).is_err(), "{bad:?}");
        }
    }
}
