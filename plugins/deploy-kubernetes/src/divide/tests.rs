//! Which requests a canary by weight sends to the cluster, and when it refuses to.

use kubernetes::{Cluster, Object, Origin};
use rollout::Target as _;
use serde_json::json;
use stagewright_sdk::ErrorCode;
use stagewright_sdk::fake::{FakeHost, HttpScript, Report};

use super::*;
use crate::beside::set_apart;
use crate::config::Config;
use crate::record::Records;

const SERVER: &str = "https://k8s.example.org";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/web";
const SERVICES: &str = "/api/v1/namespaces/shop/services";

fn config() -> Config {
    let with = json!({
        "service": "web", "credential": "cluster", "namespace": "shop", "manifests": ["a.yaml"],
        "traffic": { "gateway-api": { "http-route": "web" } }, "strategy": { "canary": { "steps": [{ "set-weight": 20 }] } },
    });
    serde_json::from_value(with).expect("a configuration")
}

/// A release of a Deployment, a Service, and a route whose only rule has this path.
fn release(name: &str, path: &str) -> Release {
    let labels = json!({ "app": "web" });
    let all = [
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "selector": labels, "ports": [{ "port": 80 }] } }),
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels } } } }),
        json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "rules": [{ "matches": [{ "path": { "value": path } }], "backendRefs": [{ "name": "web", "port": 80 }] }] } }),
    ];
    let mut objects: Vec<Object> = all.into_iter().map(|json| Object { json, origin: Origin::default() }).collect();
    let config = config();
    assert_eq!(set_apart(&mut objects, config.strategy.as_ref().expect("a canary"), config.traffic.as_ref()), []);
    objects.sort_by_key(|object| kubernetes::rank(object.kind()));
    Release {
        name: name.to_owned(),
        artifact: "app@sha256:1".to_owned(),
        fence: Some(5),
        run: "r".to_owned(),
        objects: objects.into_iter().map(|object| object.json).collect(),
        created: Vec::new(),
        before: Vec::new(),
    }
}

fn get(path: &str, body: &Json) -> HttpScript {
    HttpScript::get(&format!("{SERVER}{path}")).body(body.to_string())
}

fn applies(path: &str, force: bool) -> HttpScript {
    HttpScript::new("PATCH", &format!("{SERVER}{path}?fieldManager=stagewright&force={force}")).body("{}")
}

/// The route in the cluster at this generation, of which the controller has seen another.
fn live(generation: u32, seen: u32, backends: &Json) -> Json {
    let condition = |kind: &str| json!({ "type": kind, "status": "True", "observedGeneration": seen });
    json!({
        "metadata": { "name": "web", "namespace": "shop", "generation": generation, "resourceVersion": format!("{generation}0") },
        "spec": { "rules": [{ "backendRefs": backends }] },
        "status": { "parents": [{ "conditions": [condition("Accepted"), condition("ResolvedRefs")] }] },
    })
}

fn stable() -> Json {
    json!([{ "name": "web", "port": 80 }])
}

/// A cluster in which `serving` serves while web-5 is deployed with the token 5.
fn host(serving: Option<&Release>) -> FakeHost {
    let kinds = |path: &str, kinds: &[(&str, &str)]| {
        let all: Vec<Json> =
            kinds.iter().map(|(name, kind)| json!({ "name": name, "kind": kind, "namespaced": true })).collect();
        get(path, &json!({ "resources": all }))
    };
    let record = json!({ "fence": 5, "serving": serving.map(|serving| &serving.name), "unfinished": ["web-5"] });
    let maps = "/api/v1/namespaces/shop/configmaps";
    let mut host = FakeHost::new()
        .environment("production")
        .fence(5)
        .credential("cluster", SERVER)
        .http(kinds("/api/v1", &[("configmaps", "ConfigMap"), ("services", "Service")]))
        .http(kinds("/apis/apps/v1", &[("deployments", "Deployment")]))
        .http(kinds("/apis/gateway.networking.k8s.io/v1", &[("httproutes", "HTTPRoute")]))
        .http(get(
            &format!("{maps}/stagewright-web"),
            &json!({ "metadata": { "resourceVersion": "1" }, "data": { "record": record.to_string() } }),
        ));
    if let Some(serving) = serving {
        let (map, _) = FakeHost::new().credential("cluster", SERVER).with(|| {
            let cluster = Cluster::of("cluster").expect("a cluster");
            Records { cluster: &cluster, namespace: "shop", service: "web" }.map_of(serving).expect("a map")
        });
        host = host.http(get(&format!("{maps}/stagewright-{}", serving.name), &map));
    }
    host
}

fn on<T>(host: FakeHost, act: impl FnOnce(&Application) -> Result<T>) -> (Result<T>, Report<()>) {
    host.with(|| {
        let cluster = Cluster::of("cluster")?;
        let (objects, artifact) = (Vec::new(), String::new());
        act(&Application { config: config(), cluster, objects, artifact, is_restored: false })
    })
}

/// The changes: the kind with the name, and what the route leads to with which weights or what a Service selects.
fn changes(report: &Report<()>) -> Vec<String> {
    let changed = report.sent.iter().filter(|sent| sent.method != "GET");
    let shown = |body: &Json| {
        let backends = body["spec"]["rules"][0]["backendRefs"].as_array();
        let weights =
            backends.into_iter().flatten().map(|backend| format!(" {}={}", backend["name"], backend["weight"]));
        let selected = body["spec"]["selector"][RELEASE].as_str().map(|selected| format!(" {selected}"));
        format!("{}{}{}", body["metadata"]["name"], weights.collect::<String>(), selected.unwrap_or_default())
            .replace('"', "")
    };
    changed
        .map(|sent| match serde_json::from_slice::<Json>(&sent.body) {
            Ok(body) if sent.method == "PATCH" => {
                format!("{} {}", body["kind"].as_str().unwrap_or_default(), shown(&body))
            }
            _ => format!("{} {}", sent.method, sent.url.rsplit('/').next().unwrap_or_default()),
        })
        .collect()
}

#[test]
fn a_share_is_written_conditionally_and_waits_for_the_controller() {
    let (earlier, new) = (release("web-1", "/old"), release("web-5", "/new"));
    let host = host(Some(&earlier))
        .http(get(ROUTES, &live(1, 1, &stable())))
        .http(get(ROUTES, &live(2, 1, &stable())))
        .http(get(ROUTES, &live(2, 2, &stable())))
        .http(applies(ROUTES, false));
    let (result, report) = on(host, |application| application.shift(&new, 20));
    assert_eq!(result, Ok(()));
    assert_eq!(changes(&report), ["HTTPRoute web web=80 web-canary=20"]);
    let patch = report.sent.iter().find(|sent| sent.method == "PATCH").expect("a change");
    let body: Json = serde_json::from_slice(&patch.body).expect("JSON");
    assert_eq!(body["metadata"]["resourceVersion"], "10");
    assert_eq!(
        body["spec"]["rules"][0]["matches"][0]["path"]["value"], "/old",
        "the rules are those of the release that serves"
    );
    let looks = report.sent.iter().filter(|sent| sent.method == "GET" && sent.url.ends_with("httproutes/web")).count();
    assert_eq!(looks, 3, "before the change, and until it is carried out");
    assert!(report.logged("httproute/web gives 20% of the requests to the release web-5"));
}

#[test]
fn the_last_step_directs_all_requests_before_the_services_switch_and_the_route_follows_at_the_end() {
    let (earlier, new) = (release("web-1", "/old"), release("web-5", "/new"));
    let cluster = || {
        let missing = HttpScript::get(&format!("{SERVER}{SERVICES}/web")).status(404);
        host(Some(&earlier)).http(get(ROUTES, &live(3, 3, &stable()))).http(applies(ROUTES, false)).http(missing)
    };
    let (result, report) =
        on(cluster().http(applies(&format!("{SERVICES}/web"), false)), |application| application.shift(&new, 100));
    assert_eq!(result, Ok(()));
    assert_eq!(changes(&report), ["HTTPRoute web web=0 web-canary=100", "Service web web-5"]);
    let (result, report) = on(cluster(), |application| application.direct_all(&new));
    assert_eq!(result, Ok(()));
    assert_eq!(changes(&report), ["HTTPRoute web web=null"]);
}

#[test]
fn a_route_that_no_controller_carries_out_fails_with_its_reason() {
    let (earlier, new) = (release("web-1", "/old"), release("web-5", "/new"));
    let mut refused = live(2, 2, &stable());
    refused["status"]["parents"][0]["conditions"][1] = json!({ "type": "ResolvedRefs", "status": "False",
        "observedGeneration": 2, "reason": "BackendNotFound", "message": "no service web-canary" });
    let host = host(Some(&earlier)).http(get(ROUTES, &refused)).http(applies(ROUTES, false));
    let (result, _) = on(host, |application| application.shift(&new, 20));
    let error = format!("{:?}", result.unwrap_err());
    assert!(error.contains("httproute/web isn't carried out after 60 s"), "{error}");
    assert!(error.contains("BackendNotFound: no service web-canary"), "{error}");
}

#[test]
fn a_route_that_others_have_changed_is_not_overwritten() {
    let (earlier, new) = (release("web-1", "/old"), release("web-5", "/new"));
    let cause = json!({ "reason": "FieldManagerConflict", "field": ".spec.rules", "message": "conflict with \"ada\"" });
    let conflict = json!({ "message": "Apply failed", "reason": "Conflict", "details": { "causes": [cause] } });
    let host = host(Some(&earlier))
        .http(get(ROUTES, &live(1, 1, &stable())))
        .http(applies(ROUTES, false).status(409).body(conflict.to_string()));
    let (result, report) = on(host, |application| application.shift(&new, 20));
    let error = result.unwrap_err();
    assert_eq!(error.code, ErrorCode::FailedPrecondition);
    assert_eq!(error.causes.last().map(String::as_str), Some(".spec.rules belongs to \"ada\""));
    assert_eq!(changes(&report).len(), 1, "it isn't tried again");
}

#[test]
fn a_first_release_has_no_shares() {
    let new = release("web-5", "/new");
    let (result, report) = on(host(None), |application| application.shift(&new, 20));
    assert_eq!((result, changes(&report)), (Ok(()), Vec::new()));
}

#[test]
fn the_canary_of_an_abandoned_release_gets_no_requests_before_its_service_changes() {
    let (earlier, new) = (release("web-1", "/old"), release("web-5", "/new"));
    let canary_of =
        |name: &str| get(&format!("{SERVICES}/web-canary"), &json!({ "spec": { "selector": { RELEASE: name } } }));
    let both = json!([{ "name": "web", "weight": 80 }, { "name": "web-canary", "weight": 20 }]);
    let detached = |name: &str, backends: &Json| {
        let host = host(Some(&earlier))
            .http(canary_of(name))
            .http(get(ROUTES, &live(2, 2, backends)))
            .http(applies(ROUTES, false));
        let (result, report) = on(host, |application| application.detach(&new));
        assert_eq!(result, Ok(()));
        changes(&report)
    };
    assert_eq!(detached("web-4", &both), ["HTTPRoute web web=null"]);
    assert_eq!(detached("web-5", &both), [""; 0], "its own canary keeps its share after an interruption");
    assert_eq!(detached("web-1", &stable()), [""; 0], "the last canary is the release that serves");
}

#[test]
fn a_release_without_services_of_its_own_is_no_stable_one() {
    let new = release("web-5", "/new");
    let mut rolled = release("web-1", "/old");
    rolled
        .objects
        .iter_mut()
        .filter(|object| object["metadata"]["name"] == "web" && object["kind"] == "Service")
        .for_each(|service| service["spec"]["selector"] = json!({ "app": "web" }));
    let refused = |earlier: &Release| {
        let (result, report) = on(host(Some(earlier)), |application| application.check_division(&new, earlier));
        assert_eq!(changes(&report), [""; 0]);
        let error = result.unwrap_err();
        assert!(error.help.expect("a remedy").contains("strategy = { blue-green = {} }"));
        error.message
    };
    let message = refused(&rolled);
    assert!(
        message.contains("the release web-1, which serves: its Service `web` doesn't select its pods alone"),
        "{message}"
    );
    // Its own route may have what the new one hasn't.
    let mut divided = release("web-1", "/old");
    divided.objects.iter_mut().filter(|object| object["kind"] == "HTTPRoute").for_each(|route| {
        route["spec"]["rules"][0]["backendRefs"] = json!([{ "name": "web" }, { "name": "other" }]);
    });
    let message = refused(&divided);
    assert!(message.contains("httproute/web: the requests of this rule are divided already"), "{message}");
}

#[test]
fn the_server_checks_the_weights_before_anything_is_applied() {
    let (earlier, new) = (release("web-1", "/old"), release("web-5", "/new"));
    let checks = |script: HttpScript| {
        on(host(Some(&earlier)).http(script), |application| application.check_division(&new, &earlier))
    };
    let dry_run =
        || HttpScript::new("PATCH", &format!("{SERVER}{ROUTES}?fieldManager=stagewright&force=false&dryRun=All"));
    let (result, report) = checks(dry_run().body("{}"));
    assert_eq!((result, changes(&report)), (Ok(()), vec!["HTTPRoute web web=50 web-canary=50".to_owned()]));
    let cause =
        json!({ "reason": "FieldValueInvalid", "field": "spec.rules", "message": "must have at most 16 items" });
    let invalid = json!({ "reason": "Invalid", "details": { "causes": [cause] } });
    let error = format!("{:?}", checks(dry_run().status(422).body(invalid.to_string())).0.unwrap_err());
    assert!(error.contains("the route can't have the weights of two releases"), "{error}");
    assert!(error.contains("must have at most 16 items"), "{error}");
}

#[test]
fn an_abort_leads_all_requests_back_before_the_canary_is_deleted() {
    let (earlier, mut new) = (release("web-1", "/old"), release("web-5", "/new"));
    let canary = Identity {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: Some("shop".into()),
        name: "web-5".into(),
    };
    new.created.push(canary);
    let ready = json!({ "kind": "Deployment", "metadata": { "name": "web-1", "uid": "u", "generation": 1, "labels": { "stagewright/service": "web" } },
        "spec": { "replicas": 1 }, "status": { "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 } });
    let deployments = "/apis/apps/v1/namespaces/shop/deployments";
    let maps = "/api/v1/namespaces/shop/configmaps";
    let mut host = host(Some(&earlier)).http(applies(ROUTES, true));
    for (generation, seen) in [(2, 2), (3, 2), (3, 2), (3, 3)] {
        host = host.http(get(ROUTES, &live(generation, seen, &stable())));
    }
    for path in [format!("{SERVICES}/web"), format!("{SERVICES}/web-canary"), format!("{deployments}/web-1")] {
        host = host.http(get(&path, &ready)).http(applies(&path, true));
    }
    host = host.http(get(&format!("{deployments}/web-5"), &ready));
    for path in [format!("{deployments}/web-5"), format!("{maps}/stagewright-web-5")] {
        host = host.http(HttpScript::new("DELETE", &format!("{SERVER}{path}")));
    }
    host = host
        .http(HttpScript::new("PUT", &format!("{SERVER}{maps}/stagewright-web")))
        .http(get(&format!("{maps}/stagewright-web-5"), &ready));
    let (result, report) = on(host, |application| application.undo(&new));
    assert_eq!(result, Ok(()));
    let changes = changes(&report);
    let position =
        |text: &str| changes.iter().position(|change| change == text).unwrap_or_else(|| panic!("{text}: {changes:?}"));
    let order =
        ["Service web web-1", "Service web-canary web-1", "HTTPRoute web web=null", "DELETE web-5"].map(position);
    assert!(order.is_sorted(), "{changes:?}");
    let looks = report.sent.iter().take_while(|sent| sent.method != "DELETE");
    let looks = looks.filter(|sent| sent.method == "GET" && sent.url.ends_with("httproutes/web")).count();
    assert!(looks > 3, "the canary is deleted once the controller has followed: {looks}");
}

#[test]
fn a_route_that_was_there_before_the_first_release_is_as_before_after_its_abort() {
    let new = release("web-5", "/new");
    let withdrawn = |created: bool| {
        let mut new = new.clone();
        if created {
            let route = new.objects.iter().find(|object| object["kind"] == "HTTPRoute").expect("a route");
            new.created.push(Object { json: route.clone(), origin: Origin::default() }.identity());
        }
        let host = host(None).http(get(ROUTES, &live(2, 2, &stable()))).http(applies(ROUTES, true));
        let (result, report) = on(host, |application| application.withdraw(&new, None));
        assert_eq!(result, Ok(()));
        changes(&report)
    };
    assert_eq!(withdrawn(false), ["HTTPRoute web web=null"]);
    assert_eq!(withdrawn(true), [""; 0], "it is deleted with the release");
}
