//! Requests, messages and reports of attempts survive serialisation, so that attempts can run on another machine.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use stagewright_engine::{
    ApprovedCapture, Artifact, AttemptEnd, AttemptMessage, AttemptMessageKind, AttemptReport, AttemptRequest, Basis,
    CacheRequest, Call, Capture, Drift, EarlierResult, EarlierStage, EffectRefused, EnvironmentView, FailedTest,
    Failure, FailureKind, Field, FieldKind, FilePlace, Finding, Gate, GateKind, GitState, Level, Lines, Made, Metric,
    Need, Observation, Outcome, Problem, Release, ReleaseNote, ReleaseOrigin, Rollout, RolloutPhase, RunId, SourceView,
    Stream, TestCase, TestOutcome, TextRange, Timestamp, Trigger, Wait,
};
use stagewright_model::{Limits, MissingGrant, Permission, Permissions, PluginRef, RehearsalTerms, StageIndex, Trust};

/// Serialises and deserialises a value. No field of it may have its default, so that a field that isn't serialised is
/// noticed.
fn travels<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_string(value).expect("it can be serialised");
    let arrived: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(&arrived, value, "{text}");
    assert_full(&serde_json::from_str(&text).expect("JSON"), &text);
}

fn assert_full(value: &Json, text: &str) {
    match value {
        Json::Array(items) => {
            assert!(!items.is_empty(), "an empty list in {text}");
            items.iter().for_each(|item| assert_full(item, text));
        }
        Json::Object(fields) => {
            assert!(!fields.is_empty(), "an empty object in {text}");
            fields.values().for_each(|value| assert_full(value, text));
        }
        Json::String(string) => assert!(!string.is_empty(), "an empty text in {text}"),
        Json::Number(number) => assert_ne!(number.as_u64(), Some(0), "a zero in {text}"),
        Json::Bool(flag) => assert!(flag, "false in {text}"),
        Json::Null => panic!("a null in {text}"),
    }
}

fn all<T: std::str::FromStr<Err: Debug>>(entries: &[&str]) -> Vec<T> {
    entries.iter().map(|entry| entry.parse().expect("an entry")).collect()
}

fn text(value: &str) -> String {
    value.to_owned()
}

fn permissions() -> Permissions {
    Permissions {
        process: all(&["cargo"]),
        read: all(&["src/**"]),
        write: all(&["target"]),
        exec: all(&["node_modules"]),
        net: all(&["cargo", "https://example.org:8443"]),
        secrets: all(&["token:header"]),
        reveal: all(&["token"]),
        credentials: all(&["kube"]),
        registry: all(&["ghcr.io/acme/*"]),
        service: all(&["database"]),
        socket: all(&["docker"]),
        env: all(&["LANG"]),
        unsandboxed: true,
        credential_files: vec![text(".npmrc")],
    }
}

fn capture() -> Capture {
    Capture { digest: text("sha256:c"), files: 3, bytes: 40, opening: 7 }
}

fn made() -> Made {
    Made { digest: text("sha256:m"), opening: Some(7) }
}

fn release() -> Release {
    Release {
        parts: [(text("service/web"), text("x"))].into(),
        environment: text("production"),
        artifact: text("local/app@sha256:a"),
        url: Some(text("https://example.org")),
        fence: 4,
        config: json!({ "replicas": 2 }),
        commit: text("abc"),
        by: text("ada"),
        origin: ReleaseOrigin::Rollback,
    }
}

fn failure() -> Failure {
    Failure {
        kind: FailureKind::Limit,
        message: text("the disk is full"),
        causes: vec![text("no space left")],
        help: Some(text("free some")),
        retryable: true,
        retry_after: Some(30_000),
        place: Some(Box::new(place())),
    }
}

fn place() -> FilePlace {
    FilePlace { path: text("src/lib.rs"), range: Some(range()) }
}

fn range() -> TextRange {
    TextRange { line: 3, column: Some(1), end_line: Some(4), end_column: Some(9) }
}

fn problem() -> Problem {
    Problem {
        level: Level::Warning,
        code: text("test-failed"),
        message: text("one test failed"),
        path: Some(text("src/lib.rs")),
        range: Some(range()),
        help: Some(text("fix it")),
        suggestion: Some(text("let x = 1;")),
        fingerprint: Some(text("f1")),
        grant: Some(Box::new(MissingGrant {
            table: text("stages.test.permissions"),
            permission: Permission::Read,
            entry: text("src"),
        })),
    }
}

fn test_case() -> TestCase {
    TestCase {
        suite: text("unit"),
        name: text("adds"),
        outcome: TestOutcome::Failed,
        duration: Some(12),
        message: Some(text("1 is not 2")),
        output: Some(text("adding")),
        place: Some(place()),
        failures: 2,
    }
}

fn wait() -> Wait {
    Wait {
        token: text("job-7"),
        reason: text("the job is queued"),
        poll_after: Some(Duration::new(5, 1)),
        expires: Some(Duration::new(60, 1)),
    }
}

fn gate() -> Gate {
    Gate {
        token: text("t-1"),
        kind: GateKind::Environment,
        message: text("Deploy?"),
        approvers: vec![text("team:release")],
        members: vec![text("ada")],
        approvals: 2,
        environments: vec![text("production")],
        fields: vec![Field {
            name: text("region"),
            kind: FieldKind::Text,
            description: text("where"),
            required: true,
            choices: vec![text("eu")],
        }],
        expires: Some(Timestamp(90)),
        until: Some(Timestamp(80)),
        binding: Some(text("sha256:b")),
        capture: Some(capture()),
        releases: Some([(text("production"), 4)].into()),
    }
}

fn rollout() -> Rollout {
    Rollout {
        service: text("app"),
        version: text("app-7"),
        artifact: text("local/app@sha256:7"),
        strategy: text("canary"),
        phase: RolloutPhase::Paused,
        step: 2,
        steps: 5,
        weight: 10,
        message: text("waits for 5 min"),
        state: json!({ "since": 12 }),
    }
}

fn request() -> AttemptRequest {
    AttemptRequest {
        run: RunId(text("run-1")),
        pipeline: text("release"),
        stage: StageIndex(3),
        stage_id: text("test (linux)"),
        table: text("stages.test"),
        attempt: 2,
        call: Call::Undo,
        uses: PluginRef::Path(text("plugins/mine")),
        trust: Trust::Native { digest: text("sha256:n") },
        plugin: Some(text("sha256:p")),
        config: json!({ "args": ["--workspace"], "ratio": 1.5 }),
        env: BTreeMap::from([(text("MODE"), text("fast"))]),
        permissions: permissions(),
        environment: Some(EnvironmentView {
            standing: Some(Box::new(release())),
            name: text("production"),
            target: text("process"),
            url: Some(text("https://example.org")),
            config: vec![text("config/base.toml")],
            protected: true,
            fence: Some(5),
            current: Some(release()),
            last_known_good: Some(release()),
            restored: Some(Box::new(release())),
        }),
        needs: vec![Need {
            stage: text("build"),
            id: text("build (linux)"),
            outcome: Outcome::Failed,
            conclusion: Outcome::Succeeded,
            outputs: BTreeMap::from([(text("image"), json!("app"))]),
        }],
        before: [text("fetch")].into(),
        source: Some(Box::new(SourceView {
            git: GitState {
                commit: text("abc"),
                short: text("ab"),
                branch: Some(text("main")),
                tag: Some(text("v1")),
                dirty: true,
                changes: text("sha256:c"),
            },
            trigger: Trigger {
                name: text("manual"),
                reference: text("refs/heads/main"),
                commit: text("abc"),
                actor: text("ada"),
            },
            base: Some(text("abb")),
        })),
        timeout: Some(Duration::new(90, 1)),
        memory: Some(1 << 40),
        log_limit: Some(1 << 20),
        limits: Limits {
            cpu: Some(Duration::from_millis(1500)),
            process_memory: Some(1),
            processes: Some(2),
            log_lines: Some(3),
            artifacts: Some(4),
            workspace: Some(5),
            requests: Some(6),
        },
        declared: Some(all(&["src/*.rs"])),
        cache: Some(CacheRequest {
            take: true,
            keep: true,
            inputs: all(&["src/**"]),
            outputs: all(&["target/app"]),
            before: vec![EarlierStage {
                stage_id: text("build"),
                outputs: all(&["gen"]),
                writes: all(&["gen/**"]),
                is_cached: true,
            }],
        }),
        failed_tests: Some(vec![FailedTest {
            suite: "app".into(),
            name: "adds".into(),
            file: Some("src/lib.rs".into()),
        }]),
        resumption: Some(json!({ "approved": true })),
        rollout: Some(Box::new(rollout())),
        rehearsal: Some(RehearsalTerms { real: permissions(), is_configured: true, offline: true }),
        basis: basis(),
        // A path of the machine that runs the attempt, which isn't serialised.
        folder: None,
    }
}

fn basis() -> Basis {
    Basis {
        captures: vec![ApprovedCapture {
            stage_id: text("approve"),
            capture: capture(),
            written_since: all(&["report"]),
        }],
        made: vec![EarlierResult {
            stage_id: text("build"),
            made: made(),
            results: all(&["app"]),
            writable: all(&["app", "tmp"]),
        }],
        unordered: all(&["site"]),
        writable: all(&["report"]),
        results: all(&["report/all.xml"]),
        readers: all(&["report/**"]),
    }
}

#[test]
fn requests_round_trip_through_json() {
    travels(&request());
    for call in [Call::Run, Call::Observe, Call::Undo] {
        travels(&AttemptRequest { call, ..request() });
    }
    for uses in [PluginRef::Builtin(text("path:x")), PluginRef::Path(text("x")), PluginRef::Oci(text("x"))] {
        travels(&AttemptRequest { uses, ..request() });
    }
    travels(&AttemptRequest { trust: Trust::Component, ..request() });
}

#[test]
fn capture_requests_round_trip_through_json() {
    travels(&stagewright_engine::CaptureRequest {
        run: RunId(text("run-1")),
        stage_id: text("approve"),
        opening: 8,
        paths: all(&["app", "config"]),
        basis: basis(),
    });
}

#[test]
fn messages_round_trip_through_json() {
    let kinds = [
        AttemptMessageKind::Lines(Stream::Stderr, Lines::from("one\n\ntwo\r\n")),
        AttemptMessageKind::Progress { message: text("linking"), current: 3, total: Some(9) },
        AttemptMessageKind::Summary(text("# All\n")),
        AttemptMessageKind::CacheLookedUp { key: text("sha256:k"), hit_from: Some(RunId(text("run-0"))) },
        AttemptMessageKind::Problem(problem()),
        AttemptMessageKind::Tests(vec![test_case()]),
        AttemptMessageKind::Metrics(vec![Metric { name: text("size"), value: 1.5, unit: text("MiB") }]),
        AttemptMessageKind::EffectRequested { what: text("push local/app") },
        AttemptMessageKind::RolloutRecorded(Box::new(rollout())),
    ];
    for kind in kinds {
        // Doesn't compile if a kind is missing in the list above.
        match kind {
            AttemptMessageKind::Lines(..)
            | AttemptMessageKind::Progress { .. }
            | AttemptMessageKind::Summary(_)
            | AttemptMessageKind::CacheLookedUp { .. }
            | AttemptMessageKind::Problem(_)
            | AttemptMessageKind::Tests(_)
            | AttemptMessageKind::Metrics(_)
            | AttemptMessageKind::EffectRequested { .. }
            | AttemptMessageKind::RolloutRecorded(_) => {}
        }
        travels(&AttemptMessage { stage: StageIndex(3), attempt: 2, launch: 5, kind });
    }
    travels(&EffectRefused::Superseded(text("production")));
    travels(&EffectRefused::Unrecorded);
}

#[test]
fn reports_round_trip_through_json() {
    let ends = [
        AttemptEnd::Succeeded,
        AttemptEnd::Skipped(text("nothing to do")),
        AttemptEnd::Rehearsed(text("would run kubectl")),
        AttemptEnd::Suspended(gate()),
        AttemptEnd::Waiting(wait()),
        AttemptEnd::Observed(Observation::Found(Finding::Applied(text("app 2")))),
        AttemptEnd::Observed(Observation::Found(Finding::Failed(text("crashed")))),
        AttemptEnd::Observed(Observation::Found(Finding::NotStarted)),
        AttemptEnd::Observed(Observation::InProgress),
        AttemptEnd::Observed(Observation::Unknown(text("no answer"))),
        AttemptEnd::Compared(vec![Drift { what: text("replicas"), expected: Some(text("2")), found: None }]),
        AttemptEnd::Unsuccessful(Outcome::TimedOut, failure()),
    ];
    for end in ends {
        match end {
            AttemptEnd::Succeeded
            | AttemptEnd::Skipped(_)
            | AttemptEnd::Rehearsed(_)
            | AttemptEnd::Suspended(_)
            | AttemptEnd::Waiting(_)
            | AttemptEnd::Observed(Observation::Found(_) | Observation::InProgress | Observation::Unknown(_))
            | AttemptEnd::Compared(_)
            | AttemptEnd::Unsuccessful(..) => {}
        }
        travels(&AttemptReport {
            end,
            outputs: BTreeMap::from([(text("url"), json!("https://example.org"))]),
            artifacts: vec![Artifact {
                name: text("report.html"),
                digest: text("sha256:r"),
                media_type: text("text/html"),
                size: 12,
            }],
            release: Some(ReleaseNote {
                artifact: text("local/app@sha256:a"),
                url: Some(text("https://example.org")),
                parts: [(text("service/web"), text("x"))].into(),
            }),
            made: Some(made()),
            read_history: true,
        });
    }
}
