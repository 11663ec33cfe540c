//! Tests on the fake host. Those on a real engine are in `tests/main/targets`.

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, Report};
use stagewright_sdk::{Observation, Outcome, Permission, Result};

use crate::DeployDocker;

const SOCKET: &str = "unix:///run/docker.sock:";
const IMAGE: &str = "local/app@sha256:1111111111111111111111111111111111111111111111111111111111111111";
const CADDY: &str = "http://localhost:2019/id/app/upstreams";

fn host(more: Json) -> FakeHost {
    let mut config = json!({ "service": "app", "image": IMAGE, "stop-grace": "1s" });
    if let (Json::Object(config), Json::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    FakeHost::new().config(config).environment("production").fence(7)
}

fn caddy() -> Json {
    json!({ "port": 80, "traffic": { "caddy": { "id": "app" } }, "drain": "0s" })
}

fn container(id: &str, name: &str, fence: u64, run: &str) -> Json {
    json!({ "Id": id, "Names": [format!("/{name}")], "State": "running", "Labels": {
        "stagewright.service": "app", "stagewright.release": format!("app.{fence}"), "stagewright.artifact": IMAGE,
        "stagewright.fence": fence.to_string(), "stagewright.run": run,
    } })
}

fn listing(containers: &[Json]) -> HttpScript {
    let filters = "%7B%22label%22%3A%5B%22stagewright%2Eservice%3Dapp%22%5D%7D";
    let url = format!("{SOCKET}/containers/json?all=true&filters={filters}");
    HttpScript::get(&url).body(json!(containers).to_string())
}

fn inspected(id: &str, status: &str, port: &str) -> HttpScript {
    let ports = json!({ "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": port }] });
    let body = json!({ "State": { "Status": status, "ExitCode": 1 }, "NetworkSettings": { "Ports": ports } });
    HttpScript::get(&format!("{SOCKET}/containers/{id}/json")).body(body.to_string())
}

fn post(path: &str) -> HttpScript {
    HttpScript::post(&format!("{SOCKET}{path}")).status(204)
}

/// The requests that change something, without the socket.
fn changes<T>(report: &Report<T>) -> Vec<String> {
    let sent = report.sent.iter().filter(|sent| sent.method != "GET");
    sent.map(|sent| format!("{} {}", sent.method, sent.url.trim_start_matches(SOCKET))).collect()
}

/// The engine while `own` is being made the serving one, with what every deploy then requests.
fn switching(host: FakeHost, containers: &[Json]) -> FakeHost {
    let remove = |id: &str| HttpScript::new("DELETE", &format!("{SOCKET}/containers/{id}")).status(204);
    let scripts = [
        listing(containers),
        inspected("old", "running", "1"),
        inspected("own", "running", "2"),
        HttpScript::get("http://127.0.0.1:2/health"),
        HttpScript::new("PATCH", CADDY),
        post("/containers/own/update"),
        post("/containers/old/rename?name=app%2E3%2Ereplaced"),
        post("/containers/own/rename?name=app"),
        post("/containers/own/stop?t=1"),
        remove("own"),
    ];
    scripts.into_iter().fold(host, FakeHost::http)
}

fn run_id() -> String {
    FakeHost::new().with(stagewright_sdk::context::run_id).0
}

#[test]
fn an_interrupted_switch_is_completed() {
    let run = run_id();
    // Renamed, but the earlier one wasn't removed yet.
    let containers = [container("own", "app", 7, &run), container("old", "app.3.replaced", 3, "earlier")];
    let observed = switching(host(caddy()), &containers).observe::<DeployDocker>();
    assert_eq!(observed.result, Ok(Observation::NotStarted));
    let host = switching(host(caddy()), &containers).http(post("/containers/old/stop?t=1"));
    let remove = HttpScript::new("DELETE", &format!("{SOCKET}/containers/old")).status(204);
    let report: Report<Result<Outcome>> = host.http(remove).run::<DeployDocker>();
    let done = [
        "PATCH http://localhost:2019/id/app/upstreams",
        "POST /containers/own/update",
        "POST /containers/old/stop?t=1",
        "DELETE /containers/old",
    ];
    assert_eq!(changes(&report), done);
}

#[test]
fn a_switch_that_cannot_stop_the_earlier_container_goes_back_to_it() {
    let run = run_id();
    let before = [container("own", "app.7", 7, &run), container("old", "app", 3, "earlier")];
    let after = [container("own", "app", 7, &run), container("old", "app.3.replaced", 3, "earlier")];
    let mut host = switching(host(caddy()), &before);
    for _ in 0..4 {
        host = host.http(listing(&before));
    }
    let host = host.http(listing(&after)).http(post("/containers/old/stop?t=1").status(500));
    let report = host.run::<DeployDocker>();
    let error = report.result.as_ref().unwrap_err();
    assert!(error.message.contains("release app.7 was removed, and release app.3"), "{error:?}");
    let changes = changes(&report);
    assert_eq!(
        changes[changes.len() - 3..],
        ["PATCH http://localhost:2019/id/app/upstreams", "POST /containers/own/stop?t=1", "DELETE /containers/own"]
    );
}

#[test]
fn a_container_that_has_ended_is_not_started_again() {
    let mut ended = container("own", "app.7", 7, &run_id());
    ended["State"] = json!("exited");
    let scripts = [listing(&[ended]), inspected("own", "exited", "2"), post("/containers/own/stop?t=1")];
    let host = scripts.into_iter().fold(host(json!({})), FakeHost::http);
    let report =
        host.http(HttpScript::new("DELETE", &format!("{SOCKET}/containers/own")).status(204)).run::<DeployDocker>();
    assert!(report.result.as_ref().unwrap_err().causes[0].contains("exited with code 1"), "{:?}", report.result);
    assert_eq!(changes(&report), ["POST /containers/own/stop?t=1", "DELETE /containers/own"]);
}

#[test]
fn a_container_that_cannot_be_created_stops_nothing() {
    let old = container("old", "app", 3, "earlier");
    let images = format!(
        "{SOCKET}/images/json?filters=%7B%22reference%22%3A%5B%22{}%22%5D%7D",
        "local%2Fapp%40sha256%3A".to_owned() + &"1".repeat(64)
    );
    let refused = post("/containers/create?name=app%2E7").status(400).body(r#"{"message":"invalid port"}"#);
    let named = HttpScript::get(&format!("{SOCKET}/containers/app/json")).body(
        json!({ "Id": "old", "State": { "Status": "running", "ExitCode": 0 }, "NetworkSettings": {} }).to_string(),
    );
    let images = HttpScript::get(&images).body("[{}]");
    let scripts = [listing(&[old]), inspected("old", "running", "1"), named, images, refused];
    let host = scripts.into_iter().fold(host(json!({ "port": 80, "publish": 80 })), FakeHost::http);
    let report = host.run::<DeployDocker>();
    assert!(report.result.as_ref().unwrap_err().message.contains("can't create a container"), "{:?}", report.result);
    assert_eq!(changes(&report), ["POST /containers/create?name=app%2E7"]);
}

#[test]
fn a_stale_deploy_changes_nothing() {
    let newer = container("new", "app", 8, "later");
    let report = host(json!({})).http(listing(&[newer])).http(inspected("new", "running", "1")).run::<DeployDocker>();
    let error = report.result.as_ref().unwrap_err();
    assert!(error.message.contains("has the token 8, which is newer than 7"), "{error}");
    assert!(changes(&report).is_empty());
}

#[test]
fn what_cannot_work_together_is_refused_with_its_key() {
    let keys = |more: Json| -> Vec<String> {
        host(more).validate::<DeployDocker>().into_iter().filter_map(|problem| problem.key).collect()
    };
    let canary = json!({ "canary": { "steps": [{ "set-weight": 10 }] } });
    let traffic = json!({ "caddy": { "id": "app" } });
    assert_eq!(keys(json!({ "port": 80, "strategy": canary })), ["strategy"]);
    assert_eq!(keys(json!({ "port": 80, "publish": 80, "strategy": canary, "traffic": traffic })), ["strategy"]);
    assert_eq!(keys(json!({ "port": 80, "publish": 80, "strategy": { "blue-green": {} } })), ["strategy"]);
    assert_eq!(keys(json!({ "port": 80, "strategy": { "blue-green": {} } })), ["strategy"]);
    assert_eq!(keys(json!({ "traffic": traffic })), ["traffic"]);
    assert_eq!(keys(json!({ "publish": 80 })), ["publish"]);
    assert_eq!(keys(json!({ "health": {} })), ["health"]);
    assert_eq!(keys(json!({ "volumes": { "/etc": "data" } })), ["volumes./etc", "volumes./etc"]);
    assert_eq!(keys(json!({ "image": "app:1", "service": "a.b", "socket": "x", "memory": "1" })), ["memory"]);
    assert_eq!(keys(json!({ "image": "app:1", "service": "a.b", "socket": "x" })), ["image", "service", "socket"]);
    let by_header = json!({ "canary": { "steps": [{ "set-header-route": {
        "name": "testers", "match": [{ "header-name": "X-Canary", "header-value": { "exact": "always" } }],
    } }] } });
    let nginx = json!({ "container": "edge", "servers": "/etc/nginx/traffic/app.servers" });
    let haproxy = json!({ "socket": "/run/haproxy.sock", "backend": "app", "servers": ["a", "b"] });
    let envoy = json!({ "container": "edge", "cluster": "app", "endpoints": "/etc/envoy/traffic/app.json" });
    for other in [json!({ "nginx": nginx }), traffic.clone(), json!({ "haproxy": haproxy }), json!({ "envoy": envoy })]
    {
        assert_eq!(keys(json!({ "port": 80, "strategy": by_header, "traffic": other })), ["strategy"], "{other}");
    }
    let mut with_routes = nginx;
    with_routes["routes"] = json!({ "file": "/etc/nginx/traffic/app.routes", "upstream": "app" });
    for works in [
        json!({ "port": 80, "strategy": by_header, "traffic": { "nginx": with_routes } }),
        json!({ "port": 80, "strategy": canary, "traffic": traffic }),
        json!({ "port": 80, "publish": 80, "strategy": { "recreate": {} } }),
        json!({ "port": 80, "strategy": { "blue-green": { "scale-down-delay": "0s" } } }),
        json!({ "memory": "256MiB", "volumes": { "data": "/data" } }),
    ] {
        assert!(keys(works.clone()).is_empty(), "{works}");
    }
}

#[test]
fn requests_to_the_engine_and_to_the_proxy_are_required() {
    let required = host(caddy()).requirements::<DeployDocker>();
    let entries: Vec<&str> = required.iter().map(|needed| needed.entry.as_str()).collect();
    for entry in ["POST unix:///run/docker.sock:/containers/create", "http://127.0.0.1:*", "http://localhost:2019"] {
        assert!(entries.contains(&entry), "{entry}: {entries:?}");
    }
    assert!(required.iter().all(|needed| needed.permission == Permission::Net));
}
