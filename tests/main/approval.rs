//! Gates: a run without a person suspends, and continues after an answer from another terminal.

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
    assert_eq!(starts.count(), 1, "a stage that had succeeded ran again");
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
fn a_rehearsal_approves_gates_and_reports_it() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    let (code, events) = environment.events(&["run", "--rehearse"]);
    assert_eq!(code, 0);
    let decided = events.iter().find(|event| event["type"] == "gate-decided").unwrap();
    assert_eq!(decided["decision"]["rehearsed"], true);
}

#[test]
fn a_waiting_run_accepts_an_answer_from_another_terminal() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    let child = environment.start(&["run", "--wait", "--format", "json"]);
    crate::environment::eventually("the gate opens", || {
        environment.run(&["runs", "--waiting"]).stdout.contains("waits at approve").then_some(())
    });
    environment.run(&["approve", "latest", "--field", "ticket=1"]).exits(0);
    crate::environment::Ended::of(&child.wait_with_output().unwrap()).exits(0);
}

const TWO_OF_THREE: &str = r#"
schema = 1
pipeline.name = "voted"
[teams]
release = ["Ada", "grace", "linus"]
[stages.ask]
uses = "approve"
with = { message = "Go on?", approvals = 2, approvers = ["team:release"] }
"#;

#[test]
fn a_vote_is_checked_when_it_is_given() {
    let environment = TestEnvironment::with_pipeline(TWO_OF_THREE);
    environment.run(&["run"]).exits(5);
    let vote = |by: &str| environment.run(&["approve", "latest", "ask", "--by", by]);
    let first = vote(" ada").exits(0);
    assert!(first.stdout.contains("1 of 2 approvals; waiting for grace or linus"), "{}", first.stdout);
    for (by, code, reason) in [
        ("ADA", 4, "has already approved"),
        ("\u{430}da", 2, "different scripts"),
        ("", 2, "the name is empty"),
        ("mallory", 4, "the approvers are team:release"),
        ("ev\u{1b}]0;il", 2, "isn't allowed in names"),
    ] {
        let refused = vote(by).exits(code);
        assert!(refused.stderr.contains(reason) && !refused.stderr.contains('\u{1b}'), "{by:?}: {}", refused.stderr);
    }
    let second = vote("grace").exits(0);
    assert!(second.stdout.contains("resume"), "{}", second.stdout);
    let late = vote("linus").exits(4);
    assert!(late.stderr.contains("no open gate"), "{}", late.stderr);
    environment.run(&["resume", "latest"]).exits(0);
}

#[test]
fn concurrent_votes_count_once_per_person() {
    let environment = TestEnvironment::with_pipeline(TWO_OF_THREE);
    environment.run(&["run"]).exits(5);
    let votes: Vec<_> =
        ["ada", "Ada", "aDa"].iter().map(|by| environment.start(&["approve", "latest", "ask", "--by", by])).collect();
    let taken = votes.into_iter().map(|vote| vote.wait_with_output().unwrap()).filter(|vote| vote.status.success());
    assert_eq!(taken.count(), 1);
}

#[test]
fn approvers_with_confusable_names_are_an_error() {
    for (team, code) in [
        (r#"["ada", "Ada "]"#, "stagewright::duplicate-person"),
        (r#"["caxap", "сахар"]"#, "stagewright::duplicate-person"),
        (r#"["\u0430da"]"#, "stagewright::bad-person"),
    ] {
        let text = TWO_OF_THREE.replace(r#"["Ada", "grace", "linus"]"#, team);
        let environment = TestEnvironment::with_pipeline(&text);
        let found = environment.run(&["validate", "--json"]).exits(3);
        assert!(found.stdout.contains(code), "{team}: {}", found.stdout);
    }
}

#[test]
fn numbers_out_of_range_are_refused_before_anything_runs() {
    for with in ["approvals = 4000000000", "approvals = 101", r#"expires = "99999999d""#, r#"expires = "0s""#] {
        let text = format!(
            "schema = 1\npipeline.name = \"p\"\n[stages.ask]\nuses = \"approve\"\nwith = {{ message = \"x\", {with} }}\n"
        );
        TestEnvironment::with_pipeline(&text).run(&["run", "--rehearse"]).exits(3);
    }
    let environment = TestEnvironment::with_pipeline(TWO_OF_THREE);
    for length in ["99999999999d", "18446744073709551615ms", "0s", "367d"] {
        environment.run(&["env", "freeze", "production", "--reason", "x", "--for", length]).exits(2);
    }
    environment.run(&["gc", "--days", "4294967295"]).exits(2);
}
