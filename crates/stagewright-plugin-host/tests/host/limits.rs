//! Guests that exceed a limit.

use std::time::Duration;

use stagewright_engine::{FailureKind, Interrupt, Outcome};
use tokio::time::Instant;

use crate::guest::{Guest, looping, shell};
use crate::harness::{Harness, request};

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_times_out() {
    let ended = Harness::new().run(&looping(), |request| request.timeout = Some(Duration::from_millis(200))).await;
    let (outcome, failure) = ended.failure();
    assert_eq!((outcome, failure.kind), (Outcome::TimedOut, FailureKind::Timeout));
    assert_eq!(failure.message, "took longer than its timeout of 200ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_never_ends_times_out() {
    let ended = Harness::new()
        .run(&shell("sleep 600"), |request| {
            request.permissions.process.push("sh".parse().unwrap());
            request.timeout = Some(Duration::from_millis(200));
        })
        .await;
    assert_eq!(ended.failure().1.kind, FailureKind::Timeout);
}

/// All tasks, including the host's own timers, share one thread.
#[tokio::test]
async fn an_endless_loop_yields_to_other_tasks_and_can_be_killed() {
    let harness = Harness::new();
    harness.install(&looping());
    let running = harness.start(request());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let killed = Instant::now();
    running.interrupt(Interrupt::Kill);
    let ended = running.end().await;
    assert_eq!(ended.failure().0, Outcome::Cancelled);
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_ignores_cancellation_is_stopped_after_the_grace_period() {
    let harness = Harness::new();
    harness.install(&looping());
    let running = harness.start(request());
    running.interrupt(Interrupt::Graceful);
    let ended = running.end().await;
    assert_eq!(ended.failure().1.kind, FailureKind::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancellation_wakes_a_sleeping_guest() {
    let guest = Guest {
        imports: r#"(import "stagewright:stage/clock@0.1.0" "sleep-ms" (func $sleep (param i32 i32)))
            (import "stagewright:stage/logging@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))"#,
        fields: r#"(data (i32.const 1024) "sleeping") (data (i32.const 1040) "awake")"#,
        run: r#"
            (call $log (i32.const 2) (i32.const 1024) (i32.const 8) (i32.const 0) (i32.const 0))
            (call $sleep (i32.const 3600000) (i32.const 512))
            (call $log (i32.const 2) (i32.const 1040) (i32.const 5) (i32.const 0) (i32.const 0))
            (i32.const 512)"#,
        ..Guest::default()
    };
    let harness = Harness::new();
    harness.install(&guest.build());
    let mut running = harness.start(request());
    assert_eq!(running.line().await, "sleeping");
    running.interrupt(Interrupt::Graceful);
    let ended = running.end().await;
    assert_eq!(ended.lines, ["awake"]);
    assert_eq!(ended.failure().0, Outcome::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_reported_with_its_backtrace() {
    let guest = Guest {
        fields: "(func $the_culprit unreachable)",
        run: "(call $the_culprit) (i32.const 512)",
        ..Guest::default()
    };
    let ended = Harness::new().run(&guest.build(), |_| {}).await;
    let (outcome, failure) = ended.failure();
    assert_eq!((outcome, failure.kind), (Outcome::Errored, FailureKind::Trapped));
    assert!(failure.causes[0].contains("the_culprit"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exceeding_the_memory_limit_names_the_limit() {
    let guest = Guest {
        run: "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (i32.const 512)",
        ..Guest::default()
    };
    let harness = Harness::new();
    let ended = harness.run(&guest.build(), |request| request.memory = Some(4 << 20)).await;
    let (outcome, failure) = ended.failure();
    assert_eq!((outcome, failure.kind), (Outcome::Errored, FailureKind::OutOfMemory));
    assert!(failure.message.contains("4MiB"), "{failure:?}");
    assert_eq!(failure.help.as_deref(), Some("raise the limit with `memory = \"8MiB\"`"));

    let ended = harness.run(&guest.build(), |request| request.memory = Some(1000)).await;
    assert_eq!(ended.failure().1.kind, FailureKind::OutOfMemory, "not even its first page");
}

#[tokio::test(flavor = "multi_thread")]
async fn exceeding_the_log_limit_ends_the_attempt() {
    let guest = Guest {
        imports: r#"(import "stagewright:stage/logging@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))"#,
        fields: r#"(data (i32.const 1024) "0123456789")"#,
        run: r#"
            (loop $again
                (call $log (i32.const 2) (i32.const 1024) (i32.const 10) (i32.const 0) (i32.const 0))
                (br $again))
            unreachable"#,
        ..Guest::default()
    };
    let ended = Harness::new().run(&guest.build(), |request| request.log_limit = Some(1100)).await;
    let (outcome, failure) = ended.failure();
    assert_eq!((outcome, failure.kind), (Outcome::Errored, FailureKind::LogLimit));
    assert_eq!(ended.lines.len(), 100, "11 bytes each, line end included");
}
