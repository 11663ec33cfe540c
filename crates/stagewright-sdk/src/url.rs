//! The parts of an absolute URL that decide where a request goes.

#![cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "only the fake host needs all parts"))]

use std::net::Ipv4Addr;

/// An absolute URL, split by the rules of WHATWG as far as the schemes `http` and `https` need them. Names and paths beyond
/// ASCII, `%` in a name, and `..` in a path stay as they are, which the host normalises.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    /// In lower case.
    scheme: String,
    /// The user and the password; may be empty.
    user: &'a str,
    /// In lower case; empty for a scheme that has none.
    host: String,
    /// None for the scheme's default.
    port: Option<u16>,
    /// The path, without query and fragment.
    path: &'a str,
}

impl<'a> Url<'a> {
    /// # Errors
    /// Why it isn't a URL, in the words of the host.
    pub(crate) fn parse(url: &'a str) -> Result<Url<'a>, &'static str> {
        let (scheme, rest) = url.trim().split_once(':').ok_or("relative URL without a base")?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(is_name) {
            return Err("relative URL without a base");
        }
        let scheme = scheme.to_ascii_lowercase();
        let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
        let Some(usual_port) = usual_port(&scheme) else {
            return Ok(Url { scheme, user: "", host: String::new(), port: None, path: rest });
        };
        let rest = rest.trim_start_matches(['/', '\\']);
        let (authority, path) = rest.split_at(rest.find(['/', '\\']).unwrap_or(rest.len()));
        let (user, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        // The colons in the brackets of an IPv6 address don't separate a port.
        let end_of_host = match address.strip_prefix('[').map(|inside| inside.find(']')) {
            Some(None) => return Err("invalid IPv6 address"),
            Some(Some(bracket)) => bracket + 2,
            None => address.find(':').unwrap_or(address.len()),
        };
        let (host, port) = address.split_at(end_of_host);
        let port = match port.strip_prefix(':') {
            Some(port) => port,
            None if port.is_empty() => "",
            None => return Err("invalid IPv6 address"),
        };
        if host.is_empty() {
            return Err("empty host");
        }
        let is_refused = |c: char| c.is_whitespace() || c.is_control() || "<>^|%\"`{}[]".contains(c);
        if !host.starts_with('[') && host.contains(is_refused) {
            return Err("invalid international domain name");
        }
        let is_numeric = |(_, last): (&str, &str)| last.bytes().all(|byte| byte.is_ascii_digit());
        if host.rsplit_once('.').is_some_and(is_numeric) && host.parse::<Ipv4Addr>().is_err() {
            return Err("invalid IPv4 address");
        }
        let port = match port {
            "" => None,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| "invalid port number")?)
            }
            _ => return Err("invalid port number"),
        };
        let port = port.filter(|port| *port != usual_port);
        Ok(Url { scheme, user, host: host.to_ascii_lowercase(), port, path })
    }

    /// Scheme, host and port, as in `permissions.net`; none if the scheme is neither `http` nor `https`.
    pub(crate) fn origin(&self) -> Option<String> {
        usual_port(&self.scheme)?;
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}://{}{port}", self.scheme, self.host))
    }

    /// Without user, query and fragment, which may contain secrets.
    pub(crate) fn shown(&self) -> String {
        match self.origin() {
            Some(origin) if self.path.is_empty() => format!("{origin}/"),
            Some(origin) => format!("{origin}{}", self.path.replace('\\', "/")),
            None => format!("{}:{}", self.scheme, self.path),
        }
    }

    /// Whether it has a user or a password.
    pub(crate) fn has_user(&self) -> bool {
        !self.user.is_empty()
    }

    /// Whether nothing on the way can read a request: it is encrypted, or stays on this machine.
    pub(crate) fn is_private(&self) -> bool {
        let host = self.host.as_str();
        let is_local =
            host == "localhost" || host.ends_with(".localhost") || host.starts_with("127.") || host == "[::1]";
        self.scheme == "https" || is_local
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn urls_are_split_as_browsers_split_them() {
        let url = Url::parse("HTTPS://user:pass@Host.org:8443/a/b?c=d#e").unwrap();
        assert_eq!(url.origin().as_deref(), Some("https://host.org:8443"));
        assert_eq!((url.shown().as_str(), url.has_user()), ("https://host.org:8443/a/b", true));
        assert_eq!(Url::parse("http://[::1]:80").unwrap().shown(), "http://[::1]/");
        assert_eq!(Url::parse("mailto:a@b").unwrap().origin(), None);
    }

    #[test]
    fn invalid_urls_are_refused_with_a_reason() {
        for (url, reason) in [
            ("example.org/a", "relative URL without a base"),
            ("/a:b", "relative URL without a base"),
            ("http://", "empty host"),
            ("http://a b/", "invalid international domain name"),
            ("http://a:70000", "invalid port number"),
            ("http://a:x", "invalid port number"),
            ("http://a:1:2", "invalid port number"),
            ("http://:80", "empty host"),
            ("http://[::1", "invalid IPv6 address"),
            ("http://1.2.3.400", "invalid IPv4 address"),
        ] {
            assert_eq!(Url::parse(url), Err(reason), "{url}");
        }
    }
}
