//! Configuration as a part of the release: ConfigMaps get a digest of their content in their name, and Secrets the release.
//!
//! Pods read their configuration when they start. With another name for other content, a change restarts what reads it,
//! and what still runs the earlier release keeps the configuration that it was tested with.

use std::collections::BTreeMap;

use kubernetes::{Object, mark_name, pod_pointer, sha256};
use serde_json::Value as Json;

/// How many digits of the digest a name has.
const DIGITS: usize = 10;

/// Renames the ConfigMaps that pods of the same release read, and the references to them. Those that nothing here reads keep
/// their names, since something else knows them by these.
pub(crate) fn name_by_content(objects: &mut [Object]) {
    let namespace = |object: &Object| object.json["metadata"]["namespace"].as_str().map(ToOwned::to_owned);
    let mut names: BTreeMap<(Option<String>, String), String> = BTreeMap::new();
    for object in objects.iter().filter(|object| object.kind() == "ConfigMap") {
        let content = [&object.json["data"], &object.json["binaryData"]].map(Json::to_string).concat();
        let name = format!("{}-{}", object.name(), &sha256(content.as_bytes())[..DIGITS]);
        names.insert((namespace(object), object.name().to_owned()), name);
    }
    let mut read = Vec::new();
    for object in objects.iter_mut() {
        let of = namespace(object);
        let Some(pod) = pod_pointer(object.kind()).and_then(|pod| object.json.pointer_mut(pod)) else { continue };
        for reference in references(pod, &CONFIG_MAP) {
            let key = (of.clone(), reference.as_str().unwrap_or_default().to_owned());
            if let Some(name) = names.get(&key) {
                *reference = name.as_str().into();
                read.push(key);
            }
        }
    }
    for object in objects.iter_mut().filter(|object| object.kind() == "ConfigMap") {
        let key = (namespace(object), object.name().to_owned());
        if let (true, Some(name)) = (read.contains(&key), names.get(&key)) {
            object.json["metadata"]["name"] = name.as_str().into();
        }
    }
}

/// Gives the Secrets with these names one for each release, since nothing here knows whether their values have changed.
pub(crate) fn name_secrets<'a>(objects: &mut [Object], names: impl Iterator<Item = &'a String>) {
    let names: Vec<&String> = names.collect();
    let is_own = |name: &Json| names.iter().any(|own| *name == own.as_str());
    for object in objects {
        if object.kind() == "Secret" && is_own(&object.json["metadata"]["name"]) {
            mark_name(&mut object.json["metadata"]["name"]);
        }
        secret_references(&mut object.json).into_iter().filter(|name| is_own(name)).for_each(mark_name);
    }
}

/// The names of the Secrets that an object's pods read.
pub(crate) fn secret_references(object: &mut Json) -> Vec<&mut Json> {
    let pod = pod_pointer(object["kind"].as_str().unwrap_or_default());
    pod.and_then(|pod| object.pointer_mut(pod)).map(|pod| references(pod, &SECRET)).unwrap_or_default()
}

/// Where pods name what they read.
struct Pointers {
    volume: &'static str,
    projected: &'static str,
    variable: &'static str,
    variables: &'static str,
}

const CONFIG_MAP: Pointers = Pointers {
    volume: "/configMap/name",
    projected: "/configMap/name",
    variable: "/valueFrom/configMapKeyRef/name",
    variables: "/configMapRef/name",
};

const SECRET: Pointers = Pointers {
    volume: "/secret/secretName",
    projected: "/secret/name",
    variable: "/valueFrom/secretKeyRef/name",
    variables: "/secretRef/name",
};

/// The names of what a pod reads.
fn references<'a>(pod: &'a mut Json, pointers: &Pointers) -> Vec<&'a mut Json> {
    let Some(pod) = pod.as_object_mut() else { return Vec::new() };
    let mut found = Vec::new();
    for (key, value) in pod {
        let items = value.as_array_mut().into_iter().flatten();
        match key.as_str() {
            "volumes" => items.for_each(|volume| found.extend(of_volume(volume, pointers))),
            "containers" | "initContainers" => {
                items.for_each(|container| found.extend(of_container(container, pointers)));
            }
            _ => {}
        }
    }
    found
}

fn of_volume<'a>(volume: &'a mut Json, pointers: &Pointers) -> Vec<&'a mut Json> {
    if volume.pointer(pointers.volume).is_some() {
        return volume.pointer_mut(pointers.volume).into_iter().collect();
    }
    let sources = volume.pointer_mut("/projected/sources").and_then(Json::as_array_mut);
    sources.into_iter().flatten().filter_map(|source| source.pointer_mut(pointers.projected)).collect()
}

fn of_container<'a>(container: &'a mut Json, pointers: &Pointers) -> Vec<&'a mut Json> {
    let Some(container) = container.as_object_mut() else { return Vec::new() };
    let mut found = Vec::new();
    for (key, value) in container {
        let pointer = match key.as_str() {
            "env" => pointers.variable,
            "envFrom" => pointers.variables,
            _ => continue,
        };
        found.extend(value.as_array_mut().into_iter().flatten().filter_map(|item| item.pointer_mut(pointer)));
    }
    found
}

#[cfg(test)]
mod tests {
    use kubernetes::Origin;
    use serde_json::json;

    use super::*;

    fn objects(value: &str) -> Vec<Object> {
        let pod = json!({
            "volumes": [{ "configMap": { "name": "files" } }, { "projected": { "sources": [{ "configMap": { "name": "files" } }] } }],
            "initContainers": [{ "env": [{ "valueFrom": { "configMapKeyRef": { "name": "variables", "key": "A" } } }] }],
            "containers": [{ "envFrom": [{ "configMapRef": { "name": "variables" } }, { "configMapRef": { "name": "foreign" } }] }],
        });
        let map = |name: &str, value: &str| json!({ "kind": "ConfigMap", "metadata": { "name": name }, "data": { "A": value } });
        let workload =
            json!({ "kind": "Deployment", "metadata": { "name": "web" }, "spec": { "template": { "spec": pod } } });
        let all = [map("files", value), map("variables", "1"), map("unread", "1"), workload];
        let mut objects = all.map(|json| Object { json, origin: Origin::default() }).to_vec();
        name_by_content(&mut objects);
        objects
    }

    #[test]
    fn configuration_is_named_by_its_content_where_it_is_read() {
        let names = |value: &str| objects(value).iter().map(|object| object.name().to_owned()).collect::<Vec<_>>();
        let (one, two) = (names("1"), names("2"));
        assert!(one[0].starts_with("files-") && one[0].len() == "files-".len() + DIGITS, "{one:?}");
        assert_ne!(one[0], two[0]);
        assert_eq!((&one[1], one[2].as_str()), (&two[1], "unread"));
        let pod = objects("1")[3].json["spec"]["template"]["spec"].clone();
        for pointer in ["/volumes/0/configMap/name", "/volumes/1/projected/sources/0/configMap/name"] {
            assert_eq!(pod.pointer(pointer), Some(&json!(one[0])));
        }
        for pointer in
            ["/initContainers/0/env/0/valueFrom/configMapKeyRef/name", "/containers/0/envFrom/0/configMapRef/name"]
        {
            assert_eq!(pod.pointer(pointer), Some(&json!(one[1])));
        }
        assert_eq!(pod.pointer("/containers/0/envFrom/1/configMapRef/name"), Some(&json!("foreign")));
    }

    #[test]
    fn secrets_of_the_release_are_named_after_it() {
        let pod = json!({
            "volumes": [{ "secret": { "secretName": "own" } }, { "projected": { "sources": [{ "secret": { "name": "own" } }] } }],
            "containers": [{ "env": [{ "valueFrom": { "secretKeyRef": { "name": "own", "key": "A" } } }],
                "envFrom": [{ "secretRef": { "name": "foreign" } }, { "configMapRef": { "name": "own" } }] }],
        });
        let secret = json!({ "kind": "Secret", "metadata": { "name": "own" } });
        let workload =
            json!({ "kind": "Deployment", "metadata": { "name": "own" }, "spec": { "template": { "spec": pod } } });
        let mut objects = [secret, workload].map(|json| Object { json, origin: Origin::default() });
        name_secrets(&mut objects, ["own".to_owned()].iter());
        assert_eq!(objects[0].name(), "own-{release}");
        let text = objects[1].json.to_string();
        assert_eq!((text.matches("own-{release}").count(), text.matches("\"own\"").count()), (3, 2), "{text}");
    }
}
