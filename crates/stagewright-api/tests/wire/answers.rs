//! Every answer.

use std::collections::BTreeMap;

use serde_json::json;
use stagewright_api::{
    CacheUseName, ConfigChangeEntry, DeployChangesEntry, DiagnosticEntry, Difference, DifferencePart, DriftEntry,
    EffectClassName, EnvironmentEntry, ExplainEntry, ExplainReason, FidelityName, FreezeEntry, GcAnswer, GrantAnswer,
    LackedGrantEntry, LockChangeEntry, LockComparison, MountModeName, OutcomeName, PackageOriginEntry,
    PackageOriginSource, PermissionsEntry, PlanAnswer, PlanStage, ProposedPipelineAnswer, ProposedStageEntry,
    ReleaseEntry, RunEntry, RunStatus, SandboxName, SecretDestination, ServiceEntry, ServicePhase, ServiceRelease,
    Severity, StageKindName, ToolMountEntry, WhyEntry,
};

use crate::events::{capture, failure, problem, release, s, short_source, source};
use crate::{names, pretty};

#[test]
fn runs() {
    let whole = RunEntry {
        run: s("run-1"),
        pipeline: s("release"),
        file: s("stagewright.toml"),
        rehearsal: true,
        started: 1_700_000_000_000,
        last: 1_700_000_060_000,
        state: RunStatus::Waiting,
        failed_stage: Some(s("test")),
        waiting: vec![s("approve")],
        captures: BTreeMap::from([(s("approve"), capture())]),
        tokens: BTreeMap::new(),
        source: source(),
    };
    let short = RunEntry {
        failed_stage: None,
        waiting: Vec::new(),
        captures: BTreeMap::new(),
        source: short_source(),
        ..whole.clone()
    };
    let tokens = BTreeMap::from([(s("remote"), s("job-7"))]);
    let waiting = RunEntry { waiting: vec![s("remote")], tokens, ..short.clone() };
    insta::assert_snapshot!("runs", [pretty(&whole), pretty(&short), pretty(&waiting)].join("\n"));
}

fn difference() -> Difference {
    Difference {
        part: DifferencePart::File,
        name: s("src/main.rs"),
        then: Some(s("sha256:1")),
        now: Some(s("sha256:2")),
    }
}

#[test]
fn explain() {
    let changed = ExplainEntry {
        stage: s("build"),
        ran: true,
        why: ExplainReason::Changed,
        since: Some(s("run-0")),
        changed: Some(vec![difference(), Difference { then: None, now: None, ..difference() }]),
    };
    let not_run =
        ExplainEntry { ran: false, why: ExplainReason::NotRun, since: None, changed: None, ..changed.clone() };
    insta::assert_snapshot!("explain", [pretty(&changed), pretty(&not_run)].join("\n"));
}

#[test]
fn why() {
    let cache =
        ExplainEntry { stage: s("build"), ran: true, why: ExplainReason::NotCached, since: None, changed: None };
    let whole = WhyEntry {
        run: s("run-1"),
        rehearsal: false,
        stage: s("build"),
        outcome: Some(OutcomeName::Failed),
        reason: Some(s("`lint` failed")),
        failure: Some(failure()),
        attempts: 2,
        cache,
        permissions: Some(permissions()),
        secrets: vec![SecretDestination {
            name: s("token"),
            uses: vec![s("env")],
            hosts: vec![s("ghcr.io")],
            programs: vec![s("curl")],
        }],
        effects: vec![s("run curl")],
        refused: vec![problem()],
    };
    let running = WhyEntry {
        outcome: None,
        reason: None,
        failure: None,
        permissions: None,
        secrets: Vec::new(),
        effects: Vec::new(),
        refused: Vec::new(),
        ..whole.clone()
    };
    insta::assert_snapshot!("why", [pretty(&whole), pretty(&running)].join("\n"));
}

fn release_entry() -> ReleaseEntry {
    ReleaseEntry {
        number: 3,
        run: s("run-1"),
        stage: s("deploy-production"),
        attempt: 1,
        at: 1_700_000_000_000,
        good: true,
        undone: false,
        release: release(),
    }
}

#[test]
fn environments() {
    let whole = EnvironmentEntry {
        environment: s("production"),
        current: Some(release_entry()),
        last_known_good: Some(ReleaseEntry { number: 2, ..release_entry() }),
        rollout: Some(crate::events::rollout()),
        holder: Some(s("run-2")),
        fence: 8,
        freeze: Some(FreezeEntry { until: Some(1_700_000_090_000), reason: s("holidays"), by: s("grace") }),
        differences: Some(vec![DriftEntry { what: s("replicas"), expected: Some(s("2")), found: None }]),
    };
    let short = EnvironmentEntry {
        current: None,
        last_known_good: None,
        rollout: None,
        holder: None,
        freeze: Some(FreezeEntry { until: None, reason: s("holidays"), by: s("grace") }),
        differences: None,
        ..whole.clone()
    };
    let unfrozen = EnvironmentEntry { freeze: None, ..short.clone() };
    let lines = [pretty(&whole), pretty(&short), pretty(&unfrozen), pretty(&release_entry())];
    insta::assert_snapshot!("environments", lines.join("\n"));
}

fn diagnostic() -> DiagnosticEntry {
    DiagnosticEntry {
        file: s("stagewright.toml"),
        line: 7,
        column: 12,
        code: s("stagewright::bad-path"),
        severity: Severity::Error,
        message: s("`/etc` is outside of the workspace"),
        help: Some(s("name a path of the workspace")),
        stage: Some(s("build")),
        path: Some(s("files[0]")),
    }
}

#[test]
fn diagnostics() {
    let short = DiagnosticEntry { severity: Severity::Warning, help: None, stage: None, path: None, ..diagnostic() };
    insta::assert_snapshot!("diagnostics", [pretty(&diagnostic()), pretty(&short)].join("\n"));
}

#[test]
fn services() {
    let whole = ServiceEntry {
        environment: s("staging"),
        service: s("api"),
        current: Some(ServiceRelease {
            release: s("r-1"),
            image: s("local/app:1@sha256:a"),
            address: s("http://127.0.0.1:41873"),
            port: 41873,
            declared: Some(8080),
            since: 1_700_000_000_000,
            fence: Some(7),
        }),
        rehearsal: Some(s("run-1")),
        phase: ServicePhase::Running,
        restarts: 2,
        failure: Some(s("it ended with 1")),
    };
    let current = whole.current.clone().map(|current| ServiceRelease { declared: None, fence: None, ..current });
    let short = ServiceEntry { current, rehearsal: None, failure: None, ..whole.clone() };
    let none = ServiceEntry { current: None, phase: ServicePhase::Exited, ..short.clone() };
    insta::assert_snapshot!("services", [pretty(&whole), pretty(&short), pretty(&none)].join("\n"));
}

#[test]
fn grant() {
    let answer = GrantAnswer {
        file: s("stagewright.toml"),
        grants: vec![LackedGrantEntry {
            table: s("stages.test.permissions"),
            permission: s("read"),
            entry: s("Cargo.toml"),
            reason: s("names the packages"),
            optional: false,
        }],
        beyond_lock: vec![LockChangeEntry { wider: true, text: s("test may read `Cargo.toml`") }],
        written: true,
    };
    insta::assert_snapshot!("grant", pretty(&answer));
}

#[test]
fn init() {
    let answer = ProposedPipelineAnswer {
        file: s("stagewright.toml"),
        text: s("schema = 1"),
        found: vec![s("Rust (Cargo.toml)")],
        left_out: vec![s("Dockerfile has no stage")],
        stages: vec![ProposedStageEntry { id: s("test"), permissions: permissions() }],
        written: true,
    };
    insta::assert_snapshot!("init", pretty(&answer));
}

#[test]
fn gc() {
    let answer = GcAnswer {
        removed: vec![s("run-0")],
        orphans: vec![s("run-x")],
        results: 2,
        download_caches: 3,
        captures: 4,
        bytes: 5000,
        dry_run: true,
    };
    insta::assert_snapshot!("gc", pretty(&answer));
}

fn permissions() -> PermissionsEntry {
    PermissionsEntry {
        process: vec![s("cargo")],
        read: vec![s("src/**")],
        write: vec![s("target")],
        exec: vec![s("node_modules")],
        net: vec![s("cargo")],
        secrets: vec![s("token:header")],
        reveal: vec![s("token")],
        credentials: vec![s("api")],
        registry: vec![s("ghcr.io/acme/*")],
        service: vec![s("database")],
        socket: vec![s("docker")],
        env: vec![s("LANG")],
    }
}

fn stage() -> PlanStage {
    PlanStage {
        id: s("deploy"),
        kind: StageKindName::Main,
        uses: s("deploy"),
        version: s("0.1.0"),
        digest: s("sha256:p"),
        imports: vec![s("environment"), s("process")],
        effect: EffectClassName::External,
        rehearse: Some(permissions()),
        rehearsal: Some(FidelityName::Real),
        needs: vec![s("build")],
        condition: Some(s("success()")),
        environment: Some(s("production")),
        changes: Some(DeployChangesEntry {
            release: 7,
            changes: vec![ConfigChangeEntry { key: s("env.VERSION"), before: Some(json!("1")), after: None }],
        }),
        approves: vec![s("production")],
        compensate: vec![s("migrate")],
        permissions: permissions(),
        permission_sets: vec![s("rust")],
        lacks: vec![LackedGrantEntry {
            table: s("stages.test.permissions"),
            permission: s("read"),
            entry: s("src"),
            reason: s("is built"),
            optional: false,
        }],
        package_hosts: BTreeMap::from([(s("npm"), vec![s("https://registry.npmjs.org")])]),
        package_hosts_named_by: vec![PackageOriginEntry {
            word: s("npm"),
            origin: s("https://npm.example.org"),
            by: PackageOriginSource::Repository,
            place: s(".npmrc:3"),
        }],
        limits: BTreeMap::from([(s("memory"), s("256MiB"))]),
        cache: CacheUseName::ReadWrite,
        inputs: vec![s("src/**")],
        outputs: vec![s("target/app")],
        unsandboxed: true,
        toolchain: vec![ToolMountEntry { path: s("/usr/bin/cargo"), how: MountModeName::Execute, program: s("cargo") }],
        notes: vec![s("its image isn't pinned")],
    }
}

#[test]
fn plan() {
    let short = PlanStage {
        rehearse: None,
        rehearsal: None,
        condition: None,
        environment: None,
        changes: None,
        permissions: PermissionsEntry::default(),
        permission_sets: Vec::new(),
        ..stage()
    };
    let whole = PlanAnswer {
        pipeline: s("release"),
        file: s("stagewright.toml"),
        lock: LockComparison::Changed { changes: vec![LockChangeEntry { wider: true, text: s("may start `curl`") }] },
        beyond_policy: vec![diagnostic()],
        sandbox: SandboxName::Required,
        inputs: BTreeMap::from([(s("version"), json!("1.2"))]),
        stages: vec![stage(), short],
    };
    insta::assert_snapshot!("plan", pretty(&whole));
}

#[test]
fn values_of_answers() {
    use DifferencePart as Part;
    let parts =
        [Part::Format, Part::Sandbox, Part::Plugin, Part::Stage, Part::Config, Part::Variable, Part::Permission];
    let more =
        [Part::Limit, Part::Glob, Part::Tool, Part::Need, Part::Source, Part::Artifact, Part::File, Part::Before];
    use ExplainReason as Why;
    let lines = [
        names(&[RunStatus::Running, RunStatus::Waiting, RunStatus::Interrupted, RunStatus::Ended(OutcomeName::Failed)]),
        names(&[Why::NotRun, Why::NotCached, Why::Unchanged, Why::Unknown, Why::First, Why::Changed]),
        names(&[parts.as_slice(), &more].concat()),
        names(&[Severity::Error, Severity::Warning]),
        names(&[LockComparison::NoLock, LockComparison::NotLocked, LockComparison::Same]),
        names(&[SandboxName::Required, SandboxName::Preferred]),
        names(&[CacheUseName::Never, CacheUseName::Read, CacheUseName::ReadWrite]),
        names(&[MountModeName::Execute, MountModeName::Copy, MountModeName::Kept, MountModeName::KeptFile]),
        names(&[PackageOriginSource::Repository, PackageOriginSource::Machine]),
        names(&[ServicePhase::Starting, ServicePhase::Running, ServicePhase::Exited]),
    ];
    insta::assert_snapshot!("values_of_answers", lines.join("\n"));
}
