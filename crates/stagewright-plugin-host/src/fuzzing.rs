//! The network policy as pure functions of text, for fuzzing and property tests. Nothing is looked up or sent.

use std::net::IpAddr;

use stagewright_model::{Origin, OriginRule};

use crate::net::check_address;

/// Why a request is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The rule that grants it, in its normal form.
    pub rule: String,
    /// The host that is called: lower case, an IPv6 address in brackets.
    pub host: String,
}

/// The first of `rules` (entries of `permissions.net`) that grants a guest's request to `url`. None when none does, or the
/// URL isn't http or https. Invalid rules grant nothing.
///
/// Holds for every input: it doesn't panic; the host is the one that the rule names, or below a domain that it names
/// after `*.`; a request that a rule grants is also granted by [`Granted::rule`].
pub fn http_policy(rules: &[&str], url: &str) -> Option<Granted> {
    let origin = Origin::of_url(url)?;
    let mut rules = rules.iter().filter_map(|rule| OriginRule::parse(rule).ok());
    let rule = rules.find(|rule| rule.grants(&origin))?;
    Some(Granted { rule: rule.to_string(), host: origin.host().to_owned() })
}

/// The normal form of `rule`; none when it is invalid. The normal form of a normal form is the same.
pub fn normal_rule(rule: &str) -> Option<String> {
    OriginRule::parse(rule).ok().map(|rule| rule.to_string())
}

/// Whether a name may resolve to `address`. Doesn't panic. An IPv6 address that embeds a refused IPv4 address is refused
/// too.
pub fn address_is_allowed(name: &str, address: IpAddr) -> bool {
    check_address(&name.to_ascii_lowercase(), address).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use reqwest::Url;

    use super::*;

    fn hosts() -> impl Strategy<Value = String> {
        prop_oneof![
            "([a-cA-C]{1,2}\\.){0,2}[a-c]{1,2}",
            "[0-9x]{1,3}(\\.[0-9]{1,3}){0,3}",
            "\\[[0-9a-f:.]{2,12}\\]",
            "[a-zé%*.:@/\\\\\\[\\]#? -]{0,8}",
        ]
    }

    fn rules() -> impl Strategy<Value = String> {
        let schemes = prop_oneof![Just(""), Just("http://"), Just("https://"), Just("tcp://"), Just("ftp://")];
        let ports = prop_oneof![Just(String::new()), Just(":*".to_owned()), ":[0-9]{1,5}"];
        (schemes, prop_oneof![Just(""), Just("*."), Just("*")], hosts(), ports)
            .prop_map(|(scheme, wildcard, host, port)| format!("{scheme}{wildcard}{host}{port}"))
    }

    fn urls() -> impl Strategy<Value = String> {
        let schemes = prop_oneof![Just("http:"), Just("https:"), Just("tcp:"), Just("HTTP:/")];
        (schemes, "[/\\\\]{2}", "([a-z:]{1,3}@)?", hosts(), "(:[0-9]{1,5})?[/?#]?[a-z@]{0,3}")
            .prop_map(|(scheme, slashes, user, host, rest)| format!("{scheme}{slashes}{user}{host}{rest}"))
    }

    #[test]
    fn an_encoded_star_is_not_a_wildcard() {
        for rule in ["%2a.example.org", "*.ex%2Aample.org"] {
            assert_eq!(normal_rule(rule), None, "{rule}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_granted_host_is_the_one_that_the_rule_names(rules in prop::collection::vec(rules(), 1..4), url in urls()) {
            let texts: Vec<&str> = rules.iter().map(String::as_str).collect();
            if let Some(Granted { rule, host }) = http_policy(&texts, &url) {
                let (scheme, authority) = rule.split_once("://").unwrap();
                let port = authority.rfind(':').filter(|&at| !authority[at..].contains(']'));
                let named = &authority[..port.unwrap_or(authority.len())];
                match named.strip_prefix('*') {
                    Some(domain) => prop_assert!(host.ends_with(domain) && host.len() > domain.len(), "{rule} {host}"),
                    None => prop_assert_eq!(&host, named),
                }
                let url = Url::parse(&url).unwrap();
                prop_assert_eq!((scheme, host.as_str()), (url.scheme(), url.host_str().unwrap()));
                prop_assert!(http_policy(&[&rule], url.as_str()).is_some());
            }
        }

        #[test]
        fn the_normal_form_of_a_rule_is_stable(rule in rules()) {
            if let Some(normal) = normal_rule(&rule) {
                prop_assert_eq!(normal_rule(&normal), Some(normal.clone()));
            }
        }

        #[test]
        fn no_text_causes_a_panic(rule in ".{0,40}", url in ".{0,40}") {
            http_policy(&[&rule], &url);
            normal_rule(&rule);
        }

        #[test]
        fn an_embedded_address_is_checked_like_the_address_itself(address in any::<u32>().prop_map(Ipv4Addr::from)) {
            let allowed = address_is_allowed("example.org", address.into());
            let held = [address.to_ipv6_mapped(), format!("64:ff9b::{address}").parse().unwrap()];
            for held in held {
                prop_assert_eq!(address_is_allowed("example.org", held.into()), allowed);
            }
        }
    }
}
