//! Event streams of runs that act on production: gates, environments held by other runs, crashes, releases,
//! compensation.

use std::collections::BTreeMap;

use serde_json::json;
use stagewright_engine::{
    Change, Decision, Event, EventKind, FailedTest, FailureKind, Finding, Gate, GateKind, Outcome, Release,
    ReleaseOrigin, RunId, StageSummary, Stream, Timestamp,
};
use stagewright_model::StageIndex;

use crate::script::{START, Script, failure, stage};

const DEPLOY: StageIndex = StageIndex(1);
const HOUR: u64 = 3_600_000;

fn stages() -> Vec<StageSummary> {
    let on_production =
        |id, uses, needs: &[u32]| StageSummary { environment: Some("production".to_owned()), ..stage(id, uses, needs) };
    vec![
        stage("build", "build-image", &[]),
        on_production("deploy-production", "deploy", &[0]),
        stage("smoke-production", "smoke", &[1]),
    ]
}

fn run(id: &str) -> RunId {
    RunId(id.to_owned())
}

fn release(version: char, fence: u64, origin: ReleaseOrigin) -> Release {
    Release {
        parts: Default::default(),
        environment: "production".to_owned(),
        artifact: format!("local/app@sha256:{}", version.to_string().repeat(64)),
        url: Some("http://127.0.0.1:8080".to_owned()),
        fence,
        config: json!({}),
        commit: "abc".to_owned(),
        by: "ann".to_owned(),
        origin,
    }
}

fn gate(kind: GateKind, message: &str) -> Gate {
    Gate {
        token: "deploy-production-4".to_owned(),
        kind,
        message: message.to_owned(),
        approvers: vec!["team:release".to_owned()],
        members: vec!["ada".to_owned(), "grace".to_owned()],
        approvals: 1,
        ..Gate::default()
    }
}

fn decision(approved: bool, reason: &str, finding: Option<Finding>) -> Decision {
    Decision {
        token: "deploy-production-4".to_owned(),
        approved,
        by: "ada".to_owned(),
        reason: Some(reason.to_owned()),
        finding,
        ..Decision::default()
    }
}

impl Script {
    fn built(self) -> Script {
        self.start(0, 1).wait(2_000).end(0, 1, Outcome::Succeeded, None).conclude(0, Outcome::Succeeded, None)
    }

    fn gate(self, attempt: u32, gate: Gate) -> Script {
        self.then(EventKind::GateOpened { stage: DEPLOY, attempt, gate })
    }

    fn suspend(self) -> Script {
        self.then(EventKind::RunSuspended { waiting: vec![DEPLOY] })
    }

    fn resume(self, reason: &str, again: &[u32], changed: Vec<Change>) -> Script {
        let again = again.iter().copied().map(StageIndex).collect();
        self.then(EventKind::RunResumed { reason: reason.to_owned(), again, changed, pipeline: None })
    }

    /// Starts to deploy, up to the announcement of the effect.
    fn deploying(self, attempt: u32, fence: u64) -> Script {
        let what = "deploy local/app to production".to_owned();
        self.then(EventKind::AttemptStarted { stage: DEPLOY, attempt, fence: Some(fence) })
            .wait(100)
            .then(EventKind::EffectIntended { stage: DEPLOY, attempt, what })
    }

    fn deployed(self, attempt: u32, fence: u64) -> Script {
        let release = release('b', fence, ReleaseOrigin::Deploy);
        self.wait(1_500)
            .then(EventKind::ReleaseRecorded { stage: DEPLOY, attempt, release })
            .end(1, attempt, Outcome::Succeeded, None)
            .conclude(1, Outcome::Succeeded, None)
    }

    fn smoke(self, outcome: Outcome) -> Script {
        let why = (outcome != Outcome::Succeeded).then(|| failure(FailureKind::Reported, "GET /health answered 503"));
        self.start(2, 1).wait(700).end(2, 1, outcome, why).conclude(2, outcome, None)
    }

    fn undo(self) -> Script {
        self.then(EventKind::UndoStarted { stage: DEPLOY, attempt: 1, because: StageIndex(2), fence: Some(8) })
            .wait(300)
            .log(1, Stream::Plugin, "going back to the release before")
            .wait(900)
    }

    fn recovering(self) -> Script {
        self.wait(60_000)
            .end(1, 1, Outcome::Lost, Some(failure(FailureKind::Killed, "the process that ran it ended unexpectedly")))
            .conclude(1, Outcome::Lost, None)
            .resume("requested on the command line", &[1, 2], Vec::new())
            .then(EventKind::RecoveryStarted { stage: DEPLOY, attempt: 1 })
            .log(1, Stream::Plugin, "asking the target")
            .wait(400)
    }

    fn recovered(self, finding: Finding, by: Option<&str>) -> Script {
        let outputs = BTreeMap::from([("url".to_owned(), json!("http://127.0.0.1:8080"))]);
        self.then(EventKind::Recovered { stage: DEPLOY, attempt: 1, finding, by: by.map(str::to_owned), outputs })
    }
}

fn failed_test() -> FailedTest {
    FailedTest { suite: "smoke".to_owned(), name: "answers".to_owned(), file: None }
}

/// Waits for its group, for an approval and for another run, and succeeds.
pub(crate) fn shipped() -> Vec<Event> {
    let outputs = BTreeMap::from([("digest".to_owned(), json!("sha256:0")), ("image".to_owned(), json!("local/app"))]);
    Script::of(stages())
        .then(EventKind::OutputsInherited { stage: StageIndex(0), from: run("r0"), outputs })
        .conclude_as(0, Outcome::Skipped, Outcome::Succeeded, Some("left out"))
        .then(EventKind::TestsSelected { stage: StageIndex(2), from: run("r0"), tests: vec![failed_test(); 2] })
        .then(EventKind::GroupAwaited { group: "deploys of main".to_owned(), holder: run("r0") })
        .wait(5_000)
        .then(EventKind::GroupJoined { group: "deploys of main".to_owned(), replaced: vec![run("r0"), run("r00")] })
        .gate(1, gate(GateKind::Environment, "Let `deploy-production` act on `production`?"))
        .then(EventKind::GroupLeft { group: "deploys of main".to_owned() })
        .wait(60_000)
        .then(EventKind::GateDecided { stage: DEPLOY, decision: decision(true, "looks good", None) })
        .then(EventKind::GroupJoined { group: "deploys of main".to_owned(), replaced: Vec::new() })
        .then(EventKind::EnvironmentAwaited { stage: DEPLOY, environment: "production".to_owned(), holder: run("r0") })
        .wait(12_000)
        .deploying(1, 7)
        .deployed(1, 7)
        .smoke(Outcome::Succeeded)
        .then(EventKind::ReleaseConfirmed { stage: DEPLOY })
        .run_ended(Outcome::Succeeded)
}

/// The smoke test fails, and the deploy is compensated.
pub(crate) fn compensated() -> Vec<Event> {
    Script::of(stages())
        .built()
        .deploying(1, 7)
        .deployed(1, 7)
        .smoke(Outcome::Failed)
        .undo()
        .then(EventKind::UndoEnded { stage: DEPLOY, attempt: 1, outcome: Outcome::Succeeded, failure: None })
        .then(EventKind::ReleaseRecorded { stage: DEPLOY, attempt: 1, release: release('a', 8, ReleaseOrigin::Undo) })
        .then(EventKind::ReleaseConfirmed { stage: DEPLOY })
        .run_ended(Outcome::Failed)
}

/// The smoke test times out, and the compensation fails.
pub(crate) fn not_compensated() -> Vec<Event> {
    let failure = Some(failure(FailureKind::Reported, "the release before can't be found:\nsha256:aaaa is gone"));
    Script::of(stages())
        .built()
        .deploying(1, 7)
        .deployed(1, 7)
        .smoke(Outcome::TimedOut)
        .undo()
        .then(EventKind::UndoEnded { stage: DEPLOY, attempt: 1, outcome: Outcome::Errored, failure })
        .run_ended(Outcome::Failed)
}

/// The engine was killed; the plugin determines that the deploy had no effect, and the stage runs again.
pub(crate) fn recovered() -> Vec<Event> {
    let changed = vec![
        Change { what: "plugin deploy".to_owned(), then: "sha256:1111".to_owned(), now: "sha256:2222".to_owned() },
        Change { what: "commit".to_owned(), then: "abc".to_owned(), now: String::new() },
    ];
    Script::of(stages())
        .built()
        .deploying(1, 7)
        .recovering()
        .recovered(Finding::NotStarted, None)
        .resume("requested again", &[], changed)
        .deploying(2, 9)
        .deployed(2, 9)
        .smoke(Outcome::Succeeded)
        .run_ended(Outcome::Succeeded)
}

/// The engine was killed; the plugin determines that the deploy took effect.
pub(crate) fn found_in_place() -> Vec<Event> {
    Script::of(stages())
        .built()
        .deploying(1, 7)
        .recovering()
        .then(EventKind::ReleaseRecorded { stage: DEPLOY, attempt: 1, release: release('b', 7, ReleaseOrigin::Deploy) })
        .recovered(Finding::Applied("local/app answers".to_owned()), None)
        .conclude(1, Outcome::Succeeded, Some("found in place: local/app answers"))
        .smoke(Outcome::Succeeded)
        .run_ended(Outcome::Succeeded)
}

fn until_unresolved() -> Script {
    let message = "attempt 1 of `deploy-production` was interrupted, and its outcome is unknown: no dashboard";
    Script::of(stages()).built().deploying(1, 7).recovering().gate(1, gate(GateKind::Unresolved, message)).suspend()
}

/// The engine was killed; the plugin can't determine the outcome.
pub(crate) fn unresolved() -> Vec<Event> {
    until_unresolved().so_far()
}

/// The same; a person determines that the deploy took effect but doesn't work.
pub(crate) fn settled() -> Vec<Event> {
    let finding = Finding::Failed("the dashboard is red".to_owned());
    until_unresolved()
        .wait(HOUR)
        .resume("a gate was answered", &[], Vec::new())
        .then(EventKind::GateDecided { stage: DEPLOY, decision: decision(true, "looked", Some(finding.clone())) })
        .recovered(finding, Some("ada"))
        .conclude(1, Outcome::Failed, Some("found broken: the dashboard is red"))
        .conclude(2, Outcome::Skipped, Some("`deploy-production` failed"))
        .run_ended(Outcome::Failed)
}

fn until_freeze() -> Script {
    let until = Some(Timestamp(START + 62 * HOUR));
    let gate = gate(GateKind::Freeze, "`production` is frozen (holidays). Deploy anyway?");
    Script::of(stages()).built().gate(1, Gate { until, ..gate }).suspend()
}

/// The environment is frozen.
pub(crate) fn frozen() -> Vec<Event> {
    until_freeze().so_far()
}

/// The freeze ends, but a person has frozen the environment since.
pub(crate) fn frozen_again() -> Vec<Event> {
    until_freeze()
        .wait(62 * HOUR)
        .resume("requested on the command line", &[], Vec::new())
        .then(EventKind::GateElapsed { stage: DEPLOY })
        .gate(1, gate(GateKind::Freeze, "`production` is frozen (by grace: incident). Deploy anyway?"))
        .suspend()
        .so_far()
}
