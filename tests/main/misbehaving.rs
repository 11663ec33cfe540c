//! Failing stages: each ends with a typed failure and a remedy, and the other branches continue.

use serde_json::Value as Json;

use crate::environment::{TestEnvironment, failure, outcomes, text};

/// Runs a failing stage and one that succeeds. Returns the events and the failure.
fn run(with: &str, settings: &str, permissions: &str) -> (Vec<Json>, Json) {
    let environment = TestEnvironment::with_pipeline(&format!(
        r#"
        schema = 1
        [pipeline]
        name = "misbehaving"
        [stages.bad]
        uses = "misbehave"
        with = {{ {with} }}
        {settings}
        [stages.bad.permissions]
        {permissions}
        [stages.good]
        uses = "noop"
        [stages.after-good]
        uses = "noop"
        needs = ["good"]
        "#
    ));
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 1);
    let outcomes = outcomes(&events);
    assert_eq!((outcomes["good"].as_str(), outcomes["after-good"].as_str()), ("succeeded", "succeeded"));
    let failure = failure(&events, "bad");
    (events, failure)
}

/// Checks the outcome, the kind of failure, and that the message or the help mentions the given texts.
#[track_caller]
fn ends(with: &str, settings: &str, permissions: &str, outcome: &str, kind: &str, mentions: &[&str]) {
    let (events, failure) = run(with, settings, permissions);
    assert_eq!(outcomes(&events)["bad"], outcome, "{failure:#}");
    assert_eq!(text(&failure["kind"]), kind, "{failure:#}");
    let shown = format!("{} {}", text(&failure["message"]), text(&failure["help"]));
    for mention in mentions {
        assert!(shown.contains(mention), "{mention:?} is missing in {shown:?}");
    }
}

#[test]
fn a_trap_is_a_crash() {
    ends(r#"way = "trap""#, "", "", "errored", "trapped", &["panicked or aborted", "log"]);
}

#[test]
fn an_endless_loop_ends_with_its_timeout() {
    ends(r#"way = "loop""#, r#"timeout = "1s""#, "", "timed-out", "timeout", &["1s", "timeout"]);
}

#[test]
fn an_endless_wait_in_the_host_ends_with_its_timeout() {
    ends(r#"way = "sleep""#, r#"timeout = "1s""#, "", "timed-out", "timeout", &["1s", "timeout"]);
}

#[test]
fn endless_allocation_ends_at_the_limit() {
    ends(r#"way = "eat""#, r#"memory = "64MiB""#, "", "errored", "out-of-memory", &["64MiB", "memory = "]);
}

#[test]
fn an_endless_log_ends_at_the_limit() {
    ends(r#"way = "flood""#, r#"log-limit = "1MiB""#, "", "errored", "log-limit", &["1MiB", "log-limit = "]);
}

#[test]
fn a_program_that_is_not_granted_is_denied() {
    ends(r#"way = "start", target = "rm""#, "", "", "errored", "denied", &["rm", r#"process = ["rm"]"#, "stages.bad"]);
}

#[test]
fn a_file_that_is_not_granted_is_denied() {
    let with = r#"way = "read", target = "secret.txt""#;
    ends(with, "", r#"read = ["public"]"#, "errored", "denied", &["secret.txt", "read = "]);
    let with = r#"way = "write", target = "stagewright.toml""#;
    ends(with, "", r#"read = ["."]"#, "errored", "denied", &["stagewright.toml", "write = "]);
}

#[test]
fn a_host_that_is_not_granted_is_denied() {
    let with = r#"way = "call", target = "http://127.0.0.1:9/""#;
    ends(with, "", r#"net = ["http://127.0.0.1:8"]"#, "errored", "denied", &["http://127.0.0.1:9", "net = "]);
}

#[test]
fn a_killed_child_process_fails_the_stage() {
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        [pipeline]
        name = "killed"
        [stages.bad]
        uses = "command"
        with = { run = "kill -9 $$" }
        [stages.bad.permissions]
        process = ["sh"]
        [stages.good]
        uses = "noop"
        "#,
    );
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 1);
    assert_eq!(outcomes(&events)["good"], "succeeded");
    assert!(text(&failure(&events, "bad")["message"]).contains("signal 9"), "{:#}", failure(&events, "bad"));
}

#[test]
fn message_causes_and_help_of_a_plugins_error_are_kept() {
    let (_, failure) = run(r#"way = "fail""#, "", "");
    assert_eq!(text(&failure["message"]), "it went wrong on purpose");
    assert_eq!(text(&failure["causes"][0]), "the configuration asks for it");
    assert_eq!(text(&failure["help"]), "configure another failure");
}

#[test]
fn control_sequences_never_leave_the_log() {
    let environment = TestEnvironment::with_pipeline(
        "schema = 1\n[pipeline]\nname = \"p\"\n[stages.s]\nuses = \"misbehave\"\nwith = { way = \"paint\" }\n",
    );
    let ended = environment.run(&["run"]).exits(0);
    assert!(ended.stdout.contains("painted"), "{}", ended.stdout);
    let log = environment.run(&["logs", "latest", "s"]).exits(0);
    for text in [ended.stdout, log.stdout] {
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{8}', '\r']), "{text:?}");
    }
}
