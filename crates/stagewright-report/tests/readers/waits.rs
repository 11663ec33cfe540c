//! A stage that waits for a remote job: polls with and without news, signals, and a wait for a signal alone.

use serde_json::json;
use stagewright_engine::{Event, EventKind, Gate, GateKind, Outcome, Signal, Stream, Timestamp};
use stagewright_model::StageIndex;

use crate::script::{START, Script, stage};

const JOB: StageIndex = StageIndex(0);

fn signal(token: &str) -> Signal {
    let (by, at) = ("ada".to_owned(), Timestamp(START + 90_000));
    Signal { number: 1, token: token.to_owned(), stage: None, payload: json!({ "exit": 0 }), by, at }
}

impl Script {
    fn opened(self, reason: &str, until: Option<u64>) -> Script {
        let until = until.map(|after| Timestamp(START + after));
        let (token, message) = ("job 7".to_owned(), reason.to_owned());
        let gate = Gate { token, kind: GateKind::Wait, message, until, ..Gate::default() };
        self.then(EventKind::GateOpened { stage: JOB, attempt: 1, gate })
    }

    fn polled(self) -> Script {
        self.then(EventKind::GateElapsed { stage: JOB }).start(0, 1).wait(200)
    }
}

fn until_second_reason() -> Script {
    Script::of(vec![stage("job", "path:plugins/remote", &[]), stage("after", "noop", &[0])])
        .start(0, 1)
        .log(0, Stream::Plugin, "submitted")
        .wait(100)
        .opened("the job is queued", Some(5_100))
        .wait(5_000)
        .polled()
        .opened("the job is queued", Some(10_300))
        .wait(5_000)
        .polled()
        .opened("the job runs", Some(70_500))
}

/// Two polls, of which the second has news.
pub(crate) fn polled() -> Vec<Event> {
    until_second_reason().so_far()
}

/// A signal ends the wait; another one comes too early.
pub(crate) fn signalled() -> Vec<Event> {
    until_second_reason()
        .wait(20_000)
        .then(EventKind::SignalKept { signal: signal("another job") })
        .then(EventKind::GateSignalled { stage: JOB, signal: signal("job 7") })
        .start(0, 1)
        .wait(300)
        .end(0, 1, Outcome::Succeeded, None)
        .conclude(0, Outcome::Succeeded, None)
        .start(1, 1)
        .end(1, 1, Outcome::Succeeded, None)
        .conclude(1, Outcome::Succeeded, None)
        .run_ended(Outcome::Succeeded)
}

/// Only a signal can end the wait.
pub(crate) fn awaiting_a_signal() -> Vec<Event> {
    Script::of(vec![stage("job", "path:plugins/remote", &[])])
        .start(0, 1)
        .wait(100)
        .opened("the job is queued", None)
        .then(EventKind::RunSuspended { waiting: vec![JOB] })
        .so_far()
}
