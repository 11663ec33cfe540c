//! Guests that call the interfaces of the host.

use serde_json::json;
use stagewright_engine::{AttemptEnd, FailureKind, Interrupt, Outcome, Wait};

use crate::guest::{Guest, shell};
use crate::harness::{Harness, request};

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_logs_and_sets_outputs() {
    let guest = Guest {
        imports: r#"
            (import "stagewright:stage/logging@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))
            (import "stagewright:stage/outputs@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))"#,
        fields: r#"(data (i32.const 1024) "hello\nworld") (data (i32.const 1040) "name\22value\22")"#,
        run: r#"
            (call $log (i32.const 2) (i32.const 1024) (i32.const 11) (i32.const 0) (i32.const 0))
            (call $set (i32.const 1040) (i32.const 4) (i32.const 1044) (i32.const 7) (i32.const 512))
            (i32.const 512)"#,
        ..Guest::default()
    };
    let harness = Harness::new();
    let ended = harness.run(&guest.build(), |_| {}).await;
    assert_eq!(ended.report().end, AttemptEnd::Succeeded);
    assert_eq!(json!(ended.report().outputs), json!({ "name": "value" }));
    assert_eq!(ended.lines, ["hello", "world"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_names_the_missing_grant() {
    let harness = Harness::new();
    let ended = harness.run(&shell("true"), |request| request.table = "stages.build".into()).await;
    let (outcome, failure) = ended.failure();
    assert_eq!((outcome, failure.kind, failure.retryable), (Outcome::Errored, FailureKind::Denied, false));
    assert_eq!(failure.help.as_deref(), Some("add to [stages.build.permissions]: process = [\"sh\"]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_process_runs_in_the_workspace() {
    let harness = Harness::new();
    let ended = harness
        .run(&shell("pwd; echo other >&2"), |request| request.permissions.process.push("sh".parse().unwrap()))
        .await;
    assert_eq!(ended.report().end, AttemptEnd::Succeeded);
    let mut lines = ended.lines;
    lines.sort();
    assert_eq!(lines, [harness.path("workspace").display().to_string(), "other".to_owned()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_an_attempt_kills_its_processes() {
    let harness = Harness::new();
    harness.install(&shell("trap '' TERM; echo $$; sleep 600; sleep 600"));
    let mut request = request();
    request.permissions.process.push("sh".parse().unwrap());
    let mut running = harness.start(request);
    let id = running.line().await;
    running.interrupt(Interrupt::Kill);
    let ended = running.end().await;
    assert_eq!(ended.failure().0, Outcome::Cancelled);
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists(), "{id} lives on");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancellation_lets_processes_end_by_themselves() {
    let harness = Harness::new();
    harness.install(&shell("trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.01; done"));
    let mut request = request();
    request.permissions.process.push("sh".parse().unwrap());
    let mut running = harness.start(request);
    assert_eq!(running.line().await, "ready");
    running.interrupt(Interrupt::Graceful);
    let ended = running.end().await;
    assert_eq!(ended.report().end, AttemptEnd::Succeeded, "the process ended by itself");
    // The shell may also log that its child was terminated.
    assert!(ended.lines.contains(&"asked".to_owned()), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_opens_a_gate_is_suspended() {
    let guest = Guest {
        imports: r#"
            (import "stagewright:stage/gate@0.1.0" "[constructor]approval" (func $approval (param i32 i32) (result i32)))
            (import "stagewright:stage/gate@0.1.0" "[method]approval.open" (func $open (param i32 i32)))"#,
        fields: r#"(data (i32.const 1024) "deploy?")"#,
        // Copies the token's address and length from the result of `open` into an outcome `suspended`.
        run: r#"
            (call $open (call $approval (i32.const 1024) (i32.const 7)) (i32.const 700))
            (if (i32.load8_u (i32.const 700)) (then (return (i32.const 700))))
            (i32.store8 (i32.const 516) (i32.const 2))
            (i32.store (i32.const 520) (i32.load (i32.const 704)))
            (i32.store (i32.const 524) (i32.load (i32.const 708)))
            (i32.const 512)"#,
        ..Guest::default()
    };
    let ended = Harness::new().run(&guest.build(), |_| {}).await;
    match &ended.report().end {
        AttemptEnd::Suspended(gate) => assert_eq!((gate.message.as_str(), gate.token.len()), ("deploy?", 32)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_on_a_token_without_a_gate_is_a_wait() {
    let guest = Guest { run: "(i32.store8 (i32.const 516) (i32.const 2)) (i32.const 512)", ..Guest::default() };
    let ended = Harness::new().run(&guest.build(), |_| {}).await;
    let wait = Wait { token: String::new(), reason: String::new(), poll_after: None, expires: None };
    assert_eq!(ended.report().end, AttemptEnd::Waiting(wait));
}
