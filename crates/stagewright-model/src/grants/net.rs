//! Entries of `permissions.net`: an origin, a Unix socket, or the name of a package manager for all of its package hosts.

use std::fmt;

use super::origin::Origin;
use super::origin_rule::OriginRule;
use super::socket_route::SocketRoute;
use crate::entry::entry;
use crate::format_error::FormatError;

/// A package manager. Its name in `permissions.net` stands for the registries that it is configured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackageManager {
    /// `cargo`.
    Cargo,
    /// `npm`, and other package managers that read its configuration.
    Npm,
    /// `pip`, and other package managers that read its configuration.
    Pip,
}

impl PackageManager {
    /// All package managers in display order.
    pub const ALL: [PackageManager; 3] = [PackageManager::Cargo, PackageManager::Npm, PackageManager::Pip];

    /// The name in `permissions.net`.
    pub fn word(self) -> &'static str {
        match self {
            PackageManager::Cargo => "cargo",
            PackageManager::Npm => "npm",
            PackageManager::Pip => "pip",
        }
    }

    /// The package manager with this name.
    pub fn of(word: &str) -> Option<PackageManager> {
        PackageManager::ALL.into_iter().find(|manager| manager.word() == word)
    }
}

impl fmt::Display for PackageManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A registry that a package manager is configured to use in addition to its default ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageOrigin {
    /// The package manager.
    pub manager: PackageManager,
    /// The origin of the configured URL.
    pub origin: Origin,
    /// Whether the repository or the machine configures it.
    pub by: NamedBy,
    /// Where it is configured: a file and line, or a variable, as in `.npmrc:3` or `$PIP_INDEX_URL`.
    pub place: String,
}

/// Where a package origin is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamedBy {
    /// In a file of the repository: it is the same on every machine, and the lock file records it.
    Repository,
    /// In a file outside of the repository, or in a variable: it depends on the machine, and the operator's policy
    /// limits it.
    Machine,
}

/// What an entry grants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NetTarget {
    /// The registries of a package manager. They depend on its configuration, which isn't known here.
    Packages(PackageManager),
    /// An origin, or several by wildcard.
    Origin(OriginRule),
    /// Requests of the plugin over a Unix socket of this machine.
    Socket(SocketRoute),
}

/// An entry of `permissions.net`.
#[derive(Clone, Debug)]
pub struct NetRule {
    text: String,
    target: NetTarget,
}

impl NetRule {
    /// Parses an entry. The name of a package manager isn't read as a host; a host called `cargo` is `https://cargo`.
    pub fn parse(entry: &str) -> Result<NetRule, FormatError> {
        let target = match PackageManager::of(entry) {
            Some(manager) => NetTarget::Packages(manager),
            None if SocketRoute::is(entry) => NetTarget::Socket(SocketRoute::parse(entry)?),
            None => NetTarget::Origin(OriginRule::parse(entry)?),
        };
        Ok(NetRule { text: entry.to_owned(), target })
    }

    /// The entry as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the entry grants.
    pub fn target(&self) -> &NetTarget {
        &self.target
    }

    /// The origins, if the entry names origins.
    pub fn origin(&self) -> Option<&OriginRule> {
        match &self.target {
            NetTarget::Origin(rule) => Some(rule),
            NetTarget::Packages(_) | NetTarget::Socket(_) => None,
        }
    }

    /// The requests over a Unix socket, if the entry names one.
    pub fn socket(&self) -> Option<&SocketRoute> {
        match &self.target {
            NetTarget::Socket(route) => Some(route),
            NetTarget::Origin(_) | NetTarget::Packages(_) => None,
        }
    }

    /// The package manager, if the entry names one.
    pub fn packages(&self) -> Option<PackageManager> {
        match &self.target {
            NetTarget::Packages(manager) => Some(*manager),
            NetTarget::Origin(_) | NetTarget::Socket(_) => None,
        }
    }

    /// Whether the entry names `origin`. Always false for a package manager, whose hosts aren't known here.
    pub fn grants(&self, origin: &Origin) -> bool {
        self.origin().is_some_and(|rule| rule.grants(origin))
    }

    /// Whether this entry grants everything that `other` grants.
    pub fn covers(&self, other: &NetRule) -> bool {
        match (&self.target, &other.target) {
            (NetTarget::Packages(own), NetTarget::Packages(other)) => own == other,
            (NetTarget::Origin(own), NetTarget::Origin(other)) => own.covers(other),
            (NetTarget::Socket(own), NetTarget::Socket(other)) => own.covers(other),
            _ => false,
        }
    }
}

entry!(NetRule, FormatError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_manager_is_not_read_as_a_host() {
        let rule = |text: &str| NetRule::parse(text).unwrap();
        assert_eq!(rule("cargo").packages(), Some(PackageManager::Cargo));
        assert!(rule("https://cargo").packages().is_none() && rule("Cargo").packages().is_none());
        assert!(rule("cargo").covers(&rule("cargo")) && !rule("cargo").covers(&rule("npm")));
        assert!(!rule("https://cargo").covers(&rule("cargo")) && !rule("cargo").covers(&rule("https://cargo")));
    }

    #[test]
    fn socket_is_not_read_as_an_origin() {
        let rule = |text: &str| NetRule::parse(text).unwrap();
        let all = rule("unix:///run/docker.sock");
        assert!(all.socket().is_some() && all.origin().is_none() && all.packages().is_none());
        assert!(all.covers(&rule("GET unix:///run/docker.sock:/info")) && !all.covers(&rule("https://a.test")));
        assert!(!rule("https://a.test").covers(&all));
    }

    #[test]
    fn deserialising_an_invalid_rule_fails() {
        assert_eq!(serde_json::from_str::<NetRule>("\"a.b:443\"").unwrap(), NetRule::parse("a.b:443").unwrap());
        let error = serde_json::from_str::<NetRule>("\"https://a//\"").unwrap_err().to_string();
        assert!(error.contains("has a path") && error.contains("write `https://HOST`"), "{error}");
    }
}
