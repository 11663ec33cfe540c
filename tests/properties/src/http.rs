//! The network policy. The first line of an input is the URL that a guest calls, the others are rules.

use std::net::{IpAddr, Ipv4Addr};

use stagewright_model::NetRule;
use stagewright_plugin_host::fuzzing::{Granted, address_is_allowed, http_policy, normal_rule};

/// A granted host is the one that the rule names, or a subdomain of it. The rule alone grants it too, and so does every
/// rule of the operator's policy that allows the rule. Parsing a normalised rule gives the same rule. An IPv4 address that
/// isn't allowed isn't allowed as an IPv6 address that maps or translates it either.
pub fn check(input: &[u8]) {
    check_addresses(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.lines();
    let url = lines.next().unwrap_or_default();
    let rules: Vec<&str> = lines.take(8).collect();
    for rule in &rules {
        let Some(normal) = normal_rule(rule) else { continue };
        assert_eq!(normal_rule(&normal).as_ref(), Some(&normal), "`{rule}` is parsed as another rule");
        assert_eq!(http_policy(&[rule], url), http_policy(&[&normal], url), "`{rule}` and `{normal}` grant the same");
        check_within(rule, &rules, url);
    }
    if let Some(Granted { rule, host }) = http_policy(&rules, url) {
        assert!(names(&rule, &host), "`{rule}` doesn't name `{host}`");
        let alone = http_policy(&[&rule], url).expect("the rule grants it by itself");
        assert_eq!(alone.host, host);
        assert_eq!(host, host.to_ascii_lowercase());
        let kept = rules.iter().filter(|one| normal_rule(one).as_ref() == Some(&rule)).count();
        assert!(kept > 0, "`{rule}` isn't one of the rules");
    }
}

/// A pipeline's rule that the policy allows grants nothing beyond the policy's rule.
fn check_within(rule: &str, rules: &[&str], url: &str) {
    for allowed in rules.iter().filter(|allowed| normal_rule(allowed).is_some()) {
        let (Ok(own), Ok(most)) = (NetRule::parse(rule), NetRule::parse(allowed)) else { continue };
        if most.covers(&own) && http_policy(&[rule], url).is_some() {
            assert!(http_policy(&[allowed], url).is_some(), "`{rule}` is not within `{allowed}`: {url}");
        }
    }
}

/// Whether a rule names a host, by its text alone: independent of the code under test.
fn names(rule: &str, host: &str) -> bool {
    let authority = rule.split_once("://").map_or(rule, |(_, authority)| authority);
    let port = authority.rfind(':').filter(|&colon| !authority[colon..].contains(']'));
    let named = &authority[..port.unwrap_or(authority.len())];
    match named.strip_prefix('*') {
        Some(domain) => domain.starts_with('.') && host.len() > domain.len() && host.ends_with(domain),
        None => named == host,
    }
}

fn check_addresses(input: &[u8]) {
    for octets in input.chunks_exact(4).take(4).filter_map(|octets| <[u8; 4]>::try_from(octets).ok()) {
        let address = Ipv4Addr::from(octets);
        let [a, b, c, d] = octets;
        let pair = |high, low| u16::from_be_bytes([high, low]);
        let translated = IpAddr::from([0x64, 0xff9b, 0, 0, 0, 0, pair(a, b), pair(c, d)]);
        for name in ["example.org", "localhost"] {
            let allowed = address_is_allowed(name, address.into());
            assert_eq!(address_is_allowed(name, address.to_ipv6_mapped().into()), allowed, "{address}, mapped");
            assert!(allowed || !address_is_allowed(name, translated), "{address}, translated");
        }
    }
    for octets in input.chunks_exact(16).take(2).filter_map(|octets| <[u8; 16]>::try_from(octets).ok()) {
        address_is_allowed("example.org", IpAddr::from(octets));
    }
}
