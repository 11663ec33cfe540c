//! Entries of `permissions.service`: a service, and the address at which its proxy accepts requests.

use std::net::{Ipv4Addr, SocketAddr};

use crate::entry::entry;
use crate::format_error::{FormatError, refuse};

/// A service of the `process` target: `NAME`, `NAME:PORT` with a proxy at that port of the loopback address, or
/// `NAME:ADDRESS:PORT`.
#[derive(Clone, Debug)]
pub struct ServiceRule {
    text: String,
    name: String,
    address: Option<SocketAddr>,
}

impl ServiceRule {
    /// Parses an entry.
    pub fn parse(entry: &str) -> Result<ServiceRule, FormatError> {
        let (name, address) = match entry.trim().split_once(':') {
            Some((name, address)) => (name, Some(address)),
            None => (entry.trim(), None),
        };
        if name.is_empty() {
            return refuse(
                "stagewright::bad-name",
                "doesn't name a service",
                "write the name that the stage deploys the service as",
            );
        }
        let parsed = address.map(parse_address);
        match parsed {
            Some(None) => refuse(
                "stagewright::bad-name",
                "doesn't end in an address at which a proxy can accept requests",
                "write a port of the loopback address, as in \"app:8080\", or an address, as in \"app:0.0.0.0:80\"",
            ),
            parsed => Ok(ServiceRule { text: entry.to_owned(), name: name.to_owned(), address: parsed.flatten() }),
        }
    }

    /// The entry as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its proxy may accept requests; none if it may have no proxy.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whether this entry allows everything that `other` allows.
    pub fn covers(&self, other: &ServiceRule) -> bool {
        self.name == other.name && (other.address.is_none() || self.address == other.address)
    }

    /// What the entry allows, for people.
    pub(super) fn doing(&self) -> String {
        match self.address {
            Some(address) => format!("run the service `{}`, and accept requests for it at {address}", self.name),
            None => format!("run the service `{}`", self.name),
        }
    }

    /// The entry that allows a proxy at an address, in its shortest form.
    pub fn entry(name: &str, address: SocketAddr) -> String {
        match address.ip() {
            ip if ip == Ipv4Addr::LOCALHOST => format!("{name}:{}", address.port()),
            _ => format!("{name}:{address}"),
        }
    }
}

/// `PORT` of the loopback address, or `ADDRESS:PORT`.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let port = || text.parse::<u16>().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    port().or_else(|| text.parse().ok()).filter(|address| address.port() != 0)
}

entry!(ServiceRule, FormatError);

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> ServiceRule {
        text.parse().unwrap()
    }

    #[test]
    fn a_service_may_have_a_public_address() {
        assert_eq!((rule("app").name(), rule("app").address()), ("app", None));
        let address = |text: &str| rule(text).address().map(|address| address.to_string());
        assert_eq!(address("app:8080").as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(address("app:0.0.0.0:80").as_deref(), Some("0.0.0.0:80"));
        assert_eq!(address("app:[::]:80").as_deref(), Some("[::]:80"));
        for entry in ["app:8080", "app:0.0.0.0:80", "app:[::]:80"] {
            assert_eq!(ServiceRule::entry("app", rule(entry).address().unwrap()), entry);
        }
        for wrong in ["", ":80", "app:", "app:0", "app:http", "app:70000", "app:localhost:80", "app:0.0.0.0"] {
            assert!(ServiceRule::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_granted_by_the_same_address_alone() {
        assert!(rule("app:8080").covers(&rule("app")));
        assert!(rule("app:8080").covers(&rule("app:127.0.0.1:8080")));
        assert!(!rule("app").covers(&rule("app:8080")));
        assert!(!rule("app:8080").covers(&rule("app:8081")));
        assert!(!rule("app:8080").covers(&rule("app:0.0.0.0:8080")));
        assert!(!rule("app:8080").covers(&rule("other")));
    }
}
