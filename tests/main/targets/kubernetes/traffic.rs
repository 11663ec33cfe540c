//! Canaries by the weights of a route. There is no controller that directs requests by it: what is tested is what the cluster
//! has at each step, and that the Services lead to the pods of their releases.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::crds::{install_http_route, install_virtual_service};
use super::{CONFIGURATION, DEPLOYMENT, Namespace, SERVICE, variable};
use crate::environment::{after, eventually};
use crate::targets::engine::kill_at_every_write;

const HTTP_ROUTE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: shop }
spec:
  parentRefs: [{ name: public }]
  hostnames: [shop.example.org]
  rules:
  - matches: [{ path: { type: PathPrefix, value: / } }]
    backendRefs: [{ name: shop, port: 80 }]
  - matches: [{ path: { type: PathPrefix, value: /images } }]
    backendRefs: [{ name: images, port: 80 }]
"#;

const VIRTUAL_SERVICE: &str = r#"
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: { name: shop }
spec:
  hosts: [shop]
  http:
  - name: primary
    retries: { attempts: 2 }
    route: [{ destination: { host: shop, port: { number: 80 } } }]
"#;

const GATEWAY: &str = "traffic = { gateway-api = { http-route = \"shop\" } }";
const STEPS: &str = r#"strategy = { canary = { steps = [
  { set-header-route = { name = "testers", match = [{ header-name = "X-Canary", header-value = { exact = "yes" } }] } },
  { set-weight = 20 }, { pause = {} }, { set-weight = 60 }, { pause = {} },
] } }"#;

/// Says of each change of the route that it is carried out, as a controller does, and keeps what it was.
struct Controller {
    is_ended: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Controller {
    fn of(namespace: &Namespace) -> Controller {
        let (is_ended, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (name, status) = (namespace.name.clone(), namespace.repository.root().join("status.json"));
        let (ended, all) = (Arc::clone(&is_ended), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100));
                let Some(mut route) = kubectl(&name, &["get", "httproute/shop", "--output", "json"]) else { continue };
                let generation = route["metadata"]["generation"].clone();
                let parent = &route["status"]["parents"][0];
                if parent["conditions"][0]["observedGeneration"] == generation {
                    continue;
                }
                let condition = |kind: &str| {
                    json!({ "type": kind, "status": "True", "observedGeneration": generation, "reason": "Done",
                        "message": "it is carried out", "lastTransitionTime": "2026-01-01T00:00:00Z" })
                };
                let conditions = [condition("Accepted"), condition("ResolvedRefs")];
                let parent = json!({ "parentRef": { "name": "public" }, "controllerName": "example.org/test", "conditions": conditions });
                route["status"] = json!({ "parents": [parent] });
                std::fs::write(&status, route.to_string()).expect("a writable folder");
                let path = format!("/apis/gateway.networking.k8s.io/v1/namespaces/{name}/httproutes/shop/status");
                let written = kubectl(&name, &["replace", "--raw", &path, "--filename", &status.display().to_string()]);
                if written.is_some() {
                    all.lock().expect("no panic").push(weights(&route));
                }
            }
        });
        Controller { is_ended, seen, thread: Some(thread) }
    }

    /// The weights of the route since the last call.
    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().expect("no panic"))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::Relaxed);
        self.thread.take().expect("a thread").join().expect("it doesn't panic");
    }
}

fn kubectl(namespace: &str, args: &[&str]) -> Option<Json> {
    let mut command = Command::new(variable("KUBECTL"));
    command.args(["--kubeconfig", &variable("KUBECONFIG"), "--namespace", namespace]).args(args);
    let output = command.output().expect("kubectl starts");
    output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// Each rule as `header: Service=weight …`.
fn weights(route: &Json) -> String {
    let shown = |rule: &Json| {
        let header = rule["matches"][0]["headers"][0]["name"].as_str().map(|name| format!("{name}: "));
        let backends = rule["backendRefs"].as_array().expect("backends").iter();
        let backends =
            backends.map(|backend| format!("{}={}", backend["name"].as_str().unwrap_or_default(), backend["weight"]));
        format!("{}{}", header.unwrap_or_default(), backends.collect::<Vec<_>>().join(" "))
    };
    route["spec"]["rules"].as_array().expect("rules").iter().map(shown).collect::<Vec<_>>().join(", ")
}

const AT_REST: &str = "shop=1, images=1";
const BY_HEADER: &str = "X-Canary: shop-canary=1, shop=100 shop-canary=0, images=1";
const AT_20: &str = "X-Canary: shop-canary=1, shop=80 shop-canary=20, images=1";
const AT_60: &str = "X-Canary: shop-canary=1, shop=40 shop-canary=60, images=1";
const AT_100: &str = "shop=0 shop-canary=100, images=1";

fn with_route(deploy: &str) -> Namespace {
    let shop = Namespace::with_shop(deploy);
    install_http_route(&shop);
    shop.manifests(&[CONFIGURATION, DEPLOYMENT, SERVICE, HTTP_ROUTE]);
    shop
}

fn route_of(shop: &Namespace) -> String {
    weights(&kubectl(&shop.name, &["get", "httproute/shop", "--output", "json"]).expect("a route"))
}

/// What a Service answers, once it does.
fn answer(shop: &Namespace, service: &str) -> String {
    let url = format!("http://{}/", shop.field(&format!("service/{service}"), ".spec.clusterIP"));
    eventually("the service answers", || {
        let output = Command::new("curl").args(["-s", "--max-time", "2", &url]).output().expect("curl starts");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

#[test]
#[ignore = "needs a cluster"]
fn a_canary_of_the_gateway_api_has_its_weights_at_each_step() {
    let shop = with_route(&format!("{GATEWAY}\n{STEPS}"));
    let rollout = |decision: &[&str], code: i32| {
        shop.repository.run(&[&["rollout"], decision, &["production"]].concat()).exits(code);
    };
    let controller = Controller::of(&shop);
    shop.deploy("1", &[], 5);
    rollout(&["promote", "--full"], 0);
    assert_eq!(controller.seen(), [AT_REST], "a first release has no shares");
    assert_eq!(shop.serves(), "version 1");

    // Both releases at full size, each behind a Service of its own.
    shop.deploy("2", &[], 5);
    assert_eq!((controller.seen().concat(), route_of(&shop)), (format!("{BY_HEADER}{AT_20}"), AT_20.to_owned()));
    assert_eq!((answer(&shop, "shop"), answer(&shop, "shop-canary")), ("version 1".to_owned(), "version 2".to_owned()));
    assert_eq!([1, 3].map(|at| shop.field(&format!("deployment/shop-{at}"), ".status.readyReplicas")), ["2", "2"]);
    rollout(&["promote"], 5);
    assert_eq!(controller.seen(), [AT_60]);
    rollout(&["abort"], 1);
    assert_eq!((controller.seen(), route_of(&shop)), (vec![AT_REST.to_owned()], AT_REST.to_owned()));
    assert_eq!(
        (shop.serves(), shop.objects("deployment")),
        ("version 1".to_owned(), vec!["deployment.apps/shop-1".to_owned()])
    );
    assert_eq!(answer(&shop, "shop-canary"), "version 1");

    shop.deploy("3", &[], 5);
    rollout(&["promote"], 5);
    rollout(&["promote"], 0);
    assert_eq!(controller.seen(), [BY_HEADER, AT_20, AT_60, AT_100, AT_REST]);
    assert_eq!((shop.serves(), shop.objects("deployment").len()), ("version 3".to_owned(), 1));
    shop.repository.run(&["env", "status", "production", "--live"]).exits(0);

    shop.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!(controller.seen(), [AT_100, AT_REST]);
    assert_eq!((shop.serves(), shop.objects("deployment").len()), ("version 1".to_owned(), 1));
    shop.repository.run(&["env", "status", "production", "--live"]).exits(0);
}

#[test]
#[ignore = "needs a cluster"]
fn a_route_that_others_have_changed_stops_the_canary_and_the_next_deploy() {
    let shop = with_route(&format!("{GATEWAY}\n{STEPS}"));
    let _controller = Controller::of(&shop);
    shop.deploy("1", &[], 5);
    shop.repository.run(&["rollout", "promote", "production", "--full"]).exits(0);
    let by_hand = |weight: u32| {
        let patch = json!([{ "op": "add", "path": "/spec/rules/0/backendRefs/0/weight", "value": weight }]).to_string();
        shop.kubectl(&["patch", "httproute/shop", "--type=json", "--patch", &patch, "--field-manager=ada"]);
    };
    shop.deploy("2", &[], 5);
    by_hand(7);
    let failed = shop.repository.run(&["rollout", "promote", "production"]).exits(1).stdout;
    assert!(failed.contains("others have set some of its fields"), "{failed}");
    assert!(failed.contains(".spec.rules belongs to \"ada\""), "{failed}");
    assert_eq!((route_of(&shop).as_str(), shop.serves().as_str()), (AT_REST, "version 1"));

    by_hand(7);
    let asked = shop.deploy("3", &[], 5).stdout;
    assert!(asked.contains("httproute/shop: spec.rules") && asked.contains("set by ada"), "{asked}");
    assert!(route_of(&shop).starts_with("shop=7,"), "nothing was overwritten");
    let field = format!("overwrite={}", after(&asked, "--field overwrite=", 8));
    shop.repository.run(&["approve", "latest", "deploy", "--field", &field]).exits(0);
    shop.repository.run(&["resume", "latest"]).exits(5);
    assert_eq!(route_of(&shop), AT_20);
}

#[test]
#[ignore = "needs a cluster"]
fn a_canary_by_weight_that_is_killed_at_any_write_is_completed_once() {
    let steps = r#"strategy = { canary = { steps = [{ set-weight = 50 }, { pause = { duration = "1s" } }] } }"#;
    let shop = with_route(&format!("{GATEWAY}\n{steps}"));
    let _controller = Controller::of(&shop);
    shop.deploy("0", &[], 0);
    kill_at_every_write(&shop.repository, 11, |version| {
        assert_eq!((shop.serves(), route_of(&shop)), (format!("version {version}"), AT_REST.to_owned()));
        assert_eq!(shop.record()["unfinished"], json!([]));
        assert_eq!(shop.objects("deployment").len(), 1);
        assert_eq!(answer(&shop, "shop-canary"), format!("version {version}"));
    });
}

#[test]
#[ignore = "needs a cluster"]
fn a_canary_by_weight_is_refused_beside_a_release_that_it_cannot_be_told_from() {
    let shop = with_route(&format!("{GATEWAY}\n{STEPS}"));
    let pipeline = shop.repository.read("stagewright.toml");
    let without = pipeline.replace(GATEWAY, "").replace(STEPS, "");
    shop.repository.write("stagewright.toml", &without);
    shop.deploy("1", &[], 0);
    shop.repository.write("stagewright.toml", &pipeline);
    let failed = shop.deploy("2", &[], 1).stdout;
    assert!(
        failed.contains("the release shop-1, which serves: its Service `shop` doesn't select its pods alone"),
        "{failed}"
    );
    assert_eq!((shop.serves(), shop.objects("deployment").len()), ("version 1".to_owned(), 1));

    // What helps, and what the cluster refuses about the weights themselves.
    shop.repository.write(
        "stagewright.toml",
        &without.replace(
            "[stages.deploy.with]",
            "[stages.deploy.with]\nstrategy = { blue-green = { scale-down-delay = \"0s\" } }",
        ),
    );
    shop.deploy("2", &[], 0);
    shop.repository.write("stagewright.toml", &pipeline);
    let _controller = Controller::of(&shop);
    shop.deploy("3", &[], 5);
    assert_eq!(route_of(&shop), AT_20);
}

#[test]
#[ignore = "needs a cluster"]
fn a_canary_of_istio_has_its_weights_at_each_step() {
    let shop = Namespace::with_shop(&format!("traffic = {{ istio = {{ virtual-service = \"shop\" }} }}\n{STEPS}"));
    install_virtual_service(&shop);
    shop.manifests(&[CONFIGURATION, DEPLOYMENT, SERVICE, VIRTUAL_SERVICE]);
    let http = || {
        kubectl(&shop.name, &["get", "virtualservice/shop", "--output", "json"]).expect("it exists")["spec"]["http"]
            .clone()
    };
    let to = |host: &str, weight: u32| json!({ "destination": { "host": host, "port": { "number": 80 } }, "weight": weight });
    let destination = json!({ "host": "shop-canary", "port": { "number": 80 } });
    let at_rest = json!([{ "name": "primary", "retries": { "attempts": 2 }, "route": [{ "destination": { "host": "shop", "port": { "number": 80 } } }] }]);
    let at = |weight: u32| {
        json!([
            { "retries": { "attempts": 2 }, "match": [{ "headers": { "x-canary": { "exact": "yes" } } }], "route": [{ "destination": destination }] },
            { "name": "primary", "retries": { "attempts": 2 }, "route": [to("shop", 100 - weight), to("shop-canary", weight)] },
        ])
    };
    let rollout = |decision: &[&str], code: i32| {
        shop.repository.run(&[&["rollout"], decision, &["production"]].concat()).exits(code);
    };
    shop.deploy("1", &[], 5);
    rollout(&["promote", "--full"], 0);
    assert_eq!((http(), shop.serves()), (at_rest.clone(), "version 1".to_owned()));
    shop.deploy("2", &[], 5);
    assert_eq!(http(), at(20));
    assert_eq!((answer(&shop, "shop"), answer(&shop, "shop-canary")), ("version 1".to_owned(), "version 2".to_owned()));
    rollout(&["promote"], 5);
    assert_eq!(http(), at(60));
    rollout(&["abort"], 1);
    assert_eq!((http(), shop.serves(), shop.objects("deployment").len()), (at_rest.clone(), "version 1".to_owned(), 1));
    shop.deploy("3", &[], 5);
    rollout(&["promote", "--full"], 0);
    assert_eq!((http(), shop.serves()), (at_rest.clone(), "version 3".to_owned()));
    shop.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!((http(), shop.serves()), (at_rest, "version 1".to_owned()));
    shop.repository.run(&["env", "status", "production", "--live"]).exits(0);
}
