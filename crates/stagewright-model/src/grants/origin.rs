//! Origins: where a request goes, and rules over that. The one place where an origin or a host is parsed.
//!
//! ```text
//! URL, authority ──> Origin   <── grants ── OriginRule <── NetRule <── an entry of `permissions.net`
//! host of a secret ──────────────────────── HostPattern
//! ```
//!
//! A rule that parses means the same to everyone who asks: to `validate`, to the operator's policy, to the lock, and to
//! those who open connections.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use url::Url;

use crate::entry::entry;
use crate::format_error::{FormatError, refuse};

/// What is spoken with an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
    /// `tcp`: anything. Only programs use it.
    Tcp,
}

impl Scheme {
    fn parse(text: &str) -> Option<Scheme> {
        [Scheme::Http, Scheme::Https, Scheme::Tcp].into_iter().find(|scheme| scheme.name() == text)
    }

    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Tcp => "tcp",
        }
    }

    fn usual_port(self) -> Option<u16> {
        match self {
            Scheme::Http => Some(80),
            Scheme::Https => Some(443),
            Scheme::Tcp => None,
        }
    }
}

/// Scheme, host and port of a URL, as they are compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: Scheme,
    /// Lower case; an IPv6 address in brackets.
    host: String,
    port: u16,
}

impl Origin {
    /// None for anything but `http` and `https`.
    pub fn of(url: &Url) -> Option<Origin> {
        let scheme = Scheme::parse(url.scheme()).filter(|scheme| *scheme != Scheme::Tcp)?;
        Some(Origin { scheme, host: url.host_str()?.to_ascii_lowercase(), port: url.port_or_known_default()? })
    }

    /// Of an absolute URL of the web, as a registry's address in a configuration file. None when it isn't one.
    pub fn of_url(text: &str) -> Option<Origin> {
        Origin::of(&Url::parse(text).ok()?)
    }

    /// An origin as it [is shown](fmt::Display): an [`OriginRule`] that names one host and one port of `http` or `https`.
    pub fn parse(text: &str) -> Option<Origin> {
        let OriginRule { scheme, host, port } = OriginRule::parse(text).ok()?;
        match host {
            HostRule::Is(host) if scheme != Scheme::Tcp => Some(Origin { scheme, host, port: port? }),
            _ => None,
        }
    }

    /// What a tunnel to `authority` (`host:port`, as in a CONNECT request) is for: judged by its port, as nothing else
    /// is known of it. None when it isn't a host and a port.
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

    /// Lower case; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, also where it is the scheme's usual one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, when the host is one rather than a name.
    pub fn address(&self) -> Option<IpAddr> {
        address(&self.host)
    }

    /// The same at an address instead of a name.
    pub fn at(&self, address: IpAddr) -> Origin {
        let host = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        Origin { host, ..self.clone() }
    }

    /// The same at another port.
    #[must_use]
    pub fn at_port(&self, port: u16) -> Origin {
        Origin { port, ..self.clone() }
    }

    /// Whether a connection to one is a connection to the other, whatever is spoken there.
    pub fn is_same_place(&self, other: &Origin) -> bool {
        self.host == other.host && self.port == other.port
    }

    /// Whether TLS is spoken.
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Whether it is this machine, by an address or the name that RFC 6761 reserves for it.
    pub fn is_loopback(&self) -> bool {
        is_localhost(&self.host) || self.address().is_some_and(|address| address.is_loopback())
    }
}

/// As it is written in `permissions.net`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { scheme, host, port } = self;
        match scheme.usual_port() {
            Some(usual) if usual == *port => write!(f, "{}://{host}", scheme.name()),
            _ => write!(f, "{}://{host}:{port}", scheme.name()),
        }
    }
}

/// By host, as people look for them.
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

/// Whether `name` means this machine (RFC 6761, section 6.3). Lower case.
pub fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

const CODE: &str = "stagewright::bad-origin";
const HELP: &str = "write `https://HOST`, `https://HOST:PORT`, `http://HOST:PORT`, `HOST`, `tcp://HOST:PORT`, \
                    `cargo`, `npm` or `pip`; a port may be `*`";

/// `https://host`, `http://host:8080`, `host` (https on 443), `host:*`, `*.host`; `tcp://host:5432` for programs, whatever
/// they speak there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginRule {
    scheme: Scheme,
    host: HostRule,
    /// None for any.
    port: Option<u16>,
}

/// Hosts are as URLs have them: lower case, names in ASCII, addresses in their shortest form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum HostRule {
    Is(String),
    /// With its leading dot.
    EndsWith(String),
}

/// As it is understood, which can differ from how it was written.
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

impl OriginRule {
    /// Reads a rule. A single `/` at its end is accepted.
    pub fn parse(rule: &str) -> Result<OriginRule, FormatError> {
        let (scheme, rest) = rule.split_once("://").unwrap_or(("https", rule));
        let Some(scheme) = Scheme::parse(scheme) else {
            return refuse(CODE, format!("has the scheme `{scheme}`, which can't be granted"), HELP);
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '\\', '?', '#']) {
            return refuse(CODE, "has a path, and access is granted to whole hosts", HELP);
        }
        if authority.contains('@') {
            return refuse(CODE, "has a user's name in it", "attach a secret to the request instead");
        }
        let (host, port) = split_port(authority);
        let host = HostRule::parse(host, CODE, HELP)?;
        let port = match port {
            Some("*") => None,
            Some(digits) => match port_number(digits) {
                Some(port) => Some(port),
                None => return refuse(CODE, format!("has the port `{digits}`"), HELP),
            },
            None => match scheme.usual_port() {
                Some(port) => Some(port),
                None => return refuse(CODE, "doesn't name a port", "add it, as in `tcp://db.example:5432`"),
            },
        };
        Ok(OriginRule { scheme, host, port })
    }

    /// Whether a request to `origin` is granted.
    pub fn grants(&self, origin: &Origin) -> bool {
        self.scheme == origin.scheme && self.grants_tunnel(origin)
    }

    /// Whether a connection to the host and port of `origin` is granted: what is spoken within a tunnel isn't known.
    pub fn grants_tunnel(&self, origin: &Origin) -> bool {
        self.host.has(&origin.host) && self.port.is_none_or(|port| port == origin.port)
    }

    /// Whether all that `other` grants is granted by this.
    pub fn covers(&self, other: &OriginRule) -> bool {
        self.scheme == other.scheme && self.host.covers(&other.host) && port_covers(self.port, other.port)
    }

    /// Where a definite port of this machine's loopback is granted.
    pub fn on_loopback(&self) -> Option<SocketAddr> {
        let (HostRule::Is(host), Some(port)) = (&self.host, self.port) else { return None };
        let address = match address(host) {
            Some(address) => address,
            None if host == "localhost" => IpAddr::from([127, 0, 0, 1]),
            None => return None,
        };
        address.is_loopback().then(|| SocketAddr::new(address, port))
    }

    /// Whether the host is this machine, by an address or by name.
    pub fn is_loopback(&self) -> bool {
        let HostRule::Is(host) = &self.host else { return false };
        is_localhost(host) || address(host).is_some_and(|address| address.is_loopback())
    }

    /// Whether all of this machine's loopback is granted, as in `http://127.0.0.1:*`.
    pub fn is_any_loopback_port(&self) -> bool {
        let HostRule::Is(host) = &self.host else { return false };
        self.port.is_none() && (host == "localhost" || address(host).is_some_and(|address| address.is_loopback()))
    }
}

/// One origin, and no other.
impl From<Origin> for OriginRule {
    fn from(Origin { scheme, host, port }: Origin) -> OriginRule {
        OriginRule { scheme, host: HostRule::Is(host), port: Some(port) }
    }
}

impl HostRule {
    /// `HOST` or `*.DOMAIN`. Every rule has one spelling of its host that people read: one that would be read as another
    /// host, or as a name where it is an address, is refused.
    fn parse(text: &str, code: &'static str, help: &str) -> Result<HostRule, FormatError> {
        let (is_wildcard, name) = match text.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, text),
        };
        let is_plain = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if !name.is_ascii() {
            let ascii = normal_host(name).map(|name| format!(": write `{name}`")).unwrap_or_default();
            return refuse(
                code,
                format!("has a host with letters beyond ASCII, which can look like others{ascii}"),
                help,
            );
        }
        let normal = match name.starts_with('[') || name.split('.').all(is_plain) {
            true => normal_host(name),
            false => None,
        };
        let Some(normal) = normal else { return refuse(code, "doesn't name a host", help) };
        match (is_wildcard, address(&normal)) {
            (true, Some(_)) => refuse(code, "has an address after `*.`, and no hosts are below an address", help),
            (true, None) => Ok(HostRule::EndsWith(format!(".{normal}"))),
            (false, Some(IpAddr::V4(_))) if normal != name => {
                refuse(code, format!("spells the address {normal} in another way"), format!("write `{normal}` instead"))
            }
            (false, _) => Ok(HostRule::Is(normal)),
        }
    }

    /// Whether a host, in its normal form, is one of these.
    fn has(&self, host: &str) -> bool {
        match self {
            HostRule::Is(own) => own == host,
            // A dot alone isn't a host below the domain.
            HostRule::EndsWith(domain) => host.len() > domain.len() && host.ends_with(domain.as_str()),
        }
    }

    fn covers(&self, other: &HostRule) -> bool {
        match (self, other) {
            (own, HostRule::Is(host)) => own.has(host),
            (HostRule::Is(_), HostRule::EndsWith(_)) => false,
            (HostRule::EndsWith(own), HostRule::EndsWith(other)) => other.ends_with(own.as_str()),
        }
    }
}

/// An entry of a secret's `hosts`: `HOST`, `HOST:PORT`, `HOST:*` or `*.DOMAIN`. A host without a port is that host with
/// every port.
#[derive(Clone, Debug)]
pub struct HostPattern {
    text: String,
    host: HostRule,
    /// None for any.
    port: Option<u16>,
}

entry!(HostPattern, FormatError);

impl HostPattern {
    /// Reads an entry.
    pub fn parse(entry: &str) -> Result<HostPattern, FormatError> {
        const CODE: &str = "stagewright::bad-host";
        const HELP: &str = "write the host alone, as in `ghcr.io` or `localhost:5000`";
        if entry.contains(['/', '\\', '?', '#', '@']) {
            return refuse(CODE, "is more than a host", HELP);
        }
        let (host, port) = split_port(entry);
        let port = match port {
            None | Some("*") => None,
            Some(digits) => match port_number(digits) {
                Some(port) => Some(port),
                None => return refuse(CODE, format!("has the port `{digits}`"), HELP),
            },
        };
        let host = HostRule::parse(host, CODE, HELP)?;
        Ok(HostPattern { text: entry.to_owned(), host, port })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a host is among these: in lower case, an IPv6 address in brackets.
    pub fn admits(&self, host: &str, port: u16) -> bool {
        self.host.has(host) && self.port.is_none_or(|own| own == port)
    }

    /// Whether all that a rule grants is among these.
    pub fn covers(&self, rule: &OriginRule) -> bool {
        self.host.covers(&rule.host) && port_covers(self.port, rule.port)
    }
}

fn port_covers(own: Option<u16>, other: Option<u16>) -> bool {
    own.is_none() || own == other
}

/// From 1 to 65535, in digits alone.
fn port_number(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| is_number && *port > 0)
}

/// Host and port; an IPv6 address holds colons of its own, within brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rfind(':').filter(|&at| !authority[at..].contains(']')) {
        Some(at) => (&authority[..at], Some(&authority[at + 1..])),
        None => (authority, None),
    }
}

/// `host` as URLs of the web have it, whose many spellings of an address lead to one. None when it can't be one.
fn normal_host(host: &str) -> Option<String> {
    if host.is_empty() || host.contains(['/', '\\', '?', '#', '@', '*']) || host.contains(char::is_whitespace) {
        return None;
    }
    let url = Url::parse(&format!("http://{host}/")).ok()?;
    // A colon that isn't within brackets would have been a port, or part of a user.
    let is_whole = url.port().is_none() && (host.starts_with('[') || !host.contains(':'));
    // One that was written as `%2a` would be shown, and read again, as a wildcard.
    url.host_str().filter(|host| is_whole && !host.contains('*')).map(str::to_owned)
}

/// The address that a normal host is, if it is one.
fn address(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
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
    fn rules_grant_what_they_say() {
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
        assert!(granted("http://127.0.0.1", "http://0x7f.1/"), "a URL is normal before it is compared");
    }

    #[test]
    fn a_fixed_address_is_granted_by_itself_alone() {
        let metadata = "http://169.254.169.254/latest/meta-data";
        assert!(granted("http://169.254.169.254", metadata));
        for rule in ["http://169.254.169.253", "https://169.254.169.254", "http://[::ffff:169.254.169.254]"] {
            assert!(!granted(rule, metadata), "{rule}");
        }
        assert!(!granted("http://169.254.169.254", "http://[::ffff:169.254.169.254]/"));
        assert!(OriginRule::parse("http://*.169.254").is_err(), "no wildcard holds addresses");
    }

    #[test]
    fn raw_connections_are_granted_to_programs_only() {
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
    fn tunnels_name_a_host_and_a_port() {
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
    fn loopback_rules_say_where_on_this_machine() {
        let on = |text| rule(text).on_loopback().map(|address| address.to_string());
        assert_eq!(on("http://127.0.0.1:8080").as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(on("tcp://localhost:5432").as_deref(), Some("127.0.0.1:5432"));
        assert_eq!(on("http://[::1]").as_deref(), Some("[::1]:80"));
        for rule in ["http://127.0.0.1:*", "https://*.localhost", "http://10.0.0.1:80", "api.localhost"] {
            assert_eq!(on(rule), None, "{rule}");
        }
    }

    #[test]
    fn a_rule_that_is_shown_is_the_same_rule() {
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
    fn rules_that_mean_nothing_are_refused() {
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

    /// What a person reads in a plan is where connections go.
    #[test]
    fn a_host_has_one_spelling() {
        for text in ["http://0x7f.1", "http://2130706433", "http://0177.0.0.1", "http://127.1", "0xa9fea9fe"] {
            let error = OriginRule::parse(text).unwrap_err();
            assert!(error.message.contains("spells the address"), "{text}: {error}");
            assert!(HostPattern::parse(text.trim_start_matches("http://")).is_err(), "{text}");
        }
        let error = OriginRule::parse("https://bücher.example").unwrap_err();
        assert!(error.message.ends_with("write `xn--bcher-kva.example`"), "{error}");
    }

    #[test]
    fn rules_cover_by_scheme_host_and_port() {
        let covers = |wide: &str, narrow: &str| rule(wide).covers(&rule(narrow));
        assert!(covers("example.org", "https://EXAMPLE.org:443/") && covers("*.b.c:*", "https://*.x.b.c:8443"));
        assert!(
            !covers("a.b", "http://a.b") && !covers("a.b", "a.b:*") && !covers("*.b", "b") && !covers("a.b", "*.b")
        );
        assert!(!covers("*.b.c", "*.c") && !covers("*.b.c", "xb.c") && !covers("a.b", "tcp://a.b:443"));
    }

    #[test]
    fn origins_know_this_machine() {
        let loopback = |url: &str| Origin::of_url(url).unwrap().is_loopback();
        assert!(loopback("http://127.0.0.1:1") && loopback("http://[::1]:1") && loopback("https://localhost"));
        assert!(!loopback("http://127.0.0.1.example.org") && !loopback("http://10.0.0.1"));
    }
}
