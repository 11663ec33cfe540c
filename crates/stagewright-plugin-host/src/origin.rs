//! Origins of URLs, and the rules of `permissions.net` over them.

use reqwest::Url;

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

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// Whether it is this machine, by an address or the name that RFC 6761 reserves for it.
    pub(crate) fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost"
            || bare.ends_with(".localhost")
            || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// As it is written in `permissions.net`.
impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Origin { scheme, host, port } = self;
        match (scheme.as_str(), port) {
            ("https", 443) | ("http", 80) => write!(f, "{scheme}://{host}"),
            _ => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

/// One entry of `permissions.net`: `https://host`, `http://host:8080`, `host` (https on 443), `host:*`, `*.host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginRule {
    scheme: String,
    host: HostRule,
    /// None for any.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostRule {
    Is(String),
    EndsWith(String),
}

impl OriginRule {
    /// The error says what is wrong with the rule.
    pub(crate) fn parse(rule: &str) -> Result<OriginRule, String> {
        let (scheme, rest) = rule.split_once("://").unwrap_or(("https", rule));
        if !matches!(scheme, "http" | "https") {
            return Err(format!("`{rule}` has a scheme other than http and https"));
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(format!("`{rule}` is more than an origin: leave out user, path and query"));
        }
        // An IPv6 address holds colons of its own, within brackets.
        let port_at = authority.rfind(':').filter(|&at| !authority[at..].contains(']'));
        let (host, port) = match port_at {
            Some(at) => (&authority[..at], Some(&authority[at + 1..])),
            None => (authority, None),
        };
        let port = match port {
            None => Some(if scheme == "http" { 80 } else { 443 }),
            Some("*") => None,
            Some(digits) => Some(digits.parse().map_err(|_| format!("`{rule}`: `{digits}` is not a port"))?),
        };
        let host = host.to_ascii_lowercase();
        let host = match host.strip_prefix("*.") {
            Some(domain) if !domain.is_empty() && !domain.contains('*') => HostRule::EndsWith(format!(".{domain}")),
            None if !host.is_empty() && !host.contains('*') => HostRule::Is(host),
            _ => return Err(format!("`{rule}` names no host; `*` stands only for a port, or before a domain")),
        };
        Ok(OriginRule { scheme: scheme.to_owned(), host, port })
    }

    pub(crate) fn grants(&self, origin: &Origin) -> bool {
        let host = match &self.host {
            HostRule::Is(host) => *host == origin.host,
            HostRule::EndsWith(domain) => origin.host.ends_with(domain),
        };
        host && self.scheme == origin.scheme && self.port.is_none_or(|port| port == origin.port)
    }
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
    }

    #[test]
    fn rules_that_mean_nothing_are_refused() {
        for rule in ["", "*", "https://", "ftp://x", "x:port", "https://x/path", "https://*.*", "a@b"] {
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
