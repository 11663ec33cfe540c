//! The rules of an HTTPRoute. For server-side apply they are a single field, which belongs to who has set it as a whole.

use kubernetes::Object;
use rollout::{HeaderMatch, HeaderValue};
use serde_json::{Value as Json, json};
use stagewright_sdk::Error;

use super::{Split, array, array_mut, canary_name, is_on};

/// The versions of the API whose rules have this form.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
/// What a controller says about a route that it carries out.
const CONDITIONS: [&str; 2] = ["Accepted", "ResolvedRefs"];

/// Why the requests of the route can't be divided.
pub(super) fn obstacles(route: &Object, services: &[String], conditions: &[HeaderMatch]) -> Vec<Error> {
    let version = route.api_version().rsplit('/').next().unwrap_or_default();
    if !VERSIONS.contains(&version) {
        let error = route.error("/apiVersion", &format!("the version {version} of its API isn't known"));
        return vec![error.help("use gateway.networking.k8s.io/v1")];
    }
    let mut found = Vec::new();
    for (index, rule) in array(&route.json["spec"]["rules"]).iter().enumerate() {
        let backends = array(&rule["backendRefs"]);
        if stable(route.namespace(), backends, services).is_none() {
            continue;
        }
        if backends.len() > 1 {
            let message = "the requests of this rule are divided already, and a canary would change their weights";
            let error = route.error(&format!("/spec/rules/{index}/backendRefs"), message);
            found.push(error.help("leave a single backend, or give the rule to a route of its own"));
        }
        for (at, own) in array(&rule["matches"]).iter().enumerate() {
            let names = array(&own["headers"]).iter().filter_map(|header| header["name"].as_str());
            for name in names.filter(|name| conditions.iter().any(|condition| is_on(condition, name))) {
                let message = format!("it depends on the header `{name}` already, which a step of the canary looks at");
                let error = route.error(&format!("/spec/rules/{index}/matches/{at}/headers"), &message);
                found.push(error.help("use another header for `set-header-route`"));
            }
        }
    }
    found
}

/// Whether one of its rules leads to one of the Services.
pub(super) fn leads_to(route: &Json, services: &[String]) -> bool {
    let namespace = route["metadata"]["namespace"].as_str();
    let rules = array(&route["spec"]["rules"]);
    rules.iter().any(|rule| stable(namespace, array(&rule["backendRefs"]), services).is_some())
}

/// Gives the rules that lead to the Services the weights of both releases, and puts a rule for the conditions before each.
pub(super) fn divide(route: &mut Json, split: Split<'_>) {
    let namespace = route["metadata"]["namespace"].as_str().map(ToOwned::to_owned);
    let mut rules = Vec::new();
    for rule in array_mut(&mut route["spec"]["rules"]) {
        let backends = array(&rule["backendRefs"]);
        let Some((at, service)) = stable(namespace.as_deref(), backends, split.services) else {
            rules.push(rule.take());
            continue;
        };
        let (mut earlier, mut canary) = (backends[at].clone(), backends[at].clone());
        canary["name"] = canary_name(service).into();
        earlier["weight"] = 100_u32.saturating_sub(split.weight).into();
        canary["weight"] = split.weight.into();
        if !split.conditions.is_empty() {
            rules.push(by_header(rule, &canary, split.conditions));
        }
        let mut divided = rule.take();
        divided["backendRefs"] = json!([earlier, canary]);
        rules.push(divided);
    }
    route["spec"]["rules"] = rules.into();
}

/// Why no controller carries out the route as it is in place.
pub(super) fn pending(live: &Json) -> Option<String> {
    let generation = live["metadata"]["generation"].as_i64();
    let parents = array(&live["status"]["parents"]);
    if parents.is_empty() {
        return Some("no controller of a Gateway has accepted it".to_owned());
    }
    parents.iter().find_map(|parent| {
        let gateway = parent["parentRef"]["name"].as_str().unwrap_or("a Gateway");
        CONDITIONS.iter().find_map(|kind| {
            let Some(condition) = array(&parent["conditions"]).iter().find(|condition| condition["type"] == *kind)
            else {
                return Some(format!("the controller of {gateway} doesn't say whether it is {kind}"));
            };
            let text = |key: &str| condition[key].as_str().unwrap_or_default();
            if condition["observedGeneration"].as_i64() < generation {
                return Some(format!("the controller of {gateway} hasn't seen the change yet"));
            }
            (condition["status"] != "True")
                .then(|| format!("{gateway} doesn't have it {kind}: {}: {}", text("reason"), text("message")))
        })
    })
}

/// The first backend that is one of the Services in the route's namespace: its position and its name.
fn stable<'b>(namespace: Option<&str>, backends: &'b [Json], services: &[String]) -> Option<(usize, &'b str)> {
    backends.iter().enumerate().find_map(|(at, backend)| {
        let is_service = backend["kind"].as_str().is_none_or(|kind| kind == "Service")
            && backend["group"].as_str().unwrap_or_default().is_empty()
            && backend["namespace"].as_str().is_none_or(|of| Some(of) == namespace);
        let name = backend["name"].as_str()?;
        (is_service && services.iter().any(|service| service == name)).then_some((at, name))
    })
}

/// The rule for the canary alone: each match of the rule with each of the conditions. It precedes the rule's own matches, of
/// which it has one header more.
fn by_header(rule: &Json, canary: &Json, conditions: &[HeaderMatch]) -> Json {
    let mut of_canary = rule.clone();
    if let Some(fields) = of_canary.as_object_mut() {
        // It is unique in the route.
        fields.remove("name");
    }
    let own = match array(&rule["matches"]) {
        [] => vec![json!({})],
        own => own.to_vec(),
    };
    let with = |own: &Json, condition: &HeaderMatch| {
        let mut narrowed = own.clone();
        let mut headers = array(&own["headers"]).to_vec();
        headers.push(header(condition));
        narrowed["headers"] = headers.into();
        narrowed
    };
    let matches = own.iter().flat_map(|own| conditions.iter().map(move |condition| with(own, condition)));
    of_canary["matches"] = matches.collect::<Vec<_>>().into();
    let mut all = canary.clone();
    all["weight"] = 1.into();
    of_canary["backendRefs"] = json!([all]);
    of_canary
}

fn header(condition: &HeaderMatch) -> Json {
    let (kind, value) = match &condition.header_value {
        HeaderValue::Exact(value) => ("Exact", value.clone()),
        // The API has no prefixes of values.
        other => ("RegularExpression", other.whole_expression()),
    };
    json!({ "type": kind, "name": condition.header_name, "value": value })
}
