//! How services of the swarm differ from what a release says.
//!
//! The swarm returns what a service should be as it was told, with defaults for what it wasn't told. So everything that the
//! release sets is compared, and nothing else.

use docker_engine::Service;
use serde_json::Value as Json;
use stagewright_sdk::LiveDifference;

use crate::spec::DesiredService;

/// What names are for in a release, and ids on the swarm.
const BY_ID: [&str; 2] = ["ConfigID", "SecretID"];

/// How a service differs.
pub(crate) fn differences(desired: &DesiredService, service: &Service) -> Vec<LiveDifference> {
    let spec = desired.spec();
    let parts = [
        ("TaskTemplate", &service.spec.task_template),
        ("Mode", &service.spec.mode),
        ("EndpointSpec", &service.spec.endpoint_spec),
    ];
    let mut found = Vec::new();
    for (name, live) in parts {
        let mut wanted = spec[name].clone();
        // The release has names of networks, and the swarm has ids.
        if let Some(template) = wanted.as_object_mut() {
            template.remove("Networks");
        }
        compare(&format!("service {}: {name}", desired.name), &wanted, Some(live), &mut found);
    }
    found
}

fn compare(what: &str, wanted: &Json, live: Option<&Json>, found: &mut Vec<LiveDifference>) {
    match (wanted, live) {
        (Json::Object(fields), Some(Json::Object(live))) => {
            for (key, value) in fields.iter().filter(|(key, _)| !BY_ID.contains(&key.as_str())) {
                compare(&format!("{what}.{key}"), value, live.get(key), found);
            }
        }
        // The order has no meaning, and changes whenever someone changes a list.
        (Json::Array(items), Some(Json::Array(live))) if items.iter().chain(live).all(Json::is_string) => {
            let only = |of: &[Json], other: &[Json]| {
                let own = of.iter().filter(|item| !other.contains(item)).map(text).collect::<Vec<_>>();
                (!own.is_empty()).then(|| own.join(", "))
            };
            let (expected, instead) = (only(items, live), only(live, items));
            if expected.is_some() || instead.is_some() {
                found.push(LiveDifference { what: what.to_owned(), expected, found: instead });
            }
        }
        (Json::Array(items), Some(Json::Array(live))) if items.len() == live.len() => {
            for (index, (item, live)) in items.iter().zip(live).enumerate() {
                compare(&format!("{what}[{index}]"), item, Some(live), found);
            }
        }
        // The swarm leaves out what is empty.
        (wanted, None | Some(Json::Null)) if is_empty(wanted) => {}
        (wanted, Some(live)) if wanted == live => {}
        (wanted, live) => {
            let (expected, live) = (Some(text(wanted)), live.map(text));
            found.push(LiveDifference { what: what.to_owned(), expected, found: live });
        }
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Bool(value) => !value,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.values().all(is_empty),
    }
}

fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compared(wanted: &Json, live: &Json) -> Vec<String> {
        let mut found = Vec::new();
        compare("web", wanted, Some(live), &mut found);
        let shown = |found: LiveDifference| format!("{}: {:?} -> {:?}", found.what, found.expected, found.found);
        found.into_iter().map(shown).collect()
    }

    #[test]
    fn only_what_the_release_sets_is_compared() {
        let wanted = json!({ "Image": "a", "Env": ["A=1", "B=2"], "TTY": false, "Configs": [{ "ConfigName": "c", "ConfigID": "1" }] });
        let mut live = json!({ "Image": "a", "Env": ["B=2", "A=1"], "Isolation": "default", "Configs": [{ "ConfigName": "c", "ConfigID": "2" }] });
        assert_eq!(compared(&wanted, &live), [""; 0]);
        live["Image"] = "b".into();
        live["Env"] = json!(["C=3", "A=1"]);
        let mut found = compared(&wanted, &live);
        found.sort();
        assert_eq!(found, [r#"web.Env: Some("B=2") -> Some("C=3")"#, r#"web.Image: Some("a") -> Some("b")"#]);
    }
}
