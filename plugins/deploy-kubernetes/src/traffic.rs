//! What directs the requests to two releases by weight: a route of the Gateway API, or a virtual service of Istio.
//!
//! The route is an object of the release like any other, and leads to one Service. While a canary runs, a second Service leads
//! to the new release, and the route has the weights of both. Before and after, the route is as the release's files have it.

mod gateway_api;
mod istio;
#[cfg(test)]
mod tests;

use kubernetes::{Object, is_name};
use rollout::HeaderMatch;
use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::{Error, JsonSchema, Problem, schemars};

/// The annotation of a Service that leads to a canary, with the name of the Service beside which it stands.
pub(crate) const CANARY: &str = "stagewright/canary";

/// What directs the requests to the releases.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Traffic {
    /// A route of the Gateway API, by the weights of its backends.
    GatewayApi(GatewayApi),
    /// A virtual service of Istio, by the weights of its destinations.
    Istio(Istio),
}

/// A route of the Gateway API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct GatewayApi {
    /// The name of an HTTPRoute among the release's objects.
    pub(crate) http_route: String,
}

/// A virtual service of Istio.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Istio {
    /// The name of a VirtualService among the release's objects.
    pub(crate) virtual_service: String,
    /// The names of its `http` routes that are divided. Default: all that lead to a Service of the release's pods.
    #[serde(default)]
    pub(crate) routes: Vec<String>,
}

/// How the requests are divided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split<'a> {
    /// The names of the Services of which each has one for the canary beside it.
    pub(crate) services: &'a [String],
    /// Percent of the requests for the canary, 0 to 100.
    pub(crate) weight: u32,
    /// It also gets all requests that meet one of these.
    pub(crate) conditions: &'a [HeaderMatch],
}

impl Traffic {
    /// The group of its API, its kind, and its name.
    fn object(&self) -> (&'static str, &'static str, &str) {
        match self {
            Traffic::GatewayApi(gateway) => ("gateway.networking.k8s.io/", "HTTPRoute", &gateway.http_route),
            Traffic::Istio(istio) => ("networking.istio.io/", "VirtualService", &istio.virtual_service),
        }
    }

    /// Whether an object of the release is the route.
    pub(crate) fn is(&self, object: &Json) -> bool {
        let (group, kind, name) = self.object();
        let is_of_group = object["apiVersion"].as_str().is_some_and(|version| version.starts_with(group));
        is_of_group && object["kind"] == kind && object["metadata"]["name"] == name
    }

    /// Mistakes that parsing doesn't catch, at this key of `with`.
    pub(crate) fn problems(&self, key: &str) -> Vec<Problem> {
        let (_, _, name) = self.object();
        let key = match self {
            Traffic::GatewayApi(_) => format!("{key}.gateway-api.http-route"),
            Traffic::Istio(_) => format!("{key}.istio.virtual-service"),
        };
        let is_valid = name.len() <= 253 && name.split('.').all(is_name);
        let message = format!("invalid name `{name}`; use lowercase letters, digits, `-` and `.`");
        if is_valid { Vec::new() } else { vec![Problem::at(key, message)] }
    }

    /// Why the requests to the release's pods can't be divided. `services`: the names of the Services that lead to them;
    /// `conditions`: all that the canary's steps set.
    pub(crate) fn obstacles(&self, objects: &[Object], services: &[String], conditions: &[HeaderMatch]) -> Vec<Error> {
        let (_, kind, name) = self.object();
        let Some(route) = objects.iter().find(|object| self.is(&object.json)) else {
            let message =
                format!("`traffic` is for {}/{name}, which the release doesn't have", kind.to_ascii_lowercase());
            return vec![Error::invalid(message).help("add it to the release's files, or correct the name")];
        };
        let mut found = match self {
            Traffic::GatewayApi(_) => gateway_api::obstacles(route, services, conditions),
            Traffic::Istio(istio) => istio.obstacles(route, services, conditions),
        };
        if found.is_empty() && self.used(&route.json, services).is_empty() {
            let message = match services {
                [] => "no Service of the release leads to the pods of its Deployments".to_owned(),
                _ => format!("nothing in it leads to a Service of the release's pods: {}", services.join(", ")),
            };
            found.push(route.error("/spec", &message).help("let it lead to a Service of the release"));
        }
        found
    }

    /// Those of the Services that the route leads to.
    pub(crate) fn used(&self, route: &Json, services: &[String]) -> Vec<String> {
        let leads_to = |service: &&String| {
            let only = std::slice::from_ref(*service);
            match self {
                Traffic::GatewayApi(_) => gateway_api::leads_to(route, only),
                Traffic::Istio(istio) => istio.leads_to(route, only),
            }
        };
        services.iter().filter(leads_to).cloned().collect()
    }

    /// The route with the weights of both releases.
    pub(crate) fn divided(&self, route: &Json, split: Split<'_>) -> Json {
        let mut divided = route.clone();
        match self {
            Traffic::GatewayApi(_) => gateway_api::divide(&mut divided, split),
            Traffic::Istio(istio) => istio.divide(&mut divided, split),
        }
        divided
    }

    /// Why the route as it is in place doesn't direct requests as it says yet. None if that isn't known.
    pub(crate) fn pending(&self, live: &Json) -> Option<String> {
        match self {
            Traffic::GatewayApi(_) => gateway_api::pending(live),
            // Its status is off by default.
            Traffic::Istio(_) => None,
        }
    }
}

/// The name of the Service that leads to the canary.
pub(crate) fn canary_name(service: &str) -> String {
    format!("{service}-canary")
}

/// The names of the Services of which the release has one for the canary.
pub(crate) fn services(objects: &[Json]) -> Vec<String> {
    let named = objects.iter().filter_map(|object| object["metadata"]["annotations"][CANARY].as_str());
    named.map(ToOwned::to_owned).collect()
}

/// Whether the condition is on a header of this name.
fn is_on(condition: &HeaderMatch, name: &str) -> bool {
    condition.header_name.eq_ignore_ascii_case(name)
}

fn array(value: &Json) -> &[Json] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn array_mut(value: &mut Json) -> &mut [Json] {
    value.as_array_mut().map(Vec::as_mut_slice).unwrap_or_default()
}
