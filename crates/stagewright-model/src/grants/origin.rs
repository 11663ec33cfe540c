//! Origins: scheme, host and port of a URL.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use url::Url;

use super::host::{address, loopback, normal_host, port_number, split_port};

/// The protocol of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
    /// `tcp`: any protocol. Only programs can use it.
    Tcp,
}

impl Scheme {
    pub(super) fn parse(text: &str) -> Option<Scheme> {
        [Scheme::Http, Scheme::Https, Scheme::Tcp].into_iter().find(|scheme| scheme.name() == text)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Tcp => "tcp",
        }
    }

    pub(super) fn usual_port(self) -> Option<u16> {
        match self {
            Scheme::Http => Some(80),
            Scheme::Https => Some(443),
            Scheme::Tcp => None,
        }
    }
}

/// Scheme, host and port of a URL in normal form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    pub(super) scheme: Scheme,
    /// Lower case; an IPv6 address in brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    /// The origin of a URL. None if the scheme is neither `http` nor `https`.
    pub fn of(url: &Url) -> Option<Origin> {
        let scheme = Scheme::parse(url.scheme()).filter(|scheme| *scheme != Scheme::Tcp)?;
        Some(Origin { scheme, host: url.host_str()?.to_ascii_lowercase(), port: url.port_or_known_default()? })
    }

    /// The origin of the text of an absolute `http` or `https` URL. None if it isn't one.
    pub fn of_url(text: &str) -> Option<Origin> {
        Origin::of(&Url::parse(text).ok()?)
    }

    /// The origin of a tunnel to `authority` (`host:port`, as in a CONNECT request). The protocol inside a tunnel isn't
    /// known, so the scheme is guessed from the port. None if `authority` isn't a host and a port.
    pub fn of_tunnel(authority: &str) -> Option<Origin> {
        let (host, port) = split_port(authority);
        let port = port_number(port?)?;
        let scheme = match port {
            443 => Scheme::Https,
            80 => Scheme::Http,
            _ => Scheme::Tcp,
        };
        Some(Origin { scheme, host: normal_host(host)?, port })
    }

    /// The place of a connection whose protocol isn't HTTP, with the scheme `tcp`. None if `authority` isn't `HOST:PORT`.
    pub(crate) fn of_connection(authority: &str) -> Option<Origin> {
        let (host, port) = split_port(authority);
        Some(Origin { scheme: Scheme::Tcp, host: normal_host(host)?, port: port_number(port?)? })
    }

    /// The host in lower case; an IPv6 address is in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, even if it is the scheme's default.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address if the host is one, rather than a name.
    pub fn address(&self) -> Option<IpAddr> {
        address(&self.host)
    }

    /// Replaces the host by an address.
    pub fn at(&self, address: IpAddr) -> Origin {
        let host = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        Origin { host, ..self.clone() }
    }

    /// Replaces the port.
    #[must_use]
    pub fn at_port(&self, port: u16) -> Origin {
        Origin { port, ..self.clone() }
    }

    /// Whether both have the same host and port, regardless of the scheme.
    pub fn is_same_place(&self, other: &Origin) -> bool {
        self.host == other.host && self.port == other.port
    }

    /// Whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Whether the host is a loopback address or a name that RFC 6761 reserves for this machine.
    pub fn is_loopback(&self) -> bool {
        is_localhost(&self.host) || self.address().is_some_and(|address| address.is_loopback())
    }

    /// Where it is on this machine's loopback; none for another host, and for names below `localhost`.
    pub fn on_loopback(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(loopback(&self.host)?, self.port))
    }
}

/// The form in `permissions.net`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { scheme, host, port } = self;
        match scheme.usual_port() {
            Some(usual) if usual == *port => write!(f, "{}://{host}", scheme.name()),
            _ => write!(f, "{}://{host}:{port}", scheme.name()),
        }
    }
}

/// Orders by host first, which makes an origin easy to find in a list.
impl Ord for Origin {
    fn cmp(&self, other: &Origin) -> Ordering {
        let key = |origin: &Origin| (origin.scheme != Scheme::Https, origin.scheme, origin.port);
        self.host.cmp(&other.host).then_with(|| key(self).cmp(&key(other)))
    }
}

impl PartialOrd for Origin {
    fn partial_cmp(&self, other: &Origin) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether `name`, in lower case, is reserved for this machine (RFC 6761, section 6.3).
pub fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}
