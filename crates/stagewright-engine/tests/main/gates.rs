//! Gates: who may answer, the effect of answers, and runs without an answer.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use stagewright_engine::{
    AttemptEnd, Decision, EventKind, Field, FieldKind, Gate, Input, Interrupt, Outcome, RunCommand, RunId, RunValues,
    Scheduler, Timestamp,
};
use stagewright_model::StageIndex;

use crate::fake::{Act, Script, WORK, World, report};
use crate::plans::{finally, plan, stage};

pub(crate) fn gate() -> Gate {
    Gate {
        token: "t1".to_owned(),
        message: "Deploy?".to_owned(),
        approvers: Vec::new(),
        approvals: 1,
        fields: Vec::new(),
        expires: None,
        ..Gate::default()
    }
}

pub(crate) fn answer(approved: bool, by: &str) -> Decision {
    Decision {
        token: "t1".to_owned(),
        approved,
        by: by.to_owned(),
        reason: None,
        fields: BTreeMap::new(),
        ..Decision::default()
    }
}

fn decide(decision: Decision) -> RunCommand {
    RunCommand::Decide { stage: StageIndex(0), decision }
}

fn world(gate: Gate) -> World {
    let stages = vec![stage("approve", &[]), stage("deploy", &[0]), finally("clean")];
    World::new(plan(stages), Script::of([("approve", vec![Act::Ask(gate)])]))
}

const LATER: Duration = Duration::from_secs(100);

#[test]
fn an_approval_calls_the_stage_again_with_the_decision() {
    let ran = world(gate()).command(LATER, decide(answer(true, "ada"))).run();
    assert_eq!(ran.outcomes(), ["approve succeeded", "deploy succeeded", "clean succeeded"]);
    assert_eq!(ran.starts(), ["approve#1", "approve#1", "deploy#1", "clean#1"]);
    let seen = ran.seen.lock().unwrap();
    let resumption = seen.requests[1].resumption.as_ref().unwrap();
    assert_eq!(resumption["by"], json!("ada"));
    assert_eq!(resumption["decisions"].as_array().unwrap().len(), 1);
}

#[test]
fn a_rejection_is_not_a_failure() {
    let no = Decision { reason: Some("not on a Friday".to_owned()), ..answer(false, "ada") };
    let ran = world(gate()).command(LATER, decide(no)).run();
    assert_eq!(ran.conclusion(), Some(Outcome::Rejected));
    assert_eq!(ran.outcomes(), ["approve rejected", "deploy skipped", "clean succeeded"]);
    assert_eq!(ran.reason("approve"), "rejected by ada: not on a Friday");
    assert_eq!(ran.reason("deploy"), "`approve` was rejected");
}

#[test]
fn run_with_only_gates_left_suspends_without_a_front_end() {
    let ran = world(gate()).command(Duration::ZERO, RunCommand::Suspend).run();
    let summary = ran.result.as_ref().unwrap();
    assert_eq!((summary.conclusion, summary.waiting.as_slice()), (None, [StageIndex(0)].as_slice()));
    assert!(matches!(ran.recorded.last().unwrap().kind, EventKind::RunSuspended { .. }));
    assert_eq!(ran.outcomes(), ["approve open", "deploy open", "clean open"]);
}

#[test]
fn refused_answers_change_nothing() {
    let field = |name: &str, kind, choices: &[&str]| Field {
        name: name.to_owned(),
        kind,
        description: String::new(),
        required: choices.is_empty(),
        choices: choices.iter().map(ToString::to_string).collect(),
    };
    let fields = vec![field("ticket", FieldKind::Number, &[]), field("region", FieldKind::Text, &["eu", "us"])];
    let strict = Gate { approvers: vec!["ada".to_owned()], fields, ..gate() };
    let with = |value| Decision { fields: BTreeMap::from([("ticket".to_owned(), value)]), ..answer(true, "ada") };
    let extra = Decision {
        fields: BTreeMap::from([("ticket".to_owned(), json!(1)), ("x".to_owned(), json!(1))]),
        ..answer(true, "ada")
    };
    let region = |region: &str| Decision {
        fields: BTreeMap::from([("ticket".to_owned(), json!(1)), ("region".to_owned(), json!(region))]),
        ..answer(true, "ada")
    };
    let wrong = [
        Decision { by: "eve".to_owned(), ..with(json!(1)) },
        Decision { token: "old".to_owned(), ..with(json!(1)) },
        with(json!("one")),
        answer(true, "ada"),
        extra,
        region("asia"),
    ];
    let mut asked = world(strict);
    for decision in wrong {
        asked = asked.command(LATER, decide(decision));
    }
    let ran = asked.command(2 * LATER, decide(with(json!(42)))).run();
    let decisions = ran.recorded.iter().filter(|event| matches!(event.kind, EventKind::GateDecided { .. }));
    assert_eq!(decisions.count(), 1);
    let refused = ran.observed.iter().filter(|event| matches!(event.kind, EventKind::DecisionRefused { .. }));
    assert_eq!(refused.count(), 6, "each person is notified");
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    assert_eq!(ran.took, 2 * LATER + 3 * WORK);
}

#[test]
fn two_approvals_require_two_people() {
    let ran = world(Gate { approvals: 2, ..gate() })
        .command(LATER, decide(answer(true, "ada")))
        .command(LATER, decide(answer(true, "ada")))
        .command(3 * LATER, decide(answer(true, "bob")))
        .run();
    assert_eq!(ran.conclusion(), Some(Outcome::Succeeded));
    assert!(ran.took > 3 * LATER);
}

#[test]
fn invalid_approvers_end_the_stage() {
    for approver in ["\u{430}da", "team:unknown"] {
        let ran =
            world(Gate { approvers: vec![approver.to_owned()], ..gate() }).command(LATER, RunCommand::Suspend).run();
        assert_eq!(ran.outcomes()[0], "approve errored", "{approver}");
    }
}

#[test]
fn a_gate_that_expires_times_out() {
    let expiring = world(Gate { expires: Some(Timestamp(60_000)), ..gate() });
    let ran = expiring.command(2 * LATER, RunCommand::Suspend).run();
    assert_eq!(ran.outcomes(), ["approve timed-out", "deploy skipped", "clean succeeded"]);
    assert_eq!(ran.took, Duration::from_secs(60) + WORK);
}

#[test]
fn cancelling_ends_an_open_gate() {
    let cancel = RunCommand::Cancel { how: Interrupt::Graceful, reason: "Ctrl-C".to_owned() };
    let ran = world(gate()).command(LATER, cancel).run();
    assert_eq!(ran.outcomes(), ["approve cancelled", "deploy cancelled", "clean succeeded"]);
    assert_eq!(ran.conclusion(), Some(Outcome::Cancelled));
}

#[test]
fn one_person_cannot_approve_twice_with_another_spelling() {
    for again in ["ada", "Ada", "ada ", "a\u{200b}da", "ａｄａ", "", "\u{430}da"] {
        let asked = Gate { approvals: 2, ..gate() };
        let ran = world(asked)
            .command(LATER, decide(answer(true, "ada")))
            .command(2 * LATER, decide(answer(true, again)))
            .command(3 * LATER, decide(answer(true, "grace")))
            .run();
        assert_eq!(ran.outcomes()[0], "approve succeeded");
        assert_eq!(ran.took, 3 * LATER + 3 * WORK, "{again:?} counted as a second person");
    }
    let named = Gate { approvers: vec!["Ada".to_owned()], ..gate() };
    let ran = world(named).command(LATER, decide(answer(true, "ADA "))).run();
    assert_eq!(ran.outcomes()[0], "approve succeeded");
}

#[test]
fn expiry_is_checked_against_the_time_of_the_answer() {
    let expiring = || world(Gate { expires: Some(Timestamp(60_000)), ..gate() });
    let given = |at| Decision { at: Some(Timestamp(at)), ..answer(true, "ada") };
    let in_time = expiring().command(Duration::from_secs(50), decide(given(50_000))).run();
    assert_eq!(in_time.outcomes()[0], "approve succeeded");
    let late = expiring().command(Duration::from_secs(50), decide(given(60_000))).run();
    assert_eq!(late.outcomes()[0], "approve open");
}

#[test]
fn lookalike_name_cannot_approve_again_if_anyone_may_answer() {
    let ran = world(Gate { approvals: 2, ..gate() })
        .command(LATER, decide(answer(true, "caxap")))
        .command(2 * LATER, decide(answer(true, "сахар")))
        .command(3 * LATER, decide(answer(true, "grace")))
        .run();
    assert_eq!(ran.outcomes()[0], "approve succeeded");
    assert_eq!(ran.took, 3 * LATER + 3 * WORK, "letters of another script counted as a second person");
}

/// After a restart, an answer can be handled before the gate's timer fires.
#[test]
fn expired_gate_refuses_answers() {
    const EXPIRES: u64 = 60_000;
    let decided = |now: u64, at: Option<u64>, approvals: u32| {
        let plan = plan(vec![stage("approve", &[])]);
        let mut scheduler = Scheduler::new(plan, RunValues::default(), 1);
        let asked = Gate { expires: Some(Timestamp(EXPIRES)), approvals, ..gate() };
        let report = report(AttemptEnd::Suspended(asked), BTreeMap::new());
        let ended = Input::Ended { stage: StageIndex(0), attempt: 1, report };
        let decision = Decision { at: at.map(Timestamp), ..answer(true, "ada") };
        let decided = Input::Decided { stage: StageIndex(0), decision };
        let mut events = Vec::new();
        for (at, input) in [(0, Input::Start(RunId("r1".to_owned()))), (1, ended), (now, decided)] {
            events.extend(scheduler.on_input(Timestamp(at), input).expect("a sound run").events);
        }
        events.iter().any(|event| matches!(event.kind, EventKind::GateDecided { .. }))
    };
    for approvals in [1, 2] {
        assert!(decided(EXPIRES - 1, None, approvals));
        assert!(decided(EXPIRES + 5_000, Some(EXPIRES - 1), approvals), "the answer was given in time");
        for now in [EXPIRES, EXPIRES + 1, EXPIRES + 5_000] {
            assert!(!decided(now, None, approvals), "at {now}");
            assert!(!decided(now, Some(EXPIRES), approvals), "at {now}, given after expiry");
        }
    }
}
