//! The wire form of each event of the engine.
//!
//! Each field has a distinct value, so that the snapshot shows where it ends up.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use stagewright_engine::{
    Artifact, Capture, Change, Decision, EffectClass, Event, EventKind, FailedTest, Failure, FailureKind, Fidelity,
    Field, FieldKind, FilePlace, Finding, Gate, GateKind, GitState, Interrupt, Level, Made, Metric, Outcome, Problem,
    Release, ReleaseOrigin, ReleaseSource, Rollout, RolloutPhase, RunId, RunSource, Signal, StageSummary, Stream,
    TestCase, TestOutcome, TextRange, Timestamp, Trigger,
};
use stagewright_model::{MissingGrant, Permission, StageIndex, StageKind};
use stagewright_report::Json as JsonLines;

use crate::shown;

fn s(value: &str) -> String {
    value.to_owned()
}

fn run(id: &str) -> RunId {
    RunId(s(id))
}

fn outputs() -> BTreeMap<String, Json> {
    BTreeMap::from([(s("output"), json!("value"))])
}

fn source() -> Box<RunSource> {
    Box::new(RunSource {
        git: GitState {
            commit: s("git-commit"),
            short: s("git-short"),
            branch: Some(s("git-branch")),
            tag: Some(s("git-tag")),
            dirty: true,
            changes: s("git-changes"),
        },
        trigger: Trigger {
            name: s("trigger-name"),
            reference: s("trigger-ref"),
            commit: s("trigger-commit"),
            actor: s("trigger-actor"),
        },
        base: Some(s("base")),
        offline: true,
        learning: true,
        unsandboxed: Some(s("unsandboxed")),
        package_hosts: BTreeMap::from([(s("npm"), vec![s("https://npm.example.org")])]),
        rollback: Some(ReleaseSource { run: run("rollback-run"), release: 3, others: vec![4] }),
        promotion: Some(ReleaseSource::of(run("promotion-run"), 2)),
    })
}

fn stage_summary(id: &str, kind: StageKind) -> StageSummary {
    StageSummary {
        id: s(id),
        name: s("name"),
        kind,
        uses: s("uses"),
        needs: vec![StageIndex(1)],
        environment: Some(s("environment")),
        plugin: Some("plugin".into()),
        effect: EffectClass::Local,
        rehearsal: Some(Fidelity::StandIn),
    }
}

fn range() -> TextRange {
    TextRange { line: 1, column: Some(2), end_line: Some(3), end_column: Some(4) }
}

fn failure() -> Failure {
    Failure {
        kind: FailureKind::Limit,
        message: s("message"),
        causes: vec![s("cause")],
        help: Some(s("help")),
        retryable: true,
        retry_after: Some(1),
        place: Some(Box::new(FilePlace { path: s("path"), range: Some(range()) })),
    }
}

fn rollout() -> Rollout {
    Rollout {
        service: s("service"),
        version: s("version"),
        artifact: s("artifact"),
        strategy: s("strategy"),
        phase: RolloutPhase::Degraded,
        step: 2,
        steps: 3,
        weight: 50,
        message: s("message"),
        state: json!({ "kept": "by the plugin" }),
    }
}

fn gate() -> Gate {
    Gate {
        token: s("token"),
        kind: GateKind::Freeze,
        message: s("message"),
        approvers: vec![s("approver")],
        members: vec![s("member")],
        approvals: 2,
        environments: vec![s("environment")],
        fields: vec![Field {
            name: s("name"),
            kind: FieldKind::Boolean,
            description: s("description"),
            required: true,
            choices: vec![s("choice")],
        }],
        expires: Some(Timestamp(20)),
        until: Some(Timestamp(10)),
        binding: Some(s("binding")),
        capture: Some(Capture { digest: s("digest"), files: 4, bytes: 5, opening: 6 }),
        releases: Some(BTreeMap::from([(s("environment"), 14)])),
    }
}

fn signal() -> Signal {
    Signal {
        number: 1,
        token: s("token"),
        stage: Some(StageIndex(2)),
        payload: json!({ "exit": 0 }),
        by: s("by"),
        at: Timestamp(40),
    }
}

fn decision() -> Decision {
    Decision {
        token: s("token"),
        approved: true,
        by: s("by"),
        at: Some(Timestamp(30)),
        reason: Some(s("reason")),
        fields: BTreeMap::from([(s("field"), json!(1))]),
        capture: Some(s("capture")),
        rehearsed: true,
        finding: Some(Finding::Applied(s("detail"))),
    }
}

fn release() -> Release {
    Release {
        parts: Default::default(),
        environment: s("environment"),
        artifact: s("artifact"),
        url: Some(s("url")),
        fence: 7,
        config: json!("config"),
        commit: s("commit"),
        by: s("by"),
        origin: ReleaseOrigin::Rollback,
    }
}

fn kinds() -> Vec<EventKind> {
    let (stage, attempt) = (StageIndex(1), 2);
    let problem = Problem {
        level: Level::Info,
        code: s("code"),
        message: s("message"),
        path: Some(s("path")),
        range: Some(range()),
        help: Some(s("help")),
        suggestion: Some(s("suggestion")),
        fingerprint: Some(s("fingerprint")),
        grant: Some(Box::new(MissingGrant { table: s("table"), permission: Permission::Read, entry: s("entry") })),
    };
    let case = TestCase {
        suite: s("suite"),
        name: s("name"),
        outcome: TestOutcome::Errored,
        duration: Some(9),
        message: Some(s("message")),
        output: Some(s("output")),
        place: Some(FilePlace { path: s("path"), range: None }),
        failures: 10,
    };
    let metric = Metric { name: s("name"), value: 1.5, unit: s("unit") };
    let artifact = Artifact { name: s("name"), digest: s("digest"), media_type: s("media-type"), size: 8 };
    vec![
        EventKind::RunStarted {
            run: run("run"),
            pipeline: s("pipeline"),
            file: s("file"),
            rehearsal: true,
            inputs: BTreeMap::from([(s("input"), json!("value"))]),
            source: source(),
            stages: vec![
                stage_summary("id-0", StageKind::Main).into(),
                stage_summary("id-1", StageKind::Finally).into(),
                stage_summary("id-2", StageKind::Main).into(),
            ],
        },
        EventKind::RunResumed {
            reason: s("reason"),
            again: vec![StageIndex(2)],
            changed: vec![Change { what: s("what"), then: s("then"), now: s("now") }],
            pipeline: Some(s("pipeline")),
        },
        EventKind::OutputsInherited { stage, from: run("from"), outputs: outputs() },
        EventKind::GroupAwaited { group: s("group"), holder: run("holder") },
        EventKind::GroupJoined { group: s("group"), replaced: vec![run("replaced")] },
        EventKind::GroupLeft { group: s("group") },
        EventKind::EnvironmentAwaited { stage, environment: s("environment"), holder: run("holder") },
        EventKind::AttemptStarted { stage, attempt, fence: Some(7) },
        EventKind::EffectIntended { stage, attempt, what: s("what") },
        EventKind::RecoveryStarted { stage, attempt },
        EventKind::Recovered {
            stage,
            attempt,
            finding: Finding::Failed(s("detail")),
            by: Some(s("by")),
            outputs: outputs(),
        },
        EventKind::RolloutProgressed { stage, attempt, environment: s("environment"), rollout: Box::new(rollout()) },
        EventKind::ReleaseRecorded { stage, attempt, release: release() },
        EventKind::ReleaseConfirmed { stage },
        EventKind::UndoStarted { stage, attempt, because: StageIndex(2), fence: Some(7) },
        EventKind::UndoEnded { stage, attempt, outcome: Outcome::TimedOut, failure: Some(failure()) },
        EventKind::Log { stage, attempt, stream: Stream::Engine, line: s("line") },
        EventKind::Progress { stage, message: s("message"), current: 3, total: Some(4) },
        EventKind::Summary { stage, markdown: s("markdown") },
        EventKind::CacheLookedUp { stage, attempt, key: s("key"), hit_from: Some(run("hit-from")) },
        EventKind::Problem { stage, problem },
        EventKind::TestsReported { stage, attempt, cases: vec![case] },
        EventKind::MetricsReported { stage, attempt, metrics: vec![metric] },
        EventKind::GateOpened { stage, attempt, gate: gate() },
        EventKind::GateElapsed { stage },
        EventKind::GateDecided { stage, decision: decision() },
        EventKind::DecisionRefused { stage, by: s("by"), reason: s("reason") },
        EventKind::ArtifactPublished { stage, attempt, artifact },
        EventKind::AttemptEnded {
            stage,
            attempt,
            outcome: Outcome::Inconclusive,
            failure: Some(failure()),
            outputs: outputs(),
            made: Some(Made { digest: s("digest"), opening: Some(6) }),
        },
        EventKind::RetryScheduled { stage, attempt, after: 9 },
        EventKind::StageEnded {
            stage,
            outcome: Outcome::Failed,
            conclusion: Outcome::Succeeded,
            reason: Some(s("reason")),
        },
        EventKind::CancelRequested { how: Interrupt::Kill, reason: s("reason") },
        EventKind::RunSuspended { waiting: vec![StageIndex(0), StageIndex(2)] },
        EventKind::RunEnded { conclusion: Outcome::Rejected },
        EventKind::GateSignalled { stage, signal: signal() },
        EventKind::SignalKept { signal: signal() },
        EventKind::SignalRefused { token: s("token"), by: s("by"), reason: s("reason") },
        EventKind::TestsSelected {
            stage,
            from: run("from"),
            tests: vec![FailedTest { suite: s("suite"), name: s("name"), file: Some(s("file")) }],
        },
    ]
}

#[test]
fn every_field_of_an_event() {
    let events = kinds().into_iter().zip(0..).map(|(kind, seq)| Event { seq, at: Timestamp(1000 + seq), kind });
    insta::assert_snapshot!("wire", shown(JsonLines::new, &events.collect::<Vec<_>>()));
}

/// Event types and fields were renamed in the engine, but programs rely on the earlier names.
#[test]
fn names_on_the_wire_stay_when_the_engine_renames_them() {
    let kind = EventKind::CacheLookedUp { stage: StageIndex(0), attempt: 1, key: s("k"), hit_from: Some(run("r0")) };
    let line = shown(JsonLines::new, &[Event { seq: 0, at: Timestamp(0), kind }]);
    assert_eq!(
        line,
        "{\"v\":1,\"seq\":0,\"at\":0,\"type\":\"cache-asked\",\"stage\":0,\"attempt\":1,\"key\":\"k\",\"found\":\"r0\"}\n"
    );
}
