//! Gates: a run without a person suspends, and goes on once somebody has answered from elsewhere.

use crate::environment::{TestEnvironment, outcomes, text};

const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "gated"
[stages.before]
uses = "noop"
[stages.approve]
uses = "approve"
needs = ["before"]
[stages.approve.with]
message = "Go on?"
fields = [{ name = "ticket", kind = "number", description = "The change's number", required = true }]
[stages.after]
uses = "noop"
needs = ["approve"]
with = { outputs = { by = "${{ stages.approve.outputs.approved-by }}" } }
"#;

#[test]
fn approve_and_resume() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    let waiting = environment.run(&["run"]).exits(5);
    assert!(waiting.stdout.contains("stagewright approve"), "{}", waiting.stdout);
    let listed = environment.run(&["runs", "--waiting"]).exits(0);
    assert!(listed.stdout.contains("waits at approve"), "{}", listed.stdout);

    let incomplete = environment.run(&["approve", "latest"]).exits(4);
    assert!(incomplete.stderr.contains("--field ticket=number"), "{}", incomplete.stderr);
    environment.run(&["approve", "latest", "approve", "--by", "ada", "--field", "ticket=42"]).exits(0);

    let (code, events) = environment.events(&["resume", "latest"]);
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(outcomes(&events)["after"], "succeeded");
    let starts = events.iter().filter(|event| event["type"] == "attempt-started" && event["stage-id"] == "before");
    assert_eq!(starts.count(), 1, "what had succeeded ran again");
    let after = events.iter().find(|event| event["type"] == "attempt-ended" && event["stage-id"] == "after").unwrap();
    assert_eq!(text(&after["outputs"]["by"]), "ada");
    environment.run(&["resume", "latest"]).exits(4);
}

#[test]
fn reject() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.run(&["run"]).exits(5);
    environment.run(&["reject", "latest", "--reason", "too late"]).exits(0);
    let ended = environment.run(&["resume", "latest"]).exits(6);
    assert!(ended.stdout.contains("too late"), "{}", ended.stdout);
}

#[test]
fn a_rehearsal_answers_by_itself_and_says_so() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    let (code, events) = environment.events(&["run", "--rehearse"]);
    assert_eq!(code, 0);
    let decided = events.iter().find(|event| event["type"] == "gate-decided").unwrap();
    assert_eq!(decided["decision"]["rehearsed"], true);
}

#[test]
fn a_run_that_waits_takes_an_answer_from_another_terminal() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    let child = environment.start(&["run", "--wait", "--format", "json"]);
    crate::environment::eventually("the gate opens", || {
        environment.run(&["runs", "--waiting"]).stdout.contains("waits at approve").then_some(())
    });
    environment.run(&["approve", "latest", "--field", "ticket=1"]).exits(0);
    crate::environment::Ended::of(&child.wait_with_output().unwrap()).exits(0);
}
