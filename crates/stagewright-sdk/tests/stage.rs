//! Tests of a stage on the fake host, through the public API only.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use stagewright_sdk::context::{Need, NeedOutcome};
use stagewright_sdk::fake::{FakeHost, HttpScript, ProcessScript, ServiceScript, Source as RunSource};
use stagewright_sdk::gate::{Approval, Resumption};
use stagewright_sdk::http::{Request, send_all};
use stagewright_sdk::process::{Command, Source, wait_any};
use stagewright_sdk::test_reports::{TestCase, TestOutcome};
use stagewright_sdk::{
    Error, ErrorCode, Finding, JsonSchema, Manifest, Observation, Outcome, Permission, Position, Problem, Reconcile,
    Requirement, Result, Severity, Stage, Suspension, artifacts, clock, context, environment, gate, metrics, outputs,
    random, registry, secrets, service, source, workspace,
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
        Manifest::new("count", "1.2.3").output::<usize>("files", "How many")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        let empty = config.folder.is_empty().then(|| Problem::at("folder", "is empty").help("name a folder"));
        empty.into_iter().chain((config.folder == "old").then(|| Problem::error("old").warning("old"))).collect()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        vec![Requirement::read(&config.folder).because("its files are counted")]
    }

    fn run(config: Config) -> Result<Outcome> {
        let files = workspace::glob(&format!("{}/**", config.folder))?;
        outputs::set("files", &files.iter().filter(|entry| !entry.folder).count())?;
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
    assert_eq!(validate(json!({ "folder": 1 }))[0].key.as_deref(), Some("folder"));
    assert_eq!(validate(json!({ "folder": "" }))[0].message, "is empty");
    assert_eq!(validate(json!({ "folder": "src" })), []);
    let warned = FakeHost::new().config(json!({ "folder": "old" }));
    assert_eq!(warned.clone().validate::<Count>()[0].severity, Severity::Warning);
    assert_eq!(warned.run::<Count>().result, Ok(Outcome::Succeeded), "a warning doesn't prevent the run");
    let error = FakeHost::new().config(json!({ "folder": "" })).run::<Count>().result.unwrap_err();
    assert_eq!((error.message.as_str(), error.help.as_deref()), ("`with.folder`: is empty", Some("name a folder")));
}

#[test]
fn requirements_follow_from_a_valid_configuration() {
    let requirements = |with| FakeHost::new().config(with).requirements::<Count>();
    assert_eq!(requirements(json!({ "folder": "src" })), [Requirement::read("src").because("its files are counted")]);
    assert_eq!(requirements(json!({})), []);
}

#[test]
fn the_manifest_includes_the_schemas_of_configuration_and_outputs() {
    let manifest = FakeHost::describe::<Count>();
    assert_eq!(manifest["name"], "count");
    let outputs = &manifest["outputs"];
    assert_eq!((&outputs["type"], &outputs["additionalProperties"]), (&json!("object"), &json!(false)));
    let files = &outputs["properties"]["files"];
    assert_eq!((&files["type"], &files["description"]), (&json!("integer"), &json!("How many")));
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
    assert_eq!(report.spawned[0].capture, Some(u64::MAX));
}

#[test]
fn a_program_without_a_script_and_a_denied_one_do_not_start() {
    let (error, _) = FakeHost::new().with(|| Command::new("tool").status().expect_err("no script"));
    assert_eq!(error.message, "the fake host has no script for `tool`");
    let host = FakeHost::new().process(ProcessScript::new("tool", [""; 0])).deny(Permission::Process, "tool");
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
    let (opened, report) = FakeHost::new().with(|| {
        assert_eq!(gate::decision(), Ok(None));
        let mut approval = Approval::new("Ship it?");
        approval.approver("team:release").approvals(2).field("ticket", gate::FieldKind::Text, "Which one", true);
        approval.choice("ring", &["a".to_owned(), "b".to_owned()], "Who gets it first", false);
        approval.expires(Duration::from_secs(60)).open().map(drop)
    });
    assert_eq!(opened, Ok(()));
    assert_eq!(report.gates[0].fields[1].choices.as_deref(), Some(&["a".to_owned(), "b".to_owned()][..]));
    assert_eq!(report.gates[0].approvers, ["team:release"]);
    assert_eq!(report.gates[0].expires_ms, Some(60_000));
    let (decision, _) = FakeHost::new().approved("ada", None, json!({ "ticket": "T-1" })).with(gate::decision);
    let decision = decision.expect("is a decision").expect("a decision was made");
    assert_eq!((decision.by.as_str(), &decision.fields["ticket"]), ("ada", &json!("T-1")));
}

#[test]
fn images_get_their_digest_from_the_layout() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let index = json!({ "manifests": [{ "digest": digest, "size": 7 }] }).to_string();
    let (found, report) = FakeHost::new().file("out/index.json", index).with(|| {
        assert!(registry::resolve("local/app:1").expect_err("not pushed").is_not_found());
        registry::push("out", "local/app:1")?;
        registry::copy("local/app:1", "ghcr.io/acme/app:1")?;
        registry::pull("ghcr.io/acme/app:1", "in")
    });
    assert_eq!(found.expect("copied").digest, digest);
    assert!(report.text("in/index.json").contains(&digest));
}

#[test]
fn a_promoted_release_is_the_current_one() {
    let script = ServiceScript::new("app").states([service::State::Starting, service::State::Running]);
    let image = format!("local/app@sha256:{}", "a".repeat(64));
    let (current, report) = FakeHost::new().environment("staging").service(script).with(|| {
        let mut release = service::Release::new("app", &image);
        let instance = release.env("LEVEL", "debug").start()?;
        assert_eq!(instance.state()?, service::State::Starting);
        assert_eq!(instance.state()?, service::State::Running);
        assert_eq!(service::current("app")?, None);
        instance.promote()?;
        service::current("app")
    });
    assert_eq!(current.expect("scripted").expect("promoted").image, image);
    assert!(report.releases[0].promoted && !report.releases[0].discarded);
}

#[test]
fn published_artifacts_can_be_fetched() {
    let (artifact, report) = FakeHost::new().file("a.txt", "hello").with(|| {
        artifacts::publish("greeting", "a.txt", Some("text/plain"))?;
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
        let (found, _) =
            FakeHost::new().environment("staging").current_release("app", json).with(|| service::current("app"));
        found.unwrap().unwrap().state
    };
    assert_eq!(current(json!("running")), Some(service::State::Running));
    assert_eq!(current(json!("exited")), Some(service::State::Exited));
    assert_eq!((current(json!("of a later host")), current(json!(null))), (Some(service::State::Unknown), None));
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

#[test]
fn errors_keep_all_their_parts_across_the_border() {
    let error = Error::new(ErrorCode::Unavailable, "busy")
        .causes(["a", "b"])
        .help("wait")
        .retry_after(Duration::from_secs(7))
        .file("a.toml", Some(Position::line(3)));
    let host = FakeHost::new().http(HttpScript::get("http://a/").error(error.clone()));
    let (refused, _) = host.with(|| Request::get("http://a/").send().map(drop));
    assert_eq!(refused, Err(error));
    let own = Error::new(ErrorCode::Other("teapot".to_owned()), "short and stout");
    let (refused, _) = FakeHost::new()
        .http(HttpScript::get("http://a/").error(own.clone()))
        .with(|| Request::get("http://a/").send().map(drop));
    assert_eq!(refused, Err(own));
}

#[test]
fn findings_cases_and_metrics_are_recorded() {
    let (set, report) = FakeHost::new().with(|| {
        let finding = Finding::warning("rule", "message").file("./src//a.rs", None);
        finding.range(Position::at(3, 4), Position::line(5)).suggestion("b").fingerprint("f").report();
        Finding::error("rule", "elsewhere").file("/etc/passwd", Some(Position::line(1))).report();
        let case = TestCase::new("suite", "case", TestOutcome::Failed).duration(Duration::from_millis(5)).failures(2);
        case.message("why").output("printed").file("tests/a.rs", Some(Position::line(9))).report();
        metrics::set("size", 1.0, "bytes")?;
        metrics::set("size", 2.5, "bytes")
    });
    assert_eq!(set, Ok(()));
    assert_eq!(report.findings[0].file.as_deref(), Some("src/a.rs"));
    assert_eq!(report.findings[0].range, Some((Position::at(3, 4), Some(Position::line(5)))));
    assert_eq!(report.findings[0].suggestion.as_deref(), Some("b"));
    assert_eq!(report.findings[1].file, None, "it isn't a file of the workspace");
    let case = &report.test_cases[0];
    assert_eq!(
        (case.failures, case.duration, case.output.as_deref()),
        (2, Some(Duration::from_millis(5)), Some("printed"))
    );
    assert_eq!((report.metrics["size"].value, report.metrics["size"].unit.as_str()), (2.5, "bytes"));
}

#[test]
fn needs_have_outcomes_and_the_outputs_of_a_matrix_are_merged() {
    let cell = |id: &str, outcome: NeedOutcome, outputs| {
        let (stage, id, conclusion) = ("test".to_owned(), id.to_owned(), NeedOutcome::Succeeded);
        Need { stage, stage_id: id, outcome, conclusion, outputs }
    };
    let host = FakeHost::new()
        .input("build", json!({ "digest": "x" }))
        .need(cell("test (1)", NeedOutcome::TimedOut, json!({ "a": 1, "b": 1 })))
        .need(cell("test (2)", NeedOutcome::Other("later".to_owned()), json!({ "b": 2 })));
    let ((needs, merged, missing), _) =
        host.with(|| (context::needs().unwrap(), context::input("test"), context::input::<()>("deploy")));
    assert_eq!(needs.iter().map(|need| need.stage_id.as_str()).collect::<Vec<_>>(), ["build", "test (1)", "test (2)"]);
    assert_eq!((&needs[0].outcome, &needs[1].outcome), (&NeedOutcome::Succeeded, &NeedOutcome::TimedOut));
    assert_eq!(needs[2].outcome, NeedOutcome::Other("later".to_owned()));
    assert_eq!(merged, Ok(Some(json!({ "a": 1, "b": 2 }))));
    assert_eq!(missing, Ok(None));
}

#[test]
fn the_source_the_settings_and_the_trace_are_known() {
    let commit = Some("4b825dc".to_owned());
    let host = FakeHost::new().source(RunSource { commit: commit.clone(), dirty: true, ..RunSource::default() });
    let settings = json!({ "name": "staging", "target": "process", "url": null, "config": ["a.toml"] });
    let (_, _) = host.environment("staging").settings(settings).with(|| {
        assert_eq!((source::commit(), source::branch(), source::dirty()), (commit, None, true));
        assert_eq!((source::trigger().as_str(), source::actor()), ("manual", None));
        let settings = environment::settings().unwrap().unwrap();
        assert_eq!(
            (settings.name.as_str(), settings.url, settings.config),
            ("staging", None, vec!["a.toml".to_owned()])
        );
        assert_eq!(context::trace_parent().split('-').count(), 4);
        assert_ne!(random::bytes(8), random::bytes(8));
    });
}

#[test]
fn the_first_of_several_things_is_known_and_time_passes_until_then() {
    let program = |name: &str, seconds| ProcessScript::new(name, [""; 0]).takes(Duration::from_secs(seconds));
    let host = FakeHost::new().process(program("slow", 30)).process(program("fast", 10));
    let (first, _) = host.with(|| {
        let (slow, mut fast) = (Command::new("slow").spawn()?, Command::new("fast").spawn()?);
        assert!(!fast.ended().is_ready());
        assert_eq!(wait_any(&[&slow, &fast])?, 1);
        assert_eq!(clock::monotonic(), Duration::from_secs(10));
        assert!(fast.ended().is_ready() && fast.wait()?.success());
        let timer = clock::timer(Duration::from_secs(60));
        stagewright_sdk::poll::wait_any(&[&timer, &slow.ended()])
    });
    assert_eq!(first, Ok(1));
}

#[test]
fn requests_are_sent_at_once_up_to_a_number() {
    let slow = |url: &str| HttpScript::get(url).takes(Duration::from_secs(10));
    let urls = ["http://a/1", "http://a/2", "http://a/3"];
    let host = urls.iter().fold(FakeHost::new(), |host, url| host.http(slow(url)));
    let took = |at_most| {
        let (took, _) = host.clone().with(|| {
            send_all(urls.map(Request::get), at_most, |_, response| response.map(drop)).map(|()| clock::monotonic())
        });
        took
    };
    assert_eq!((took(1), took(2), took(9)), (Ok(secs(30)), Ok(secs(20)), Ok(secs(10))));
    let (refused, report) = host.with(|| send_all(urls.map(Request::get), 1, |_, _| Err(Error::failed("enough"))));
    assert_eq!((refused, report.sent.len()), (Err(Error::failed("enough")), 1));
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Waits for a job, first by time and then by signal.
struct Poll;

impl Stage for Poll {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new("poll", "1.0.0").open_outputs()
    }

    fn run(config: Config) -> Result<Outcome> {
        let wait = |token: &str| Suspension::new(token, "the job runs").poll_after(secs(5)).expires(secs(60));
        Ok(match gate::resumption()? {
            None => Outcome::Suspended(wait(&config.folder)),
            Some(Resumption::Polled { token }) => Outcome::Suspended(Suspension::new(&format!("{token}-2"), "again")),
            Some(Resumption::Signalled { payload, .. }) => Outcome::Skipped(payload.to_string()),
            Some(Resumption::Decision(decision)) => Outcome::Skipped(decision.by),
        })
    }
}

#[test]
fn a_wait_has_a_token_and_the_stage_learns_how_it_ended() {
    let host = |token: &str| FakeHost::new().config(json!({ "folder": token }));
    let wait = host("job-7").run::<Poll>().suspended.unwrap();
    assert_eq!((wait.token.as_str(), wait.reason.as_str()), ("job-7", "the job runs"));
    assert_eq!((wait.poll_after, wait.expires), (Some(secs(5)), Some(secs(60))));
    let again = host("job-7").polled("job-7").run::<Poll>().suspended.unwrap();
    assert_eq!((again.token.as_str(), again.poll_after), ("job-7-2", None));
    let signalled = host("job-7").signalled("job-7", json!({ "ok": true })).run::<Poll>();
    assert_eq!(signalled.result, Ok(Outcome::Skipped("{\"ok\":true}".to_owned())));
    assert_eq!(host("x").approved("ada", None, json!({})).run::<Poll>().result, Ok(Outcome::Skipped("ada".to_owned())));
    for token in [String::new(), "a\nb".to_owned(), "x".repeat(257)] {
        let refused = host(&token).run::<Poll>();
        assert_eq!((refused.result.unwrap_err().code, refused.suspended), (ErrorCode::InvalidArgument, None));
    }
    assert!(host(&"x".repeat(256)).run::<Poll>().result.is_ok());
    let open = FakeHost::describe::<Poll>()["outputs"]["additionalProperties"].clone();
    assert_eq!(open, json!(true));
}
