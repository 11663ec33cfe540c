//! Exceeded limits: the attempt ends with an error that names the limit, or the excess is cut off. The engine's disk usage
//! stays small, and other stages aren't affected.

use super::{Ended, pipeline, repository, run, state_size};
use crate::environment::{outcomes, text};

/// The limit of the state folder's size in bytes, after a run in which a stage produced hundreds of megabytes.
const STATE_LIMIT: usize = 8 << 20;

/// Runs one of the guest's floods next to a harmless stage.
#[track_caller]
fn pour(flood: &str, settings: &str, permissions: &str) -> Ended {
    let environment = repository();
    let action = format!(r#"do = "flood", with = "{flood}""#);
    let beside = "\n[stages.beside]\nuses = \"noop\"\n";
    environment.write("stagewright.toml", &(pipeline(&[&action], settings, permissions) + beside));
    let ended = run(&environment);
    assert_eq!(outcomes(&ended.events)["beside"], "succeeded");
    let size = state_size(&environment);
    assert!(size < STATE_LIMIT, "{flood} left {size} bytes in the state folder");
    let shown: usize = ended.events.iter().map(|event| event.to_string().len()).sum();
    assert!(shown < STATE_LIMIT, "{flood}: {shown} bytes of events");
    // The record can be replayed.
    environment.run(&["show", "latest"]);
    ended
}

#[track_caller]
fn ends_as(ended: &Ended, kind: &str, mention: &str) {
    let failure = &ended.ended("stranger")["failure"];
    assert_eq!(text(&failure["kind"]), kind, "{failure:#}");
    assert!(failure.to_string().contains(mention), "{mention} is missing in {failure:#}");
}

#[test]
fn a_million_handles_trap() {
    ends_as(&pour("handles", "", ""), "trapped", "resource table");
}

#[test]
fn arguments_beyond_the_hosts_limit_are_refused() {
    ends_as(&pour("arguments", r#"memory = "512MiB""#, ""), "trapped", "");
}

/// Memory of the host that a plugin uses counts like the plugin's own.
#[test]
fn commands_and_questions_of_gigabytes_end_at_the_memory_limit() {
    ends_as(&pour("commands", "", ""), "out-of-memory", "raise the limit");
    ends_as(&pour("questions", "", ""), "out-of-memory", "raise the limit");
}

#[test]
fn endless_recursion_traps() {
    ends_as(&pour("stack", "", ""), "trapped", "");
}

#[test]
fn empty_log_lines_are_limited() {
    ends_as(&pour("empty-lines", r#"log-limit = "64KiB""#, ""), "log-limit", "64KiB");
    ends_as(&pour("empty-lines", "limits = { log-lines = 1000 }", ""), "log-limit", "1000 lines");
}

#[test]
fn a_failure_message_of_megabytes_is_truncated() {
    let ended = pour("failure", "", "");
    ends_as(&ended, "reported", "truncated");
}

#[test]
fn reasons_questions_and_progress_of_megabytes_are_truncated() {
    assert_eq!(pour("skip", "", "").code, 0);
    assert_eq!(pour("gate", "", "").code, 5);
    assert_eq!(pour("progress", "", "").code, 0);
}

#[test]
fn summaries_and_findings_of_megabytes_are_truncated() {
    let ended = pour("summaries", "", "");
    assert_eq!(ended.answers(), ["poured"]);
    assert_eq!(pour("problems", "", "").answers(), ["poured"]);
}

/// Findings without text have no size, so their number is limited.
#[test]
fn empty_findings_are_limited_in_number() {
    let ended = pour("empty-problems", "", "");
    let findings = ended.events.iter().filter(|event| event["type"] == "problem").collect::<Vec<_>>();
    assert_eq!((ended.answers(), findings.len()), (vec!["poured".to_owned()], 10_001));
    let last = &findings[10_000]["problem"];
    assert_eq!(last["code"], "findings-omitted");
    assert!(last["message"].as_str().expect("a text").contains("more findings were omitted"), "{last}");
}

/// Refusals are recorded outside the limit of findings, so they have a limit of their own.
#[test]
fn reported_refusals_are_limited_in_number() {
    let ended = pour("refusals", "", "");
    assert_eq!((ended.answers(), ended.denials().len()), (vec!["poured".to_owned()], 100));
}

#[test]
fn endless_and_sparse_files_are_limited() {
    let ended = pour("files", "limits.workspace = \"64MiB\"", "write = [\"flood\"]");
    assert_eq!(ended.answers(), ["ErrorCode::ResourceExhausted"]);
    let environment = repository();
    environment.write("open/hole", "");
    let hole = std::fs::File::options().write(true).open(environment.root().join("open/hole")).expect("a file");
    hole.set_len(1 << 40).expect("a hole");
    let publish = r#"do = "publish", name = "a", path = "open/hole""#;
    let read = r#"do = "read", path = "open/hole""#;
    let pipeline = pipeline(&[publish, read], "limits.artifacts = \"16MiB\"", "read = [\"open\"]");
    environment.write("stagewright.toml", &pipeline);
    assert_eq!(run(&environment).answers(), ["ErrorCode::ResourceExhausted", "ErrorCode::ResourceExhausted"]);
    assert!(state_size(&environment) < STATE_LIMIT);
}

#[test]
fn repeated_reads_of_the_configuration_are_harmless() {
    let ended = pour("configuration", r#"timeout = "60s""#, "");
    assert_eq!(ended.code, 0, "{:#}", ended.ended("stranger"));
}
