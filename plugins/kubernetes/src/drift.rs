//! Fields of a release that others have changed.
//!
//! The cluster knows who has set each field. A field of a release that its manager doesn't own any more was changed by
//! someone else, whatever form the cluster gives its value. Before 1.22 the cluster doesn't record who has scaled a workload,
//! so numbers, which have one form, are compared as well. Fields that the release doesn't set are no one's business here.

use serde_json::{Map, Value as Json};
use stagewright_sdk::{LiveDifference, Result};

use crate::cluster::Cluster;
use crate::object::Identity;

/// The owner of what the cluster itself sets: replicas, if an autoscaler has decided about them.
const CONTROLLERS: &str = "kube-controller-manager";

/// Who owns the fields that a release sets, in the words of `managedFields`.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// As in `helm`.
    pub manager: &'a str,
    /// How they were set: `Apply` on the server's side, and `Update` otherwise.
    pub operation: &'a str,
}

/// How the objects that are in place differ from those of a release. What the cluster itself sets isn't a difference.
///
/// # Errors
/// If the cluster can't be asked.
pub fn drift(cluster: &Cluster, release: &[(Identity, Json)], owner: Owner<'_>) -> Result<Vec<LiveDifference>> {
    let mut found = Vec::new();
    for (identity, applied) in release {
        match cluster.get(identity)? {
            // The cluster removes jobs that have ended, if they say so.
            None if identity.kind == "Job" => {}
            None => found.push(LiveDifference { what: identity.to_string(), expected: None, found: None }),
            // The values of secrets are the host's.
            Some(_) if identity.kind == "Secret" => {}
            Some(live) => {
                let mut differing = differences(identity, applied, &live, owner);
                if differing.iter().any(is_of_replicas) && cluster.is_autoscaled(identity)? {
                    differing.retain(|difference| !is_of_replicas(difference));
                }
                found.extend(differing);
            }
        }
    }
    Ok(found)
}

/// How the object that is in place differs from that of a release, both as the cluster has them.
fn differences(identity: &Identity, applied: &Json, live: &Json, owner: Owner<'_>) -> Vec<LiveDifference> {
    let Owner { manager, operation } = owner;
    let managed: Vec<&Json> = live["metadata"]["managedFields"].as_array().into_iter().flatten().collect();
    // One for each version of the API in which it has applied the object.
    let mut own = managed.iter().filter(|fields| fields["manager"] == manager && fields["operation"] == operation);
    let own = own.find(|fields| fields["apiVersion"].is_null() || fields["apiVersion"] == applied["apiVersion"]);
    let others = managed.iter().filter(|fields| fields["manager"] != manager);
    let comparison = Comparison { identity, others: others.copied().collect() };
    let mut found = Vec::new();
    for (key, value) in applied.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
            let owned = own.map_or(&Json::Null, |own| &own["fieldsV1"][format!("f:{key}")]);
            comparison.descend(&Path::default().field(key), value, owned, live.get(key), &mut found);
        }
    }
    found
}

/// Whether it is about the number of a workload's replicas.
fn is_of_replicas(difference: &LiveDifference) -> bool {
    difference.what.ends_with(": spec.replicas")
}

struct Comparison<'a> {
    identity: &'a Identity,
    /// The records of other managers.
    others: Vec<&'a Json>,
}

impl Comparison<'_> {
    /// `owned`: what the manager owns at this place, in the form of `fieldsV1`; null for nothing.
    fn descend(&self, path: &Path, applied: &Json, owned: &Json, live: Option<&Json>, found: &mut Vec<LiveDifference>) {
        let Some(owned) = owned.as_object() else { return self.compare(path, applied, live, found) };
        // What is owned as a whole has no parts.
        if owned.is_empty() {
            match applied {
                Json::Number(_) | Json::Bool(_) => self.compare(path, applied, live, found),
                _ => {}
            }
            return;
        }
        match applied {
            Json::Object(fields) => {
                for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                    let owned = owned.get(&format!("f:{key}")).unwrap_or(&Json::Null);
                    self.descend(&path.field(key), value, owned, live.and_then(|live| live.get(key)), found);
                }
            }
            Json::Array(items) => {
                for item in items {
                    let Some(key) = item_key(item, owned) else { continue };
                    let live =
                        live.and_then(Json::as_array).into_iter().flatten().find(|live| has_key(live, &key.fields));
                    let owned = owned.get(&key.text).unwrap_or(&Json::Null);
                    self.descend(&path.item(&key), item, owned, live, found);
                }
            }
            _ => {}
        }
    }

    /// A place that the manager doesn't own any more. It differs unless the other one has set the same.
    fn compare(&self, path: &Path, applied: &Json, live: Option<&Json>, found: &mut Vec<LiveDifference>) {
        if live == Some(applied) {
            return;
        }
        let owner = self.others.iter().find(|fields| path.is_in(&fields["fieldsV1"]));
        let by = owner.and_then(|fields| fields["manager"].as_str());
        if by == Some(CONTROLLERS) {
            return;
        }
        let by = by.map(|by| format!(" (set by {by})")).unwrap_or_default();
        found.push(LiveDifference {
            what: format!("{}: {}", self.identity, path.shown),
            expected: Some(text(applied)),
            found: live.map(|live| format!("{}{by}", text(live))),
        });
    }
}

/// A place in an object, for people and in the form of `fieldsV1`.
#[derive(Clone, Debug, Default)]
struct Path {
    shown: String,
    segments: Vec<String>,
}

impl Path {
    fn field(&self, name: &str) -> Path {
        let shown = if self.shown.is_empty() { name.to_owned() } else { format!("{}.{name}", self.shown) };
        self.with(shown, format!("f:{name}"))
    }

    fn item(&self, key: &ItemKey) -> Path {
        let shown = key.fields.values().next().map(text).unwrap_or_default();
        self.with(format!("{}[{shown}]", self.shown), key.text.clone())
    }

    fn with(&self, shown: String, segment: String) -> Path {
        let mut segments = self.segments.clone();
        segments.push(segment);
        Path { shown, segments }
    }

    fn is_in(&self, fields: &Json) -> bool {
        self.segments.iter().try_fold(fields, |fields, segment| fields.get(segment)).is_some()
    }
}

/// The key of an item in a list, as in `k:{"name":"web"}`.
struct ItemKey {
    text: String,
    fields: Map<String, Json>,
}

/// The key by which the cluster knows an item: an owned one that fits, or one like those of the other items. None in a list
/// whose items have no keys.
fn item_key(item: &Json, owned: &Map<String, Json>) -> Option<ItemKey> {
    let parsed = owned.keys().filter_map(|text| {
        let fields = serde_json::from_str(text.strip_prefix("k:")?).ok()?;
        Some(ItemKey { text: text.clone(), fields })
    });
    let keys: Vec<ItemKey> = parsed.collect();
    // A default of the cluster, such as the protocol of a port, is in the key and needn't be in the item.
    let fits = |key: &ItemKey| key.fields.iter().all(|(name, value)| item.get(name).is_none_or(|own| own == value));
    let names: Vec<String> = keys.first()?.fields.keys().cloned().collect();
    if let Some(fitting) = keys.into_iter().find(fits) {
        return Some(fitting);
    }
    let fields: Map<String, Json> =
        names.into_iter().filter_map(|name| Some((name.clone(), item.get(&name)?.clone()))).collect();
    Some(ItemKey { text: format!("k:{}", Json::Object(fields.clone())), fields })
}

fn has_key(item: &Json, key: &Map<String, Json>) -> bool {
    key.iter().all(|(name, value)| item.get(name) == Some(value))
}

fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compared(applied: &Json, live: &Json) -> Vec<String> {
        let identity =
            Identity { api_version: "apps/v1".into(), kind: "Deployment".into(), namespace: None, name: "web".into() };
        let shown = |difference: LiveDifference| {
            let (expected, found) =
                (difference.expected.unwrap_or_default(), difference.found.unwrap_or("-".to_owned()));
            format!("{} {expected} -> {found}", difference.what)
        };
        let owner = Owner { manager: "stagewright", operation: "Apply" };
        differences(&identity, applied, live, owner).into_iter().map(shown).collect()
    }

    fn fields(manager: &str, operation: &str, fields: &Json) -> Json {
        json!({ "manager": manager, "operation": operation, "fieldsV1": fields })
    }

    fn container(fields: &Json) -> Json {
        json!({ "f:template": { "f:spec": { "f:containers": { "k:{\"name\":\"web\"}": fields } } } })
    }

    #[test]
    fn a_field_that_someone_else_has_set_differs() {
        let applied = json!({ "kind": "Deployment", "spec": { "replicas": 3, "paused": false,
            "template": { "spec": { "containers": [{ "name": "web", "image": "a", "resources": { "limits": { "cpu": "0.5" } } }] } } } });
        let mut live = applied.clone();
        live["spec"]["replicas"] = 5.into();
        live["spec"]["template"]["spec"]["containers"][0]["image"] = "b".into();
        live["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "500m".into();
        live["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(json!({ "name": "proxy" }));
        let own = json!({ "f:name": {}, ".": {}, "f:resources": { "f:limits": { "f:cpu": {} } } });
        live["metadata"]["managedFields"] = json!([
            fields("stagewright", "Apply", &json!({ "f:spec": container(&own) })),
            fields("kubectl-edit", "Update", &json!({ "f:spec": { "f:replicas": {} } })),
            fields("kubectl-set", "Update", &json!({ "f:spec": container(&json!({ "f:image": {} })) })),
        ]);
        // `paused` has been set to the same value.
        assert_eq!(
            compared(&applied, &live),
            [
                "deployment/web: spec.replicas 3 -> 5 (set by kubectl-edit)",
                "deployment/web: spec.template.spec.containers[web].image a -> b (set by kubectl-set)"
            ]
        );
    }

    #[test]
    fn what_was_removed_differs_and_what_was_added_does_not() {
        let applied = json!({ "spec": { "ports": [{ "port": 80 }, { "port": 81, "name": "b" }], "external": ["x"] } });
        let ports = json!({ "k:{\"port\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:port": {} } });
        let live = json!({
            "spec": { "ports": [{ "port": 80, "protocol": "TCP" }, { "port": 82 }], "external": ["x", "y"] },
            "metadata": { "managedFields": [fields("stagewright", "Apply", &json!({ "f:spec": { "f:ports": ports, "f:external": {} } }))] },
        });
        assert_eq!(compared(&applied, &live), ["deployment/web: spec.ports[81] {\"port\":81,\"name\":\"b\"} -> -"]);
    }

    #[test]
    fn an_object_that_no_one_has_touched_is_the_same() {
        let applied = json!({ "spec": { "replicas": 3 }, "data": { "a": "b" } });
        let own = json!({ "f:spec": { "f:replicas": {} }, "f:data": { "f:a": {} } });
        let mut live = json!({ "spec": { "replicas": 3 }, "metadata": { "managedFields": [fields("stagewright", "Apply", &own)] } });
        assert_eq!(compared(&applied, &live), [""; 0]);
        live["metadata"]["managedFields"] = json!([]);
        assert_eq!(compared(&applied, &live), ["deployment/web: data {\"a\":\"b\"} -> -"]);
    }

    #[test]
    fn a_number_that_was_changed_without_an_owner_differs() {
        let applied = json!({ "spec": { "replicas": 3, "name": "a" } });
        let own = json!({ "f:spec": { "f:replicas": {}, "f:name": {} } });
        let live = json!({ "spec": { "replicas": 5, "name": "A" }, "metadata": { "managedFields": [fields("stagewright", "Apply", &own)] } });
        assert_eq!(compared(&applied, &live), ["deployment/web: spec.replicas 3 -> 5"]);
    }

    #[test]
    fn replicas_of_an_autoscaler_do_not_differ() {
        let applied = json!({ "spec": { "replicas": 3 } });
        let live = |manager: &str| {
            let taken = fields(manager, "Update", &json!({ "f:spec": { "f:replicas": {} } }));
            json!({ "spec": { "replicas": 5 }, "metadata": { "managedFields": [fields("stagewright", "Apply", &json!({})), taken] } })
        };
        assert_eq!(compared(&applied, &live(CONTROLLERS)), [""; 0]);
        assert_eq!(compared(&applied, &live("kubectl")).len(), 1);
    }
}
