//! Published ports.

use serde_json::{Value as Json, json};

use crate::checker::Checker;
use located_yaml::{Node, Value};

/// The published ports of a service, each as a map.
pub(crate) fn ports(checker: &mut Checker<'_>, node: &Node, key: &str) -> Json {
    let mut ports = Vec::new();
    for (index, item) in node.items().iter().enumerate() {
        let key = format!("{key}[{index}]");
        let port = match item.value {
            Value::Map(_) => {
                let known = ["app_protocol", "host_ip", "mode", "name", "protocol", "published", "target"];
                checker.known(item, &key, &known);
                Some(checker.json(item, &key)).filter(is_port)
            }
            _ => match checker.text(item, &key) {
                Some(text) => parse(&text),
                None => continue,
            },
        };
        let Some(port) = port else {
            let help = "write it as in `127.0.0.1:8080:80/tcp`, one entry for each port; ranges aren't supported";
            checker.refuse(item.place, &key, "invalid port", help);
            continue;
        };
        if checker.is_swarm() && !port["host_ip"].is_null() {
            checker.refuse(item.place, &key, "a swarm publishes ports on all addresses", "remove the address");
        }
        ports.push(port);
    }
    ports.into()
}

/// Whether the numbers of a port are numbers of ports. Published, it may be text.
fn is_port(port: &Json) -> bool {
    let number = |value: &Json| match value {
        Json::String(text) => text.parse::<u16>().is_ok(),
        value => value.as_u64().is_some_and(|number| u16::try_from(number).is_ok()),
    };
    number(&port["target"]) && (port["published"].is_null() || number(&port["published"]))
}

/// `[[ADDRESS:]PORT:]PORT[/PROTOCOL]`.
fn parse(text: &str) -> Option<Json> {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (rest, target) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (address, published) = rest.rsplit_once(':').unwrap_or(("", rest));
    let mut port = json!({ "target": target.parse::<u16>().ok()?, "protocol": protocol });
    if !published.is_empty() {
        port["published"] = published.parse::<u16>().ok()?.to_string().into();
    }
    if !address.is_empty() {
        port["host_ip"] = address.trim_start_matches('[').trim_end_matches(']').into();
    }
    Some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_forms_have_numbers() {
        let is_port = |port: Json| is_port(&port);
        assert!(is_port(json!({ "target": 80 })) && is_port(json!({ "target": "80", "published": "8080" })));
        assert!(!is_port(json!({ "published": 80 })) && !is_port(json!({ "target": 80, "published": "80-90" })));
    }

    #[test]
    fn short_forms_are_read_from_their_end() {
        assert_eq!(parse("80"), Some(json!({ "target": 80, "protocol": "tcp" })));
        assert_eq!(parse("8080:80/udp"), Some(json!({ "target": 80, "protocol": "udp", "published": "8080" })));
        let bound = json!({ "target": 80, "protocol": "tcp", "published": "8080", "host_ip": "::1" });
        assert_eq!(parse("[::1]:8080:80"), Some(bound));
        assert_eq!([parse("80-82"), parse("x"), parse("1:2:x"), parse("70000")], [const { None }; 4]);
    }
}
