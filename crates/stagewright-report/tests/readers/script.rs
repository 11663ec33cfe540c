//! Event streams for tests, written by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use stagewright_engine::{
    Artifact, Decision, EffectClass, Event, EventKind, Failure, FailureKind, Gate, GitState, Interrupt, Level, Outcome,
    Problem, RunId, RunSource, StageSummary, Stream, Timestamp,
};
use stagewright_model::{StageIndex, StageKind};

use crate::{production, waits};

pub(crate) const START: u64 = 1_700_000_000_000;

/// Builds events: numbers those that are recorded, and advances the time.
pub(crate) struct Script {
    events: Vec<Event>,
    seq: u64,
    at: u64,
}

impl Script {
    pub(crate) fn of(stages: Vec<StageSummary>) -> Script {
        let script = Script { events: Vec::new(), seq: 0, at: START };
        script.then(EventKind::RunStarted {
            run: RunId("r1".to_owned()),
            pipeline: "release".to_owned(),
            file: "stagewright.toml".to_owned(),
            rehearsal: false,
            inputs: BTreeMap::from([("version".to_owned(), json!("1.2"))]),
            source: Box::new(RunSource {
                git: GitState { commit: "abc".to_owned(), ..GitState::default() },
                ..RunSource::default()
            }),
            stages: stages.into_iter().map(Arc::new).collect(),
        })
    }

    pub(crate) fn wait(mut self, milliseconds: u64) -> Script {
        self.at += milliseconds;
        self
    }

    pub(crate) fn then(mut self, kind: EventKind) -> Script {
        let recorded = kind.is_recorded();
        let seq = if recorded { self.seq } else { self.seq - 1 };
        self.events.push(Event { seq, at: Timestamp(self.at), kind });
        self.seq += u64::from(recorded);
        self
    }

    pub(crate) fn start(self, stage: u32, attempt: u32) -> Script {
        self.then(EventKind::AttemptStarted { stage: StageIndex(stage), attempt, fence: None })
    }

    pub(crate) fn log(self, stage: u32, stream: Stream, line: &str) -> Script {
        self.then(EventKind::Log { stage: StageIndex(stage), attempt: 1, stream, line: line.to_owned() })
    }

    /// Ends the attempt, not the stage.
    pub(crate) fn end(self, stage: u32, attempt: u32, outcome: Outcome, failure: Option<Failure>) -> Script {
        let outputs = BTreeMap::from([("count".to_owned(), json!(3))]);
        self.then(EventKind::AttemptEnded { stage: StageIndex(stage), attempt, outcome, failure, outputs, made: None })
    }

    pub(crate) fn conclude(self, stage: u32, outcome: Outcome, reason: Option<&str>) -> Script {
        self.conclude_as(stage, outcome, outcome, reason)
    }

    pub(crate) fn conclude_as(self, stage: u32, outcome: Outcome, as_: Outcome, reason: Option<&str>) -> Script {
        let reason = reason.map(str::to_owned);
        self.then(EventKind::StageEnded { stage: StageIndex(stage), outcome, conclusion: as_, reason })
    }

    pub(crate) fn problem(self, stage: u32, level: Level, code: &str, message: &str, path: Option<&str>) -> Script {
        let problem = Problem {
            path: path.map(str::to_owned),
            help: Some("see the advisory".to_owned()),
            ..Problem::new(level, code, message)
        };
        self.then(EventKind::Problem { stage: StageIndex(stage), problem })
    }

    pub(crate) fn run_ended(self, conclusion: Outcome) -> Vec<Event> {
        self.then(EventKind::RunEnded { conclusion }).events
    }

    pub(crate) fn so_far(self) -> Vec<Event> {
        self.events
    }
}

pub(crate) fn stage(id: &str, uses: &str, needs: &[u32]) -> StageSummary {
    StageSummary {
        id: id.to_owned(),
        name: id.split(' ').next().unwrap_or(id).to_owned(),
        kind: StageKind::Main,
        uses: uses.to_owned(),
        needs: needs.iter().copied().map(StageIndex).collect(),
        environment: None,
        plugin: None,
        effect: EffectClass::Pure,
        rehearsal: None,
    }
}

fn finally(id: &str, uses: &str) -> StageSummary {
    StageSummary { kind: StageKind::Finally, ..stage(id, uses, &[]) }
}

pub(crate) fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure {
        causes: vec!["exit code 101".to_owned()],
        help: Some("run `cargo test` to see them".to_owned()),
        ..Failure::new(kind, message, true)
    }
}

fn report_file() -> Artifact {
    let (digest, media_type) = (format!("sha256:{}", "f".repeat(64)), "application/xml".to_owned());
    Artifact { name: "tests.xml".to_owned(), digest, media_type, size: 12_345 }
}

pub(crate) fn success() -> Vec<Event> {
    Script::of(vec![stage("test", "cargo-test", &[]), stage("image", "build-image", &[0]), finally("report", "notify")])
        .wait(4)
        .start(0, 1)
        .wait(120)
        .log(0, Stream::Stdout, "running 3 tests")
        .then(EventKind::Progress { stage: StageIndex(0), message: "testing".to_owned(), current: 1, total: Some(3) })
        .wait(1_400)
        .log(0, Stream::Engine, "done")
        .then(EventKind::Summary { stage: StageIndex(0), markdown: "**3** tests\npassed".to_owned() })
        .then(EventKind::ArtifactPublished { stage: StageIndex(0), attempt: 1, artifact: report_file() })
        .end(0, 1, Outcome::Succeeded, None)
        .conclude(0, Outcome::Succeeded, None)
        .start(1, 1)
        .wait(64_000)
        .end(1, 1, Outcome::Succeeded, None)
        .conclude(1, Outcome::Succeeded, None)
        .start(2, 1)
        .wait(30)
        .end(2, 1, Outcome::Skipped, Some(failure(FailureKind::Reported, "no recipients")))
        .conclude_as(2, Outcome::Skipped, Outcome::Succeeded, Some("no recipients"))
        .run_ended(Outcome::Succeeded)
}

pub(crate) fn failure_with_retry() -> Vec<Event> {
    let mut script = Script::of(vec![
        stage("test", "cargo-test", &[]),
        stage("audit", "cargo-audit", &[]),
        stage("deploy", "deploy", &[0, 1]),
    ])
    .wait(4)
    .start(0, 1)
    .start(1, 1)
    .wait(500)
    .log(0, Stream::Stderr, "flaky")
    .end(0, 1, Outcome::TimedOut, Some(failure(FailureKind::Timeout, "took longer than 500 ms")))
    .then(EventKind::RetryScheduled { stage: StageIndex(0), attempt: 2, after: 1_000 })
    .problem(1, Level::Warning, "RUSTSEC-2024-0001", "old, unmaintained crate: `x`", Some("Cargo.lock"))
    .end(1, 1, Outcome::Succeeded, None)
    .conclude(1, Outcome::Succeeded, None)
    .wait(1_000)
    .start(0, 2);
    for number in 1..=25 {
        script = script.wait(10).log(0, Stream::Stdout, &format!("test case_{number} ... ok"));
    }
    script
        .log(0, Stream::Stdout, "\u{1b}[2Jtest last ... FAILED\rok 100%")
        .log(0, Stream::Stderr, "::set-output name=x::y ##[error]no")
        .problem(0, Level::Error, "test-failed", "last:\nassertion failed, 1 == 2", Some("src/lib.rs"))
        .end(0, 2, Outcome::Failed, Some(failure(FailureKind::Reported, "1 of 26 tests failed:\n50% of `last`, alas")))
        .conclude(0, Outcome::Failed, None)
        .conclude(2, Outcome::Skipped, Some("`test` failed"))
        .run_ended(Outcome::Failed)
}

pub(crate) fn cancelled() -> Vec<Event> {
    Script::of(vec![stage("build", "cargo-build", &[]), stage("deploy", "deploy", &[0])])
        .start(0, 1)
        .wait(2_000)
        .then(EventKind::CancelRequested { how: Interrupt::Graceful, reason: "interrupt from the terminal".to_owned() })
        .wait(100)
        .end(0, 1, Outcome::Cancelled, Some(failure(FailureKind::Cancelled, "stopped on request")))
        .conclude(0, Outcome::Cancelled, None)
        .conclude(1, Outcome::Cancelled, Some("the run was cancelled"))
        .run_ended(Outcome::Cancelled)
}

pub(crate) fn gate() -> Gate {
    Gate {
        token: "g1".to_owned(),
        message: "Deploy 1.2 to production?\nIt is Friday.".to_owned(),
        approvers: vec!["team:release".to_owned(), "ann".to_owned()],
        approvals: 1,
        fields: Vec::new(),
        expires: Some(Timestamp(START + 3_600_000)),
        ..Gate::default()
    }
}

fn until_gate() -> Script {
    let deploy =
        StageSummary { environment: Some("production".to_owned()), ..stage("deploy (region=eu)", "deploy", &[0]) };
    Script::of(vec![stage("approve it", "approval", &[]), deploy])
        .start(0, 1)
        .wait(50)
        .then(EventKind::GateOpened { stage: StageIndex(0), attempt: 1, gate: gate() })
        .then(EventKind::RunSuspended { waiting: vec![StageIndex(0)] })
}

pub(crate) fn waiting() -> Vec<Event> {
    until_gate().so_far()
}

pub(crate) fn approved() -> Vec<Event> {
    let decision = Decision {
        token: "g1".to_owned(),
        approved: true,
        by: "ann".to_owned(),
        reason: Some("looks good".to_owned()),
        ..Decision::default()
    };
    until_gate()
        .wait(1_800_000)
        .then(EventKind::RunResumed {
            reason: "a decision came".to_owned(),
            again: Vec::new(),
            changed: Vec::new(),
            pipeline: None,
        })
        .then(EventKind::GateDecided { stage: StageIndex(0), decision })
        .start(0, 1)
        .wait(10)
        .end(0, 1, Outcome::Succeeded, None)
        .conclude(0, Outcome::Succeeded, None)
        .start(1, 1)
        .wait(900)
        .end(1, 1, Outcome::Succeeded, None)
        .conclude(1, Outcome::Succeeded, None)
        .run_ended(Outcome::Succeeded)
}

pub(crate) fn matrix() -> Vec<Event> {
    Script::of(vec![
        stage("test (os=linux)", "path:plugins/<test>", &[]),
        stage("test (os=\"win & mac\")", "path:plugins/<test>", &[]),
        stage("pack", "oci:ghcr.io/acme/pack-with-a-rather-long-name@sha256:0123456789abcdef", &[0, 1]),
        finally("cleanup", "noop"),
    ])
    .start(0, 1)
    .start(1, 1)
    .wait(300)
    .end(0, 1, Outcome::Succeeded, None)
    .conclude(0, Outcome::Succeeded, None)
    .end(1, 1, Outcome::Errored, Some(failure(FailureKind::OutOfMemory, "asked for 300 MiB, may have 256 MiB")))
    .conclude_as(1, Outcome::Errored, Outcome::Succeeded, None)
    .start(2, 1)
    .wait(20)
    .end(2, 1, Outcome::Lost, Some(failure(FailureKind::Killed, "killed by signal 9")))
    .conclude(2, Outcome::Lost, None)
    .start(3, 1)
    .end(3, 1, Outcome::Succeeded, None)
    .conclude(3, Outcome::Succeeded, None)
    .run_ended(Outcome::Failed)
}

/// A name for snapshots, and the events.
type Scenario = (&'static str, fn() -> Vec<Event>);

pub(crate) const ALL: [Scenario; 18] = [
    ("success", success),
    ("failure_with_retry", failure_with_retry),
    ("cancelled", cancelled),
    ("waiting", waiting),
    ("approved", approved),
    ("matrix", matrix),
    ("shipped", production::shipped),
    ("compensated", production::compensated),
    ("not_compensated", production::not_compensated),
    ("recovered", production::recovered),
    ("found_in_place", production::found_in_place),
    ("unresolved", production::unresolved),
    ("settled", production::settled),
    ("frozen", production::frozen),
    ("frozen_again", production::frozen_again),
    ("polled", waits::polled),
    ("signalled", waits::signalled),
    ("awaiting_a_signal", waits::awaiting_a_signal),
];
