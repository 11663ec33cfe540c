//! Published ports.

use serde_json::{Value as Json, json};

use crate::checker::Checker;
use crate::node::{Node, Value};

/// The published ports of a service, each as a map.
pub(crate) fn ports(checker: &mut Checker<'_>, node: &Node, key: &str) -> Json {
    let mut ports = Vec::new();
    for (index, item) in node.items().iter().enumerate() {
        let key = format!("{key}[{index}]");
        if let Value::Map(_) = item.value {
            checker.known(item, &key, &["app_protocol", "host_ip", "mode", "name", "protocol", "published", "target"]);
            ports.push(checker.json(item, &key));
        } else if let Some(text) = checker.text(item, &key) {
            match parse(&text) {
                Some(port) => ports.push(port),
                None => {
                    let message = format!("`{text}` isn't a port, as in `127.0.0.1:8080:80/tcp`");
                    checker.refuse(item.place, &key, message, "write one entry for each port; ranges aren't supported");
                }
            }
        }
    }
    ports.into()
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
    fn short_forms_are_read_from_their_end() {
        assert_eq!(parse("80"), Some(json!({ "target": 80, "protocol": "tcp" })));
        assert_eq!(parse("8080:80/udp"), Some(json!({ "target": 80, "protocol": "udp", "published": "8080" })));
        let bound = json!({ "target": 80, "protocol": "tcp", "published": "8080", "host_ip": "::1" });
        assert_eq!(parse("[::1]:8080:80"), Some(bound));
        assert_eq!([parse("80-82"), parse("x"), parse("1:2:x"), parse("70000")], [const { None }; 4]);
    }
}
