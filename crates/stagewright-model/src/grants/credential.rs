//! Entries of `permissions.credentials`.

use crate::entry::entry;
use crate::format_error::{FormatError, refuse};

/// The word after the colon, for requests of programs.
const PROXY: &str = "proxy";

/// Whose requests the host signs with a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialUse {
    /// The plugin's: `NAME`.
    Plugin,
    /// Those of the programs that the plugin starts, in the proxy: `NAME:proxy`.
    Programs,
}

/// One entry: `NAME` or `NAME:proxy`.
#[derive(Clone, Debug)]
pub struct CredentialRule {
    text: String,
    usage: CredentialUse,
}

impl CredentialRule {
    /// Parses an entry.
    pub fn parse(entry: &str) -> Result<CredentialRule, FormatError> {
        let (name, word) = entry.split_once(':').map_or((entry, None), |(name, word)| (name, Some(word)));
        if name.is_empty() {
            return refuse("stagewright::bad-name", "doesn't name a credential", "write a key of `[credentials]`");
        }
        let usage = match word {
            None => CredentialUse::Plugin,
            Some(PROXY) => CredentialUse::Programs,
            Some(other) => {
                return refuse(
                    "stagewright::unknown-credential-use",
                    format!("has the unknown use `{other}`"),
                    format!(
                        "write `{name}` for requests of the plugin, and `{name}:{PROXY}` for those of its programs"
                    ),
                );
            }
        };
        Ok(CredentialRule { text: entry.to_owned(), usage })
    }

    /// The entry as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The credential's name: a key of `[credentials]`.
    pub fn name(&self) -> &str {
        self.text.split_once(':').map_or(&self.text, |(name, _)| name)
    }

    /// Whose requests are signed.
    pub fn usage(&self) -> CredentialUse {
        self.usage
    }
}

entry!(CredentialRule, FormatError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_for_the_plugin_or_for_its_programs() {
        let read = |entry: &str| {
            let rule = CredentialRule::parse(entry).unwrap();
            (rule.name().to_owned(), rule.usage())
        };
        assert_eq!(read("cluster"), ("cluster".to_owned(), CredentialUse::Plugin));
        assert_eq!(read("cluster:proxy"), ("cluster".to_owned(), CredentialUse::Programs));
        for bad in ["", ":proxy", "cluster:env", "cluster:", "cluster:proxy:x"] {
            assert!(CredentialRule::parse(bad).is_err(), "{bad:?}");
        }
    }
}
