//! The `http` routes of a VirtualService. For server-side apply they are a single field, which belongs to who has set it as a
//! whole.

use kubernetes::Object;
use rollout::{HeaderMatch, HeaderValue};
use serde_json::{Value as Json, json};
use stagewright_sdk::Error;

use super::{Istio, Split, array, array_mut, canary_name, is_on};

impl Istio {
    /// Why the requests of the virtual service can't be divided.
    pub(super) fn obstacles(&self, route: &Object, services: &[String], conditions: &[HeaderMatch]) -> Vec<Error> {
        let namespace = route.namespace();
        let all = array(&route.json["spec"]["http"]);
        let mut found = Vec::new();
        for name in &self.routes {
            let leads = |http: &&Json| http["name"] == name.as_str();
            match all.iter().find(leads) {
                None => {
                    let message = format!("it has no route `{name}`, which `routes` names");
                    found.push(route.error("/spec/http", &message).help("correct `traffic.istio.routes`"));
                }
                Some(http) if stable(namespace, http, services).is_none() => {
                    let message = format!("its route `{name}` leads to no Service of the release's pods");
                    found.push(route.error("/spec/http", &message).help("correct `traffic.istio.routes`"));
                }
                Some(_) => {}
            }
        }
        for (index, http) in all.iter().enumerate().filter(|(_, http)| self.is_meant(http)) {
            let Some((at, _)) = stable(namespace, http, services) else { continue };
            let destinations = array(&http["route"]);
            let pointer = format!("/spec/http/{index}/route");
            if destinations.len() > 1 {
                let message = "the requests of this route are divided already, and a canary would change their weights";
                let help = "leave a single destination, or name the routes to divide: traffic.istio.routes = [\"…\"]";
                found.push(route.error(&pointer, message).help(help));
            }
            if destinations[at]["destination"]["subset"].is_string() {
                let message = "a subset selects pods by labels, and the Service of the canary has none";
                let help = "leave `subset` out: the Services of both releases select their pods";
                found.push(route.error(&format!("{pointer}/{at}/destination/subset"), message).help(help));
            }
            for (at, own) in array(&http["match"]).iter().enumerate() {
                let names = own["headers"].as_object().into_iter().flat_map(|headers| headers.keys());
                for name in names.filter(|name| conditions.iter().any(|condition| is_on(condition, name))) {
                    let message =
                        format!("it depends on the header `{name}` already, which a step of the canary looks at");
                    let error = route.error(&format!("/spec/http/{index}/match/{at}/headers"), &message);
                    found.push(error.help("use another header for `set-header-route`"));
                }
            }
        }
        found
    }

    /// Whether one of the routes leads to one of the Services.
    pub(super) fn leads_to(&self, route: &Json, services: &[String]) -> bool {
        let namespace = route["metadata"]["namespace"].as_str();
        let mut meant = array(&route["spec"]["http"]).iter().filter(|http| self.is_meant(http));
        meant.any(|http| stable(namespace, http, services).is_some())
    }

    /// Gives the routes that lead to the Services the weights of both releases, and puts a route for the conditions before
    /// each, since the first that fits decides.
    pub(super) fn divide(&self, route: &mut Json, split: Split<'_>) {
        let namespace = route["metadata"]["namespace"].as_str().map(ToOwned::to_owned);
        let mut routes = Vec::new();
        for http in array_mut(&mut route["spec"]["http"]) {
            let found = if self.is_meant(http) { stable(namespace.as_deref(), http, split.services) } else { None };
            let Some((at, service)) = found else {
                routes.push(http.take());
                continue;
            };
            let (mut earlier, mut canary) = (http["route"][at].clone(), http["route"][at].clone());
            let host = canary["destination"]["host"].as_str().unwrap_or_default();
            let domain = host.strip_prefix(service.as_str()).unwrap_or_default();
            canary["destination"]["host"] = format!("{}{domain}", canary_name(&service)).into();
            earlier["weight"] = 100_u32.saturating_sub(split.weight).into();
            canary["weight"] = split.weight.into();
            if !split.conditions.is_empty() {
                routes.push(by_header(http, &canary, split.conditions));
            }
            let mut divided = http.take();
            divided["route"] = json!([earlier, canary]);
            routes.push(divided);
        }
        route["spec"]["http"] = routes.into();
    }

    fn is_meant(&self, http: &Json) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|name| http["name"] == name.as_str())
    }
}

/// The first destination of a route that is one of the Services, by any name of it: its position, and the Service.
fn stable(namespace: Option<&str>, http: &Json, services: &[String]) -> Option<(usize, String)> {
    let namespace = namespace.unwrap_or("default");
    array(&http["route"]).iter().enumerate().find_map(|(at, destination)| {
        let host = destination["destination"]["host"].as_str()?;
        let is_named = |service: &&String| {
            let Some(domain) = host.strip_prefix(service.as_str()) else { return false };
            let rest = domain.strip_prefix('.').and_then(|domain| domain.strip_prefix(namespace));
            domain.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest == ".svc" || rest.starts_with(".svc."))
        };
        services.iter().find(is_named).map(|service| (at, service.clone()))
    })
}

/// The route for the canary alone: each match of the route with each of the conditions.
fn by_header(http: &Json, canary: &Json, conditions: &[HeaderMatch]) -> Json {
    let mut of_canary = http.clone();
    if let Some(fields) = of_canary.as_object_mut() {
        fields.remove("name");
    }
    let own = match array(&http["match"]) {
        [] => vec![json!({})],
        own => own.to_vec(),
    };
    let with = |own: &Json, condition: &HeaderMatch| {
        let mut narrowed = own.clone();
        if let Some(fields) = narrowed.as_object_mut() {
            fields.remove("name");
        }
        // Istio compares with the lowercase name.
        narrowed["headers"][condition.header_name.to_ascii_lowercase()] = match &condition.header_value {
            HeaderValue::Exact(value) => json!({ "exact": value }),
            HeaderValue::Prefix(value) => json!({ "prefix": value }),
            HeaderValue::Regex(value) => json!({ "regex": value }),
        };
        narrowed
    };
    let matches = own.iter().flat_map(|own| conditions.iter().map(move |condition| with(own, condition)));
    of_canary["match"] = matches.collect::<Vec<_>>().into();
    let mut all = canary.clone();
    if let Some(fields) = all.as_object_mut() {
        // A single destination gets all requests.
        fields.remove("weight");
    }
    of_canary["route"] = json!([all]);
    of_canary
}
