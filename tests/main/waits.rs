//! Waits of plugins: a poll, a signal from another terminal, a crash in the middle, and what people are shown.

use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::environment::{Ended, TestEnvironment, eventually, outcomes, text};

/// A stage that waits, and an independent one that starts after it.
fn pipeline(suspend: &str) -> TestEnvironment {
    TestEnvironment::with_pipeline(&format!(
        "schema = 1\npipeline.name = \"remote\"\n[stages.job]\nuses = \"stranger\"\n\
         with.actions = [{{ do = \"append\", path = \"open/calls\", text = \".\" }}, {{ do = \"suspend\", {suspend} }}]\n\
         permissions = {{ read = [\"open\"], write = [\"open\"] }}\n\
         [stages.other]\nuses = \"stranger\"\nwith.actions = [{{ do = \"write\", path = \"open/ready\", text = \"x\" }}]\n\
         permissions = {{ write = [\"open\"] }}\n"
    ))
}

const HOUR: &str = "token = \"job 7\", reason = \"the job is queued\", poll-after-ms = 3600000";

fn kill(mut child: Child) {
    child.kill().expect("it is running");
    child.wait().expect("it has ended");
}

/// Waits until `job` waits and `other` has ended.
fn waiting(environment: &TestEnvironment) {
    eventually("the stage waits", || {
        let shown = environment.run(&["show", "latest", "--format", "json"]).stdout;
        (shown.contains("gate-opened") && shown.contains("stage-ended")).then_some(())
    });
}

/// The events of the latest run.
fn journal(environment: &TestEnvironment) -> Vec<Json> {
    let shown = environment.run(&["show", "latest", "--format", "json"]).exits(0);
    shown.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

fn starts(events: &[Json], stage: &str) -> Vec<u64> {
    let of_stage = |event: &&Json| event["type"] == "attempt-started" && event["stage-id"] == stage;
    events.iter().filter(of_stage).filter_map(|event| event["attempt"].as_u64()).collect()
}

/// What the plugin got after its wait.
fn resumption(events: &[Json]) -> Json {
    let ended = events.iter().find(|event| event["type"] == "attempt-ended" && event["stage-id"] == "job");
    let answers = ended.expect("it has ended")["outputs"]["answers"].as_array().expect("answers").clone();
    serde_json::from_str(&text(&answers[1])).expect("JSON")
}

#[test]
fn a_wait_is_polled_and_another_stage_uses_the_only_slot() {
    let environment = pipeline("token = \"job 7\", poll-after-ms = 1000, until = \"open/ready\"");
    let (code, events) = environment.events(&["run", "--jobs", "1"]);
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(outcomes(&events)["job"], "succeeded");
    let calls = starts(&events, "job");
    assert!(calls.len() >= 2 && calls.iter().all(|attempt| *attempt == 1), "{calls:?}");
    assert_eq!(environment.read("open/calls").len(), calls.len());
    assert_eq!(resumption(&events), json!({ "token": "job 7", "cause": "poll", "payload": null }));
    let at = |kind: &str, stage: &str| {
        events.iter().position(|event| event["type"] == kind && event["stage-id"] == stage).expect("such an event")
    };
    assert!(at("gate-opened", "job") < at("attempt-started", "other"), "{events:#?}");
    assert!(at("stage-ended", "other") < at("gate-elapsed", "job"), "{events:#?}");
}

#[test]
fn a_signal_ends_a_wait_from_another_terminal() {
    let environment = pipeline(HOUR);
    let child = environment.start(&["run"]);
    waiting(&environment);
    let listed = environment.run(&["runs", "--waiting"]).exits(0);
    assert!(listed.stdout.contains("job (for job 7)"), "{}", listed.stdout);
    let rows: Vec<Json> = serde_json::from_str(&environment.run(&["runs", "--json"]).stdout).expect("JSON");
    assert_eq!(rows[0]["tokens"], json!({ "job": "job 7" }));
    let refused = environment.run(&["approve", "latest"]).exits(4);
    assert!(refused.stderr.contains("stagewright signal"), "{}", refused.stderr);
    for (args, reason) in [
        (vec!["signal", "latest", "job 7", "--payload", "{"], "invalid JSON"),
        (vec!["signal", "latest", "job 7", "--stage", "none"], "no stage `none`"),
        (vec!["signal", "latest", ""], "1 to 256 bytes"),
    ] {
        let refused = environment.run(&args).exits(2);
        assert!(refused.stderr.contains(reason), "{}", refused.stderr);
    }
    let sent = ["signal", "latest", "job 7", "--payload", "{\"exit\": 0}", "--by", "ada"];
    let sent = environment.run(&sent).exits(0);
    assert!(sent.stdout.starts_with("Signalled: job of run"), "{}", sent.stdout);
    let ended = Ended::of(&child.wait_with_output().expect("it ends")).exits(0);
    assert!(ended.stdout.contains("waiting: the job is queued"), "{}", ended.stdout);
    assert!(ended.stdout.contains("continues after a signal by ada"), "{}", ended.stdout);
    let events = journal(&environment);
    assert_eq!(resumption(&events), json!({ "token": "job 7", "cause": "signal", "payload": { "exit": 0 } }));
    let late = environment.run(&["signal", "latest", "job 7"]).exits(4);
    assert!(late.stderr.contains("the run has ended"), "{}", late.stderr);
}

#[test]
fn a_killed_process_leaves_its_wait_to_the_next_one() {
    let environment = pipeline(HOUR);
    let child = environment.start(&["run"]);
    waiting(&environment);
    kill(child);
    // Nothing drives the run: the signal is stored for the next process.
    let sent = environment.run(&["signal", "latest", "job 7"]).exits(0);
    assert!(sent.stdout.contains("stagewright resume"), "{}", sent.stdout);
    environment.run(&["resume", "latest"]).exits(0);
    let events = journal(&environment);
    assert_eq!((starts(&events, "job"), starts(&events, "other")), (vec![1, 1], vec![1]));
    assert_eq!(resumption(&events)["cause"], "signal");
    assert_eq!(environment.read("open/calls"), "..");
}

#[test]
fn after_a_kill_a_poll_that_is_due_comes_at_once_and_another_one_in_time() {
    for (pause, least) in [(Duration::from_secs(5), Duration::ZERO), (Duration::ZERO, Duration::from_secs(1))] {
        let environment = pipeline("token = \"job 7\", poll-after-ms = 4000");
        let child = environment.start(&["run"]);
        waiting(&environment);
        kill(child);
        std::thread::sleep(pause);
        let resumed = Instant::now();
        environment.run(&["resume", "latest"]).exits(0);
        assert!(resumed.elapsed() >= least, "{:?}", resumed.elapsed());
        let events = journal(&environment);
        assert_eq!(starts(&events, "job"), [1, 1]);
        assert_eq!(resumption(&events)["cause"], "poll");
        let at = |kind: &str| events.iter().find(|event| event["type"] == kind).expect("such an event").clone();
        let until = at("gate-opened")["gate"]["until"].as_u64().expect("a time");
        assert!(at("gate-elapsed")["at"].as_u64().expect("a time") >= until);
    }
}

#[test]
fn a_signal_before_the_wait_is_kept() {
    let environment = TestEnvironment::with_pipeline(
        "schema = 1\npipeline.name = \"later\"\n[stages.approve]\nuses = \"approve\"\nwith.message = \"Go on?\"\n\
         [stages.job]\nuses = \"stranger\"\nneeds = [\"approve\"]\n\
         with.actions = [{ do = \"digest\", path = \"x\" }, { do = \"suspend\", token = \"job 7\" }]\n",
    );
    environment.run(&["run"]).exits(5);
    let kept = environment.run(&["signal", "latest", "job 7", "--payload", "1"]).exits(0);
    assert!(kept.stdout.starts_with("Kept: no stage of run"), "{}", kept.stdout);
    environment.run(&["approve", "latest"]).exits(0);
    let (code, events) = environment.events(&["resume", "latest"]);
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(resumption(&events), json!({ "token": "job 7", "cause": "signal", "payload": 1 }));
    assert!(events.iter().any(|event| event["type"] == "signal-kept"));
}

#[test]
fn several_waits_for_one_token_need_the_name_of_the_stage() {
    let stage = |name: &str| {
        format!("[stages.{name}]\nuses = \"stranger\"\nwith.actions = [{{ do = \"suspend\", token = \"shared\" }}]\n")
    };
    let stages = stage("one") + &stage("two");
    let environment = TestEnvironment::with_pipeline(&format!("schema = 1\npipeline.name = \"both\"\n{stages}"));
    // A wait for a signal alone is like a gate for people: the process ends.
    let waiting = environment.run(&["run"]).exits(5);
    assert!(waiting.stdout.contains("is waiting for a signal"), "{}", waiting.stdout);
    assert!(waiting.stdout.contains("stagewright signal"), "{}", waiting.stdout);
    let ambiguous = environment.run(&["signal", "latest", "shared"]).exits(2);
    assert!(ambiguous.stderr.contains("--stage") && ambiguous.stderr.contains("one, two"), "{}", ambiguous.stderr);
    environment.run(&["signal", "latest", "shared", "--stage", "two"]).exits(0);
    environment.run(&["signal", "latest", "shared"]).exits(0);
    environment.run(&["resume", "latest"]).exits(0);
}

#[test]
fn a_poll_without_news_is_not_shown() {
    let environment = pipeline("token = \"job 7\", reason = \"queued\", poll-after-ms = 1000, until = \"done\"");
    let child = environment.start(&["run"]);
    waiting(&environment);
    eventually("some polls", || (starts(&journal(&environment), "job").len() > 3).then_some(()));
    environment.run(&["cancel", "latest"]).exits(0);
    let ended = Ended::of(&child.wait_with_output().expect("it ends"));
    assert_eq!(ended.stdout.matches("waiting: queued").count(), 1, "{}", ended.stdout);
    assert_eq!(ended.stdout.matches("started stranger").count(), 2, "{}", ended.stdout);
    assert_eq!(outcomes(&journal(&environment))["job"], "cancelled");
}

#[test]
fn a_rehearsal_cuts_a_wait_short() {
    let environment = pipeline(HOUR);
    let (code, events) = environment.events(&["run", "--rehearse"]);
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(resumption(&events)["cause"], "poll");
}
