//! The parts of a service that have several forms, or refer to other parts of the file.

mod dotenv;
mod ports;
mod volumes;

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use crate::checker::{Checker, Form, Pair, child};
use located_yaml::{Node, Value};

pub(crate) use ports::ports;
pub(crate) use volumes::mounts;

/// The variables of a service: those of its `env_file`, and its own, which precede.
pub(crate) fn environment(checker: &mut Checker<'_>, service: &Node, key: &str) -> Map<String, Json> {
    let mut pairs = Vec::new();
    if let Some(files) = service.get("env_file") {
        pairs.extend(dotenv::read(checker, files, &child(key, "env_file")));
    }
    let key = child(key, "environment");
    if let Some(own) = service.get("environment") {
        pairs.extend(checker.pairs(own, &key));
    }
    let mut environment = Map::new();
    for mut pair in pairs {
        if pair.value.is_none() {
            // A name alone takes the variable of that name.
            pair.value = checker.fill(&format!("${{{}}}", pair.name), pair.place, &child(&key, &pair.name));
        }
        checker.check_plain_secret(&pair, &key);
        environment.insert(pair.name, pair.value.unwrap_or_default().into());
    }
    environment
}

pub(crate) fn labels(checker: &mut Checker<'_>, node: &Node, key: &str) -> Json {
    let pairs = checker.pairs(node, key).into_iter();
    pairs.map(|Pair { name, value, .. }| (name, Json::String(value.unwrap_or_default()))).collect::<Map<_, _>>().into()
}

/// Configs or secrets of the file that a service gets as files.
pub(crate) fn references(
    checker: &mut Checker<'_>,
    node: &Node,
    key: &str,
    names: &BTreeSet<String>,
    section: &str,
) -> Json {
    let mut references = Vec::new();
    for (index, item) in node.items().iter().enumerate() {
        let key = format!("{key}[{index}]");
        let reference = match &item.value {
            Value::Map(_) => {
                checker.known(item, &key, &["gid", "mode", "source", "target", "uid"]);
                checker.json(item, &key)
            }
            _ => json!({ "source": checker.text(item, &key) }),
        };
        checker.declared(names, reference["source"].as_str().unwrap_or_default(), item.place, &key, section);
        references.push(reference);
    }
    references.into()
}

/// The services that start before this one.
pub(crate) fn dependencies(checker: &mut Checker<'_>, node: &Node, key: &str, services: &BTreeSet<String>) -> Json {
    let mut dependencies = Map::new();
    for item in node.items() {
        let name = checker.text(item, key).unwrap_or_default();
        checker.declared(services, &name, item.place, key, "services");
        dependencies.insert(name, json!({ "condition": "service_started" }));
    }
    for entry in node.entries() {
        let key = child(key, &entry.key);
        checker.declared(services, &entry.key, entry.place, &key, "services");
        checker.known(&entry.value, &key, &["condition", "required", "restart"]);
        dependencies.insert(entry.key.clone(), checker.json(&entry.value, &key));
    }
    dependencies.into()
}

/// The networks that a service joins.
pub(crate) fn memberships(checker: &mut Checker<'_>, node: &Node, key: &str, networks: &BTreeSet<String>) -> Json {
    let mut memberships = Map::new();
    for item in node.items() {
        let name = checker.text(item, key).unwrap_or_default();
        checker.declared(networks, &name, item.place, key, "networks");
        memberships.insert(name, json!({}));
    }
    for entry in node.entries() {
        let key = child(key, &entry.key);
        checker.declared(networks, &entry.key, entry.place, &key, "networks");
        let known = ["aliases", "gw_priority", "ipv4_address", "ipv6_address", "mac_address", "priority"];
        checker.known(&entry.value, &key, if checker.is_swarm() { &known[..1] } else { &known });
        let membership = checker.json(&entry.value, &key);
        memberships.insert(entry.key.clone(), if membership.is_null() { json!({}) } else { membership });
    }
    memberships.into()
}

pub(crate) fn healthcheck(checker: &mut Checker<'_>, node: &Node, key: &str) -> Json {
    let durations = ["interval", "start_interval", "start_period", "timeout"];
    checker.known(node, key, &[durations.as_slice(), &["disable", "retries", "test"]].concat());
    checker.check_values(node, key, &durations, Form::Duration);
    checker.check_values(node, key, &["retries"], Form::Count);
    let mut check = checker.json(node, key);
    if let Some(test) = check["test"].as_str() {
        check["test"] = json!(["CMD-SHELL", test]);
    }
    check
}

pub(crate) fn deploy(checker: &mut Checker<'_>, node: &Node, key: &str) -> Json {
    let update = ["delay", "failure_action", "max_failure_ratio", "monitor", "order", "parallelism"];
    let tables: [(&str, &[&str]); 6] = [
        ("update_config", &update),
        ("rollback_config", &update),
        ("restart_policy", &["condition", "delay", "max_attempts", "window"]),
        ("placement", &["constraints", "max_replicas_per_node", "preferences"]),
        ("resources", &["limits", "reservations"]),
        ("labels", &[]),
    ];
    let names: Vec<&str> = tables.iter().map(|(name, _)| *name).chain(["endpoint_mode", "mode", "replicas"]).collect();
    checker.known(node, key, &names);
    for (name, keys) in tables.iter().filter(|(_, keys)| !keys.is_empty()) {
        let Some(table) = node.get(name) else { continue };
        let key = child(key, name);
        checker.known(table, &key, keys);
        checker.check_values(table, &key, &["delay", "monitor", "window"], Form::Duration);
        checker.check_values(table, &key, &["max_attempts", "max_replicas_per_node", "parallelism"], Form::Count);
        checker.check_values(table, &key, &["max_failure_ratio"], Form::Fraction);
    }
    resources(checker, node.get("resources"), &child(key, "resources"));
    checker.check_values(node, key, &["replicas"], Form::Count);
    if let Some(mode) = node.get("mode") {
        let key = child(key, "mode");
        if checker.text(mode, &key).is_some_and(|mode| !matches!(mode.as_str(), "replicated" | "global")) {
            checker.refuse(mode.place, &key, "unsupported mode", "use `replicated` or `global`");
        }
    }
    let mut deploy = checker.json(node, key);
    if let Some(own) = node.get("labels") {
        deploy["labels"] = labels(checker, own, &child(key, "labels"));
    }
    deploy
}

fn resources(checker: &mut Checker<'_>, node: Option<&Node>, key: &str) {
    let known: &[&str] =
        if checker.is_swarm() { &["cpus", "memory", "pids"] } else { &["cpus", "devices", "memory", "pids"] };
    for entry in node.map_or(&[][..], Node::entries) {
        let key = child(key, &entry.key);
        checker.known(&entry.value, &key, known);
        checker.check_values(&entry.value, &key, &["cpus"], Form::Fraction);
        checker.check_values(&entry.value, &key, &["memory"], Form::Bytes);
        checker.check_values(&entry.value, &key, &["pids"], Form::Count);
    }
}
