//! What routes look like with the weights of two releases, and what is refused.

use kubernetes::{MARK, Origin};
use rollout::{ReleaseConfig as _, Strategy};
use serde_json::json;

use super::*;
use crate::beside::{RELEASE, is_late, set_apart};
use crate::config::Config;

fn gateway() -> Traffic {
    serde_json::from_value(json!({ "gateway-api": { "http-route": "web" } })).expect("a configuration")
}

fn istio(routes: &[&str]) -> Traffic {
    serde_json::from_value(json!({ "istio": { "virtual-service": "web", "routes": routes } })).expect("a configuration")
}

fn http_route(rules: &Json) -> Json {
    json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "parentRefs": [{ "name": "public" }], "rules": rules } })
}

fn virtual_service(http: &Json) -> Json {
    json!({ "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "hosts": ["web"], "http": http } })
}

fn conditions(values: Json) -> Vec<HeaderMatch> {
    serde_json::from_value(values).expect("conditions")
}

fn object(json: Json) -> Object {
    Object { json, origin: Origin::default() }
}

fn web() -> Vec<String> {
    vec!["web".to_owned()]
}

fn divided(traffic: &Traffic, route: &Json, weight: u32, conditions: &[HeaderMatch]) -> Json {
    traffic.divided(route, Split { services: &web(), weight, conditions })
}

#[test]
fn rules_of_a_gateway_get_the_weights_and_keep_the_rest() {
    let filter = json!([{ "type": "RequestHeaderModifier", "requestHeaderModifier": { "remove": ["x"] } }]);
    let route = http_route(&json!([
        { "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }], "timeouts": { "request": "5s" },
          "backendRefs": [{ "name": "web", "port": 80, "filters": filter }] },
        { "backendRefs": [{ "name": "web", "namespace": "other", "port": 80 }] },
        { "backendRefs": [{ "name": "web", "kind": "ServiceImport", "group": "multicluster.x-k8s.io" }] },
        { "backendRefs": [{ "name": "static", "port": 80 }] },
    ]));
    let all = divided(&gateway(), &route, 20, &[]);
    let rules = all["spec"]["rules"].as_array().unwrap();
    assert_eq!(
        rules[0]["backendRefs"],
        json!([{ "name": "web", "port": 80, "filters": filter, "weight": 80 }, { "name": "web-canary", "port": 80, "filters": filter, "weight": 20 }])
    );
    assert_eq!(rules[0]["timeouts"], json!({ "request": "5s" }));
    assert_eq!(rules[1..], route["spec"]["rules"].as_array().unwrap()[1..]);
    assert_eq!((&all["spec"]["parentRefs"], rules.len()), (&route["spec"]["parentRefs"], 4));
}

#[test]
fn headers_are_matched_before_the_rule_that_shares_by_weight() {
    let route = http_route(&json!([{ "name": "all", "backendRefs": [{ "name": "web", "port": 80 }],
        "matches": [{ "path": { "value": "/a" }, "headers": [{ "name": "x-tenant", "value": "1" }] }, { "path": { "value": "/b" } }] }]));
    let testers = conditions(json!([
        { "header-name": "X-Canary", "header-value": { "exact": "always" } },
        { "header-name": "Cookie", "header-value": { "prefix": "canary=" } },
    ]));
    let rules = divided(&gateway(), &route, 10, &testers)["spec"]["rules"].clone();
    let exact = json!({ "type": "Exact", "name": "X-Canary", "value": "always" });
    let prefix = json!({ "type": "RegularExpression", "name": "Cookie", "value": "^canary=.*$" });
    let tenant = json!({ "name": "x-tenant", "value": "1" });
    assert_eq!(
        rules[0],
        json!({ "backendRefs": [{ "name": "web-canary", "port": 80, "weight": 1 }], "matches": [
            { "path": { "value": "/a" }, "headers": [tenant, exact] }, { "path": { "value": "/a" }, "headers": [tenant, prefix] },
            { "path": { "value": "/b" }, "headers": [exact] }, { "path": { "value": "/b" }, "headers": [prefix] },
        ] })
    );
    assert_eq!((&rules[1]["name"], &rules[1]["backendRefs"][1]["weight"]), (&json!("all"), &json!(10)));
    // A rule without matches has all requests.
    let route = http_route(&json!([{ "backendRefs": [{ "name": "web", "port": 80 }] }]));
    let rules = divided(&gateway(), &route, 0, &testers[..1])["spec"]["rules"].clone();
    assert_eq!(rules[0]["matches"], json!([{ "headers": [exact] }]));
    assert_eq!(rules[1]["backendRefs"][1], json!({ "name": "web-canary", "port": 80, "weight": 0 }));
}

#[test]
fn routes_of_istio_get_the_weights_by_any_name_of_the_service() {
    for domain in ["", ".shop", ".shop.svc", ".shop.svc.cluster.local"] {
        let route = virtual_service(&json!([
            { "name": "primary", "retries": { "attempts": 2 },
              "route": [{ "destination": { "host": format!("web{domain}"), "port": { "number": 80 } } }] },
            { "name": "other", "route": [{ "destination": { "host": "web.other.svc" } }] },
            { "route": [{ "destination": { "host": "website" } }] },
        ]));
        let all = divided(&istio(&[]), &route, 25, &[]);
        let (port, http) = (json!({ "number": 80 }), all["spec"]["http"].as_array().unwrap());
        assert_eq!(
            http[0],
            json!({ "name": "primary", "retries": { "attempts": 2 }, "route": [
                { "destination": { "host": format!("web{domain}"), "port": port }, "weight": 75 },
                { "destination": { "host": format!("web-canary{domain}"), "port": port }, "weight": 25 },
            ] })
        );
        assert_eq!(http[1..], route["spec"]["http"].as_array().unwrap()[1..]);
    }
}

#[test]
fn only_named_routes_of_istio_are_divided_and_headers_come_first() {
    let to_web = |name: &str| json!({ "name": name, "match": [{ "name": "m", "uri": { "prefix": "/a" } }], "route": [{ "destination": { "host": "web" } }] });
    let route = virtual_service(&json!([to_web("admin"), to_web("primary")]));
    let testers = conditions(json!([
        { "header-name": "X-Canary", "header-value": { "regex": "a|b" } },
        { "header-name": "Cookie", "header-value": { "prefix": "c" } },
    ]));
    let http = divided(&istio(&["primary"]), &route, 5, &testers)["spec"]["http"].clone();
    assert_eq!(http[0], to_web("admin"));
    assert_eq!(
        http[1],
        json!({ "route": [{ "destination": { "host": "web-canary" } }], "match": [
            { "uri": { "prefix": "/a" }, "headers": { "x-canary": { "regex": "a|b" } } },
            { "uri": { "prefix": "/a" }, "headers": { "cookie": { "prefix": "c" } } },
        ] })
    );
    assert_eq!((&http[2]["name"], &http[2]["route"][1]["weight"]), (&json!("primary"), &json!(5)));
}

/// The mistakes of a route, each with its remedy.
fn mistakes(traffic: &Traffic, route: Json) -> Vec<String> {
    let looked_at = conditions(json!([{ "header-name": "X-Canary", "header-value": { "exact": "a" } }]));
    traffic.obstacles(&[object(route)], &web(), &looked_at).into_iter().map(|error| error.message).collect()
}

#[test]
fn a_route_that_cannot_be_divided_is_refused() {
    let one = json!({ "name": "web", "port": 80 });
    assert!(mistakes(&gateway(), http_route(&json!([{ "backendRefs": [one] }]))).is_empty());
    let mut old = http_route(&json!([{ "backendRefs": [one] }]));
    old["apiVersion"] = "gateway.networking.k8s.io/v1alpha2".into();
    let header = json!([{ "headers": [{ "name": "x-canary", "value": "b" }] }]);
    for (route, message) in [
        (old, "the version v1alpha2 of its API isn't known"),
        (
            http_route(&json!([{ "backendRefs": [one, { "name": "old" }] }])),
            "the requests of this rule are divided already",
        ),
        (
            http_route(&json!([{ "backendRefs": [one], "matches": header }])),
            "it depends on the header `x-canary` already",
        ),
        (
            http_route(&json!([{ "backendRefs": [{ "name": "old" }] }])),
            "nothing in it leads to a Service of the release's pods: web",
        ),
    ] {
        let found = mistakes(&gateway(), route);
        assert!(found.len() == 1 && found[0].starts_with(&format!("httproute/web: {message}")), "{message}: {found:?}");
    }
    let other = virtual_service(&json!([]));
    assert!(
        mistakes(&gateway(), other)[0].starts_with("`traffic` is for httproute/web, which the release doesn't have")
    );
}

#[test]
fn a_virtual_service_that_cannot_be_divided_is_refused() {
    let to = |host: &str| json!({ "destination": { "host": host } });
    let of = |http: Json| virtual_service(&json!([http]));
    assert!(mistakes(&istio(&["primary"]), of(json!({ "name": "primary", "route": [to("web")] }))).is_empty());
    let divided = json!({ "name": "other", "route": [to("web"), to("old")] });
    let both = virtual_service(&json!([divided, { "name": "primary", "route": [to("web")] }]));
    assert!(mistakes(&istio(&["primary"]), both).is_empty(), "a route that isn't named is left alone");
    let subset = json!({ "destination": { "host": "web", "subset": "v1" } });
    let header = json!([{ "headers": { "x-canary": { "exact": "b" } } }]);
    for (http, message) in [
        (
            json!({ "name": "primary", "route": [to("web"), to("old")] }),
            "the requests of this route are divided already",
        ),
        (json!({ "name": "primary", "route": [subset] }), "a subset selects pods by labels"),
        (
            json!({ "name": "primary", "route": [to("web")], "match": header }),
            "it depends on the header `x-canary` already",
        ),
        (
            json!({ "name": "primary", "route": [to("old")] }),
            "its route `primary` leads to no Service of the release's pods",
        ),
        (json!({ "name": "other", "route": [to("web")] }), "it has no route `primary`, which `routes` names"),
    ] {
        let found = mistakes(&istio(&["primary"]), of(http));
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("virtualservice/web: {message}")),
            "{message}: {found:?}"
        );
    }
}

#[test]
fn a_controller_has_to_carry_out_the_last_change() {
    let live = |parents: Json| json!({ "metadata": { "generation": 3 }, "status": { "parents": parents } });
    let parent = |accepted: Json, resolved: Json| json!({ "parentRef": { "name": "public" }, "conditions": [accepted, resolved] });
    let condition = |kind: &str, seen: u32, status: &str| json!({ "type": kind, "status": status, "observedGeneration": seen, "reason": "R", "message": "m" });
    let good = parent(condition("Accepted", 3, "True"), condition("ResolvedRefs", 3, "True"));
    let reason = |parents: Json| gateway().pending(&live(parents)).unwrap_or_default();
    assert_eq!(gateway().pending(&live(json!([good]))), None);
    assert_eq!(reason(json!([])), "no controller of a Gateway has accepted it");
    let stale = parent(condition("Accepted", 3, "True"), condition("ResolvedRefs", 2, "True"));
    assert_eq!(reason(json!([good, stale])), "the controller of public hasn't seen the change yet");
    let refused = parent(condition("Accepted", 3, "True"), condition("ResolvedRefs", 3, "False"));
    assert_eq!(reason(json!([refused])), "public doesn't have it ResolvedRefs: R: m");
    let silent = json!({ "conditions": [condition("Accepted", 3, "True")] });
    assert_eq!(reason(json!([silent])), "the controller of a Gateway doesn't say whether it is ResolvedRefs");
    assert_eq!(istio(&[]).pending(&live(json!([]))), None);
}

fn shop(more: Vec<Json>) -> Vec<Object> {
    let template = json!({ "metadata": { "labels": { "app": "web" } } });
    let deployment = json!({ "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" }, "spec": {
        "replicas": 3, "selector": { "matchLabels": { "app": "web" } }, "template": template } });
    let service = |name: &str| {
        json!({ "kind": "Service", "metadata": { "name": name, "namespace": "shop" },
        "spec": { "type": "LoadBalancer", "selector": { "app": "web" }, "ports": [{ "port": 80, "nodePort": 30000 }] } })
    };
    let route = http_route(&json!([{ "backendRefs": [{ "name": "web", "port": 80 }] }]));
    let all = [deployment, service("web"), service("metrics"), route];
    all.into_iter().chain(more).map(object).collect()
}

fn canary() -> Strategy {
    serde_json::from_value(json!({ "canary": { "steps": [{ "set-weight": 10 }] } })).expect("a strategy")
}

#[test]
fn services_of_the_route_get_one_for_the_canary_and_all_select_by_release() {
    let mut objects = shop(Vec::new());
    assert_eq!(set_apart(&mut objects, &canary(), Some(&gateway())), []);
    let selector = json!({ "app": "web", RELEASE: MARK });
    assert_eq!([1, 2, 4].map(|at| objects[at].json["spec"]["selector"].clone()), [(); 3].map(|()| selector.clone()));
    let beside = &objects[4].json;
    assert_eq!((objects.len(), objects[4].name()), (5, "web-canary"));
    assert_eq!(beside["metadata"]["annotations"], json!({ CANARY: "web" }));
    assert_eq!(beside["spec"], json!({ "selector": selector, "ports": [{ "port": 80 }] }));
    let late: Vec<bool> = objects.iter().map(|object| is_late(&object.json)).collect();
    assert_eq!(late, [false, true, true, true, false]);
    let all: Vec<Json> = objects.into_iter().map(|object| object.json).collect();
    assert_eq!(services(&all), ["web"]);
}

#[test]
fn what_a_canary_by_weight_cannot_have_is_refused() {
    let found = |more: Json| -> Vec<String> {
        set_apart(&mut shop(vec![more]), &canary(), Some(&gateway())).into_iter().map(|error| error.message).collect()
    };
    let taken = found(json!({ "kind": "Service", "metadata": { "name": "web-canary" } }));
    assert_eq!(taken, ["service/web-canary: the deploy makes a Service of this name, which leads to the canary"]);
    let autoscaler = found(json!({ "kind": "HorizontalPodAutoscaler", "metadata": { "name": "web" } }));
    assert!(autoscaler[0].contains("an autoscaler scales one of two releases"), "{autoscaler:?}");
    let sizeless = found(json!({ "kind": "Deployment", "metadata": { "name": "a" } }));
    assert!(sizeless[0].contains("both releases of a `canary` run at full size"), "{sizeless:?}");
}

#[test]
fn mistakes_of_the_configuration_name_their_key() {
    let keys = |traffic: Json, strategy: Json| -> Vec<String> {
        let mut with =
            json!({ "service": "shop", "credential": "cluster", "manifests": ["a.yaml"], "traffic": traffic });
        with["strategy"] = strategy;
        let config: Config = serde_json::from_value(with).expect("a configuration");
        config.problems().into_iter().filter_map(|problem| problem.key).collect()
    };
    let route = json!({ "gateway-api": { "http-route": "web.a" } });
    let by_header = json!({ "set-header-route": { "name": "a", "match": [{ "header-name": "X", "header-value": { "exact": "a" } }] } });
    let canary = json!({ "canary": { "steps": [by_header, { "set-weight": 10 }] } });
    assert_eq!(keys(route.clone(), canary.clone()), [""; 0]);
    assert_eq!(keys(Json::Null, canary.clone()), ["strategy.canary.steps[0].set-header-route"]);
    for strategy in [json!({ "blue-green": {} }), json!({ "rolling": {} }), Json::Null] {
        assert_eq!(keys(route.clone(), strategy), ["traffic"]);
    }
    assert_eq!(
        keys(json!({ "gateway-api": { "http-route": "Web" } }), canary.clone()),
        ["traffic.gateway-api.http-route"]
    );
    assert_eq!(keys(json!({ "istio": { "virtual-service": "" } }), canary), ["traffic.istio.virtual-service"]);
}
