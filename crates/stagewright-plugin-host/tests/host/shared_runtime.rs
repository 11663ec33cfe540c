//! Many runs in one process, on one runtime.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use stagewright_engine::{AttemptEnd, AttemptRequest, Interrupt, Outcome, RunId};
use stagewright_model::{JsonTemplate, PluginRef, SecretValue, Trust};
use stagewright_plugin_host::{Compilation, CompileObserver, PluginError, Secret, SecretError, SecretSource};

use crate::guest::{Guest, shell, succeeding};
use crate::harness::{request, run_host, run_without_secrets, runtime, start};

/// The notifications of a runtime, in their order.
#[derive(Default)]
struct Recorded(Mutex<Vec<String>>);

impl Recorded {
    fn push(&self, what: &str, compilation: Compilation<'_>) {
        assert!(compilation.digest.starts_with("sha256:"), "{compilation:?}");
        self.0.lock().unwrap().push(format!("{what} {}", compilation.plugin));
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl CompileObserver for Recorded {
    fn compile_started(&self, compilation: Compilation<'_>) {
        self.push("started", compilation);
    }

    fn compile_finished(&self, compilation: Compilation<'_>, result: Result<Duration, &PluginError>) {
        self.push(if result.is_ok() { "compiled" } else { "failed" }, compilation);
    }
}

fn install(folder: &Path, component: &[u8]) {
    std::fs::create_dir_all(folder.join("builtin")).unwrap();
    std::fs::write(folder.join("builtin/test.wasm"), component).unwrap();
}

/// Logs the file `in` of its workspace, and copies it to `out`.
fn copying() -> Vec<u8> {
    shell("cat in; cp in out")
}

fn request_of(run: usize) -> AttemptRequest {
    let mut request = AttemptRequest { run: RunId(format!("run-{run}")), ..request() };
    request.permissions.process.push("sh".parse().unwrap());
    request
}

/// The compiled code isn't kept on disk here, since others can access the folder: an engine of another run would compile
/// the component again, and the observer would be notified of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_runs_share_an_engine_but_no_files() {
    const RUNS: usize = 100;
    let machine = tempfile::tempdir().unwrap();
    make_accessible(&machine.path().join("cache/compiled"));
    install(machine.path(), &copying());
    let observer = Arc::new(Recorded::default());
    // Fewer instances than runs, so that some attempts have to wait.
    let runtime = runtime(machine.path(), 16, observer.clone());
    let folders: Vec<_> = (0..RUNS).map(|_| tempfile::tempdir().unwrap()).collect();
    let workspaces: Vec<_> = folders.iter().map(|folder| folder.path().join("workspace")).collect();
    let hosts: Vec<_> = folders.iter().map(|folder| run_without_secrets(&runtime, folder.path())).collect();
    for (run, workspace) in workspaces.iter().enumerate() {
        std::fs::write(workspace.join("in"), format!("of run {run}\n")).unwrap();
    }
    // All runs at the same time, and then some of them again, one after the other.
    let attempts: Vec<_> = hosts.iter().enumerate().map(|(run, host)| start(host, request_of(run))).collect();
    for (run, attempt) in attempts.into_iter().enumerate() {
        let ended = attempt.end().await;
        assert_eq!(ended.report().end, AttemptEnd::Succeeded, "{ended:?}");
        assert_eq!(ended.lines, [format!("of run {run}")]);
    }
    for (run, host) in hosts.iter().enumerate().step_by(20) {
        assert_eq!(start(host, request_of(run)).end().await.lines, [format!("of run {run}")]);
    }
    for (run, workspace) in workspaces.iter().enumerate() {
        assert_eq!(std::fs::read_to_string(workspace.join("out")).unwrap(), format!("of run {run}\n"));
        assert_eq!(std::fs::read_dir(workspace).unwrap().count(), 2, "{}", workspace.display());
    }
    assert_eq!(observer.take(), ["started test", "compiled test"]);
}

/// Creates a folder that others can access, in which compiled code isn't stored.
fn make_accessible(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(folder).unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeout_of_an_attempt_starts_after_it_waited_for_an_instance() {
    let machine = tempfile::tempdir().unwrap();
    install(machine.path(), &shell("echo ready; sleep 600"));
    let runtime = runtime(machine.path(), 1, Arc::new(()));
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [first, second] = folders.each_ref().map(|folder| run_without_secrets(&runtime, folder.path()));
    let mut occupying = start(&first, request_of(1));
    assert_eq!(occupying.line().await, "ready");
    let timeout = Duration::from_millis(100);
    let waiting = start(&second, AttemptRequest { timeout: Some(timeout), ..request_of(2) });
    let cancelled = start(&second, request_of(3));
    cancelled.interrupt(Interrupt::Kill);
    assert_eq!(cancelled.end().await.failure().0, Outcome::Cancelled);
    tokio::time::sleep(3 * timeout).await;
    assert!(!waiting.is_finished(), "its timeout has not started");
    occupying.interrupt(Interrupt::Kill);
    occupying.end().await;
    assert_eq!(waiting.end().await.failure().0, Outcome::TimedOut);
}

/// More inspections than the pool has room for.
#[tokio::test(flavor = "multi_thread")]
async fn inspections_wait_for_each_other() {
    let machine = tempfile::tempdir().unwrap();
    // Each call takes several ticks of the epoch, so that inspections overlap.
    let validate = "(local $left i32) (local.set $left (i32.const 30000000))
        (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (i32.const 8)";
    let guest = Guest { run: "i32.const 512", validate: Some(validate), ..Guest::default() };
    install(machine.path(), &guest.build());
    let host = run_without_secrets(&runtime(machine.path(), 1, Arc::new(())), machine.path());
    let uses = PluginRef::Builtin("test".into());
    // Each validates another table, so that no result is cached.
    let configs: Vec<_> = (0..60).map(|number| JsonTemplate::parse(json!({ "number": number })).unwrap()).collect();
    let answers = join_all(configs.iter().map(|config| host.validate(&uses, &Trust::Component, config))).await;
    assert!(answers.iter().all(|answer| answer == &Ok(Vec::new())), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_cannot_be_compiled_is_a_finished_compilation() {
    let machine = tempfile::tempdir().unwrap();
    let observer = Arc::new(Recorded::default());
    let runtime = runtime(machine.path(), 1, observer.clone());
    let host = run_without_secrets(&runtime, machine.path());
    install(machine.path(), b"text");
    start(&host, request()).end().await.failure();
    assert_eq!(observer.take(), ["started test", "failed test"]);
    install(machine.path(), &succeeding());
    assert_eq!(start(&host, request()).end().await.report().end, AttemptEnd::Succeeded);
    assert_eq!(observer.take(), ["started test", "compiled test"]);
}

struct Known(&'static str);

impl SecretSource for Known {
    fn secret(&self, _name: &str) -> Result<Option<Secret>, SecretError> {
        Ok(None)
    }

    fn stand_in(&self, _name: &str) -> Option<Secret> {
        None
    }

    fn known(&self) -> Vec<SecretValue> {
        vec![self.0.into()]
    }
}

/// A run that could see whether another one's secret is masked could find it out by guessing.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_masked_in_their_own_run_alone() {
    let machine = tempfile::tempdir().unwrap();
    let log = Guest {
        imports: r#"(import "stagewright:stage/logging@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))"#,
        fields: r#"(data (i32.const 1024) "is it hunter22?")"#,
        run: r#"
            (call $log (i32.const 2) (i32.const 1024) (i32.const 15) (i32.const 0) (i32.const 0))
            (i32.const 512)"#,
        ..Guest::default()
    };
    install(machine.path(), &log.build());
    let runtime = runtime(machine.path(), 2, Arc::new(()));
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let owner = run_host(&runtime, folders[0].path(), Arc::new(Known("hunter22")));
    let other = run_host(&runtime, folders[1].path(), Arc::new(Known("another secret")));
    assert_eq!(start(&owner, request()).end().await.lines, ["is it ***?"]);
    assert_eq!(start(&other, request()).end().await.lines, ["is it hunter22?"]);
}
