//! Tests on the fake host. Those with a real engine are in `tests/main/targets`.

use compose_file::Release;
use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, ProcessScript, Report};
use stagewright_sdk::{ErrorCode, Outcome, Permission};

use crate::DeployCompose;

const SOCKET: &str = "unix:///run/docker.sock:";
const IMAGE: &str = "local/app@sha256:1111111111111111111111111111111111111111111111111111111111111111";
const PROJECT: [&str; 7] = ["--host", "unix:///run/docker.sock", "compose", "--project-name", "shop", "--file", "-"];

fn release() -> Json {
    let web = json!({ "image": IMAGE, "environment": { "KEY": "${KEY}" } });
    let compose = json!({ "services": { "web": web } });
    json!({ "file": "compose.yaml", "target": "compose", "secrets": ["KEY"], "compose": compose })
}

fn host(more: Json) -> FakeHost {
    let mut config = json!({ "project": "shop", "release": release(), "secrets": { "KEY": "key" } });
    if let (Json::Object(config), Json::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    FakeHost::new().config(config).environment("production").fence(7).secret("key", "sk-1")
}

fn record(fence: u64, state: &str) -> Json {
    json!({ "Name": format!("shop.{fence}.other.{state}"), "Labels": {
        "stagewright.project": "shop", "stagewright.state": state, "stagewright.release": format!("shop.{fence}"),
        "stagewright.artifact": "compose.yaml@sha256:1", "stagewright.fence": fence.to_string(), "stagewright.run": "other",
        "stagewright.content": release().to_string(),
    } })
}

/// What this run keeps of its release.
fn own_record(state: &str) -> Json {
    let mut own = record(7, state);
    let release = Release::from(release());
    own["Labels"]["stagewright.artifact"] = release.artifact().into();
    own["Labels"]["stagewright.content"] = release.to_json().to_string().into();
    own["Labels"]["stagewright.run"] = "run-1".into();
    own
}

fn container(id: &str) -> Json {
    json!({ "Id": id, "Names": ["/shop-web-1"], "State": "running", "Labels": {
        "com.docker.compose.project": "shop", "com.docker.compose.service": "web", "com.docker.compose.oneoff": "False",
    } })
}

/// An engine with these releases and with a container in this state.
fn engine(host: FakeHost, records: &[Json], state: &Json) -> FakeHost {
    let labelled = |kind: &str, label: &str| {
        let label = label.replace('.', "%2E");
        let all = if kind == "containers/json" { "all=true&" } else { "" };
        format!("{SOCKET}/{kind}?{all}filters=%7B%22label%22%3A%5B%22{label}%3Dshop%22%5D%7D")
    };
    let images = format!(
        "{SOCKET}/images/json?filters=%7B%22reference%22%3A%5B%22local%2Fapp%40sha256%3A{}%22%5D%7D",
        "1".repeat(64)
    );
    let scripts = [
        HttpScript::get(&labelled("volumes", "stagewright.project")).body(json!({ "Volumes": records }).to_string()),
        HttpScript::get(&labelled("containers/json", "com.docker.compose.project"))
            .body(json!([container("web")]).to_string()),
        HttpScript::get(&format!("{SOCKET}/containers/web/json"))
            .body(json!({ "State": state, "NetworkSettings": {} }).to_string()),
        HttpScript::get(&format!("{SOCKET}/containers/web/logs?stdout=true&stderr=true&tail=20")).body("no database\n"),
        HttpScript::get(&images).body("[{}]"),
        HttpScript::post(&format!("{SOCKET}/volumes/create")).body(own_record("applying").to_string()),
        HttpScript::post(&format!("{SOCKET}/volumes/create")).body(own_record("serving").to_string()),
        HttpScript::new("DELETE", &format!("{SOCKET}/volumes/shop.3.other.serving")).status(204),
    ];
    scripts.into_iter().fold(host, FakeHost::http)
}

fn command(args: &[&str]) -> ProcessScript {
    ProcessScript::new("docker", PROJECT.iter().chain(args).map(|word| (*word).to_owned()))
}

fn running() -> Json {
    json!({ "Status": "running", "ExitCode": 0 })
}

/// The requests that change something, without the socket.
fn changes<T>(report: &Report<T>) -> Vec<String> {
    let sent = report.sent.iter().filter(|sent| sent.method != "GET");
    sent.map(|sent| format!("{} {}", sent.method, sent.url.trim_start_matches(SOCKET))).collect()
}

#[test]
fn compose_gets_the_release_and_the_host_adds_the_secrets() {
    let report =
        engine(host(json!({})), &[record(3, "serving")], &running()).process(command(&["up"])).run::<DeployCompose>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    let spawned = &report.spawned[0];
    let applied: Json = serde_json::from_slice(&spawned.stdin).unwrap();
    assert_eq!(applied, release()["compose"]);
    assert_eq!(
        spawned.args[7..],
        ["up", "--detach", "--wait", "--wait-timeout", "300", "--remove-orphans", "--no-build", "--pull", "never"]
    );
    assert!(spawned.env.is_empty());
    assert_eq!(spawned.secret_env.get("KEY").map(String::as_str), Some("key"));
    let kept = ["POST /volumes/create", "POST /volumes/create", "DELETE /volumes/shop.3.other.serving"];
    assert_eq!(changes(&report), kept);
}

#[test]
fn what_fails_is_undone_with_the_release_that_served() {
    let failed = command(&["up"]).stderr("container shop-web-1 exited (7)\n").exit(1);
    let exited = json!({ "Status": "exited", "ExitCode": 7 });
    let report = engine(host(json!({})), &[record(3, "serving")], &exited)
        .process(failed)
        .process(command(&["up"]))
        .run::<DeployCompose>();
    let error = report.result.as_ref().unwrap_err();
    let text = format!("{error:?}");
    assert!(
        text.contains("didn't become ready (container shop-web-1 exited (7))") && text.contains("no database"),
        "{text}"
    );
    assert_eq!(report.spawned.len(), 2);

    let first = engine(host(json!({})), &[], &json!({ "Status": "exited", "ExitCode": 7 }));
    let failed = command(&["up"]).exit(1);
    let report = first.process(failed).process(command(&["down"])).run::<DeployCompose>();
    assert_eq!(report.spawned[1].args[7..], ["down"]);
}

#[test]
fn a_stale_deploy_changes_nothing() {
    let report = engine(host(json!({})), &[record(8, "serving")], &running()).run::<DeployCompose>();
    assert_eq!(report.result.as_ref().unwrap_err().code, ErrorCode::Superseded);
    assert!(report.spawned.is_empty() && changes(&report).is_empty());
}

#[test]
fn a_record_of_another_deploy_is_not_taken_for_its_own() {
    // The engine returns the volume that it has.
    let volume = HttpScript::post(&format!("{SOCKET}/volumes/create")).body(record(7, "applying").to_string());
    let report = engine(host(json!({})).http(volume), &[record(3, "serving")], &running())
        .process(command(&["up"]))
        .run::<DeployCompose>();
    let error = report.result.as_ref().unwrap_err();
    assert!(error.causes[0].contains("already has a volume `shop.7.other.applying`"), "{error:?}");
}

#[test]
fn mistakes_name_their_key() {
    let keys = |more: Json| -> Vec<String> {
        host(more).validate::<DeployCompose>().into_iter().filter_map(|problem| problem.key).collect()
    };
    assert_eq!(
        keys(json!({ "release": "x", "project": "Shop", "socket": "x", "url": "x" })),
        ["release", "project", "socket", "url"]
    );
    assert_eq!(keys(json!({ "secrets": {}, "health": {} })), ["secrets", "health"]);
    assert!(keys(json!({ "url": "http://127.0.0.1:8080", "health": {} })).is_empty());
}

#[test]
fn only_two_command_lines_are_required() {
    let required = host(json!({ "release": "${{ stages.release.outputs.release }}" })).requirements::<DeployCompose>();
    let of = |permission: Permission| -> Vec<&str> {
        required.iter().filter(|needed| needed.permission == permission).map(|needed| needed.entry.as_str()).collect()
    };
    let project = PROJECT.join(" ");
    assert_eq!(
        of(Permission::Process),
        [
            format!("docker {project} up --detach --wait --wait-timeout 300 --remove-orphans --no-build --pull never"),
            format!("docker {project} down"),
        ]
    );
    assert_eq!((of(Permission::Socket), of(Permission::Secrets)), (vec!["/run/docker.sock"], vec!["key:env"]));
}
