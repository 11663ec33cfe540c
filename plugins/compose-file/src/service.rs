//! A service of a file.

use serde_json::{Map, Value as Json};

use crate::checker::{Checker, Declared, Form, child, is_extension};
use crate::{Power, parts};
use located_yaml::{Entry, Node};

/// The keys that both targets support.
const KEYS: [&str; 27] = [
    "build",
    "cap_add",
    "cap_drop",
    "command",
    "configs",
    "depends_on",
    "deploy",
    "develop",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "extra_hosts",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "labels",
    "networks",
    "ports",
    "profiles",
    "read_only",
    "secrets",
    "stop_grace_period",
    "stop_signal",
    "user",
    "volumes",
];

/// The keys that both support, and that need no check.
const PLAIN_KEYS: [&str; 2] = ["logging", "working_dir"];

/// The keys that Compose alone supports.
const COMPOSE_KEYS: [&str; 36] = [
    "attach",
    "cgroup",
    "cgroup_parent",
    "container_name",
    "cpu_shares",
    "cpus",
    "device_cgroup_rules",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "group_add",
    "ipc",
    "mac_address",
    "mem_limit",
    "mem_reservation",
    "mem_swappiness",
    "memswap_limit",
    "network_mode",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "platform",
    "privileged",
    "restart",
    "runtime",
    "security_opt",
    "shm_size",
    "stdin_open",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "uts",
];

/// Turns a service into that of the release; none if it is refused as a whole.
pub(crate) fn service(checker: &mut Checker<'_>, entry: &Entry, declared: &Declared) -> Option<Json> {
    let (key, node) = (child("services", &entry.key), &entry.value);
    if node.entries().is_empty() {
        checker.refuse_type(node, &key, "a map");
        return None;
    }
    let mut service = Map::new();
    if let Some(image) = image(checker, entry, &key) {
        service.insert("image".to_owned(), image.into());
    }
    let environment = parts::environment(checker, node, &key);
    if !environment.is_empty() {
        service.insert("environment".to_owned(), environment.into());
    }
    checker.check_values(node, &key, &["stop_grace_period"], Form::Duration);
    for part in node.entries().iter().filter(|part| !is_extension(&part.key)) {
        if let Some(value) = convert(checker, part, &child(&key, &part.key), declared) {
            service.insert(part.key.clone(), value);
        }
    }
    Some(service.into())
}

/// The image by digest.
fn image(checker: &mut Checker<'_>, entry: &Entry, key: &str) -> Option<String> {
    let (name, node) = (&entry.key, &entry.value);
    let named = checker.inputs().images.get(name);
    let own = node.get("image").filter(|_| named.is_none());
    let digest_help = format!("name it by digest: images = {{ {name} = \"REPOSITORY@sha256:…\" }}");
    let (image, place) = match (named, own) {
        (Some(image), _) => (image.as_str().to_owned(), entry.place),
        (None, Some(image)) => (checker.text(image, &child(key, "image"))?, image.place),
        (None, None) => {
            let message = match node.get("build") {
                Some(_) => {
                    format!("`{name}` is only built, and a release has images that were built and tested before")
                }
                None => format!("`{name}` has no image"),
            };
            let help = format!("build it in a stage, and {digest_help}");
            checker.refuse(entry.place, key, message, help);
            return None;
        }
    };
    if crate::release::is_pinned(&image) {
        return Some(image);
    }
    let message =
        format!("`{image}` has no digest: what its tag stands for can change between the test and the deploy");
    checker.refuse(place, &child(key, "image"), message, digest_help);
    None
}

/// The value of a key in the release; none for one that isn't part of it.
fn convert(checker: &mut Checker<'_>, part: &Entry, key: &str, declared: &Declared) -> Option<Json> {
    let node = &part.value;
    check_powers(checker, part, key);
    Some(match part.key.as_str() {
        "image" | "build" | "develop" | "environment" | "env_file" | "profiles" => return None,
        "command" | "entrypoint" => checker.words(node, key),
        "configs" => parts::references(checker, node, key, &declared.configs, "configs"),
        "secrets" => parts::references(checker, node, key, &declared.secrets, "secrets"),
        "depends_on" => parts::dependencies(checker, node, key, &declared.services),
        "deploy" => parts::deploy(checker, node, key),
        "healthcheck" => parts::healthcheck(checker, node, key),
        "labels" => parts::labels(checker, node, key),
        "networks" => parts::memberships(checker, node, key, &declared.networks),
        "ports" => parts::ports(checker, node, key),
        "volumes" => parts::mounts(checker, node, key, &declared.volumes),
        name if KEYS.contains(&name) || PLAIN_KEYS.contains(&name) => checker.json(node, key),
        name if COMPOSE_KEYS.contains(&name) && !checker.is_swarm() => checker.json(node, key),
        name => {
            refuse_key(checker, part, key, name);
            return None;
        }
    })
}

fn refuse_key(checker: &mut Checker<'_>, part: &Entry, key: &str, name: &str) {
    let (message, help) = match name {
        "replicas" | "scale" => {
            (format!("`{name}` isn't a key of a service"), "write deploy: { replicas: … }".to_owned())
        }
        "restart" => (
            "Swarm ignores `restart`".to_owned(),
            "write deploy: { restart_policy: { condition: any } }, which is the default".to_owned(),
        ),
        name if COMPOSE_KEYS.contains(&name) => {
            (format!("`{name}` isn't supported on a swarm"), "remove it, or deploy the file with Compose".to_owned())
        }
        name => (
            format!("`{name}` isn't a key of a service, or isn't supported"),
            "correct or remove it; keys of your own begin with `x-`".to_owned(),
        ),
    };
    checker.refuse(part.place, key, message, help);
}

/// Refuses what goes beyond the container.
fn check_powers(checker: &mut Checker<'_>, part: &Entry, key: &str) {
    let node = &part.value;
    let text = node.scalar().unwrap_or_default();
    let lists = |ending: &str| node.items().iter().filter_map(Node::scalar).any(|item| item.ends_with(ending));
    let (power, what) = match part.key.as_str() {
        "privileged" if text != "false" => (Power::Privileged, "a privileged container controls the whole machine"),
        "security_opt" if lists("unconfined") || lists("disable") => {
            (Power::Privileged, "a container without a security profile")
        }
        "network_mode" | "pid" | "ipc" | "uts" | "cgroup" if text == "host" => {
            (Power::HostNamespaces, "a container in a namespace of the machine")
        }
        "devices" | "device_cgroup_rules" => (Power::Devices, "a container with devices of the machine"),
        "cap_add" => (Power::Capabilities, "a container with more capabilities than the default ones"),
        _ => return,
    };
    // A variable could fill in anything.
    checker.need(power, part.place, key, what);
}
