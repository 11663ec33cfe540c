//! Releases that run beside each other, each in Deployments of its own, for the strategies `blue-green` and `canary`.
//!
//! The pods of a release have its name as a label. For `blue-green` the Services select by it, so that one request to the API
//! switches all requests. For `canary` they select the pods of both, and the numbers of replicas decide about the shares; with
//! `traffic` they select by release as well, each has a second one for the canary, and a route divides the requests.

use kubernetes::{MARK, Object, mark_name};
use rollout::Strategy;
use serde_json::{Value as Json, json};
use stagewright_sdk::Error;

use crate::traffic::{CANARY, Traffic, canary_name};

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
    let annotations = &object["metadata"]["annotations"];
    !FIRST.contains(&kind) && annotations[PREVIEW].is_null() && annotations[CANARY].is_null()
}

/// Whether an object is a Deployment that only this release has.
pub(crate) fn is_own_deployment(object: &Json) -> bool {
    object["kind"] == "Deployment" && object["spec"]["selector"]["matchLabels"][RELEASE].is_string()
}

/// Gives a release Deployments of its own. Returns why that can't be done.
pub(crate) fn set_apart(objects: &mut Vec<Object>, strategy: &Strategy, traffic: Option<&Traffic>) -> Vec<Error> {
    let is_canary = match strategy {
        Strategy::BlueGreen(_) => false,
        Strategy::Canary(_) => true,
        Strategy::Recreate(_) | Strategy::Rolling(_) | Strategy::Waves(_) => return Vec::new(),
    };
    let name = strategy.name();
    let shares = is_canary.then(|| if traffic.is_some() { Shares::Weights } else { Shares::Replicas });
    let mut problems: Vec<Error> = objects.iter().filter_map(|object| refusal(object, objects, name, shares)).collect();
    let labels: Vec<Json> = objects
        .iter()
        .filter(|object| object.kind() == "Deployment")
        .map(|object| object.json["spec"]["template"]["metadata"]["labels"].clone())
        .collect();
    if labels.is_empty() {
        let message = format!("`{name}` needs a Deployment, of which two releases can run");
        problems.push(Error::invalid(message).help("use strategy = { rolling = {} }"));
    }
    let leads_to_pods = |object: &Object| {
        object.kind() == "Service" && labels.iter().any(|labels| selects(&object.json["spec"]["selector"], labels))
    };
    let leading: Vec<String> =
        objects.iter().filter(|object| leads_to_pods(object)).map(|object| object.name().to_owned()).collect();
    if let Some(traffic) = traffic {
        problems.extend(traffic.obstacles(objects, &leading, &strategy.header_conditions()));
    }
    let route = traffic
        .and_then(|traffic| objects.iter().find(|object| traffic.is(&object.json)).map(|route| (traffic, route)));
    let divided = route.map(|(traffic, route)| traffic.used(&route.json, &leading)).unwrap_or_default();
    problems.extend(divided.iter().filter_map(|service| taken(&canary_name(service), objects)));
    let mut beside = Vec::new();
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
            "Service" if (!is_canary || traffic.is_some()) && leads_to_pods(object) => {
                object.json["spec"]["selector"][RELEASE] = MARK.into();
                let name = object.name().to_owned();
                if !is_canary {
                    beside.push(beside_of(object, &format!("{name}-preview"), (PREVIEW, "true")));
                } else if divided.contains(&name) {
                    beside.push(beside_of(object, &canary_name(&name), (CANARY, &name)));
                }
            }
            _ => {}
        }
    }
    objects.extend(beside);
    problems
}

/// Why the Service of a canary can't have this name.
fn taken(name: &str, objects: &[Object]) -> Option<Error> {
    const LONGEST: usize = 63;
    if name.len() > LONGEST {
        let message =
            format!("the Service of the canary would be `{name}`, and a name has at most {LONGEST} characters");
        return Some(Error::invalid(message).help("give the Service a shorter name"));
    }
    let other = objects.iter().find(|object| object.kind() == "Service" && object.name() == name)?;
    let error = other.error("/metadata/name", "the deploy makes a Service of this name, which leads to the canary");
    Some(error.help("remove it, or rename it"))
}

/// A Service that leads to the pods of the release at once, with this annotation. It gets no port of the nodes and no load
/// balancer.
fn beside_of(service: &Object, name: &str, (annotation, value): (&str, &str)) -> Object {
    let mut beside = service.clone();
    let ports = service.json["spec"]["ports"].as_array().into_iter().flatten().map(|port| {
        let mut port = port.clone();
        if let Some(port) = port.as_object_mut() {
            port.remove("nodePort");
        }
        port
    });
    beside.json["spec"] = json!({
        "selector": service.json["spec"]["selector"],
        "ports": ports.collect::<Vec<_>>(),
    });
    beside.json["metadata"]["name"] = name.into();
    beside.json["metadata"]["annotations"] = json!({ annotation: value });
    beside
}

fn selects(selector: &Json, labels: &Json) -> bool {
    selector
        .as_object()
        .is_some_and(|selector| !selector.is_empty() && selector.iter().all(|(label, value)| labels[label] == *value))
}

/// What decides about the shares of a canary.
#[derive(Clone, Copy, Debug)]
enum Shares {
    Replicas,
    Weights,
}

/// Why an object can't be in a release that runs beside another one.
fn refusal(object: &Object, all: &[Object], strategy: &str, shares: Option<Shares>) -> Option<Error> {
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
        "HorizontalPodAutoscaler" if shares.is_some() => {
            let message = match shares {
                Some(Shares::Weights) => {
                    "an autoscaler scales one of two releases, so that the canary would keep its size"
                }
                _ => "an autoscaler changes the numbers of replicas, by which `canary` divides the requests",
            };
            let help = "leave the autoscaler out, or use strategy = { blue-green = {} }";
            Some(object.error("/spec/scaleTargetRef", message).help(help))
        }
        "Deployment" if shares.is_some() && object.json["spec"]["replicas"].as_u64().is_none() => {
            let message = match shares {
                Some(Shares::Weights) => {
                    "both releases of a `canary` run at full size, and it doesn't say which that is"
                }
                _ => "`canary` divides the requests by the number of replicas, which it doesn't have",
            };
            Some(object.error("/spec", message).help("add the number: spec.replicas"))
        }
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
        assert_eq!(set_apart(&mut blue_green, &strategy("blue-green"), None), []);
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
        assert_eq!(set_apart(&mut canary, &strategy("canary"), None), []);
        assert_eq!(canary[1].json, service);
    }

    #[test]
    fn what_two_releases_cannot_have_at_once_is_refused() {
        let messages = |all: &[Json], name: &str| -> Vec<String> {
            set_apart(&mut objects(all), &strategy(name), None).into_iter().map(|problem| problem.message).collect()
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
