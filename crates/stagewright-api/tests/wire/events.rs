//! Every event.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use stagewright_api::{
    Artifact, Capture, Change, Decision, EffectClass, Event, EventLine, Failure, FailureKind, Fidelity, Field,
    FieldKind, Finding, Gate, GateKind, GitState, Interrupt, Level, Made, Outcome, Problem, Release, ReleaseOrigin,
    RollbackSource, RunSource, StageKind, StageSummary, Stream, Trigger, VERSION,
};

use crate::{names, text};

pub(crate) fn s(value: &str) -> String {
    value.to_owned()
}

fn outputs() -> BTreeMap<String, Json> {
    BTreeMap::from([(s("digest"), json!("sha256:d")), (s("ratio"), json!(0.5)), (s("tags"), json!(["a"]))])
}

pub(crate) fn source() -> RunSource {
    RunSource {
        git: GitState {
            commit: s("0123456789abcdef"),
            short: s("0123456789ab"),
            branch: Some(s("main")),
            tag: Some(s("v1")),
            dirty: true,
            changes: s("c0ffee"),
        },
        trigger: Trigger {
            name: s("manual"),
            reference: s("refs/tags/v1"),
            commit: s("0123456789abcdef"),
            actor: s("ada"),
        },
        offline: true,
        unsandboxed: Some(s("no Landlock")),
        package_hosts: BTreeMap::from([(s("npm"), vec![s("https://npm.example.org")])]),
        rollback: Some(RollbackSource { run: s("run-0"), release: 3 }),
    }
}

/// With all that can be left out left out.
pub(crate) fn short_source() -> RunSource {
    let git = GitState { branch: None, tag: None, dirty: false, ..source().git };
    let trigger = source().trigger;
    RunSource { git, trigger, offline: false, unsandboxed: None, package_hosts: BTreeMap::new(), rollback: None }
}

pub(crate) fn capture() -> Capture {
    Capture { digest: s("sha256:c"), files: 3, bytes: 4096, opening: 7 }
}

fn failure() -> Failure {
    Failure {
        kind: FailureKind::Timeout,
        message: s("it took too long"),
        causes: vec![s("a test hung")],
        help: Some(s("raise `timeout`")),
        retryable: true,
    }
}

fn short_failure() -> Failure {
    Failure { causes: Vec::new(), help: None, retryable: false, ..failure() }
}

fn gate() -> Gate {
    Gate {
        token: s("approve-4"),
        kind: GateKind::Approval,
        message: s("Deploy?"),
        approvers: vec![s("team:release")],
        members: vec![s("ada"), s("grace")],
        approvals: 2,
        environments: vec![s("production")],
        fields: vec![Field { name: s("ticket"), kind: FieldKind::Number, description: s("its id"), required: true }],
        expires: Some(1_700_000_060_000),
        until: Some(1_700_000_030_000),
        binding: Some(s("sha256:b")),
        capture: Some(capture()),
    }
}

fn short_gate() -> Gate {
    Gate {
        approvers: Vec::new(),
        members: Vec::new(),
        environments: Vec::new(),
        fields: Vec::new(),
        expires: None,
        until: None,
        binding: None,
        capture: None,
        ..gate()
    }
}

fn decision() -> Decision {
    Decision {
        token: s("approve-4"),
        approved: true,
        by: s("ada"),
        at: Some(1_700_000_001_000),
        reason: Some(s("looks good")),
        fields: BTreeMap::from([(s("ticket"), json!(42))]),
        capture: Some(s("sha256:c")),
        rehearsed: false,
        finding: Some(Finding::Failed(s("it crashes"))),
    }
}

fn short_decision() -> Decision {
    Decision { at: None, reason: None, fields: BTreeMap::new(), capture: None, finding: None, ..decision() }
}

pub(crate) fn release() -> Release {
    Release {
        environment: s("production"),
        artifact: s("local/app@sha256:a"),
        url: Some(s("https://example.org")),
        fence: 7,
        config: json!({ "replicas": 2 }),
        commit: s("0123456789abcdef"),
        by: s("ada"),
        origin: ReleaseOrigin::Deploy,
    }
}

fn problem() -> Problem {
    Problem {
        level: Level::Warning,
        code: s("RUSTSEC-2024-0001"),
        message: s("unmaintained"),
        path: Some(s("Cargo.lock")),
        help: Some(s("replace it")),
    }
}

fn stages() -> Vec<StageSummary> {
    let test = StageSummary {
        id: s("test (os=linux)"),
        name: s("test"),
        kind: StageKind::Main,
        uses: s("cargo-test"),
        needs: vec![0],
        environment: Some(s("staging")),
        plugin: Some(s("sha256:p")),
        effect: EffectClass::Local,
        rehearsal: Some(Fidelity::StandIn),
    };
    let clean = StageSummary {
        kind: StageKind::Finally,
        needs: Vec::new(),
        environment: None,
        plugin: None,
        rehearsal: None,
        ..test.clone()
    };
    vec![test, clean]
}

/// One of each event, and of those with keys that can be left out, another one without them.
fn events() -> Vec<Event> {
    let (stage, attempt) = (1, 2);
    let started = |source| Event::RunStarted {
        run: s("run-1"),
        pipeline: s("release"),
        file: s("stagewright.toml"),
        rehearsal: true,
        inputs: BTreeMap::from([(s("version"), json!("1.2"))]),
        source,
        stages: stages(),
    };
    let resumed = |changed| Event::RunResumed { reason: s("asked for"), again: vec![1, 2], changed };
    let ended = |failure, made| {
        let outcome = Outcome::TimedOut;
        Event::AttemptEnded { stage, attempt, outcome, failure, outputs: outputs(), made }
    };
    vec![
        started(source()),
        started(short_source()),
        resumed(vec![Change { what: s("plugin deploy"), then: s("sha256:1"), now: s("sha256:2") }]),
        resumed(Vec::new()),
        Event::OutputsInherited { stage, from: s("run-0"), outputs: outputs() },
        Event::GroupAwaited { group: s("deploys"), holder: s("run-0") },
        Event::GroupJoined { group: s("deploys"), replaced: vec![s("run-0")] },
        Event::GroupLeft { group: s("deploys") },
        Event::EnvironmentAwaited { stage, environment: s("production"), holder: s("run-0") },
        Event::AttemptStarted { stage, attempt, fence: Some(7) },
        Event::AttemptStarted { stage, attempt, fence: None },
        Event::EffectIntended { stage, attempt, what: s("push local/app") },
        Event::RecoveryStarted { stage, attempt },
        Event::Recovered {
            stage,
            attempt,
            finding: Finding::Applied(s("it answers")),
            by: Some(s("ada")),
            outputs: outputs(),
        },
        Event::Recovered { stage, attempt, finding: Finding::NotStarted, by: None, outputs: BTreeMap::new() },
        Event::ReleaseRecorded { stage, attempt, release: release() },
        Event::ReleaseRecorded { stage, attempt, release: Release { url: None, ..release() } },
        Event::ReleaseConfirmed { stage },
        Event::UndoStarted { stage, attempt, because: 3, fence: Some(8) },
        Event::UndoStarted { stage, attempt, because: 3, fence: None },
        Event::UndoEnded { stage, attempt, outcome: Outcome::Failed, failure: Some(failure()) },
        Event::UndoEnded { stage, attempt, outcome: Outcome::Succeeded, failure: None },
        Event::Log { stage, attempt, stream: Stream::Stderr, line: s("warning: unused") },
        Event::Progress { stage, message: s("linking"), current: 3, total: Some(9) },
        Event::Progress { stage, message: s("linking"), current: 3, total: None },
        Event::Summary { stage, markdown: s("# All\n") },
        Event::CacheAsked { stage, attempt, key: s("sha256:k"), found: Some(s("run-0")) },
        Event::CacheAsked { stage, attempt, key: s("sha256:k"), found: None },
        Event::Problem { stage, problem: problem() },
        Event::Problem { stage, problem: Problem { path: None, help: None, ..problem() } },
        Event::GateOpened { stage, attempt, gate: gate() },
        Event::GateOpened { stage, attempt, gate: short_gate() },
        Event::GateElapsed { stage },
        Event::GateDecided { stage, decision: decision() },
        Event::GateDecided { stage, decision: short_decision() },
        Event::DecisionRefused { stage, by: s("eve"), reason: s("not an approver") },
        Event::ArtifactPublished {
            stage,
            attempt,
            artifact: Artifact {
                name: s("report.html"),
                digest: s("sha256:r"),
                media_type: s("text/html"),
                size: 4096,
            },
        },
        ended(Some(failure()), Some(Made { digest: s("sha256:m"), opening: Some(7) })),
        ended(Some(short_failure()), Some(Made { digest: s("sha256:m"), opening: None })),
        ended(None, None),
        Event::RetryScheduled { stage, attempt: 3, after: 1500 },
        Event::StageEnded {
            stage,
            outcome: Outcome::Failed,
            conclusion: Outcome::Succeeded,
            reason: Some(s("`build` failed")),
        },
        Event::StageEnded { stage, outcome: Outcome::Succeeded, conclusion: Outcome::Succeeded, reason: None },
        Event::CancelRequested { how: Interrupt::Kill, reason: s("Ctrl-C") },
        Event::RunSuspended { waiting: vec![1, 2] },
        Event::RunEnded { conclusion: Outcome::Rejected },
    ]
}

/// Distinct for each event, counted from 0. One that is added must be given a number, and an example above.
fn number(event: &Event) -> usize {
    match event {
        Event::RunStarted { .. } => 0,
        Event::RunResumed { .. } => 1,
        Event::OutputsInherited { .. } => 2,
        Event::GroupAwaited { .. } => 3,
        Event::GroupJoined { .. } => 4,
        Event::GroupLeft { .. } => 5,
        Event::EnvironmentAwaited { .. } => 6,
        Event::AttemptStarted { .. } => 7,
        Event::EffectIntended { .. } => 8,
        Event::RecoveryStarted { .. } => 9,
        Event::Recovered { .. } => 10,
        Event::ReleaseRecorded { .. } => 11,
        Event::ReleaseConfirmed { .. } => 12,
        Event::UndoStarted { .. } => 13,
        Event::UndoEnded { .. } => 14,
        Event::Log { .. } => 15,
        Event::Progress { .. } => 16,
        Event::Summary { .. } => 17,
        Event::CacheAsked { .. } => 18,
        Event::Problem { .. } => 19,
        Event::GateOpened { .. } => 20,
        Event::GateElapsed { .. } => 21,
        Event::GateDecided { .. } => 22,
        Event::DecisionRefused { .. } => 23,
        Event::ArtifactPublished { .. } => 24,
        Event::AttemptEnded { .. } => 25,
        Event::RetryScheduled { .. } => 26,
        Event::StageEnded { .. } => 27,
        Event::CancelRequested { .. } => 28,
        Event::RunSuspended { .. } => 29,
        Event::RunEnded { .. } => 30,
    }
}

#[test]
fn each_event_has_an_example() {
    let numbers = events().iter().map(number).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(numbers.into_iter().collect::<Vec<_>>(), (0..=30).collect::<Vec<_>>());
}

#[test]
fn lines() {
    let lines = events().into_iter().enumerate().map(|(seq, event)| {
        let waiting_ids = matches!(event, Event::RunSuspended { .. }).then(|| vec![s("approve"), s("deploy")]);
        let because_id = matches!(event, Event::UndoStarted { .. }).then(|| s("smoke"));
        let is_of_stage = serde_json::to_value(&event).is_ok_and(|fields| fields.get("stage").is_some());
        let stage_id = is_of_stage.then(|| s("test (os=linux)"));
        let line = EventLine {
            v: VERSION,
            seq: seq as u64,
            at: 1_700_000_000_000 + seq as u64,
            event,
            stage_id,
            waiting_ids,
            because_id,
        };
        text(&line)
    });
    insta::assert_snapshot!("events", lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn values_of_events() {
    use FailureKind as Kind;
    let kinds = [Kind::Reported, Kind::Configuration, Kind::Rehearsed, Kind::Denied, Kind::Trapped, Kind::OutOfMemory];
    let more = [Kind::LogLimit, Kind::Limit, Kind::Timeout, Kind::Cancelled, Kind::Killed, Kind::BadPlugin];
    let last = [Kind::Rejected, Kind::FilesChanged, Kind::Superseded, Kind::Internal];
    let outcomes = [Outcome::Succeeded, Outcome::Failed, Outcome::Errored, Outcome::TimedOut, Outcome::Cancelled];
    let others = [Outcome::Skipped, Outcome::Lost, Outcome::Rejected, Outcome::Inconclusive, Outcome::Rehearsed];
    let lines = [
        names(&[kinds.as_slice(), &more, &last].concat()),
        names(&[outcomes, others].concat()),
        names(&[Level::Error, Level::Warning, Level::Info]),
        names(&[GateKind::Approval, GateKind::Environment, GateKind::Freeze, GateKind::Unresolved]),
        names(&[FieldKind::Text, FieldKind::Number, FieldKind::Boolean]),
        names(&[Finding::NotStarted, Finding::Applied(s("there")), Finding::Failed(s("broken"))]),
        names(&[ReleaseOrigin::Deploy, ReleaseOrigin::Rollback, ReleaseOrigin::Undo]),
        names(&[StageKind::Main, StageKind::Finally]),
        names(&[EffectClass::Pure, EffectClass::Local, EffectClass::External]),
        names(&[Fidelity::Real, Fidelity::StandIn, Fidelity::Rehearsed]),
        names(&[Stream::Stdout, Stream::Stderr, Stream::Plugin, Stream::Engine]),
        names(&[Interrupt::Graceful, Interrupt::Kill]),
    ];
    insta::assert_snapshot!("values_of_events", lines.join("\n"));
}

/// `docs/json.md` has a row for each.
#[test]
fn every_event_is_in_the_documentation() {
    let documentation = include_str!("../../../../docs/json.md");
    for event in events() {
        let fields = serde_json::to_value(&event).expect("it can be serialised");
        let kind = fields["type"].as_str().expect("a type");
        let row = documentation.lines().find(|line| line.starts_with(&format!("| `{kind}` |")));
        let row = row.unwrap_or_else(|| panic!("no row for {kind}"));
        let own = fields.as_object().expect("an object").keys();
        let missing = own
            .filter(|key| !["type", "stage", "attempt"].contains(&key.as_str()) && !row.contains(&format!("`{key}`")));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new(), "of {kind}");
    }
}
