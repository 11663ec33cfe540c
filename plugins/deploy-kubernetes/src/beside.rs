//! Releases that run beside each other, each in Deployments of its own, for the strategies `blue-green` and `canary`.
//!
//! The pods of a release have its name as a label. For `blue-green` the Services select by it, so that one request to the API
//! switches all requests. For `canary` they select the pods of both, and the numbers of replicas decide about the shares.

use kubernetes::{MARK, Object, mark_name};
use rollout::Strategy;
use serde_json::{Value as Json, json};
use stagewright_sdk::Error;

/// The label of pods with the name of their release.
pub(crate) const RELEASE: &str = "stagewright/release";
/// The annotation of a Service that leads to a release before it gets requests.
const PREVIEW: &str = "stagewright/preview";
/// Kinds that are applied before the release gets requests. All others direct requests or depend on them.
const FIRST: [&str; 13] = [
    "Namespace",
    "ResourceQuota",
    "LimitRange",
    "ServiceAccount",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "PersistentVolumeClaim",
    "ConfigMap",
    "Secret",
    "Deployment",
    "Job",
];

/// Whether an object is applied when the release gets all requests, and not before.
pub(crate) fn is_late(object: &Json) -> bool {
    let kind = object["kind"].as_str().unwrap_or_default();
    !FIRST.contains(&kind) && object["metadata"]["annotations"][PREVIEW].is_null()
}

/// Whether an object is a Deployment that only this release has.
pub(crate) fn is_own_deployment(object: &Json) -> bool {
    object["kind"] == "Deployment" && object["spec"]["selector"]["matchLabels"][RELEASE].is_string()
}

/// Gives a release Deployments of its own. Returns why that can't be done.
pub(crate) fn set_apart(objects: &mut Vec<Object>, strategy: &Strategy) -> Vec<Error> {
    let is_canary = match strategy {
        Strategy::BlueGreen(_) => false,
        Strategy::Canary(_) => true,
        Strategy::Recreate(_) | Strategy::Rolling(_) | Strategy::Waves(_) => return Vec::new(),
    };
    let name = strategy.name();
    let mut problems: Vec<Error> =
        objects.iter().filter_map(|object| refusal(object, objects, name, is_canary)).collect();
    let labels: Vec<Json> = objects
        .iter()
        .filter(|object| object.kind() == "Deployment")
        .map(|object| object.json["spec"]["template"]["metadata"]["labels"].clone())
        .collect();
    if labels.is_empty() {
        let message = format!("`{name}` needs a Deployment, of which two releases can run");
        problems.push(Error::invalid(message).help("use strategy = { rolling = {} }"));
    }
    let mut previews = Vec::new();
    for object in objects.iter_mut() {
        match object.kind() {
            "Deployment" => {
                mark_name(&mut object.json["metadata"]["name"]);
                object.json["spec"]["selector"]["matchLabels"][RELEASE] = MARK.into();
                object.json["spec"]["template"]["metadata"]["labels"][RELEASE] = MARK.into();
            }
            "HorizontalPodAutoscaler" if object.json["spec"]["scaleTargetRef"]["kind"] == "Deployment" => {
                mark_name(&mut object.json["spec"]["scaleTargetRef"]["name"]);
            }
            "Service"
                if !is_canary && labels.iter().any(|labels| selects(&object.json["spec"]["selector"], labels)) =>
            {
                object.json["spec"]["selector"][RELEASE] = MARK.into();
                previews.push(preview_of(object));
            }
            _ => {}
        }
    }
    objects.extend(previews);
    problems
}

/// A Service that leads to the pods of the release at once. It gets no port of the nodes and no load balancer.
fn preview_of(service: &Object) -> Object {
    let mut preview = service.clone();
    let ports = service.json["spec"]["ports"].as_array().into_iter().flatten().map(|port| {
        let mut port = port.clone();
        if let Some(port) = port.as_object_mut() {
            port.remove("nodePort");
        }
        port
    });
    preview.json["spec"] = json!({
        "selector": service.json["spec"]["selector"],
        "ports": ports.collect::<Vec<_>>(),
    });
    preview.json["metadata"]["name"] = format!("{}-preview", service.name()).into();
    preview.json["metadata"]["annotations"] = json!({ PREVIEW: "true" });
    preview
}

fn selects(selector: &Json, labels: &Json) -> bool {
    selector
        .as_object()
        .is_some_and(|selector| !selector.is_empty() && selector.iter().all(|(label, value)| labels[label] == *value))
}

/// Why an object can't be in a release that runs beside another one.
fn refusal(object: &Object, all: &[Object], strategy: &str, is_canary: bool) -> Option<Error> {
    let rolling = "use strategy = { rolling = {} }, or put it into a stage of its own";
    match object.kind() {
        "StatefulSet" => Some(
            object
                .error(
                    "",
                    &format!("a StatefulSet owns its volumes, so that two releases can't run as `{strategy}` needs it"),
                )
                .help(rolling),
        ),
        "DaemonSet" => Some(
            object
                .error(
                    "",
                    &format!(
                        "a DaemonSet runs once on each node, so that two releases can't run as `{strategy}` needs it"
                    ),
                )
                .help(rolling),
        ),
        "HorizontalPodAutoscaler" if is_canary => Some(
            object
                .error(
                    "/spec/scaleTargetRef",
                    "an autoscaler changes the numbers of replicas, by which `canary` divides the requests",
                )
                .help("leave the autoscaler out, or use strategy = { blue-green = {} }"),
        ),
        "Deployment" if is_canary && object.json["spec"]["replicas"].as_u64().is_none() => Some(
            object
                .error("/spec", "`canary` divides the requests by the number of replicas, which it doesn't have")
                .help("add the number: spec.replicas"),
        ),
        "Deployment" => {
            let volumes = object.json["spec"]["template"]["spec"]["volumes"].as_array();
            let volumes = volumes.map(Vec::as_slice).unwrap_or_default();
            let at = volumes.iter().position(|volume| {
                let claim = volume["persistentVolumeClaim"]["claimName"].as_str();
                claim.is_some_and(|claim| all.iter().any(|object| object.name() == claim && is_for_one_node(object)))
            })?;
            let message = format!(
                "its volume can be mounted on one node only, so that two releases can't run as `{strategy}` needs it"
            );
            Some(
                object
                    .error(&format!("/spec/template/spec/volumes/{at}"), &message)
                    .help("use strategy = { recreate = {} }"),
            )
        }
        _ => None,
    }
}

fn is_for_one_node(object: &Object) -> bool {
    let modes = object.json["spec"]["accessModes"].as_array().map(Vec::as_slice).unwrap_or_default();
    object.kind() == "PersistentVolumeClaim" && !modes.is_empty() && modes.iter().all(|mode| mode == "ReadWriteOnce")
}

/// How many replicas the new and the earlier release get, if a service has `wanted` of them and the new one a weight below
/// 100%. The new one gets no more than its weight, unless that is less than one replica. Neither gets more than `wanted`.
pub(crate) fn replicas(wanted: u64, weight: u32) -> (u64, u64) {
    let (weight, rest) = (u64::from(weight), 100 - u64::from(weight.min(100)));
    match weight {
        0 => (0, wanted),
        1..=50 => ((wanted * weight / rest).max(1).min(wanted.max(1)), wanted),
        _ => (wanted, (wanted * rest).div_ceil(weight)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubernetes::Origin;

    fn objects(all: &[Json]) -> Vec<Object> {
        all.iter().map(|json| Object { json: json.clone(), origin: Origin::default() }).collect()
    }

    fn deployment(pod: &Json) -> Json {
        let template = json!({ "metadata": { "labels": { "app": "web" } }, "spec": pod });
        json!({ "kind": "Deployment", "metadata": { "name": "web" }, "spec": {
            "replicas": 3, "selector": { "matchLabels": { "app": "web" } }, "template": template } })
    }

    fn strategy(name: &str) -> Strategy {
        let with = if name == "canary" { json!({ "steps": [{ "set-weight": 10 }] }) } else { json!({}) };
        serde_json::from_value(json!({ name: with })).unwrap()
    }

    #[test]
    fn shares_are_never_larger_than_the_weight_where_replicas_allow_it() {
        assert_eq!(replicas(10, 0), (0, 10));
        assert_eq!(replicas(10, 10), (1, 10));
        assert_eq!(replicas(2, 10), (1, 2), "a third, since there is no less than one");
        assert_eq!(replicas(10, 50), (10, 10));
        assert_eq!(replicas(4, 75), (4, 2));
        assert_eq!(replicas(1, 99), (1, 1));
        for wanted in 1..30 {
            for weight in 1..100 {
                let (new, earlier) = replicas(wanted, weight);
                assert!(new >= 1 && earlier >= 1 && new <= wanted && earlier <= wanted);
                assert!(new == 1 || new * 100 <= u64::from(weight) * (new + earlier), "{wanted} {weight}");
            }
        }
    }

    #[test]
    fn services_select_the_release_in_blue_green_alone() {
        let service = json!({ "kind": "Service", "metadata": { "name": "web" }, "spec": { "type": "NodePort",
            "selector": { "app": "web" }, "ports": [{ "port": 80, "nodePort": 30000 }] } });
        let other = json!({ "kind": "Service", "metadata": { "name": "db" }, "spec": { "selector": { "app": "db" } } });
        let autoscaler = json!({ "kind": "HorizontalPodAutoscaler", "metadata": { "name": "web" },
            "spec": { "scaleTargetRef": { "kind": "Deployment", "name": "web" } } });
        let mut blue_green = objects(&[deployment(&json!({})), service.clone(), other.clone(), autoscaler]);
        assert_eq!(set_apart(&mut blue_green, &strategy("blue-green")), []);
        assert_eq!(blue_green[0].json["metadata"]["name"], format!("web-{MARK}"));
        assert!(is_own_deployment(&blue_green[0].json));
        assert_eq!(blue_green[1].json["spec"]["selector"], json!({ "app": "web", RELEASE: MARK }));
        assert_eq!(blue_green[2].json, other);
        assert_eq!(blue_green[3].json["spec"]["scaleTargetRef"]["name"], format!("web-{MARK}"));
        let preview = &blue_green[4].json;
        assert_eq!((&preview["metadata"]["name"], &preview["spec"]["type"]), (&json!("web-preview"), &Json::Null));
        assert_eq!(preview["spec"]["ports"], json!([{ "port": 80 }]));
        let late: Vec<bool> = blue_green.iter().map(|object| is_late(&object.json)).collect();
        assert_eq!(late, [false, true, true, true, false]);

        let mut canary = objects(&[deployment(&json!({})), service.clone()]);
        assert_eq!(set_apart(&mut canary, &strategy("canary")), []);
        assert_eq!(canary[1].json, service);
    }

    #[test]
    fn what_two_releases_cannot_have_at_once_is_refused() {
        let messages = |all: &[Json], name: &str| -> Vec<String> {
            set_apart(&mut objects(all), &strategy(name)).into_iter().map(|problem| problem.message).collect()
        };
        let set = json!({ "kind": "StatefulSet", "metadata": { "name": "db" } });
        let found = messages(&[set], "blue-green");
        assert!(found[0].starts_with("statefulset/db: a StatefulSet owns its volumes"), "{found:?}");
        assert!(found[1].contains("needs a Deployment"), "{found:?}");
        let claim = json!({ "kind": "PersistentVolumeClaim", "metadata": { "name": "data" }, "spec": { "accessModes": ["ReadWriteOnce"] } });
        let mounting = deployment(&json!({ "volumes": [{ "persistentVolumeClaim": { "claimName": "data" } }] }));
        assert!(messages(&[claim, mounting], "canary")[0].contains("mounted on one node only"));
        let autoscaler = json!({ "kind": "HorizontalPodAutoscaler", "metadata": { "name": "web" } });
        let mut countless = deployment(&json!({}));
        countless["spec"]["replicas"] = Json::Null;
        assert_eq!(messages(&[autoscaler, countless], "canary").len(), 2);
    }
}
