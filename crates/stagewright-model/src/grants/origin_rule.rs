//! Rules that match origins and hosts.
//!
//! ```text
//! URL, authority ──> Origin   <── grants ── OriginRule <── NetRule <── an entry of `permissions.net`
//! host of a secret ──────────────────────── HostPattern
//! ```
//!
//! `validate`, the operator's policy, the lock and the code that opens connections all use these types, so that a rule
//! means the same to each of them. Only this module, [`super::origin`] and [`super::host`] parse origins or hosts.

use std::fmt;
use std::net::SocketAddr;

use super::host::{HostRule, address, loopback, port_covers, port_number, split_port};
use super::origin::{Origin, Scheme, is_localhost};
use super::socket::check_socket_path;
use crate::entry::entry;
use crate::format_error::{FormatError, refuse};

const CODE: &str = "stagewright::bad-origin";
const HELP: &str = "write `https://HOST`, `https://HOST:PORT`, `http://HOST:PORT`, `HOST`, `tcp://HOST:PORT`, \
                    `cargo`, `npm` or `pip`; a port may be `*`";

/// A pattern over origins: `https://host`, `http://host:8080`, `host` (https on port 443), `host:*`, `*.host`, or
/// `tcp://host:5432` for programs with any protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginRule {
    scheme: Scheme,
    host: HostRule,
    /// None for any.
    port: Option<u16>,
}

/// The rule's normal form, which can differ from the text that was parsed.
impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.name();
        match &self.host {
            HostRule::Is(host) => write!(f, "{scheme}://{host}")?,
            HostRule::EndsWith(domain) => write!(f, "{scheme}://*{domain}")?,
        }
        match self.port {
            None => f.write_str(":*"),
            port if port == self.scheme.usual_port() => Ok(()),
            Some(port) => write!(f, ":{port}"),
        }
    }
}

impl Origin {
    /// Parses the form that [`Display`](fmt::Display) writes: an [`OriginRule`] for a single host and port over `http`
    /// or `https`.
    pub fn parse(text: &str) -> Option<Origin> {
        let OriginRule { scheme, host, port } = OriginRule::parse(text).ok()?;
        match host {
            HostRule::Is(host) if scheme != Scheme::Tcp => Some(Origin { scheme, host, port: port? }),
            _ => None,
        }
    }
}

impl OriginRule {
    /// Parses a rule. A single trailing `/` is accepted.
    pub fn parse(rule: &str) -> Result<OriginRule, FormatError> {
        let (scheme, rest) = rule.split_once("://").unwrap_or(("https", rule));
        let Some(scheme) = Scheme::parse(scheme) else {
            return refuse(CODE, format!("has the scheme `{scheme}`, which can't be granted"), HELP);
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '\\', '?', '#']) {
            return refuse(CODE, "has a path, but access is granted to whole hosts", HELP);
        }
        if authority.contains('@') {
            return refuse(CODE, "contains a user name", "attach a secret to the request instead");
        }
        let (host, port) = split_port(authority);
        let host = HostRule::parse(host, CODE, HELP)?;
        let port = match port {
            Some("*") => None,
            Some(digits) => match port_number(digits) {
                Some(port) => Some(port),
                None => return refuse(CODE, format!("has the invalid port `{digits}`"), HELP),
            },
            None => match scheme.usual_port() {
                Some(port) => Some(port),
                None => return refuse(CODE, "doesn't name a port", "add one, as in `tcp://db.example:5432`"),
            },
        };
        Ok(OriginRule { scheme, host, port })
    }

    /// Whether a request to `origin` is granted.
    pub fn grants(&self, origin: &Origin) -> bool {
        self.scheme == origin.scheme && self.grants_tunnel(origin)
    }

    /// Whether a tunnel to the host and port of `origin` is granted. The scheme doesn't matter, because the protocol
    /// inside a tunnel isn't known.
    pub fn grants_tunnel(&self, origin: &Origin) -> bool {
        self.host.has(&origin.host) && self.port.is_none_or(|port| port == origin.port)
    }

    /// Whether any port of the host of `origin` is granted.
    pub fn is_for_host(&self, origin: &Origin) -> bool {
        self.host.has(&origin.host)
    }

    /// Whether this rule grants everything that `other` grants.
    pub fn covers(&self, other: &OriginRule) -> bool {
        self.scheme == other.scheme && self.host.covers(&other.host) && port_covers(self.port, other.port)
    }

    /// The address if the rule grants a single port on the loopback interface.
    pub fn on_loopback(&self) -> Option<SocketAddr> {
        let (HostRule::Is(host), Some(port)) = (&self.host, self.port) else { return None };
        Some(SocketAddr::new(loopback(host)?, port))
    }

    /// The place if the rule grants connections with any protocol to a single port of another host, as
    /// `tcp://db.example:5432` does.
    pub fn on_other_host(&self) -> Option<Origin> {
        let (Scheme::Tcp, HostRule::Is(host), Some(port)) = (self.scheme, &self.host, self.port) else { return None };
        (!self.is_loopback()).then(|| Origin { scheme: Scheme::Tcp, host: host.clone(), port })
    }

    /// Whether the host is a loopback address or a name that RFC 6761 reserves for this machine.
    pub fn is_loopback(&self) -> bool {
        let HostRule::Is(host) = &self.host else { return false };
        is_localhost(host) || address(host).is_some_and(|address| address.is_loopback())
    }

    /// Whether the rule grants every port on the loopback interface, as `http://127.0.0.1:*` does.
    pub fn is_any_loopback_port(&self) -> bool {
        let HostRule::Is(host) = &self.host else { return false };
        self.port.is_none() && (host == "localhost" || address(host).is_some_and(|address| address.is_loopback()))
    }
}

/// The rule that grants this origin and no other.
impl From<Origin> for OriginRule {
    fn from(Origin { scheme, host, port }: Origin) -> OriginRule {
        OriginRule { scheme, host: HostRule::Is(host), port: Some(port) }
    }
}

/// An entry of a secret's `hosts`: `HOST`, `HOST:PORT`, `HOST:*` or `*.DOMAIN`. Without a port, it matches every port. Or
/// `unix:///PATH`, a socket of this machine.
#[derive(Clone, Debug)]
pub struct HostPattern {
    text: String,
    place: HostOrSocket,
}

/// What an entry of `hosts` matches.
#[derive(Clone, Debug)]
enum HostOrSocket {
    /// A host, and a port; none for any.
    Host(HostRule, Option<u16>),
    /// The absolute path of a Unix socket.
    Socket(String),
}

entry!(HostPattern, FormatError);

impl HostPattern {
    /// Parses an entry.
    pub fn parse(entry: &str) -> Result<HostPattern, FormatError> {
        const CODE: &str = "stagewright::bad-host";
        const HELP: &str =
            "write the host alone, as in `ghcr.io` or `localhost:5000`, or a socket as in `unix:///run/docker.sock`";
        if let Some(path) = entry.strip_prefix("unix://") {
            check_socket_path(path)?;
            return Ok(HostPattern { text: entry.to_owned(), place: HostOrSocket::Socket(path.to_owned()) });
        }
        if entry.contains(['/', '\\', '?', '#', '@']) {
            return refuse(CODE, "is more than a host", HELP);
        }
        let (host, port) = split_port(entry);
        let port = match port {
            None | Some("*") => None,
            Some(digits) => match port_number(digits) {
                Some(port) => Some(port),
                None => return refuse(CODE, format!("has the invalid port `{digits}`"), HELP),
            },
        };
        let host = HostRule::parse(host, CODE, HELP)?;
        Ok(HostPattern { text: entry.to_owned(), place: HostOrSocket::Host(host, port) })
    }

    /// The entry as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches a host (in lower case, an IPv6 address in brackets) and port.
    pub fn admits(&self, host: &str, port: u16) -> bool {
        matches!(&self.place, HostOrSocket::Host(own, of) if own.has(host) && of.is_none_or(|of| of == port))
    }

    /// Whether the pattern is the Unix socket at a path.
    pub fn admits_socket(&self, path: &str) -> bool {
        matches!(&self.place, HostOrSocket::Socket(own) if own == path)
    }

    /// Whether a secret for this pattern can be sent with a request that `rule` grants: both match some host and port,
    /// and the request is encrypted or stays on this machine.
    pub fn can_be_sent(&self, rule: &OriginRule) -> bool {
        let is_private = rule.scheme == Scheme::Https || (rule.scheme == Scheme::Http && rule.is_loopback());
        let HostOrSocket::Host(host, port) = &self.place else { return false };
        let shares_host = host.covers(&rule.host) || rule.host.covers(host);
        is_private && shares_host && (port_covers(*port, rule.port) || rule.port.is_none())
    }

    /// Whether the pattern matches every host and port that a rule grants.
    pub fn covers(&self, rule: &OriginRule) -> bool {
        matches!(&self.place, HostOrSocket::Host(host, port) if host.covers(&rule.host) && port_covers(*port, rule.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> OriginRule {
        OriginRule::parse(text).unwrap_or_else(|error| panic!("{text} {error}"))
    }

    fn granted(text: &str, url: &str) -> bool {
        rule(text).grants(&Origin::of_url(url).unwrap())
    }

    #[test]
    fn a_host_pattern_can_be_a_socket() {
        let socket = HostPattern::parse("unix:///run/docker.sock").unwrap();
        assert!(socket.admits_socket("/run/docker.sock") && !socket.admits_socket("/run/other.sock"));
        assert!(!socket.admits("run", 80) && !socket.covers(&rule("https://run")));
        assert!(!HostPattern::parse("docker.sock").unwrap().admits_socket("docker.sock"));
        for invalid in ["unix://run/docker.sock", "unix://", "unix:///run/../docker.sock"] {
            assert!(HostPattern::parse(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn rule_grants_matching_origins_only() {
        assert!(granted("example.org", "https://EXAMPLE.org/a?b"));
        assert!(!granted("example.org", "http://example.org/"), "a bare host means https");
        assert!(!granted("example.org", "https://example.org:8443/"));
        assert!(!granted("example.org", "https://example.org.evil.com/"));
        assert!(!granted("example.org", "https://user@evil.com/example.org"));
        assert!(granted("http://127.0.0.1:*", "http://127.0.0.1:41873/health"));
        assert!(granted("http://[::1]:8080", "http://[::1]:8080/"));
        assert!(granted("https://*.example.org", "https://a.b.example.org/"));
        assert!(!granted("https://*.example.org", "https://example.org/"));
        assert!(!granted("https://*.example.org", "https://.example.org/"));
        assert!(granted("https://xn--bcher-kva.example", "https://BÜCHER.example/"));
        assert!(granted("http://[0:0:0:0:0:0:0:1]", "http://[::1]/"), "an address in another spelling");
        assert!(granted("http://127.0.0.1", "http://0x7f.1/"), "URLs are compared in normal form");
    }

    #[test]
    fn address_is_granted_only_by_a_rule_for_that_address() {
        let metadata = "http://169.254.169.254/latest/meta-data";
        assert!(granted("http://169.254.169.254", metadata));
        for rule in ["http://169.254.169.253", "https://169.254.169.254", "http://[::ffff:169.254.169.254]"] {
            assert!(!granted(rule, metadata), "{rule}");
        }
        assert!(!granted("http://169.254.169.254", "http://[::ffff:169.254.169.254]/"));
        assert!(OriginRule::parse("http://*.169.254").is_err(), "wildcards can't match addresses");
    }

    #[test]
    fn tcp_rule_grants_tunnels_but_no_requests() {
        assert!(!granted("tcp://example.org:443", "https://example.org/"));
        assert!(!granted("tcp://example.org:*", "http://example.org/"));
        let tunnel = |authority| Origin::of_tunnel(authority).unwrap();
        assert!(rule("tcp://db.example.org:5432").grants_tunnel(&tunnel("db.example.org:5432")));
        assert!(rule("https://example.org").grants_tunnel(&tunnel("EXAMPLE.org:443")));
        assert!(rule("http://example.org:443").grants_tunnel(&tunnel("example.org:443")));
        assert!(!rule("https://example.org").grants_tunnel(&tunnel("example.org:22")));
        assert!(OriginRule::parse("tcp://example.org").is_err());
    }

    #[test]
    fn tunnel_authority_needs_host_and_port() {
        let shown = |authority| Origin::of_tunnel(authority).map(|origin| origin.to_string());
        assert_eq!(shown("a.b:443").as_deref(), Some("https://a.b"));
        assert_eq!(shown("[::1]:80").as_deref(), Some("http://[::1]"));
        assert_eq!(shown("0x7f.1:22").as_deref(), Some("tcp://127.0.0.1:22"));
        for authority in
            ["", "a.b", ":443", "a.b:", "a.b:0", "a.b:65536", "a.b:+443", "u@a.b:443", "a.b/c:443", "a:b:443", "::1:80"]
        {
            assert_eq!(shown(authority), None, "{authority}");
        }
    }

    #[test]
    fn loopback_rule_with_one_port_has_an_address() {
        let on = |text| rule(text).on_loopback().map(|address| address.to_string());
        assert_eq!(on("http://127.0.0.1:8080").as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(on("tcp://localhost:5432").as_deref(), Some("127.0.0.1:5432"));
        assert_eq!(on("http://[::1]").as_deref(), Some("[::1]:80"));
        for rule in ["http://127.0.0.1:*", "https://*.localhost", "http://10.0.0.1:80", "api.localhost"] {
            assert_eq!(on(rule), None, "{rule}");
        }
    }

    #[test]
    fn displayed_rule_parses_to_the_same_rule() {
        for text in ["example.org", "http://a:8080", "https://*.b.c:*", "tcp://[::1]:5", "http://x:443", "*.d:80"] {
            assert_eq!(OriginRule::parse(&rule(text).to_string()), Ok(rule(text)), "{text}");
        }
        for url in ["https://a.b/c", "http://127.0.0.1:4873/", "https://[fd00::1]:8443/"] {
            let origin = Origin::of_url(url).unwrap();
            assert_eq!(Origin::parse(&origin.to_string()), Some(origin), "{url}");
        }
        for text in ["tcp://a:1", "*.a", "a:*"] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn invalid_rules_are_rejected() {
        for text in [
            "",
            "*",
            "https://",
            "ftp://x",
            "x:port",
            "x:+80",
            "https://x/path",
            "https://x//",
            "https://x\\y",
            "https://*.*",
            "a@b",
            "x:0",
            "a b",
            "::1",
            "*.1",
            "a..b",
            "a.",
            ".a",
            "https://999.1.1.1",
            "https://1.2.3.4.5",
            "https://[fe80::1%25eth0]",
            "a%2eb",
            "x:80:443",
        ] {
            assert!(OriginRule::parse(text).is_err(), "{text}");
        }
    }

    /// Otherwise connections would go elsewhere than a reviewer of the plan expects.
    #[test]
    fn misleading_spellings_of_a_host_are_rejected() {
        for text in ["http://0x7f.1", "http://2130706433", "http://0177.0.0.1", "http://127.1", "0xa9fea9fe"] {
            let error = OriginRule::parse(text).unwrap_err();
            assert!(error.message.contains("unusual spelling of the address"), "{text}: {error}");
            assert!(HostPattern::parse(text.trim_start_matches("http://")).is_err(), "{text}");
        }
        let error = OriginRule::parse("https://bücher.example").unwrap_err();
        assert!(error.message.ends_with("write `xn--bcher-kva.example`"), "{error}");
    }

    #[test]
    fn rule_covers_another_by_scheme_host_and_port() {
        let covers = |wide: &str, narrow: &str| rule(wide).covers(&rule(narrow));
        assert!(covers("example.org", "https://EXAMPLE.org:443/") && covers("*.b.c:*", "https://*.x.b.c:8443"));
        assert!(
            !covers("a.b", "http://a.b") && !covers("a.b", "a.b:*") && !covers("*.b", "b") && !covers("a.b", "*.b")
        );
        assert!(!covers("*.b.c", "*.c") && !covers("*.b.c", "xb.c") && !covers("a.b", "tcp://a.b:443"));
    }

    #[test]
    fn loopback_origins_are_recognised() {
        let loopback = |url: &str| Origin::of_url(url).unwrap().is_loopback();
        assert!(loopback("http://127.0.0.1:1") && loopback("http://[::1]:1") && loopback("https://localhost"));
        assert!(!loopback("http://127.0.0.1.example.org") && !loopback("http://10.0.0.1"));
    }
}
