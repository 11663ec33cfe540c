//! Order, conditions, matrices, retries, and the effects of outcomes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use stagewright_engine::{Need, Outcome, RunValues};
use stagewright_model::{Backoff, Retry, RetryCause, Stage, StageIndex};

use crate::fake::{Act, Script, WORK, World};
use crate::plans::{cell, finally, plan, stage, stage_if, templates};

#[test]
fn stage_starts_only_after_all_its_needs_have_ended() {
    let stages = vec![stage("a", &[]), stage("b", &[]), stage("c", &[0, 1]), stage("d", &[2])];
    let ran = World::new(plan(stages), Script::default()).run();
    assert_eq!(ran.starts(), ["a#1", "b#1", "c#1", "d#1"]);
    assert_eq!(ran.took, 3 * WORK);
}

#[test]
fn concurrent_attempts_are_limited_to_jobs() {
    let stages = (0..7).map(|n| stage(&format!("s{n}"), &[])).collect();
    let ran = World { jobs: 3, ..World::new(plan(stages), Script::default()) }.run();
    assert_eq!(ran.seen.lock().unwrap().most_running, 3);
    assert_eq!(ran.took, 3 * WORK);
}

#[test]
fn failure_skips_only_dependents() {
    let stages = vec![stage("bad", &[]), stage("after", &[0]), stage("later", &[1]), stage("other", &[])];
    let ran = World::new(plan(stages), Script::of([("bad", vec![Act::Fail])])).run();
    assert_eq!(ran.conclusion(), Some(Outcome::Failed));
    assert_eq!(ran.outcomes(), ["bad failed", "after skipped", "later skipped", "other succeeded"]);
    assert_eq!(ran.reason("after"), "`bad` failed");
    assert_eq!(ran.reason("later"), "`after` was skipped");
}

#[test]
fn continue_on_error_changes_only_the_conclusion() {
    let bad = Stage { continue_on_error: true, ..stage("bad", &[]) };
    let stages =
        vec![bad, stage_if("after", &[0], "stages.bad.outcome == 'failed' && stages.bad.result == 'succeeded'")];
    let ran = World::new(plan(stages), Script::of([("bad", vec![Act::Fail])])).run();
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    assert_eq!(ran.outcomes(), ["bad failed", "after succeeded"]);
}

#[test]
fn conditions_depend_on_the_status_of_needs() {
    let stages = vec![
        stage("bad", &[]),
        stage("between", &[0]),
        stage_if("on-failure", &[1], "failure()"),
        stage_if("always", &[1], "always()"),
        stage_if("on-success", &[1], "success()"),
        stage_if("plain", &[1], "true"),
    ];
    let ran = World::new(plan(stages), Script::of([("bad", vec![Act::Fail])])).run();
    assert_eq!(
        ran.outcomes(),
        [
            "bad failed",
            "between skipped",
            "on-failure succeeded",
            "always succeeded",
            "on-success skipped",
            "plain skipped"
        ]
    );
}

#[test]
fn outputs_reach_expressions_and_needs() {
    let mut second = stage("second", &[0]);
    second.with = templates(json!({ "image": "${{ stages.first.outputs.image }}:v${{ inputs.version }}", "n": 3 }));
    let script = Script::of([("first", vec![Act::Output("image", json!("local/app"))])]);
    let values = RunValues { inputs: BTreeMap::from([("version".to_owned(), json!(7))]), ..RunValues::default() };
    let ran = World { values, ..World::new(plan(vec![stage("first", &[]), second]), script) }.run();
    let seen = ran.seen.lock().unwrap();
    assert_eq!(seen.requests[1].config, json!({ "image": "local/app:v7", "n": 3 }));
    let outputs = BTreeMap::from([("image".to_owned(), json!("local/app"))]);
    let (outcome, conclusion) = (Outcome::Succeeded, Outcome::Succeeded);
    let first = Need { stage: "first".to_owned(), id: "first".to_owned(), outcome, conclusion, outputs };
    assert_eq!(seen.requests[1].needs, [first]);
    assert!(seen.requests[1].before.contains("first") && seen.requests[0].needs.is_empty());
}

#[test]
fn expression_without_a_value_fails_its_stage() {
    let mut bad = stage("bad", &[0]);
    bad.with = templates(json!({ "x": "${{ stages.first.outputs.missing }}" }));
    let ran = World::new(plan(vec![stage("first", &[]), bad, stage("other", &[0])]), Script::default()).run();
    assert_eq!(ran.outcomes(), ["first succeeded", "bad errored", "other succeeded"]);
    assert!(ran.reason("bad").contains("stages.first.outputs.missing"), "{}", ran.reason("bad"));
}

fn retried(max: u32, on: &[RetryCause]) -> Stage {
    let backoff = Backoff { initial: Duration::from_secs(10), factor: 3, max: Duration::from_secs(60) };
    Stage { retry: Retry { max, on: on.to_vec(), backoff }.into(), ..stage("flaky", &[]) }
}

#[test]
fn retries_back_off_and_release_their_slot() {
    let stages = vec![retried(3, &RetryCause::ALL), stage("other", &[])];
    let script = Script::of([("flaky", vec![Act::Fail, Act::Fail, Act::Fail, Act::Succeed])]);
    let ran = World { jobs: 1, ..World::new(plan(stages), script) }.run();
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    assert_eq!(ran.starts(), ["flaky#1", "other#1", "flaky#2", "flaky#3", "flaky#4"]);
    assert_eq!(ran.took, 4 * WORK + Duration::from_secs(10 + 30 + 60));
}

#[test]
fn a_failure_can_ask_for_a_longer_delay_of_up_to_an_hour() {
    let delays = [1, 300, 86_400].map(|seconds| Act::FailAndDelay(Duration::from_secs(seconds)));
    let script = Script::of([("flaky", delays.into_iter().chain([Act::Succeed]).collect())]);
    let ran = World::new(plan(vec![retried(3, &RetryCause::ALL)]), script).run();
    assert_eq!(ran.took, 4 * WORK + Duration::from_secs(10 + 300 + 3600));
}

#[test]
fn retries_apply_only_to_listed_causes_and_never_to_denials() {
    let other_cause =
        World::new(plan(vec![retried(2, &[RetryCause::Timeout])]), Script::of([("flaky", vec![Act::Fail])]));
    assert_eq!(other_cause.run().starts(), ["flaky#1"]);
    let denied = World::new(plan(vec![retried(2, &RetryCause::ALL)]), Script::of([("flaky", vec![Act::Deny])]));
    assert_eq!(denied.run().starts(), ["flaky#1"]);
    let exhausted = World::new(plan(vec![retried(2, &RetryCause::ALL)]), Script::of([("flaky", vec![Act::Fail])]));
    assert_eq!(exhausted.run().starts(), ["flaky#1", "flaky#2", "flaky#3"]);
}

#[test]
fn failed_cell_of_a_fail_fast_matrix_stops_its_siblings() {
    let stages = (0..4).map(|n| cell("m", n, Some(2))).chain([stage("other", &[])]).collect();
    let script = Script::of([("m (n=0)", vec![Act::Fail]), ("m (n=1)", vec![Act::Hang])]);
    let ran = World::new(plan(stages), script).run();
    assert_eq!(ran.outcomes()[..4], ["m (n=0) failed", "m (n=1) cancelled", "m (n=2) cancelled", "m (n=3) cancelled"]);
    assert_eq!(ran.reason("m (n=2)"), "`m (n=0)` failed, and the matrix is fail-fast");
    assert_eq!(ran.outcomes()[4], "other succeeded");
}

/// Cancelled cells are a consequence of the failed one.
#[test]
fn matrix_with_a_failed_cell_fails_regardless_of_other_cells() {
    for failing in 0..3 {
        let mut after = stage_if("after", &[0, 1, 2], "always()");
        after.with = templates(json!({ "worst": "${{ stages.m.result }}" }));
        let stages = (0..3).map(|n| cell("m", n, None)).chain([after]).collect();
        let acts = (0..3).map(|n| if n == failing { vec![Act::Fail] } else { vec![Act::Hang] });
        let names = ["m (n=0)", "m (n=1)", "m (n=2)"];
        let ran = World::new(plan(stages), Script::of(names.into_iter().zip(acts))).run();
        let seen = ran.seen.lock().unwrap();
        assert_eq!(seen.requests.last().unwrap().config, json!({ "worst": "failed" }), "{failing}");
    }
}

#[test]
fn max_parallel_limits_cells_but_not_other_stages() {
    let stages = (0..4).map(|n| cell("m", n, Some(1))).chain([stage("other", &[])]).collect();
    let ran = World::new(plan(stages), Script::default()).run();
    assert_eq!(ran.starts()[..2], ["m (n=0)#1", "other#1"]);
    assert_eq!(ran.seen.lock().unwrap().most_running, 2);
    assert_eq!(ran.took, 4 * WORK);
}

#[test]
fn finally_stages_run_after_everything_and_see_the_result() {
    let mut report = finally("report");
    report.with = templates(json!({ "result": "${{ run.result }}", "bad": "${{ stages.bad.result }}" }));
    let ran =
        World::new(plan(vec![stage("bad", &[]), stage("ok", &[]), report]), Script::of([("bad", vec![Act::Fail])]))
            .run();
    assert_eq!(ran.outcomes(), ["bad failed", "ok succeeded", "report succeeded"]);
    let seen = ran.seen.lock().unwrap();
    assert_eq!(seen.requests[2].config, json!({ "result": "failed", "bad": "failed" }));
}

#[test]
fn dependents_run_after_a_stage_that_found_nothing_to_do() {
    let script = Script::of([("a", vec![Act::Skip("already there")])]);
    let ran = World::new(plan(vec![stage("a", &[]), stage("b", &[0])]), script).run();
    assert_eq!(ran.outcomes(), ["a skipped", "b succeeded"]);
    assert_eq!(ran.reason("a"), "already there");
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
}

#[test]
fn left_out_stages_count_as_succeeded() {
    let left_out = BTreeMap::from([(StageIndex(0), "left out".to_owned())]);
    let values = RunValues { left_out, ..RunValues::default() };
    let ran = World { values, ..World::new(plan(vec![stage("a", &[]), stage("b", &[0])]), Script::default()) }.run();
    assert_eq!(ran.starts(), ["b#1"]);
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
}

#[test]
fn a_matrix_is_one_stage_to_expressions_with_its_cells_in_order() {
    let mut after = stage_if("after", &[0, 1], "always()");
    after.with = templates(json!({
        "worst": "${{ stages.m.result }}",
        "merged": "${{ stages.m.outputs.image }}",
        "second": "${{ stages.m.cells[1].matrix.n }}",
    }));
    let mut cells = [cell("m", 0, None), cell("m", 1, None)];
    for one in &mut cells {
        one.matrix.iter_mut().for_each(|matrix| matrix.fail_fast = false);
    }
    let [first, second] = cells;
    let script = Script::of([("m (n=0)", vec![Act::Fail]), ("m (n=1)", vec![Act::Output("image", json!("x"))])]);
    let ran = World::new(plan(vec![first, second, after]), script).run();
    let seen = ran.seen.lock().unwrap();
    assert_eq!(seen.requests[2].config, json!({ "worst": "failed", "merged": "x", "second": 1 }));
}

#[test]
fn finally_stage_with_a_left_out_need_still_waits_for_main_stages() {
    let after = Stage { needs: vec![StageIndex(1)], ..finally("after") };
    let left_out = BTreeMap::from([(StageIndex(1), "left out".to_owned())]);
    let values = RunValues { left_out, ..RunValues::default() };
    let ran =
        World { values, ..World::new(plan(vec![stage("main", &[]), finally("out"), after]), Script::default()) }.run();
    assert_eq!(ran.took, 2 * WORK);
    assert_eq!(ran.starts(), ["main#1", "after#1"]);
}
