//! The files that are captured at a gate, what approvals are valid for, and the files that attempts work on.

use std::sync::Arc;
use std::time::Duration;

use stagewright_engine::{
    AttemptRequest, Decision, EventKind, Gate, GateKind, Input, Interrupt, Outcome, RunCommand, RunValues, Scheduler,
};
use stagewright_model::{Permissions, Plan, Stage, StageIndex};

use crate::fake::{Act, Ran, Script, WORK, World};
use crate::gates::{answer, gate};
use crate::plans::{deploy, finally, plan, plan_with, stage};

const LATER: Duration = Duration::from_secs(100);

fn granted(stage: Stage, read: &[&str], write: &[&str]) -> Stage {
    let owned = |globs: &[&str]| globs.iter().map(|glob| glob.parse().expect("a glob")).collect();
    let permissions = Permissions { read: owned(read), write: owned(write), ..Permissions::default() };
    Stage { permissions: Arc::new(permissions), ..stage }
}

fn capturing() -> RunValues {
    RunValues {
        binding: Some("with what is checked out".to_owned()),
        captured_binding: Some("without".to_owned()),
        ..RunValues::default()
    }
}

fn world(plan: Arc<Plan>, script: Script) -> World {
    World { values: capturing(), ..World::new(plan, script) }
}

/// `build`, then a gate, then `deploy`, and a stage that needs neither.
fn pipeline() -> Arc<Plan> {
    plan(vec![
        granted(stage("build", &[]), &["src"], &["app"]),
        granted(stage("approve", &[0]), &[], &[]),
        granted(stage("deploy", &[1]), &["app", "config"], &["report"]),
        granted(stage("beside", &[]), &["docs"], &["site"]),
        granted(finally("clean"), &["report"], &[]),
    ])
}

fn asking() -> Script {
    Script::of([("approve", vec![Act::Ask(gate())])])
}

fn approval(capture: Option<&str>) -> RunCommand {
    let decision = Decision { capture: capture.map(str::to_owned), ..answer(true, "ada") };
    RunCommand::Decide { stage: StageIndex(1), decision }
}

fn opened(ran: &Ran) -> Vec<Gate> {
    let gates = ran.recorded.iter().filter_map(|event| match &event.kind {
        EventKind::GateOpened { gate, .. } => Some(gate.clone()),
        _ => None,
    });
    gates.collect()
}

fn last_request(ran: &Ran, stage: &str) -> AttemptRequest {
    let seen = ran.seen.lock().expect("no test panics with it");
    seen.requests.iter().rfind(|request| request.stage_id == stage).cloned().unwrap_or_else(|| panic!("no {stage}"))
}

#[test]
fn stages_behind_a_gate_work_on_its_captured_files() {
    let captured = "sha256:app config report";
    let ran = world(pipeline(), asking()).command(LATER, approval(Some(captured))).run();
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    let gates = opened(&ran);
    assert_eq!(gates[0].capture.as_ref().unwrap().digest, captured);
    assert_eq!(gates[0].binding.as_deref(), Some("without"), "the approval doesn't depend on the checkout");
    let basis = last_request(&ran, "deploy").basis;
    assert_eq!(basis.captures.len(), 1);
    assert_eq!((basis.captures[0].stage_id.as_str(), basis.writable), ("approve", vec!["report".parse().unwrap()]));
    for before in ["build", "beside", "clean"] {
        assert_eq!(last_request(&ran, before).basis.captures, [], "{before} works on the workspace");
    }
}

/// Starting a program reads it.
#[test]
fn a_program_of_the_workspace_is_among_the_files_that_are_approved() {
    let process = vec!["./tool --all".parse().unwrap(), "sh".parse().unwrap()];
    let permissions = Arc::new(Permissions { process, ..Permissions::default() });
    let stages = vec![stage("approve", &[]), Stage { permissions, ..stage("deploy", &[0]) }];
    let ran = world(plan(stages), asking()).command(LATER, RunCommand::Suspend).run();
    assert_eq!(opened(&ran)[0].capture.as_ref().unwrap().digest, "sha256:tool");
}

#[test]
fn approval_of_other_files_is_refused() {
    for other in [None, Some("sha256:another")] {
        let ran = world(pipeline(), asking()).command(LATER, approval(other)).run();
        assert_eq!(ran.conclusion(), None, "{other:?}");
        let refused = |kind: &EventKind| matches!(kind, EventKind::DecisionRefused { .. });
        assert!(ran.observed.iter().any(|event| refused(&event.kind)));
    }
}

#[test]
fn results_are_recorded_if_later_stages_can_read_them() {
    let ran = world(pipeline(), asking()).command(LATER, approval(Some("sha256:app config report"))).run();
    let made = last_request(&ran, "deploy").basis.made;
    assert_eq!(made.iter().map(|made| made.stage_id.as_str()).collect::<Vec<_>>(), ["build"]);
    assert_eq!((made[0].made.digest.as_str(), &made[0].results), ("sha256:of build", &vec!["app".parse().unwrap()]));
    assert_eq!(last_request(&ran, "beside").basis.readers, [], "no stage reads its results");
    let state = ran.state(&[]);
    assert!(state.stages[0].made.is_some() && state.stages[3].made.is_none());
}

#[test]
fn files_that_cannot_be_captured_are_not_approved() {
    let mut script = asking();
    script.add("capture approve", vec![Act::Fail]);
    let ran = world(pipeline(), script).run();
    assert_eq!(opened(&ran), []);
    assert_eq!(ran.outcomes()[1..3], ["approve errored", "deploy skipped"]);
}

#[test]
fn cancelled_run_does_not_wait_for_a_capture() {
    let cancel = RunCommand::Cancel { how: Interrupt::Graceful, reason: "enough".to_owned() };
    // `build` and `approve` have run; the capture takes as long as one of them.
    let ran = world(pipeline(), asking()).command(WORK * 5 / 2, cancel).run();
    assert_eq!(opened(&ran), []);
    assert_eq!(ran.outcomes()[1..3], ["approve cancelled", "deploy cancelled"]);
}

#[test]
fn one_approval_of_an_environment_is_of_the_files_of_all_its_stages() {
    let stages = vec![
        granted(deploy("api", &[]), &["api"], &[]),
        granted(deploy("web", &[]), &["web"], &[]),
        granted(stage("notify", &[1]), &["text"], &[]),
    ];
    let decision = Decision { capture: Some("sha256:api text web".to_owned()), ..answer(true, "ada") };
    let ran = world(plan_with(stages, &["ada"], None), Script::default())
        .answer(LATER, 0, decision.clone())
        .answer(LATER, 1, decision)
        .run();
    assert!(ran.conclusion() == Some(Outcome::Succeeded), "{:?}", ran.outcomes());
    for gate in opened(&ran) {
        assert_eq!((gate.kind, gate.capture.unwrap().digest.as_str()), (GateKind::Environment, "sha256:api text web"));
    }
    for stage in ["api", "web", "notify"] {
        assert!(!last_request(&ran, stage).basis.captures.is_empty(), "{stage} works on the approved files");
    }
}

#[test]
fn a_stage_that_an_earlier_approval_of_its_environment_lets_start_is_given_the_files_of_that_approval() {
    let stages = vec![
        granted(deploy("api", &[]), &["api"], &[]),
        granted(stage("ask", &[]), &[], &[]),
        granted(deploy("web", &[1]), &["web"], &[]),
    ];
    let of = |digest: &str| Decision { capture: Some(digest.to_owned()), ..answer(true, "ada") };
    let script = Script::of([("ask", vec![Act::Ask(gate())])]);
    let ran = world(plan_with(stages, &["ada"], None), script)
        .answer(LATER, 0, of("sha256:api web"))
        .answer(2 * LATER, 1, of("sha256:web"))
        .run();
    assert!(ran.conclusion() == Some(Outcome::Succeeded), "{:?}", ran.outcomes());
    assert_eq!(opened(&ran).len(), 2, "`web` needs no separate approval");
    let captures = last_request(&ran, "web").basis.captures;
    assert!(captures.iter().any(|approved| approved.stage_id == "api"), "{captures:?}");
}

#[test]
fn live_files_are_needed_until_all_open_stages_are_behind_a_gate() {
    let waiting = world(pipeline(), asking()).command(LATER, RunCommand::Suspend).run();
    let restored = |values| Scheduler::restore(pipeline(), values, 4, &waiting.recorded).unwrap();
    assert!(!restored(capturing()).needs_live_files(&[]));
    assert!(restored(capturing()).needs_live_files(&[StageIndex(0)]), "`build` reads the workspace again");
    assert!(restored(capturing()).needs_live_files(&[StageIndex(1)]), "and so does a new capture");
    let other_grants = RunValues { captured_binding: Some("others".to_owned()), ..capturing() };
    assert!(restored(other_grants).needs_live_files(&[]), "the approval has lapsed");
}

/// The journal of a version that captured no files.
#[test]
fn gate_without_a_capture_is_bound_to_the_checkout() {
    let before = World { values: RunValues { captured_binding: None, ..capturing() }, ..world(pipeline(), asking()) };
    let waiting = before.command(LATER, RunCommand::Suspend).run();
    assert_eq!(opened(&waiting)[0].capture, None);
    let resume = |values: RunValues| {
        let mut scheduler = Scheduler::restore(pipeline(), values, 4, &waiting.recorded).unwrap();
        let input =
            Input::Resume { reason: "asked for".to_owned(), from: Vec::new(), changed: Vec::new(), pipeline: None };
        let response = scheduler.on_input(stagewright_engine::Timestamp(0), input).unwrap();
        response.events.iter().find_map(|event| match &event.kind {
            EventKind::RunResumed { again, .. } => Some(again.clone()),
            _ => None,
        })
    };
    assert_eq!(resume(capturing()), Some(Vec::new()), "the gate is still open");
    let moved = RunValues { binding: Some("another commit".to_owned()), ..capturing() };
    assert_eq!(resume(moved), Some(vec![StageIndex(1)]));
}
