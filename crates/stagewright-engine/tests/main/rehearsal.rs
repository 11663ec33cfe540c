//! Rehearsals: stages that end as rehearsed, and the stages after them.

use std::sync::Arc;

use serde_json::json;
use stagewright_engine::{EventKind, Outcome, RunValues};
use stagewright_model::{Rehearse, Retry, Stage};

use crate::fake::{Act, Ran, Script, World};
use crate::plans::{plan, stage, stage_if, templates};

fn rehearsed(stages: Vec<Stage>, script: Script) -> Ran {
    let values = RunValues { rehearsal: true, ..RunValues::default() };
    World { values, ..World::new(plan(stages), script) }.run()
}

fn with(name: &str, needs: &[u32], image: &str) -> Stage {
    Stage { with: templates(json!({ "image": image })), ..stage(name, needs) }
}

#[test]
fn dependents_run_and_users_of_missing_outputs_are_rehearsed() {
    let stages = vec![
        Stage { retry: Retry { max: 3, ..Retry::default() }.into(), ..stage("push", &[]) },
        stage("after", &[0]),
        with("deploy", &[0], "${{ stages.push.outputs.image }}"),
        with("smoke", &[2], "${{ stages.deploy.outputs.url }}"),
        stage_if("tell", &[0], "stages.push.result == 'succeeded' && stages.push.outcome == 'rehearsed'"),
        stage_if("never", &[0], "stages.push.outputs.image == 'x'"),
        with("typo", &[1], "${{ stages.after.outputs.image }}"),
    ];
    let ran = rehearsed(stages, Script::of([("push", vec![Act::Rehearse("would run `docker push app`")])]));
    let expected = ["push", "after", "deploy", "smoke", "tell", "never", "typo"];
    let outcomes = ["rehearsed", "succeeded", "rehearsed", "rehearsed", "succeeded", "rehearsed", "errored"];
    let expected: Vec<String> = expected.iter().zip(outcomes).map(|(stage, end)| format!("{stage} {end}")).collect();
    let mut ended = ran.outcomes();
    ended.sort();
    let mut sorted = expected.clone();
    sorted.sort();
    assert_eq!(ended, sorted);
    assert_eq!(ran.starts(), ["push#1", "after#1", "tell#1"], "a rehearsed stage isn't retried");
    let why = ran.events(|kind| match kind {
        EventKind::StageEnded { outcome: Outcome::Rehearsed, reason, .. } => reason.clone(),
        _ => None,
    });
    assert!(why[0].contains("would run `docker push app`") && why[1].contains("needs an output of `push`"), "{why:?}");
}

#[test]
fn a_run_in_which_everything_was_rehearsed_has_succeeded_and_is_over() {
    let ran = rehearsed(vec![stage("a", &[])], Script::of([("a", vec![Act::Rehearse("would run `x`")])]));
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    let values = RunValues { rehearsal: true, ..RunValues::default() };
    let again = World { values, past: ran.recorded.clone(), ..World::new(ran.plan.clone(), Script::default()) }.run();
    assert!(again.starts().is_empty(), "a resume runs no stage again");
}

#[test]
fn a_stage_says_what_its_rehearsal_puts_out_and_is_configured_with() {
    let rehearse = Rehearse {
        with: Some(templates(json!({ "image": "dry" }))),
        outputs: Some(templates(json!({ "image": "stand-in@${{ run.rehearsal }}" }))),
        permissions: None,
    };
    let stages = || {
        let push = Stage { rehearse: Some(Arc::new(rehearse.clone())), ..with("push", &[], "real") };
        vec![push, with("deploy", &[0], "${{ stages.push.outputs.image }}")]
    };
    let ran = rehearsed(stages(), Script::of([("push", vec![Act::Rehearse("would run `x`")])]));
    assert_eq!(ran.outcomes(), ["push rehearsed", "deploy succeeded"]);
    let configs = |ran: &Ran| {
        let seen = ran.seen.lock().expect("a lock");
        seen.requests.iter().map(|request| request.config["image"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(configs(&ran), ["dry", "stand-in@true"]);

    let real = World::new(plan(stages()), Script::of([("push", vec![Act::Output("image", json!("app"))])])).run();
    assert_eq!(configs(&real), ["real", "app"], "a real run ignores `rehearse`");
}
