//! Every event.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use stagewright_api::{
    ArtifactEntry, CaptureEntry, DecisionEntry, DeployedReleaseEntry, EffectClassName, EventEntry, EventLine,
    FailedTestEntry, FailureEntry, FailureKindName, FidelityName, FieldEntry, FieldKindName, FilePlaceEntry,
    FindingEntry, GateEntry, GateKindName, GitStateEntry, InterruptName, LevelName, MadeEntry, MetricEntry,
    MissingGrantEntry, OutcomeName, ProblemEntry, ReleaseOriginName, ReleaseSourceEntry, RolloutEntry,
    RolloutPhaseName, RunSourceEntry, SignalEntry, SourceChangeEntry, StageKindName, StageSummaryEntry, StreamName,
    TestCaseEntry, TestOutcomeName, TextRangeEntry, TriggerEntry, VERSION,
};

use crate::{names, text};

pub(crate) fn s(value: &str) -> String {
    value.to_owned()
}

fn outputs() -> BTreeMap<String, Json> {
    BTreeMap::from([(s("digest"), json!("sha256:d")), (s("ratio"), json!(0.5)), (s("tags"), json!(["a"]))])
}

pub(crate) fn source() -> RunSourceEntry {
    RunSourceEntry {
        git: GitStateEntry {
            commit: s("0123456789abcdef"),
            short: s("0123456789ab"),
            branch: Some(s("main")),
            tag: Some(s("v1")),
            dirty: true,
            changes: s("c0ffee"),
        },
        trigger: TriggerEntry {
            name: s("manual"),
            reference: s("refs/tags/v1"),
            commit: s("0123456789abcdef"),
            actor: s("ada"),
        },
        base: Some(s("fedcba9876543210")),
        offline: true,
        learning: true,
        unsandboxed: Some(s("no Landlock")),
        package_hosts: BTreeMap::from([(s("npm"), vec![s("https://npm.example.org")])]),
        rollback: Some(ReleaseSourceEntry { run: s("run-0"), release: 3, others: vec![4] }),
        promotion: Some(ReleaseSourceEntry { run: s("run-1"), release: 2, others: Vec::new() }),
    }
}

/// With all that can be left out left out.
pub(crate) fn short_source() -> RunSourceEntry {
    let git = GitStateEntry { branch: None, tag: None, dirty: false, ..source().git };
    let trigger = source().trigger;
    let (base, unsandboxed) = (None, None);
    RunSourceEntry {
        git,
        trigger,
        base,
        offline: false,
        learning: false,
        unsandboxed,
        package_hosts: BTreeMap::new(),
        rollback: None,
        promotion: None,
    }
}

pub(crate) fn capture() -> CaptureEntry {
    CaptureEntry { digest: s("sha256:c"), files: 3, bytes: 4096, opening: 7 }
}

pub(crate) fn failure() -> FailureEntry {
    FailureEntry {
        kind: FailureKindName::Timeout,
        message: s("it took too long"),
        causes: vec![s("a test hung")],
        help: Some(s("raise `timeout`")),
        retryable: true,
        retry_after: Some(30_000),
        place: Some(place()),
    }
}

fn place() -> FilePlaceEntry {
    FilePlaceEntry { path: s("src/lib.rs"), range: Some(range()) }
}

fn range() -> TextRangeEntry {
    TextRangeEntry { line: 3, column: Some(1), end_line: Some(4), end_column: Some(9) }
}

fn test_case() -> TestCaseEntry {
    TestCaseEntry {
        suite: s("unit"),
        name: s("adds"),
        outcome: TestOutcomeName::Failed,
        duration: Some(12),
        message: Some(s("1 is not 2")),
        output: Some(s("adding")),
        place: Some(place()),
        failures: 2,
    }
}

fn short_test_case() -> TestCaseEntry {
    let place = FilePlaceEntry { range: None, ..place() };
    TestCaseEntry { duration: None, message: None, output: None, place: Some(place), failures: 0, ..test_case() }
}

fn short_failure() -> FailureEntry {
    FailureEntry { causes: Vec::new(), help: None, retryable: false, retry_after: None, place: None, ..failure() }
}

pub(crate) fn rollout() -> RolloutEntry {
    RolloutEntry {
        service: s("app"),
        version: s("app-7"),
        artifact: s("local/app@sha256:7"),
        strategy: s("canary"),
        phase: RolloutPhaseName::Paused,
        step: 2,
        steps: 5,
        weight: 10,
        message: s("pause for 5 min"),
    }
}

fn gate() -> GateEntry {
    GateEntry {
        token: s("approve-4"),
        kind: GateKindName::Approval,
        message: s("Deploy?"),
        approvers: vec![s("team:release")],
        members: vec![s("ada"), s("grace")],
        approvals: 2,
        environments: vec![s("production")],
        fields: vec![
            FieldEntry {
                name: s("ticket"),
                kind: FieldKindName::Number,
                description: s("its id"),
                required: true,
                choices: Vec::new(),
            },
            FieldEntry {
                name: s("region"),
                kind: FieldKindName::Text,
                description: s("where"),
                required: false,
                choices: vec![s("eu"), s("us")],
            },
        ],
        expires: Some(1_700_000_060_000),
        until: Some(1_700_000_030_000),
        binding: Some(s("sha256:b")),
        capture: Some(capture()),
        releases: Some(BTreeMap::from([(s("production"), 14)])),
    }
}

fn short_gate() -> GateEntry {
    GateEntry {
        approvers: Vec::new(),
        members: Vec::new(),
        environments: Vec::new(),
        fields: Vec::new(),
        expires: None,
        until: None,
        binding: None,
        capture: None,
        releases: None,
        ..gate()
    }
}

fn wait() -> GateEntry {
    GateEntry {
        token: s("job-7"),
        kind: GateKindName::Wait,
        message: s("the job is queued"),
        approvers: Vec::new(),
        approvals: 0,
        fields: Vec::new(),
        until: Some(1_700_000_005_000),
        ..short_gate()
    }
}

fn signal() -> SignalEntry {
    SignalEntry {
        token: s("job-7"),
        stage: Some(1),
        payload: json!({ "exit": 0 }),
        by: s("ada"),
        at: 1_700_000_001_000,
    }
}

fn decision() -> DecisionEntry {
    DecisionEntry {
        token: s("approve-4"),
        approved: true,
        by: s("ada"),
        at: Some(1_700_000_001_000),
        reason: Some(s("looks good")),
        fields: BTreeMap::from([(s("ticket"), json!(42))]),
        capture: Some(s("sha256:c")),
        rehearsed: false,
        finding: Some(FindingEntry::Failed(s("it crashes"))),
    }
}

fn short_decision() -> DecisionEntry {
    DecisionEntry { at: None, reason: None, fields: BTreeMap::new(), capture: None, finding: None, ..decision() }
}

pub(crate) fn release() -> DeployedReleaseEntry {
    DeployedReleaseEntry {
        environment: s("production"),
        artifact: s("local/app@sha256:a"),
        url: Some(s("https://example.org")),
        fence: 7,
        config: json!({ "replicas": 2 }),
        commit: s("0123456789abcdef"),
        by: s("ada"),
        origin: ReleaseOriginName::Deploy,
    }
}

pub(crate) fn problem() -> ProblemEntry {
    ProblemEntry {
        level: LevelName::Warning,
        code: s("RUSTSEC-2024-0001"),
        message: s("unmaintained"),
        path: Some(s("Cargo.lock")),
        range: Some(range()),
        help: Some(s("replace it")),
        suggestion: Some(s("let x = 1;")),
        fingerprint: Some(s("f1")),
        grant: Some(MissingGrantEntry { table: s("stages.test.permissions"), permission: s("read"), entry: s("src") }),
    }
}

fn stages() -> Vec<StageSummaryEntry> {
    let test = StageSummaryEntry {
        id: s("test (os=linux)"),
        name: s("test"),
        kind: StageKindName::Main,
        uses: s("cargo-test"),
        needs: vec![0],
        environment: Some(s("staging")),
        plugin: Some(s("sha256:p")),
        effect: EffectClassName::Local,
        rehearsal: Some(FidelityName::StandIn),
    };
    let clean = StageSummaryEntry {
        kind: StageKindName::Finally,
        needs: Vec::new(),
        environment: None,
        plugin: None,
        rehearsal: None,
        ..test.clone()
    };
    vec![test, clean]
}

/// One of each event, and of those with keys that can be left out, another one without them.
fn events() -> Vec<EventEntry> {
    let (stage, attempt) = (1, 2);
    let started = |source| EventEntry::RunStarted {
        run: s("run-1"),
        pipeline: s("release"),
        file: s("stagewright.toml"),
        rehearsal: true,
        inputs: BTreeMap::from([(s("version"), json!("1.2"))]),
        source,
        stages: stages(),
    };
    let resumed = |changed| EventEntry::RunResumed { reason: s("asked for"), again: vec![1, 2], changed };
    let ended = |failure, made| {
        let outcome = OutcomeName::TimedOut;
        EventEntry::AttemptEnded { stage, attempt, outcome, failure, outputs: outputs(), made }
    };
    vec![
        started(Box::new(source())),
        started(Box::new(short_source())),
        resumed(vec![SourceChangeEntry { what: s("plugin deploy"), then: s("sha256:1"), now: s("sha256:2") }]),
        resumed(Vec::new()),
        EventEntry::OutputsInherited { stage, from: s("run-0"), outputs: outputs() },
        EventEntry::GroupAwaited { group: s("deploys"), holder: s("run-0") },
        EventEntry::GroupJoined { group: s("deploys"), replaced: vec![s("run-0")] },
        EventEntry::GroupLeft { group: s("deploys") },
        EventEntry::EnvironmentAwaited { stage, environment: s("production"), holder: s("run-0") },
        EventEntry::AttemptStarted { stage, attempt, fence: Some(7) },
        EventEntry::AttemptStarted { stage, attempt, fence: None },
        EventEntry::EffectIntended { stage, attempt, what: s("push local/app") },
        EventEntry::RecoveryStarted { stage, attempt },
        EventEntry::Recovered {
            stage,
            attempt,
            finding: FindingEntry::Applied(s("it answers")),
            by: Some(s("ada")),
            outputs: outputs(),
        },
        EventEntry::Recovered { stage, attempt, finding: FindingEntry::NotStarted, by: None, outputs: BTreeMap::new() },
        EventEntry::RolloutProgressed { stage, attempt, environment: s("production"), rollout: rollout() },
        EventEntry::ReleaseRecorded { stage, attempt, release: release() },
        EventEntry::ReleaseRecorded { stage, attempt, release: DeployedReleaseEntry { url: None, ..release() } },
        EventEntry::ReleaseConfirmed { stage },
        EventEntry::UndoStarted { stage, attempt, because: 3, fence: Some(8) },
        EventEntry::UndoStarted { stage, attempt, because: 3, fence: None },
        EventEntry::UndoEnded { stage, attempt, outcome: OutcomeName::Failed, failure: Some(failure()) },
        EventEntry::UndoEnded { stage, attempt, outcome: OutcomeName::Succeeded, failure: None },
        EventEntry::Log { stage, attempt, stream: StreamName::Stderr, line: s("warning: unused") },
        EventEntry::Progress { stage, message: s("linking"), current: 3, total: Some(9) },
        EventEntry::Progress { stage, message: s("linking"), current: 3, total: None },
        EventEntry::Summary { stage, markdown: s("# All\n") },
        EventEntry::CacheAsked { stage, attempt, key: s("sha256:k"), found: Some(s("run-0")) },
        EventEntry::CacheAsked { stage, attempt, key: s("sha256:k"), found: None },
        EventEntry::Problem { stage, problem: problem() },
        EventEntry::Problem {
            stage,
            problem: ProblemEntry {
                path: None,
                range: None,
                help: None,
                suggestion: None,
                fingerprint: None,
                grant: None,
                ..problem()
            },
        },
        EventEntry::TestsReported { stage, attempt, cases: vec![test_case(), short_test_case()] },
        EventEntry::MetricsReported {
            stage,
            attempt,
            metrics: vec![MetricEntry { name: s("size"), value: 1.5, unit: s("MiB") }],
        },
        EventEntry::GateOpened { stage, attempt, gate: gate() },
        EventEntry::GateOpened { stage, attempt, gate: short_gate() },
        EventEntry::GateElapsed { stage },
        EventEntry::GateDecided { stage, decision: decision() },
        EventEntry::GateDecided { stage, decision: short_decision() },
        EventEntry::DecisionRefused { stage, by: s("eve"), reason: s("not an approver") },
        EventEntry::ArtifactPublished {
            stage,
            attempt,
            artifact: ArtifactEntry {
                name: s("report.html"),
                digest: s("sha256:r"),
                media_type: s("text/html"),
                size: 4096,
            },
        },
        ended(Some(failure()), Some(MadeEntry { digest: s("sha256:m"), opening: Some(7) })),
        ended(Some(short_failure()), Some(MadeEntry { digest: s("sha256:m"), opening: None })),
        ended(None, None),
        EventEntry::RetryScheduled { stage, attempt: 3, after: 1500 },
        EventEntry::StageEnded {
            stage,
            outcome: OutcomeName::Failed,
            conclusion: OutcomeName::Succeeded,
            reason: Some(s("`build` failed")),
        },
        EventEntry::StageEnded {
            stage,
            outcome: OutcomeName::Succeeded,
            conclusion: OutcomeName::Succeeded,
            reason: None,
        },
        EventEntry::CancelRequested { how: InterruptName::Kill, reason: s("Ctrl-C") },
        EventEntry::RunSuspended { waiting: vec![1, 2] },
        EventEntry::RunEnded { conclusion: OutcomeName::Rejected },
        EventEntry::GateOpened { stage, attempt, gate: wait() },
        EventEntry::GateSignalled { stage, signal: signal() },
        EventEntry::SignalKept { signal: signal() },
        EventEntry::SignalKept { signal: SignalEntry { stage: None, payload: Json::Null, ..signal() } },
        EventEntry::SignalRefused { token: s("job-7"), by: s("eve"), reason: s("the stage has ended") },
        EventEntry::TestsSelected {
            stage,
            from: s("run-0"),
            tests: vec![
                FailedTestEntry { suite: s("app"), name: s("tests::adds"), file: Some(s("src/lib.rs")) },
                FailedTestEntry { suite: s("app"), name: s("tests::adds"), file: None },
            ],
        },
    ]
}

/// Distinct for each event, counted from 0. One that is added must be given a number, and an example above.
fn number(event: &EventEntry) -> usize {
    match event {
        EventEntry::RunStarted { .. } => 0,
        EventEntry::RunResumed { .. } => 1,
        EventEntry::OutputsInherited { .. } => 2,
        EventEntry::GroupAwaited { .. } => 3,
        EventEntry::GroupJoined { .. } => 4,
        EventEntry::GroupLeft { .. } => 5,
        EventEntry::EnvironmentAwaited { .. } => 6,
        EventEntry::AttemptStarted { .. } => 7,
        EventEntry::EffectIntended { .. } => 8,
        EventEntry::RecoveryStarted { .. } => 9,
        EventEntry::Recovered { .. } => 10,
        EventEntry::ReleaseRecorded { .. } => 11,
        EventEntry::ReleaseConfirmed { .. } => 12,
        EventEntry::UndoStarted { .. } => 13,
        EventEntry::UndoEnded { .. } => 14,
        EventEntry::Log { .. } => 15,
        EventEntry::Progress { .. } => 16,
        EventEntry::Summary { .. } => 17,
        EventEntry::CacheAsked { .. } => 18,
        EventEntry::Problem { .. } => 19,
        EventEntry::GateOpened { .. } => 20,
        EventEntry::GateElapsed { .. } => 21,
        EventEntry::GateDecided { .. } => 22,
        EventEntry::DecisionRefused { .. } => 23,
        EventEntry::ArtifactPublished { .. } => 24,
        EventEntry::AttemptEnded { .. } => 25,
        EventEntry::RetryScheduled { .. } => 26,
        EventEntry::StageEnded { .. } => 27,
        EventEntry::CancelRequested { .. } => 28,
        EventEntry::RunSuspended { .. } => 29,
        EventEntry::RunEnded { .. } => 30,
        EventEntry::TestsReported { .. } => 31,
        EventEntry::MetricsReported { .. } => 32,
        EventEntry::GateSignalled { .. } => 33,
        EventEntry::SignalKept { .. } => 34,
        EventEntry::SignalRefused { .. } => 35,
        EventEntry::TestsSelected { .. } => 36,
        EventEntry::RolloutProgressed { .. } => 37,
    }
}

#[test]
fn each_event_has_an_example() {
    let numbers = events().iter().map(number).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(numbers.into_iter().collect::<Vec<_>>(), (0..=37).collect::<Vec<_>>());
}

#[test]
fn lines() {
    let lines = events().into_iter().enumerate().map(|(seq, event)| {
        let waiting_ids = matches!(event, EventEntry::RunSuspended { .. }).then(|| vec![s("approve"), s("deploy")]);
        let because_id = matches!(event, EventEntry::UndoStarted { .. }).then(|| s("smoke"));
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
    use FailureKindName as Kind;
    let kinds = [Kind::Reported, Kind::Configuration, Kind::Rehearsed, Kind::Denied, Kind::Trapped, Kind::OutOfMemory];
    let more = [Kind::LogLimit, Kind::Limit, Kind::Timeout, Kind::Cancelled, Kind::Killed, Kind::BadPlugin];
    let last = [Kind::Rejected, Kind::FilesChanged, Kind::Superseded, Kind::Internal];
    let outcomes = [
        OutcomeName::Succeeded,
        OutcomeName::Failed,
        OutcomeName::Errored,
        OutcomeName::TimedOut,
        OutcomeName::Cancelled,
    ];
    let others = [
        OutcomeName::Skipped,
        OutcomeName::Lost,
        OutcomeName::Rejected,
        OutcomeName::Inconclusive,
        OutcomeName::Rehearsed,
    ];
    let lines = [
        names(&[kinds.as_slice(), &more, &last].concat()),
        names(&[outcomes, others].concat()),
        names(&[TestOutcomeName::Passed, TestOutcomeName::Failed, TestOutcomeName::Errored, TestOutcomeName::Skipped]),
        names(&[LevelName::Error, LevelName::Warning, LevelName::Info]),
        names(&[
            GateKindName::Approval,
            GateKindName::Environment,
            GateKindName::Freeze,
            GateKindName::Unresolved,
            GateKindName::Wait,
        ]),
        names(&[FieldKindName::Text, FieldKindName::Number, FieldKindName::Boolean]),
        names(&[FindingEntry::NotStarted, FindingEntry::Applied(s("there")), FindingEntry::Failed(s("broken"))]),
        names(&[ReleaseOriginName::Deploy, ReleaseOriginName::Rollback, ReleaseOriginName::Undo]),
        names(&[StageKindName::Main, StageKindName::Finally]),
        names(&[EffectClassName::Pure, EffectClassName::Local, EffectClassName::External]),
        names(&[FidelityName::Real, FidelityName::StandIn, FidelityName::Rehearsed]),
        names(&[StreamName::Stdout, StreamName::Stderr, StreamName::Plugin, StreamName::Engine]),
        names(&[InterruptName::Graceful, InterruptName::Kill]),
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
