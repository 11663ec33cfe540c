//! The table of transitions, where waits and gates for people differ.

use stagewright_engine::{EventKind, Gate, GateKind, RunId, RunState, Signal, StageStatus, Timestamp};
use stagewright_model::StageIndex;

use crate::gates::{answer, gate};
use crate::waits::signal;

const STAGE: StageIndex = StageIndex(0);

/// The state of a run whose stage waits at the gate.
fn waiting(gate: Gate) -> RunState {
    let mut state = RunState::new(vec!["job".to_owned()]);
    let started = EventKind::RunStarted {
        run: RunId("r1".to_owned()),
        pipeline: String::new(),
        file: String::new(),
        rehearsal: false,
        inputs: Default::default(),
        source: Box::default(),
        stages: Vec::new(),
    };
    let attempt = EventKind::AttemptStarted { stage: STAGE, attempt: 1, fence: None };
    for event in [started, attempt, EventKind::GateOpened { stage: STAGE, attempt: 1, gate }] {
        state.apply(&event).expect("a legal transition");
    }
    state
}

fn wait(until: Option<u64>) -> Gate {
    let token = "job-7".to_owned();
    Gate { token, kind: GateKind::Wait, until: until.map(Timestamp), ..Gate::default() }
}

fn elapsed() -> EventKind {
    EventKind::GateElapsed { stage: STAGE }
}

fn signalled(signal: Signal) -> EventKind {
    EventKind::GateSignalled { stage: STAGE, signal }
}

fn decided(token: &str) -> EventKind {
    let decision = stagewright_engine::Decision { token: token.to_owned(), ..answer(true, "ada") };
    EventKind::GateDecided { stage: STAGE, decision }
}

#[test]
fn each_gate_ends_in_its_own_ways() {
    let of_other_stage = Signal { stage: Some(StageIndex(1)), ..signal(1) };
    let of_other_token = Signal { token: "job-8".to_owned(), ..signal(1) };
    let reopened = EventKind::GateOpened { stage: STAGE, attempt: 1, gate: wait(None) };
    for (gate, event, is_legal) in [
        (wait(Some(9)), elapsed(), true),
        (wait(Some(9)), signalled(signal(1)), true),
        (wait(None), signalled(signal(1)), true),
        (wait(None), elapsed(), false),
        (wait(None), signalled(of_other_stage), false),
        (wait(None), signalled(of_other_token), false),
        (wait(Some(9)), decided("job-7"), false),
        (wait(None), reopened, false),
        (gate(), decided("t1"), true),
        (gate(), elapsed(), false),
        (gate(), signalled(Signal { token: "t1".to_owned(), ..signal(1) }), false),
    ] {
        let mut state = waiting(gate.clone());
        let before = state.clone();
        match state.apply(&event) {
            Ok(()) => assert!(is_legal && state.stages[0].status == StageStatus::Approved(1), "{gate:?} {event:?}"),
            Err(error) => {
                assert!(!is_legal, "{gate:?} {event:?}");
                assert_eq!(state, before);
                assert!(error.to_string().contains("job"), "{error}");
            }
        }
    }
}
