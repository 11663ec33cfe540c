//! Tests of a stage on the fake host, through the public API only.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use stagewright_sdk::fake::{FakeHost, HttpScript, ProcessScript, ServiceScript};
use stagewright_sdk::gate::Approval;
use stagewright_sdk::http::Request;
use stagewright_sdk::process::{Command, Source};
use stagewright_sdk::{
    Capability, Diagnostic, Error, ErrorCode, JsonSchema, Manifest, Observation, Outcome, Reconcile, Result, Stage,
    artifacts, clock, context, environment, gate, outputs, registry, secrets, service, workspace,
};

/// The stage's `with` table.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The folder whose files are counted.
    folder: String,
}

struct Count;

impl Stage for Count {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new("count", "1.2.3").output("files", "How many").capability(Capability::Workspace)
    }

    fn validate(config: &Config) -> Vec<Diagnostic> {
        let absolute = config.folder.starts_with('/');
        absolute.then(|| Diagnostic::error("folder", "must be relative").at("folder")).into_iter().collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        let files = workspace::glob(&format!("{}/**", config.folder))?;
        outputs::set("files", &files.iter().filter(|entry| !entry.directory).count())?;
        Ok(Outcome::Succeeded)
    }
}

impl Reconcile for Count {
    fn observe(config: Config) -> Result<Observation> {
        Ok(Observation::Applied(config.folder))
    }

    fn undo(_config: Config) -> Result<()> {
        Err(Error::failed("counting can't be undone"))
    }
}

stagewright_sdk::export_effectful_stage!(Count);

#[test]
fn a_stage_runs_on_its_configuration() {
    let host = FakeHost::new().file("src/a.rs", "").file("src/b/c.rs", "").file("lib/d.rs", "");
    let report = host.config(json!({ "folder": "src" })).run::<Count>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.outputs["files"], 2);
}

#[test]
fn an_invalid_configuration_never_reaches_the_stage() {
    let report = FakeHost::new().config(json!({ "foldr": "src" })).run::<Count>();
    let error = report.result.expect_err("`foldr` isn't a key");
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    assert_eq!(error.message, "`with.foldr`: unknown field `foldr`, expected `folder`");
    assert_eq!(error.help.as_deref(), Some("did you mean `folder`?"));
}

#[test]
fn types_are_validated_before_the_stages_own_checks() {
    let validate = |with| FakeHost::new().config(with).validate::<Count>();
    assert_eq!(validate(json!({ "folder": 1 }))[0].path.as_deref(), Some("folder"));
    assert_eq!(validate(json!({ "folder": "/" }))[0].message, "must be relative");
    assert_eq!(validate(json!({ "folder": "src" })), []);
}

#[test]
fn the_manifest_includes_the_schema() {
    let manifest = FakeHost::describe::<Count>();
    assert_eq!(manifest["name"], "count");
    assert_eq!(manifest["outputs"], json!([{ "name": "files", "description": "How many" }]));
    assert_eq!(manifest["capabilities"], json!(["workspace"]));
    assert_eq!(manifest["config"]["properties"]["folder"]["description"], "The folder whose files are counted.");
}

#[test]
fn observe_and_undo_get_the_configuration() {
    let host = FakeHost::new().config(json!({ "folder": "src" }));
    assert_eq!(host.clone().observe::<Count>().result, Ok(Observation::Applied("src".to_owned())));
    assert_eq!(host.undo::<Count>().result, Err(Error::failed("counting can't be undone")));
}

#[test]
fn lines_are_assembled_from_chunks_for_each_stream() {
    let script = ProcessScript::new("tool", ["go"]).stdout("one\ntw").stderr("oops\r\n").stdout("o\nthree").exit(3);
    let (status, report) = FakeHost::new().process(script).with(|| {
        let mut lines = Vec::new();
        let status =
            Command::new("tool").args(["go", "on"]).run_lines(|line| lines.push((line.source, line.text.to_owned())));
        let expected =
            [(Source::Stdout, "one"), (Source::Stderr, "oops"), (Source::Stdout, "two"), (Source::Stdout, "three")];
        assert_eq!(lines, expected.map(|(source, text)| (source, text.to_owned())));
        status
    });
    assert_eq!(status.expect("scripted").to_string(), "exit code 3");
    assert_eq!(report.spawned[0].capture, Some(u32::MAX));
}

#[test]
fn a_program_without_a_script_and_a_denied_one_do_not_start() {
    let (error, _) = FakeHost::new().with(|| Command::new("tool").status().expect_err("no script"));
    assert_eq!(error.message, "the fake host has no script for `tool`");
    let host = FakeHost::new().process(ProcessScript::new("tool", [""; 0])).deny("process", "tool");
    let (error, report) = host.with(|| Command::new("tool").status().expect_err("denied"));
    assert!(error.is_denied());
    assert_eq!(report.spawned, []);
}

#[test]
fn output_beyond_the_capture_limit_is_an_error() {
    let output = |limit| {
        let host = FakeHost::new().process(ProcessScript::new("tool", [""; 0]).stdout("0123456789"));
        host.with(|| Command::new("tool").capture_limit(limit).output()).0
    };
    assert_eq!(output(10).expect("it fits").stdout, b"0123456789");
    assert_eq!(output(9).expect_err("it doesn't fit").code, ErrorCode::ResourceExhausted);
}

#[test]
fn http_scripts_are_used_in_order_and_the_last_one_repeats() {
    let url = "https://example.org/health";
    let slow = HttpScript::get(url).status(503).takes(Duration::from_millis(40));
    let host = FakeHost::new().http(slow).http(HttpScript::get(url).body(r#"{"ok":true}"#)).secret("token", "hush");
    let (statuses, report) = host.with(|| {
        let start = clock::monotonic();
        let token = secrets::get("token").expect("granted");
        assert!(token.reveal().expect_err("`reveal` isn't granted").is_denied());
        let send = || Request::get(url).secret_header("authorization", "Bearer ", &token).send().expect("scripted");
        let statuses = [send().status(), send().status(), send().status()];
        assert_eq!(send().json::<serde_json::Value>().expect("is JSON"), json!({ "ok": true }));
        assert_eq!(clock::monotonic() - start, Duration::from_millis(40));
        statuses
    });
    assert_eq!(statuses, [503, 200, 200]);
    assert_eq!(report.sent[0].secret_headers, [("authorization".to_owned(), "Bearer ".to_owned(), "token".to_owned())]);
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let host = FakeHost::new().http(HttpScript::get("http://a/").body("x".repeat(100)));
    let (error, _) = host.with(|| {
        let mut response = Request::get("http://a/").send().expect("scripted");
        response.bytes(99).expect_err("too long")
    });
    assert_eq!(error.code, ErrorCode::ResourceExhausted);
}

#[test]
fn sleeping_advances_the_clock_and_fails_when_cancelled() {
    let host = FakeHost::new().remaining(Duration::from_secs(60));
    let (left, _) = host.clone().with(|| clock::sleep(Duration::from_secs(20)).map(|()| context::remaining()));
    assert_eq!(left, Ok(Some(Duration::from_secs(40))));
    let (error, _) = host.cancelled().with(|| clock::sleep(Duration::from_secs(20)));
    assert_eq!(error.expect_err("cancelled").code, ErrorCode::Cancelled);
}

#[test]
fn a_gate_opens_and_its_decision_is_read() {
    let (suspension, report) = FakeHost::new().with(|| {
        assert_eq!(gate::decision(), Ok(None));
        let mut approval = Approval::new("Ship it?");
        approval.approver("team:release").approvals(2).field("ticket", gate::FieldKind::Text, "Which one", true);
        approval.expires(Duration::from_secs(60)).open()
    });
    assert_eq!(suspension.expect("opens").token, "gate-1");
    assert_eq!(report.gates[0].approvers, ["team:release"]);
    assert_eq!(report.gates[0].expires_ms, Some(60_000));
    let (decision, _) = FakeHost::new().approved("ada", None, json!({ "ticket": "T-1" })).with(gate::decision);
    let decision = decision.expect("is a decision").expect("a decision was made");
    assert_eq!((decision.by.as_str(), &decision.fields["ticket"]), ("ada", &json!("T-1")));
}

#[test]
fn images_get_their_digest_from_the_layout() {
    let index = json!({ "manifests": [{ "digest": "sha256:aa", "size": 7 }] }).to_string();
    let (found, report) = FakeHost::new().file("out/index.json", index).with(|| {
        assert!(registry::resolve("local/app:1").expect_err("not pushed").is_not_found());
        registry::push("out", "local/app:1")?;
        registry::copy("local/app:1", "ghcr.io/acme/app:1")?;
        registry::pull("ghcr.io/acme/app:1", "in")
    });
    assert_eq!(found.expect("copied").digest, "sha256:aa");
    assert!(report.text("in/index.json").contains("sha256:aa"));
}

#[test]
fn a_promoted_release_is_the_current_one() {
    let host =
        FakeHost::new().service(ServiceScript::new("app").states([service::State::Starting, service::State::Running]));
    let (current, report) = host.with(|| {
        let mut release = service::Release::new("app", "local/app@sha256:aa");
        let instance = release.env("LEVEL", "debug").start()?;
        assert_eq!(instance.state()?, service::State::Starting);
        assert_eq!(instance.state()?, service::State::Running);
        assert_eq!(service::current("app")?, None);
        instance.promote()?;
        service::current("app")
    });
    assert_eq!(current.expect("scripted").expect("promoted").image, "local/app@sha256:aa");
    assert!(report.releases[0].promoted && !report.releases[0].discarded);
}

#[test]
fn published_artifacts_can_be_fetched() {
    let (artifact, report) = FakeHost::new().file("a.txt", "hello").with(|| {
        artifacts::publish("greeting", "a.txt", "text/plain")?;
        artifacts::fetch("greeting", "b.txt")
    });
    let digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(artifact.expect("published").digest, digest);
    assert_eq!(report.text("b.txt"), "hello");
}

#[test]
fn an_environment_has_a_ledger() {
    let good = json!({ "environment": "staging", "artifact": "app@1", "fence": 3, "config": { "a": 1 }, "by": "ann" });
    let host = FakeHost::new().environment("staging").fence(7).ledger(None, Some(good));
    let (_, report) = host.with(|| {
        assert_eq!((environment::fence(), environment::current().unwrap()), (Some(7), None));
        let good = environment::last_known_good().unwrap().unwrap();
        assert_eq!((good.artifact.as_str(), good.fence, good.url), ("app@1", 3, None));
        assert_eq!(good.config, json!({ "a": 1 }));
        environment::released("app@2", None).unwrap();
        environment::released("app@3", Some("http://x")).unwrap();
    });
    assert_eq!(report.recorded, Some(("app@3".to_owned(), Some("http://x".to_owned()))));
    let (nowhere, _) = FakeHost::new().with(|| (environment::fence(), environment::released("app@1", None)));
    assert_eq!((nowhere.0, nowhere.1.unwrap_err().code), (None, ErrorCode::FailedPrecondition));
}

#[test]
fn a_current_release_has_a_state() {
    let current = |state: serde_json::Value| {
        let json = json!({ "release": "r1", "image": "app@1", "address": "http://x", "fence": 4, "state": state });
        let (found, _) = FakeHost::new().current_release("app", json).with(|| service::current("app"));
        found.unwrap().unwrap().state
    };
    assert_eq!(current(json!("running")), Some(service::State::Running));
    assert_eq!(current(json!("exited")), Some(service::State::Exited));
    assert_eq!((current(json!("of a later host")), current(json!(null))), (None, None));
}

#[test]
#[should_panic(expected = "call the host inside")]
fn calls_without_an_installed_host_panic() {
    context::attempt();
}

#[test]
fn a_panic_removes_the_installed_host() {
    let panicked = std::panic::catch_unwind(|| FakeHost::new().attempt(7).with(|| panic!("as scripted")));
    assert!(panicked.is_err());
    let (attempt, _) = FakeHost::new().with(context::attempt);
    assert_eq!(attempt, 1);
}
