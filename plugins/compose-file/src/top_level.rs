//! The sections of a file.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use crate::Power;
use crate::checker::{Checker, Declared, child, content};
use crate::service::service;
use located_yaml::{Entry, Node, Value};

/// `name` and `version` mean nothing here: the deploy names the project.
const SECTIONS: [&str; 7] = ["name", "version", "services", "networks", "volumes", "configs", "secrets"];

/// Turns what a section declares into that of the release.
type Convert = fn(&mut Checker<'_>, &Entry) -> Json;

/// Turns a file into the document of its release: a Compose file again, in which each thing has one form.
pub(crate) fn document(checker: &mut Checker<'_>, root: &Node) -> Json {
    checker.known(root, "", &SECTIONS);
    let declared = declared(root);
    let images = checker.inputs().images.keys().filter(|name| !declared.services.contains(*name));
    for name in images.cloned().collect::<Vec<_>>() {
        let message = format!("`images` names the service `{name}`, which the file doesn't have");
        checker.refuse(root.place, "services", message, "correct the name in `images`");
    }
    let services = root.get("services").map_or(&[][..], Node::entries);
    if services.is_empty() {
        checker.refuse(root.place, "services", "the file has no services", "add one: services: { web: { image: … } }");
    }
    let mut document = Map::new();
    let services: Map<String, Json> = services
        .iter()
        .filter(|entry| is_active(&entry.value))
        .filter_map(|entry| Some((entry.key.clone(), service(checker, entry, &declared)?)))
        .collect();
    document.insert("services".to_owned(), services.into());
    let sections: [(&str, Convert); 4] =
        [("networks", network), ("volumes", volume), ("configs", config), ("secrets", secret)];
    for (section, convert) in sections {
        let entries = root.get(section).map_or(&[][..], Node::entries);
        let converted: Map<String, Json> =
            entries.iter().map(|entry| (entry.key.clone(), convert(checker, entry))).collect();
        if !converted.is_empty() {
            document.insert(section.to_owned(), converted.into());
        }
    }
    Json::Object(document)
}

fn declared(root: &Node) -> Declared {
    let names = |section: &str| -> BTreeSet<String> {
        let entries = root.get(section).map_or(&[][..], Node::entries);
        entries.iter().map(|entry| entry.key.clone()).collect()
    };
    let mut networks = names("networks");
    networks.insert("default".to_owned());
    Declared {
        services: names("services"),
        networks,
        volumes: names("volumes"),
        configs: names("configs"),
        secrets: names("secrets"),
    }
}

/// Whether a service is started without a choice of profiles.
fn is_active(service: &Node) -> bool {
    service.get("profiles").is_none_or(|profiles| profiles.items().is_empty())
}

fn network(checker: &mut Checker<'_>, entry: &Entry) -> Json {
    let (key, node) = (child("networks", &entry.key), &entry.value);
    let known =
        ["attachable", "driver", "driver_opts", "enable_ipv6", "external", "internal", "ipam", "labels", "name"];
    checker.known(node, &key, &known);
    let value = object(checker.json(node, &key));
    if [&value["driver"], &value["name"]].iter().any(|value| **value == "host") {
        checker.need(Power::HostNamespaces, entry.place, &key, "the network is that of the machine");
    }
    value
}

fn volume(checker: &mut Checker<'_>, entry: &Entry) -> Json {
    let (key, node) = (child("volumes", &entry.key), &entry.value);
    checker.known(node, &key, &["driver", "driver_opts", "external", "labels", "name"]);
    let value = object(checker.json(node, &key));
    let options = &value["driver_opts"];
    let is_remote = ["nfs", "nfs4", "cifs", "tmpfs"].iter().any(|kind| options["type"] == *kind);
    if !options["device"].is_null() && !is_remote {
        checker.need(Power::HostMounts, entry.place, &key, "the volume is a folder or device of the machine");
    }
    value
}

fn config(checker: &mut Checker<'_>, entry: &Entry) -> Json {
    let (key, node) = (child("configs", &entry.key), &entry.value);
    checker.known(node, &key, &["content", "environment", "external", "file", "name"]);
    if is_external(node) {
        if !checker.is_swarm() {
            let help = "write its text as `content`, or name a `file`";
            checker.refuse(entry.place, &key, "Compose has no external configs", help);
        }
        return object(checker.json(node, &key));
    }
    let text = if let Some(text) = node.get("content") {
        checker.text(text, &child(&key, "content")).map(Json::String)
    } else if let Some(file) = node.get("file") {
        let key = child(&key, "file");
        let path = checker.text(file, &key);
        path.and_then(|path| checker.file(&path, file.place, &key)).map(|text| content(&text))
    } else if let Some(name) = node.get("environment").and_then(Node::scalar) {
        checker.fill(&format!("${{{name}}}"), entry.place, &child(&key, "environment")).map(Json::String)
    } else {
        let help = "name a `file`, or write the text as `content`";
        checker.refuse(entry.place, &key, "the config has no content", help);
        None
    };
    json!({ "content": text })
}

fn secret(checker: &mut Checker<'_>, entry: &Entry) -> Json {
    let (key, node) = (child("secrets", &entry.key), &entry.value);
    checker.known(node, &key, &["environment", "external", "file", "name"]);
    if checker.is_swarm() {
        if !is_external(node) {
            let help = "declare it as `external: true`; the deploy creates it from a secret of the pipeline, with secrets = \
                        { NAME = \"…\" } there, or create it by hand with `docker secret create`";
            checker.refuse(entry.place, &key, "a release has no values of secrets", help);
        }
        return object(checker.json(node, &key));
    }
    let variable = node.get("environment").and_then(Node::scalar);
    if !variable.as_ref().is_some_and(|name| checker.inputs().secrets.contains(name)) {
        let help = "write `environment: NAME`, with secrets = [\"NAME\"] here and secrets = { NAME = \"…\" } in the deploy, \
                    which names a secret of the pipeline";
        checker.refuse(entry.place, &key, "the secret's value isn't a secret of the pipeline", help);
    }
    json!({ "environment": variable })
}

fn is_external(node: &Node) -> bool {
    matches!(node.get("external").map(|external| &external.value), Some(Value::Bool(true)))
}

/// Nothing is an empty map.
fn object(value: Json) -> Json {
    if value.is_null() { json!({}) } else { value }
}
