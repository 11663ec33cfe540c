//! Tests on the fake host. Those on real hosts are in `tests/main/targets`.

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, RemoteCommand, Report, SshScript};
use stagewright_sdk::{Error, ErrorCode, Observation, Permission};

use crate::DeploySsh;
use crate::config::Config;

fn with(more: Json) -> Json {
    let mut config = json!({
        "service": "shop", "credential": "web", "hosts": ["web1", "web2"], "artifact": artifact(), "unit": "shop.service",
    });
    if let (Json::Object(config), Json::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    config
}

/// The artifact `app`, by the digest that the fake host computes.
fn artifact() -> String {
    let (published, _) = FakeHost::new().artifact("app", "program").with(stagewright_sdk::artifacts::published);
    format!("app@{}", published.unwrap()[0].digest)
}

fn release(more: Json) -> String {
    crate::release::name(&serde_json::from_value::<Config>(with(more)).unwrap())
}

fn run_id() -> String {
    FakeHost::new().with(stagewright_sdk::context::run_id).0
}

fn host(more: Json) -> FakeHost {
    FakeHost::new().config(with(more)).environment("production").fence(7).artifact("app", "program")
}

/// What a host prints that has this state.
fn state(host: &str, text: &str) -> SshScript {
    SshScript::new(host, "state").stdout(text)
}

/// A host on which everything succeeds, and that has switched to the release once it was told so.
fn follows(fake: FakeHost, name: &str, own: &str) -> FakeHost {
    let claimed = format!("fence 7\ncandidate {own} 7 {} {}\ncurrent \n", run_id(), artifact());
    let switched = format!("{claimed}running {own}\ncurrent {own}\ncomplete\nunit active\n");
    let serving = switched.replace("candidate", "serving");
    ["claim", "receive", "secrets", "switch", "finish", "back"]
        .into_iter()
        .fold(fake, |fake, script| fake.ssh(SshScript::new(name, script)))
        .ssh(state(name, ""))
        .ssh(state(name, ""))
        .ssh(state(name, &claimed))
        .ssh(state(name, &claimed))
        .ssh(state(name, &switched))
        .ssh(state(name, &serving))
}

/// The scripts that change hosts, in order.
fn changes<T>(report: &Report<T>) -> Vec<String> {
    let name = |command: &RemoteCommand| format!("{} {}", command.host, command.args[2]);
    report.remote_commands.iter().filter(|command| !command.read_only).map(name).collect()
}

#[test]
fn all_hosts_are_taken_and_have_the_files_before_one_is_switched() {
    let own = release(json!({}));
    let report =
        ["web1", "web2"].into_iter().fold(host(json!({})), |fake, name| follows(fake, name, &own)).run::<DeploySsh>();
    assert!(report.result.is_ok(), "{:?}", report.result);
    let expected = [
        "web1 claim",
        "web2 claim",
        "web1 receive",
        "web2 receive",
        "web1 switch",
        "web2 switch",
        "web1 finish",
        "web2 finish",
    ];
    assert_eq!(changes(&report), expected);
    let sent = report.remote_commands.iter().find(|command| command.args[2] == "receive").unwrap();
    assert_eq!(sent.input, b"program");
    let switched = report.remote_commands.iter().find(|command| command.args[2] == "switch").unwrap();
    assert_eq!(switched.args[3..7], ["/srv/shop".to_owned(), "7".to_owned(), run_id(), own]);
    assert_eq!(switched.args[7..], ["systemctl", "restart", "shop.service"].map(str::to_owned));
}

#[test]
fn values_are_arguments_and_never_a_part_of_a_script() {
    let evil = "$(touch /tmp/x)'; rm -rf /; '";
    let more = json!({ "hosts": ["web1"], "variables": { "A": evil }, "shared": [evil.replace('/', "-")], "restart": [evil], "unit": null });
    let own = release(more.clone());
    let report = follows(host(more), "web1", &own).run::<DeploySsh>();
    let scripts = report.remote_commands.iter().filter(|command| command.program == "sh");
    assert!(scripts.clone().count() > 5);
    assert!(scripts.clone().all(|command| command.args[0] == "-c" && !command.args[1].contains("/tmp/x")));
    let received = scripts.clone().find(|command| command.args[2] == "receive").unwrap();
    assert_eq!(received.args[9], "A=\"\\$(touch /tmp/x)'; rm -rf /; '\"\n");
    assert_eq!(scripts.clone().find(|command| command.args[2] == "switch").unwrap().args[7], evil);
}

#[test]
fn secrets_are_written_by_the_host_of_the_plugin() {
    let more = json!({ "hosts": ["web1"], "secrets": { "TOKEN": "token" } });
    let own = release(more.clone());
    let report = follows(host(more).secret("token", "hunter2"), "web1", &own).run::<DeploySsh>();
    let written = report.remote_commands.iter().find(|command| command.args[2] == "secrets").unwrap();
    assert_eq!(String::from_utf8_lossy(&written.input), "TOKEN=\"{secret token}\"\n# end\n");
    assert_eq!(written.args[7], format!("/run/shop/{own}.env"));
    assert!(report.remote_commands.iter().all(|command| !format!("{command:?}").contains("hunter2")));
}

#[test]
fn a_stale_deploy_changes_nothing() {
    let stale = SshScript::new("web1", "claim").exit(10).stdout("8\n");
    let report = host(json!({})).ssh(state("web1", "")).ssh(state("web2", "")).ssh(stale).run::<DeploySsh>();
    let error = report.result.as_ref().unwrap_err();
    assert!(error.message.contains("a deploy to `web1` has the token 8, which is newer than 7"), "{error}");
    assert_eq!((error.code.clone(), changes(&report)), (ErrorCode::Superseded, vec!["web1 claim".to_owned()]));
}

#[test]
fn a_release_was_applied_once_all_hosts_serve_it() {
    let own = release(json!({}));
    let entry =
        |key: &str, run: &str| format!("{key} {own} 7 {run} {}\ncurrent {own}\nrunning {own}\ncomplete\n", artifact());
    let observe = |one: String, other: String| {
        host(json!({})).ssh(state("web1", &one)).ssh(state("web2", &other)).observe::<DeploySsh>().result
    };
    let finished = entry("serving", &run_id());
    assert!(matches!(observe(finished.clone(), finished.clone()), Ok(Observation::Applied(_))));
    assert_eq!(observe(finished.clone(), entry("candidate", &run_id())), Ok(Observation::NotStarted));
    assert_eq!(observe(finished, entry("serving", "earlier")), Ok(Observation::NotStarted));
    let down = Error::new(ErrorCode::Unavailable, "could not connect to `web1`");
    let unknown = host(json!({})).ssh(state("web1", "").error(down)).observe::<DeploySsh>().result.unwrap_err();
    assert!(unknown.message.contains("could not look at `web1`"), "{unknown}");
}

#[test]
fn what_the_content_is_named_after() {
    assert_eq!(release(json!({})), release(json!({ "keep": 1, "check": { "command": ["true"] } })));
    for other in [
        json!({ "variables": { "A": "1" } }),
        json!({ "secrets": { "A": "a" } }),
        json!({ "shared": ["uploads"] }),
        json!({ "artifact": format!("app@sha256:{}", "1".repeat(64)) }),
    ] {
        assert_ne!(release(json!({})), release(other.clone()), "{other}");
    }
    assert_ne!(release(json!({ "variables": { "A": "1" } })), release(json!({ "variables": { "A": "2" } })));
}

#[test]
fn what_cannot_work_is_refused_with_its_key() {
    let keys = |more: Json| -> Vec<String> {
        host(more).validate::<DeploySsh>().into_iter().filter_map(|problem| problem.key).collect()
    };
    assert_eq!(keys(json!({})), [""; 0]);
    assert_eq!(keys(json!({ "artifact": "app", "service": "a b" })), ["artifact", "service"]);
    assert_eq!(keys(json!({ "hosts": [] })), ["hosts"]);
    assert_eq!(keys(json!({ "hosts": ["web1", "web1"] })), ["hosts[1]"]);
    assert_eq!(keys(json!({ "root": "srv", "secrets-folder": "/run/../x" })), ["root", "secrets-folder"]);
    assert_eq!(keys(json!({ "shared": ["uploads", "../x", "/y"] })), ["shared[1]", "shared[2]"]);
    assert_eq!(
        keys(json!({ "variables": { "A-B": "", "C": "" }, "secrets": { "C": "c" } })),
        ["variables.A-B", "secrets.C"]
    );
    assert_eq!(keys(json!({ "unit": "-x", "restart": ["run"] })), ["unit", "restart"]);
    assert_eq!(keys(json!({ "unit": null, "reload": true })), ["reload"]);
    assert_eq!(keys(json!({ "health": {} })), ["health"]);
    assert_eq!(keys(json!({ "addresses": { "web1": "10.0.0.5" } })), ["addresses", "addresses.web1"]);
    for strategy in ["rolling", "blue-green"] {
        assert_eq!(keys(json!({ "strategy": { strategy: {} } })), ["strategy"]);
    }
    assert_eq!(keys(json!({ "strategy": { "canary": { "steps": [{ "set-weight": 10 }] } } })), ["strategy"]);
    assert_eq!(keys(json!({ "strategy": { "recreate": {} }, "reload": true })), ["strategy"]);
    assert_eq!(keys(json!({ "strategy": { "waves": { "serial": [0] } } })), ["strategy.waves.serial[0]"]);
    assert_eq!(keys(json!({ "strategy": { "waves": { "serial": [1, "50%"], "on-failure": "stop" } } })), [""; 0]);
}

#[test]
fn the_credential_the_secrets_and_the_addresses_are_required() {
    let more =
        json!({ "secrets": { "A": "token" }, "addresses": { "web1": "http://10.0.0.5:8080" }, "hosts": ["web1"] });
    let required = host(more).requirements::<DeploySsh>();
    let required: Vec<_> = required.iter().map(|needed| (needed.permission, needed.entry.as_str())).collect();
    let expected = [
        (Permission::Credentials, "web"),
        (Permission::Secrets, "token:header"),
        (Permission::Net, "http://10.0.0.5:8080"),
    ];
    assert_eq!(required, expected);
}
