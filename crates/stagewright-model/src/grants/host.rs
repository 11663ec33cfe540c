//! Hosts and ports: their normal form, and rules that match hosts.

use std::net::IpAddr;

use url::Url;

use crate::format_error::{FormatError, refuse};

/// Hosts are in the normal form of URLs: lower case, names in ASCII, addresses in their shortest form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum HostRule {
    Is(String),
    /// `*.DOMAIN`, without the `*` but with the dot.
    EndsWith(String),
}

impl HostRule {
    /// Parses `HOST` or `*.DOMAIN`.
    ///
    /// A reviewer must be able to see which host a rule grants. Spellings that URLs accept but that look like another
    /// host are therefore rejected: letters beyond ASCII, which can look like ASCII letters, and unusual spellings of
    /// IPv4 addresses, such as `0x7f.1` for 127.0.0.1, which look like names.
    pub(super) fn parse(text: &str, code: &'static str, help: &str) -> Result<HostRule, FormatError> {
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
            (true, Some(_)) => refuse(code, "has an address after `*.`, but an address has no subdomains", help),
            (true, None) => Ok(HostRule::EndsWith(format!(".{normal}"))),
            (false, Some(IpAddr::V4(_))) if normal != name => refuse(
                code,
                format!("is an unusual spelling of the address {normal}"),
                format!("write `{normal}` instead"),
            ),
            (false, _) => Ok(HostRule::Is(normal)),
        }
    }

    /// Whether the rule matches a host in normal form.
    pub(super) fn has(&self, host: &str) -> bool {
        match self {
            HostRule::Is(own) => own == host,
            // `.example.org` isn't a subdomain of `example.org`.
            HostRule::EndsWith(domain) => host.len() > domain.len() && host.ends_with(domain.as_str()),
        }
    }

    pub(super) fn covers(&self, other: &HostRule) -> bool {
        match (self, other) {
            (own, HostRule::Is(host)) => own.has(host),
            (HostRule::Is(_), HostRule::EndsWith(_)) => false,
            (HostRule::EndsWith(own), HostRule::EndsWith(other)) => other.ends_with(own.as_str()),
        }
    }
}

pub(super) fn port_covers(own: Option<u16>, other: Option<u16>) -> bool {
    own.is_none() || own == other
}

/// Parses a port from 1 to 65535, written as digits without a sign.
pub(super) fn port_number(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| is_number && *port > 0)
}

/// Splits off the port. The colons of an IPv6 address are inside of brackets, and don't start a port.
pub(super) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rfind(':').filter(|&at| !authority[at..].contains(']')) {
        Some(at) => (&authority[..at], Some(&authority[at + 1..])),
        None => (authority, None),
    }
}

/// The normal form of `host` in URLs, which is the same for all spellings of an address. None if it isn't a valid host.
pub(super) fn normal_host(host: &str) -> Option<String> {
    if host.is_empty() || host.contains(['/', '\\', '?', '#', '@', '*']) || host.contains(char::is_whitespace) {
        return None;
    }
    let url = Url::parse(&format!("http://{host}/")).ok()?;
    // A colon outside of brackets was parsed as the start of a port or of a password.
    let is_whole = url.port().is_none() && (host.starts_with('[') || !host.contains(':'));
    // `%2a` decodes to `*`, which would be displayed and parsed again as a wildcard.
    url.host_str().filter(|host| is_whole && !host.contains('*')).map(str::to_owned)
}

/// The address if a host in normal form is one.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// The address on this machine's loopback that a host names; none for another host, and for names below `localhost`.
pub(super) fn loopback(host: &str) -> Option<IpAddr> {
    let named = address(host).or_else(|| (host == "localhost").then(|| IpAddr::from([127, 0, 0, 1])));
    named.filter(IpAddr::is_loopback)
}
