//! Origins of URLs, and the rules of `permissions.net` over them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use reqwest::Url;

use crate::net::is_localhost;

/// Scheme, host and port of a URL, as they are compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    scheme: String,
    /// Lower case; an IPv6 address in brackets.
    host: String,
    port: u16,
}

impl Origin {
    /// None for anything but `http` and `https`.
    pub(crate) fn of(url: &Url) -> Option<Origin> {
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        Some(Origin {
            scheme: url.scheme().to_owned(),
            host: url.host_str()?.to_ascii_lowercase(),
            port: url.port_or_known_default()?,
        })
    }

    /// What a tunnel to `authority` (`host:port`, as in a CONNECT request) is for: judged by its port, as nothing else
    /// is known of it. None when it isn't a host and a port.
    pub(crate) fn of_tunnel(authority: &str) -> Option<Origin> {
        let (host, port) = split_port(authority);
        let port = port?.parse().ok().filter(|port| *port > 0)?;
        let scheme = match port {
            443 => "https",
            80 => "http",
            _ => "tcp",
        };
        Some(Origin { scheme: scheme.to_owned(), host: normal_host(host)?, port })
    }

    /// Lower case; an IPv6 address in brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address, when the host is one rather than a name.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        address(&self.host)
    }

    /// The same at an address instead of a name.
    pub(crate) fn at(&self, address: IpAddr) -> Origin {
        let host = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        Origin { host, ..self.clone() }
    }

    /// The same at another port.
    pub(crate) fn at_port(&self, port: u16) -> Origin {
        Origin { port, ..self.clone() }
    }

    /// Whether a connection to one is a connection to the other, whatever is spoken there.
    pub(crate) fn is_same_place(&self, other: &Origin) -> bool {
        self.host == other.host && self.port == other.port
    }

    pub(crate) fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// Whether it is this machine, by an address or the name that RFC 6761 reserves for it.
    pub(crate) fn is_loopback(&self) -> bool {
        is_localhost(&self.host) || self.address().is_some_and(|address| address.is_loopback())
    }
}

/// As it is written in `permissions.net`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { scheme, host, port } = self;
        match (scheme.as_str(), port) {
            ("https", 443) | ("http", 80) => write!(f, "{scheme}://{host}"),
            _ => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

/// One entry of `permissions.net`: `https://host`, `http://host:8080`, `host` (https on 443), `host:*`, `*.host`;
/// `tcp://host:5432` for programs, whatever they speak there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginRule {
    scheme: String,
    host: HostRule,
    /// None for any.
    port: Option<u16>,
}

/// Hosts are as URLs have them: lower case, names in ASCII, addresses in their shortest form.
#[derive(Clone, Debug, PartialEq, Eq)]
enum HostRule {
    Is(String),
    /// With its leading dot.
    EndsWith(String),
}

/// As it is parsed.
impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostRule::Is(host) => write!(f, "{}://{host}", self.scheme)?,
            HostRule::EndsWith(domain) => write!(f, "{}://*{domain}", self.scheme)?,
        }
        match self.port {
            None => f.write_str(":*"),
            port if port == usual_port(&self.scheme) => Ok(()),
            Some(port) => write!(f, ":{port}"),
        }
    }
}

impl OriginRule {
    /// The error says what is wrong with the rule.
    pub(crate) fn parse(rule: &str) -> Result<OriginRule, String> {
        let (scheme, rest) = rule.split_once("://").unwrap_or(("https", rule));
        if !matches!(scheme, "http" | "https" | "tcp") {
            return Err(format!("`{rule}` has a scheme other than http, https and tcp"));
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '\\', '?', '#', '@']) {
            return Err(format!("`{rule}` is more than an origin: leave out user, path and query"));
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None => match usual_port(scheme) {
                Some(port) => Some(port),
                None => return Err(format!("`{rule}` names no port, as in `tcp://{host}:5432`")),
            },
            Some("*") => None,
            Some(digits) => {
                let port = digits.parse().ok().filter(|port| *port > 0);
                Some(port.ok_or_else(|| format!("`{rule}`: `{digits}` is not a port"))?)
            }
        };
        let (is_wildcard, name) = match host.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, host),
        };
        let name = normal_host(name)
            .ok_or_else(|| format!("`{rule}` names no host; `*` stands only for a port, or before a domain"))?;
        let host = match is_wildcard {
            true if address(&name).is_some() => return Err(format!("`{rule}`: no hosts are below an address")),
            true => HostRule::EndsWith(format!(".{name}")),
            false => HostRule::Is(name),
        };
        Ok(OriginRule { scheme: scheme.to_owned(), host, port })
    }

    /// Whether a request to `origin` is granted.
    pub(crate) fn grants(&self, origin: &Origin) -> bool {
        self.scheme == origin.scheme && self.grants_tunnel(origin)
    }

    /// Whether a connection to the host and port of `origin` is granted: within a tunnel nobody sees what is spoken.
    pub(crate) fn grants_tunnel(&self, origin: &Origin) -> bool {
        let host = match &self.host {
            HostRule::Is(host) => *host == origin.host,
            HostRule::EndsWith(domain) => {
                // A dot alone is no host below the domain.
                origin.host.len() > domain.len() && origin.host.ends_with(domain)
            }
        };
        host && self.port.is_none_or(|port| port == origin.port)
    }

    /// Where a definite port of this machine's loopback is granted.
    pub(crate) fn on_loopback(&self) -> Option<SocketAddr> {
        let (HostRule::Is(host), Some(port)) = (&self.host, self.port) else { return None };
        let address = match address(host) {
            Some(address) => address,
            None if host == "localhost" => IpAddr::from([127, 0, 0, 1]),
            None => return None,
        };
        address.is_loopback().then(|| SocketAddr::new(address, port))
    }

    /// Whether all of this machine's loopback is granted, as in `http://127.0.0.1:*`.
    pub(crate) fn is_any_loopback_port(&self) -> bool {
        let HostRule::Is(host) = &self.host else { return false };
        self.port.is_none() && (host == "localhost" || address(host).is_some_and(|address| address.is_loopback()))
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
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

    fn granted(rule: &str, url: &str) -> bool {
        let origin = Origin::of(&Url::parse(url).unwrap()).unwrap();
        OriginRule::parse(rule).unwrap().grants(&origin)
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
        assert!(granted("https://BÜCHER.example", "https://xn--bcher-kva.example/"));
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
        let rule = |rule| OriginRule::parse(rule).unwrap();
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
            ["", "a.b", ":443", "a.b:", "a.b:0", "a.b:65536", "u@a.b:443", "a.b/c:443", "a:b:443", "::1:80"]
        {
            assert_eq!(shown(authority), None, "{authority}");
        }
    }

    #[test]
    fn loopback_rules_say_where_on_this_machine() {
        let on = |rule| OriginRule::parse(rule).unwrap().on_loopback().map(|address| address.to_string());
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
            let rule = OriginRule::parse(text).unwrap();
            assert_eq!(OriginRule::parse(&rule.to_string()), Ok(rule), "{text}");
        }
    }

    #[test]
    fn rules_that_mean_nothing_are_refused() {
        for rule in [
            "",
            "*",
            "https://",
            "ftp://x",
            "x:port",
            "https://x/path",
            "https://*.*",
            "a@b",
            "x:0",
            "a b",
            "::1",
            "*.1",
        ] {
            assert!(OriginRule::parse(rule).is_err(), "{rule}");
        }
    }

    #[test]
    fn origins_know_this_machine() {
        let loopback = |url: &str| Origin::of(&Url::parse(url).unwrap()).unwrap().is_loopback();
        assert!(loopback("http://127.0.0.1:1") && loopback("http://[::1]:1") && loopback("https://localhost"));
        assert!(!loopback("http://127.0.0.1.example.org") && !loopback("http://10.0.0.1"));
    }
}
