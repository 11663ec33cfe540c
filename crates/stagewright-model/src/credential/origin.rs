//! Entries of `credentials.NAME.origins`.

use std::fmt;

use crate::entry::entry;
use crate::format_error::{FormatError, refuse};
use crate::grants::{Origin, SocketRoute};

/// An entry of `credentials.NAME.origins`: one origin over https, or http on this machine, or a Unix socket.
#[derive(Clone, Debug)]
pub struct CredentialOrigin {
    text: String,
    target: OriginTarget,
}

/// Where requests go that are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginTarget {
    /// A host.
    Host(Origin),
    /// A Unix socket, by its path.
    Socket(String),
}

impl CredentialOrigin {
    /// Parses an entry.
    pub fn parse(entry: &str) -> Result<CredentialOrigin, FormatError> {
        const CODE: &str = "stagewright::bad-origin";
        let target = if entry.contains("unix:") {
            OriginTarget::Socket(SocketRoute::parse_whole(entry)?)
        } else {
            let help = "write `https://HOST` or `https://HOST:PORT`; plain `http` is accepted for this machine only";
            match Origin::parse(entry) {
                None => return refuse(CODE, "isn't the origin of one host", help),
                Some(origin) if !origin.is_https() && !origin.is_loopback() => {
                    return refuse(CODE, "would get a credential in plain text", help);
                }
                Some(origin) => OriginTarget::Host(origin),
            }
        };
        Ok(CredentialOrigin { text: entry.to_owned(), target })
    }

    /// The entry as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where requests go.
    pub fn target(&self) -> &OriginTarget {
        &self.target
    }

    /// Whether both are the same origin, however they are written.
    pub fn is_same(&self, other: &CredentialOrigin) -> bool {
        self.target == other.target
    }
}

entry!(CredentialOrigin, FormatError);

/// As in `https://api.example.org` and `unix:///run/docker.sock`.
impl fmt::Display for OriginTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OriginTarget::Host(origin) => write!(f, "{origin}"),
            OriginTarget::Socket(path) => write!(f, "unix://{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_one_host_and_never_gets_a_credential_in_plain_text() {
        for (entry, target) in [
            ("https://api.example.org", "https://api.example.org"),
            ("api.example.org:8443", "https://api.example.org:8443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("unix:///run/docker.sock", "unix:///run/docker.sock"),
        ] {
            assert_eq!(CredentialOrigin::parse(entry).unwrap().target().to_string(), target);
        }
        for entry in [
            "",
            "*.example.org",
            "https://a.test:*",
            "http://api.example.org",
            "tcp://127.0.0.1:1",
            "https://a.test/x",
            "unix:///run/docker.sock:/info",
            "GET unix:///run/docker.sock",
            "unix://run",
        ] {
            assert!(CredentialOrigin::parse(entry).is_err(), "{entry}");
        }
    }
}
