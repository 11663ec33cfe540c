//! Entries of `permissions.net`: an origin, or a word for the package hosts of a client.

use std::fmt;

use super::origin::{Origin, OriginRule};
use crate::entry::entry;
use crate::format_error::FormatError;

/// A client of package registries: its name in `permissions.net` stands for the registries that it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackageManager {
    /// `cargo`
    Cargo,
    /// `npm`, and what shares its configuration
    Npm,
    /// `pip`, and what shares its configuration
    Pip,
}

impl PackageManager {
    /// In the order in which they are shown.
    pub const ALL: [PackageManager; 3] = [PackageManager::Cargo, PackageManager::Npm, PackageManager::Pip];

    /// As it is written in `permissions.net`.
    pub fn word(self) -> &'static str {
        match self {
            PackageManager::Cargo => "cargo",
            PackageManager::Npm => "npm",
            PackageManager::Pip => "pip",
        }
    }

    /// The one that a word names, if it names one.
    pub fn of(word: &str) -> Option<PackageManager> {
        PackageManager::ALL.into_iter().find(|one| one.word() == word)
    }
}

impl fmt::Display for PackageManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// An origin that a word stands for because something other than the client itself names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageOrigin {
    /// The word.
    pub manager: PackageManager,
    /// As it is named, without user, path and query.
    pub origin: Origin,
    /// Who names it, which says who answers for it.
    pub by: NamedBy,
    /// Where, as in `.npmrc:3` or `$PIP_INDEX_URL`.
    pub place: String,
}

/// Who names a package origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamedBy {
    /// A file of the repository: the same on every machine, and held by the lock.
    Repository,
    /// A file of the user's or of the machine, or a variable: another one on every machine, and bounded by the policy.
    Machine,
}

/// What an entry opens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NetTarget {
    /// The registries of a client, as far as a run may reach them: what those are isn't said here.
    Packages(PackageManager),
    /// Hosts by name.
    Origin(OriginRule),
}

/// One entry, with its text for messages.
#[derive(Clone, Debug)]
pub struct NetRule {
    text: String,
    target: NetTarget,
}

impl NetRule {
    /// Reads an entry. A word isn't a host: the host `cargo` is `https://cargo`.
    pub fn parse(entry: &str) -> Result<NetRule, FormatError> {
        let target = match PackageManager::of(entry) {
            Some(manager) => NetTarget::Packages(manager),
            None => NetTarget::Origin(OriginRule::parse(entry)?),
        };
        Ok(NetRule { text: entry.to_owned(), target })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it opens.
    pub fn target(&self) -> &NetTarget {
        &self.target
    }

    /// The hosts that it names.
    pub fn origin(&self) -> Option<&OriginRule> {
        match &self.target {
            NetTarget::Origin(rule) => Some(rule),
            NetTarget::Packages(_) => None,
        }
    }

    /// The client whose package hosts it stands for.
    pub fn packages(&self) -> Option<PackageManager> {
        match &self.target {
            NetTarget::Packages(manager) => Some(*manager),
            NetTarget::Origin(_) => None,
        }
    }

    /// Whether a request to `origin` is granted, by its name: what a word stands for isn't known here.
    pub fn grants(&self, origin: &Origin) -> bool {
        self.origin().is_some_and(|rule| rule.grants(origin))
    }

    /// Whether all that `other` opens is opened by this.
    pub fn covers(&self, other: &NetRule) -> bool {
        match (&self.target, &other.target) {
            (NetTarget::Packages(own), NetTarget::Packages(other)) => own == other,
            (NetTarget::Origin(own), NetTarget::Origin(other)) => own.covers(other),
            _ => false,
        }
    }
}

entry!(NetRule, FormatError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_not_a_host_and_a_host_not_a_word() {
        let rule = |text: &str| NetRule::parse(text).unwrap();
        assert_eq!(rule("cargo").packages(), Some(PackageManager::Cargo));
        assert!(rule("https://cargo").packages().is_none() && rule("Cargo").packages().is_none());
        assert!(rule("cargo").covers(&rule("cargo")) && !rule("cargo").covers(&rule("npm")));
        assert!(!rule("https://cargo").covers(&rule("cargo")) && !rule("cargo").covers(&rule("https://cargo")));
    }

    #[test]
    fn what_is_not_a_rule_cannot_be_deserialised() {
        assert_eq!(serde_json::from_str::<NetRule>("\"a.b:443\"").unwrap(), NetRule::parse("a.b:443").unwrap());
        let error = serde_json::from_str::<NetRule>("\"https://a//\"").unwrap_err().to_string();
        assert!(error.contains("has a path") && error.contains("write `https://HOST`"), "{error}");
    }
}
