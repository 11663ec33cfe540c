//! Tests on the fake host. Those on a real swarm are in `tests/main/targets`.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use compose_file::Release;
use docker_engine::{Service, Task};
use rollout::Progress;
use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, Report};
use stagewright_sdk::{ErrorCode, Permission};

use crate::DeploySwarm;
use crate::config::{Config, Update};
use crate::progress::progress;
use crate::spec::{Desired, Ids, SPEC};
use crate::version::SecretNames;

const SOCKET: &str = "unix:///run/docker.sock:";
const IMAGE: &str = "local/app@sha256:1111111111111111111111111111111111111111111111111111111111111111";

fn release(compose: &Json) -> Json {
    json!({ "file": "compose.yaml", "target": "swarm", "secrets": [], "compose": compose })
}

fn of_one_service() -> Json {
    release(&json!({ "services": { "web": { "image": IMAGE } } }))
}

fn host(more: Json) -> FakeHost {
    let mut config = json!({ "stack": "shop", "release": of_one_service(), "health": { "deadline": "1s" } });
    if let (Json::Object(config), Json::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    FakeHost::new().config(config).environment("production").fence(7)
}

fn get(path: &str, body: &Json) -> HttpScript {
    HttpScript::get(&format!("{SOCKET}{path}")).body(body.to_string())
}

fn listed(kind: &str, label: &str, objects: &Json) -> HttpScript {
    let filter = format!("%7B%22label%22%3A%5B%22{}%3Dshop%22%5D%7D", label.replace('.', "%2E"));
    get(&format!("/{kind}?filters={filter}"), objects)
}

fn service(fence: u64, version: u64) -> Json {
    json!({ "ID": "s1", "Version": { "Index": version }, "Spec": { "Name": "shop_web", "Labels": {
        "com.docker.stack.namespace": "shop", "stagewright.release": format!("shop.{fence}"),
        "stagewright.artifact": "compose.yaml@sha256:1", "stagewright.fence": fence.to_string(), "stagewright.run": "other",
    } } })
}

fn record(fence: u64, state: &str) -> Json {
    json!({ "ID": format!("c{fence}"), "Version": { "Index": 1 }, "Spec": { "Name": format!("shop.{fence}.other"), "Data": STANDARD.encode(of_one_service().to_string()), "Labels": {
        "stagewright.stack": "shop", "stagewright.state": state, "stagewright.release": format!("shop.{fence}"),
        "stagewright.artifact": "compose.yaml@sha256:1", "stagewright.fence": fence.to_string(), "stagewright.run": "other",
    } } })
}

/// A swarm on which the stack of token 3 serves, while its service has these states in turn.
fn swarm(host: FakeHost, states: &[Json]) -> FakeHost {
    let images =
        format!("/images/json?filters=%7B%22reference%22%3A%5B%22local%2Fapp%40sha256%3A{}%22%5D%7D", "1".repeat(64));
    let scripts = [
        listed("configs", "stagewright.stack", &json!([record(3, "serving")])),
        listed("services", "com.docker.stack.namespace", &json!([states[0]])),
        get(&images, &json!([{}])),
        get(
            "/networks?filters=%7B%22name%22%3A%5B%22shop%5Fdefault%22%5D%7D",
            &json!([{ "Name": "shop_default", "Scope": "swarm" }]),
        ),
        get("/tasks?filters=%7B%22service%22%3A%5B%22s1%22%5D%7D", &json!([])),
        HttpScript::post(&format!("{SOCKET}/configs/create")).body(r#"{"ID":"c7"}"#),
    ];
    let host = scripts.into_iter().fold(host, FakeHost::http);
    states.iter().fold(host, |host, state| host.http(get("/services/shop_web", state)))
}

/// The requests that change something, without the socket.
fn changes<T>(report: &Report<T>) -> Vec<String> {
    let sent = report.sent.iter().filter(|sent| sent.method != "GET");
    sent.map(|sent| format!("{} {}", sent.method, sent.url.trim_start_matches(SOCKET))).collect()
}

/// With the secret `token` of the pipeline.
fn with_secret(more: Json) -> FakeHost {
    let compose = json!({ "services": { "web": { "image": IMAGE, "secrets": [{ "source": "token" }] } },
        "secrets": { "token": { "external": true } } });
    let mut config = json!({ "release": release(&compose), "secrets": { "token": "shop-token" } });
    if let (Json::Object(config), Json::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    host(config).secret("shop-token", "hunter22")
}

fn secret(name: &str, fence: u64, artifact: &str, run: &str) -> Json {
    json!({ "ID": format!("id-of-{name}"), "Version": { "Index": 1 }, "Spec": { "Name": name, "Labels": {
        "stagewright.stack": "shop", "stagewright.secret": "token", "stagewright.release": format!("shop.{fence}"),
        "stagewright.artifact": artifact, "stagewright.fence": fence.to_string(), "stagewright.run": run,
    } } })
}

/// The artifact of the release of [`with_secret`], and the name of the secret that its deploy creates.
fn own_secret() -> (String, String) {
    own_secret_under(7)
}

/// That of an attempt with this token.
fn own_secret_under(fence: u64) -> (String, String) {
    let (names, _) = with_secret(json!({})).fence(fence).with(|| {
        let config: Config = serde_json::from_str(&stagewright_sdk::context::config_json()).unwrap();
        let artifact = config.artifact();
        let names = crate::secrets::names(&docker_engine::Engine::at("/none"), &config, &artifact, None).unwrap();
        (artifact, names["token"].clone())
    });
    names
}

#[test]
fn a_secret_is_created_with_a_value_from_the_host_and_removed_if_the_release_is_refused() {
    let (artifact, name) = own_secret();
    assert_eq!(name, own_secret_under(8).1, "a repeated attempt, with a newer token, has the same name");
    let run = FakeHost::new().with(stagewright_sdk::context::run_id).0;
    let missing = HttpScript::get(&format!("{SOCKET}/secrets/{name}")).status(404).body(r#"{"message":"no"}"#);
    let own = secret(&name, 7, &artifact, &run);
    // Of the release that serves, of one before, and of someone else's stack.
    let others = [
        secret("shop_token.serving", 3, "a@sha256:1", "other"),
        secret("shop_token.before", 2, "a@sha256:0", "before"),
    ];
    let refused =
        HttpScript::post(&format!("{SOCKET}/services/s1/update?version=5")).status(400).body(r#"{"message":"no"}"#);
    let host = swarm(with_secret(json!({})), &[service(3, 5)])
        .http(missing.clone())
        .http(missing)
        .http(get(&format!("/secrets/{name}"), &own))
        .http(HttpScript::post(&format!("{SOCKET}/secrets/create")).body(r#"{"ID":"x"}"#))
        .http(listed("secrets", "stagewright.stack", &json!([own, others[0], others[1]])))
        .http(HttpScript::new("DELETE", &format!("{SOCKET}/secrets/id-of-{name}")))
        .http(HttpScript::new("DELETE", &format!("{SOCKET}/secrets/id-of-shop_token.serving")))
        .http(HttpScript::new("DELETE", &format!("{SOCKET}/secrets/id-of-shop_token.before")))
        .http(refused.clone())
        // Going back to the earlier release.
        .http(HttpScript::post(&format!("{SOCKET}/services/s1/update?version=5")).body("{}"));
    let report = host.run::<DeploySwarm>();
    assert!(report.result.is_err());
    let created = report.sent.iter().find(|sent| sent.url.ends_with("/secrets/create")).expect("a secret");
    let created: Json = serde_json::from_slice(&created.body).unwrap();
    assert_eq!((&created["Name"], &created["Data"]), (&json!(name), &json!("{base64 of secret shop-token}")));
    let kept = report.sent.iter().find(|sent| sent.url.ends_with("/configs/create")).expect("a record");
    let kept: Json = serde_json::from_slice(&kept.body).unwrap();
    assert_eq!(kept["Labels"]["stagewright.secrets"], json!({ "token": name }).to_string());
    let expected = [
        "POST /configs/create".to_owned(),
        "POST /secrets/create".to_owned(),
        "POST /services/s1/update?version=5".to_owned(),
        "POST /services/s1/update?version=5".to_owned(),
        format!("DELETE /secrets/id-of-{name}"),
    ];
    assert_eq!(changes(&report), expected);
}

#[test]
fn a_restored_release_has_the_newest_of_its_secrets() {
    let (artifact, own) = own_secret();
    let listed = |secrets: Json| listed("secrets", "stagewright.stack", &secrets);
    let kept = json!([
        secret("newer", 6, &artifact, "c"),
        secret("newest", 4, &artifact, "b"),
        secret("older", 2, &artifact, "a"),
        secret("foreign", 4, "other@sha256:1", "b")
    ]);
    let named = |secrets: Json| {
        let restored = json!({ "artifact": artifact, "config": {}, "fence": 5 });
        let (names, _) = with_secret(json!({})).restored(restored).http(listed(secrets)).with(|| {
            let config: Config = serde_json::from_str(&stagewright_sdk::context::config_json()).unwrap();
            let restored = stagewright_sdk::environment::restored().unwrap();
            let engine = docker_engine::Engine::at(&config.socket);
            crate::secrets::names(&engine, &config, &artifact, restored.as_ref()).unwrap()
        });
        names["token"].clone()
    };
    assert_eq!(named(kept), "newest");
    assert_eq!(named(json!([])), own, "one that is gone is created again");
}

#[test]
fn a_secret_that_is_missing_is_a_difference() {
    let mut kept = record(3, "serving");
    let compose = json!({ "services": {}, "secrets": { "token": { "external": true } } });
    kept["Spec"]["Data"] = STANDARD.encode(release(&compose).to_string()).into();
    kept["Spec"]["Labels"]["stagewright.secrets"] = r#"{"token":"shop_token.1"}"#.into();
    kept["Spec"]["Labels"]["stagewright.artifact"] = own_secret().0.into();
    let missing = HttpScript::get(&format!("{SOCKET}/secrets/shop_token.1")).status(404).body(r#"{"message":"no"}"#);
    let host = with_secret(json!({})).http(listed("configs", "stagewright.stack", &json!([kept]))).http(missing);
    let found = host.compare::<DeploySwarm>().result.unwrap();
    let found: Vec<_> = found.iter().map(|found| (found.what.as_str(), found.found.as_deref())).collect();
    assert_eq!(found, [("secret shop_token.1", None)]);
}

#[test]
fn secrets_are_those_of_the_file_and_are_granted_by_name() {
    let keys = |more: Json| -> Vec<String> {
        with_secret(more).validate::<DeploySwarm>().into_iter().filter_map(|problem| problem.key).collect()
    };
    assert!(keys(json!({})).is_empty());
    assert_eq!(keys(json!({ "secrets": { "other": "shop-token" } })), ["secrets.other"]);
    let long = "a".repeat(50);
    assert_eq!(
        keys(json!({ "secrets": { long.clone(): "shop-token", "a b": "shop-token" } })),
        ["secrets.a b".to_owned(), format!("secrets.{long}")]
    );
    let named =
        json!({ "services": { "web": { "image": IMAGE } }, "secrets": { "token": { "external": true, "name": "x" } } });
    assert_eq!(keys(json!({ "release": release(&named) })), ["secrets.token"]);

    let entries = |host: FakeHost| -> Vec<String> {
        host.requirements::<DeploySwarm>().into_iter().map(|needed| needed.entry).collect()
    };
    let create = "POST unix:///run/docker.sock:/secrets/create".to_owned();
    let (with, without) = (entries(with_secret(json!({}))), entries(host(json!({}))));
    assert!(with.contains(&create) && with.contains(&"shop-token:header".to_owned()), "{with:?}");
    assert!(!without.contains(&create), "{without:?}");
}

#[test]
fn a_service_that_a_newer_deploy_changes_between_check_and_change_stays_as_it_is() {
    let out_of_sequence = r#"{"message":"rpc error: code = Unknown desc = update out of sequence"}"#;
    // Read for `serving`, before anything is changed, and for the change; then as the newer deploy left it.
    let states = [service(3, 5), service(3, 5), service(3, 5), service(8, 6)];
    let refused = HttpScript::post(&format!("{SOCKET}/services/s1/update?version=5")).status(500).body(out_of_sequence);
    let report = swarm(host(json!({})), &states).http(refused).run::<DeploySwarm>();
    let error = report.result.as_ref().unwrap_err();
    assert_eq!(error.code, ErrorCode::Superseded, "{error:?}");
    assert!(error.causes[0].contains("has the token 8, which is newer than 7"), "{error:?}");
    assert_eq!(changes(&report), ["POST /configs/create", "POST /services/s1/update?version=5"]);
}

#[test]
fn a_stale_deploy_changes_nothing() {
    let report = swarm(host(json!({})), &[service(8, 5)]).run::<DeploySwarm>();
    assert_eq!(report.result.as_ref().unwrap_err().code, ErrorCode::Superseded);
    assert!(changes(&report).is_empty());
}

#[test]
fn a_service_of_another_stack_is_not_touched() {
    let mut foreign = service(3, 5);
    foreign["Spec"]["Labels"] = json!({ "com.docker.stack.namespace": "other" });
    let report = swarm(host(json!({})), &[foreign]).run::<DeploySwarm>();
    let error = report.result.as_ref().unwrap_err();
    assert_eq!(error.message, "the service shop_web doesn't belong to the stack `shop`");
    assert!(changes(&report).is_empty());
}

#[test]
fn a_service_is_what_its_file_says() {
    let compose = json!({
        "services": {
            "web": {
                "image": IMAGE,
                "command": ["serve", "$$1"],
                "environment": { "PORT": 80 },
                "networks": { "front": { "aliases": ["shop"] } },
                "ports": [{ "target": 80, "published": "8080", "protocol": "tcp", "mode": "host" }],
                "volumes": [{ "type": "volume", "source": "data", "target": "/data" }],
                "configs": [{ "source": "app", "target": "/app.toml" }],
                "secrets": [{ "source": "key" }],
                "healthcheck": { "test": ["CMD", "true"], "interval": "5s", "retries": 2 },
                "stop_grace_period": "1s",
                "depends_on": { "db": {} },
                "deploy": {
                    "replicas": "3",
                    "labels": { "tier": "front" },
                    "resources": { "limits": { "cpus": "0.5", "memory": "64M" } },
                    "placement": { "constraints": ["node.role == worker"] },
                },
            },
            "db": { "image": IMAGE, "deploy": { "mode": "global" } },
        },
        "networks": { "front": { "name": "edge", "external": true } },
        "volumes": { "data": {} },
        "configs": { "app": { "content": "price = \"$$5\"" } },
        "secrets": { "key": { "external": true } },
    });
    let release: Release = serde_json::from_value(release(&compose)).unwrap();
    let update = Update { parallelism: Some(2), ..Update::default() };
    let none = SecretNames::new();
    let desired = Desired::new("shop", update, &release, &none);
    let config = desired.config_name("app");
    let ids = Ids::from([(config.clone(), "c1".to_owned()), ("key".to_owned(), "k1".to_owned())]);
    let services = desired.services(&ids);
    let names: Vec<(&str, Option<u64>)> =
        services.iter().map(|service| (service.name.as_str(), service.replicas)).collect();
    assert_eq!(names, [("shop_db", None), ("shop_web", Some(3))], "each comes after what it needs");

    let provenance =
        docker_engine::Provenance { release: "shop.7".into(), artifact: "a".into(), fence: None, run: None };
    let body = services[1].body("shop", &provenance);
    let container = json!({
        "Image": IMAGE, "Args": ["serve", "$1"], "Env": ["PORT=80"],
        "Labels": { "com.docker.stack.namespace": "shop", SPEC: services[1].mark },
        "StopGracePeriod": 1_000_000_000,
        "Healthcheck": { "Test": ["CMD", "true"], "Interval": 5_000_000_000_u64, "Retries": 2 },
        "Mounts": [{ "Type": "volume", "Source": "shop_data", "Target": "/data", "VolumeOptions": { "Labels": { "com.docker.stack.namespace": "shop" } } }],
        "Configs": [{ "ConfigID": "c1", "ConfigName": config, "File": { "Name": "/app.toml", "UID": "0", "GID": "0", "Mode": 0o444 } }],
        "Secrets": [{ "SecretID": "k1", "SecretName": "key", "File": { "Name": "key", "UID": "0", "GID": "0", "Mode": 0o444 } }],
    });
    let expected = json!({
        "Name": "shop_web",
        "Labels": { "tier": "front", "com.docker.stack.namespace": "shop", "stagewright.release": "shop.7", "stagewright.artifact": "a" },
        "TaskTemplate": {
            "ContainerSpec": container,
            "Resources": { "Limits": { "NanoCPUs": 500_000_000, "MemoryBytes": 67_108_864 } },
            "Placement": { "Constraints": ["node.role == worker"] },
            "Networks": [{ "Target": "edge", "Aliases": ["web", "shop"] }],
        },
        "Mode": { "Replicated": { "Replicas": 3 } },
        "UpdateConfig": { "Parallelism": 2, "FailureAction": "pause" },
        "EndpointSpec": { "Mode": "vip", "Ports": [{ "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host" }] },
    });
    assert_eq!(body, expected);
    let created = SecretNames::from([("key".to_owned(), "shop_key.1".to_owned())]);
    let template = Desired::new("shop", Update::default(), &release, &created).services(&ids)[1].spec().clone();
    let secret = &template["TaskTemplate"]["ContainerSpec"]["Secrets"][0];
    assert_eq!((&secret["SecretName"], &secret["File"]["Name"]), (&json!("shop_key.1"), &json!("key")));
    let other = desired.services(&Ids::from([(config, "c2".to_owned())]));
    assert_eq!(other[1].mark, services[1].mark, "tasks aren't replaced for a new id");
    assert_eq!(desired.networks().keys().collect::<Vec<_>>(), ["edge", "shop_default"]);
    assert_eq!(desired.service_names(), BTreeSet::from(["shop_db".to_owned(), "shop_web".to_owned()]));
}

#[test]
fn only_new_tasks_that_run_after_the_update_count() {
    let release: Release = serde_json::from_value(of_one_service()).unwrap();
    let none = SecretNames::new();
    let desired = Desired::new("shop", Update::default(), &release, &none).services(&Ids::new()).remove(0);
    let task = |mark: &str, desired: &str, state: &str, err: &str| -> Task {
        let spec = json!({ "ContainerSpec": { "Labels": { SPEC: mark } } });
        let status = json!({ "State": state, "Err": err });
        serde_json::from_value(json!({ "ID": "t", "Spec": spec, "DesiredState": desired, "Status": status })).unwrap()
    };
    let of = |update: Option<&str>, tasks: &[Task]| {
        let mut service = service(7, 1);
        if let Some(state) = update {
            service["UpdateStatus"] = json!({ "State": state, "Message": "why" });
        }
        let service: Service = serde_json::from_value(service).unwrap();
        progress(&desired, Some(&service), tasks)
    };
    let own = |state: &str| task(&desired.mark, "running", state, "");
    let old = task("old", "running", "running", "");
    assert_eq!(of(None, &[own("running")]), Progress::Running);
    assert_eq!(of(Some("completed"), &[own("running")]), Progress::Running);
    let waits = Progress::Starting("0 of 1 tasks of `shop_web` run".to_owned());
    assert_eq!(of(None, std::slice::from_ref(&old)), waits);
    assert_eq!(of(None, &[own("starting"), old]), waits);
    assert!(matches!(of(Some("updating"), &[own("running")]), Progress::Starting(_)));
    let failed = task(&desired.mark, "shutdown", "failed", "task: non-zero exit (7)");
    for state in ["paused", "rollback_started", "rollback_paused", "rollback_completed"] {
        let Progress::Failed(reason) = of(Some(state), std::slice::from_ref(&failed)) else {
            panic!("{state} is a failure")
        };
        assert!(reason.ends_with("task: non-zero exit (7) (failed)"), "{reason}");
    }
    assert!(matches!(progress(&desired, None, &[]), Progress::Failed(_)));
}

#[test]
fn mistakes_name_their_key() {
    let keys = |more: Json| -> Vec<String> {
        host(more).validate::<DeploySwarm>().into_iter().filter_map(|problem| problem.key).collect()
    };
    assert_eq!(
        keys(json!({ "release": "x", "stack": "a.b", "socket": "x", "url": "x" })),
        ["release", "stack", "socket", "url"]
    );
    assert_eq!(keys(json!({ "readiness": {} })), ["readiness"]);
    assert!(keys(json!({ "url": "http://127.0.0.1:8080", "readiness": {} })).is_empty());
}

#[test]
fn a_rolling_update_is_what_swarm_can_do_of_it() {
    let rolling = |table: Json| json!({ "strategy": { "rolling": table } });
    let update = |table: Json| {
        let mut config = json!({ "stack": "shop", "release": of_one_service() });
        config["strategy"] = rolling(table)["strategy"].clone();
        serde_json::from_value::<Config>(config).unwrap().update()
    };
    let starts_first =
        Update { parallelism: Some(2), order: Some("start-first"), monitor: Some(Duration::from_secs(10)) };
    assert_eq!(update(json!({ "max-surge": 2, "max-unavailable": 0, "min-ready-seconds": 10 })), starts_first);
    let stops_first = Update { parallelism: Some(3), order: Some("stop-first"), monitor: None };
    assert_eq!(update(json!({ "max-unavailable": 3 })), stops_first);
    assert_eq!(update(json!({})), Update::default());

    let keys = |more: Json| -> Vec<String> {
        host(more).validate::<DeploySwarm>().into_iter().filter_map(|problem| problem.key).collect()
    };
    assert_eq!(keys(rolling(json!({ "max-surge": "25%" }))), ["strategy.rolling.max-surge"]);
    assert_eq!(keys(rolling(json!({ "max-surge": 1, "max-unavailable": 1 }))), ["strategy.rolling"]);
    assert_eq!(
        keys(rolling(json!({ "progress-deadline-seconds": 60 }))),
        ["strategy.rolling.progress-deadline-seconds"]
    );
    assert_eq!(keys(json!({ "strategy": { "recreate": {} } })), ["strategy"]);
    assert!(keys(rolling(json!({ "max-surge": 1, "min-ready-seconds": 5 }))).is_empty());
}

#[test]
fn requests_to_the_engine_are_required_before_the_release_is_known() {
    let more = json!({ "release": "${{ stages.release.outputs.release }}", "url": "http://127.0.0.1:8080" });
    let required = host(more).requirements::<DeploySwarm>();
    let entries: Vec<&str> = required.iter().map(|needed| needed.entry.as_str()).collect();
    for entry in ["POST unix:///run/docker.sock:/services/*/update", "http://127.0.0.1:8080"] {
        assert!(entries.contains(&entry), "{entry}: {entries:?}");
    }
    assert!(required.iter().all(|needed| needed.permission == Permission::Net));
}
