//! Components that attack the host, written by hand where no compiler would produce them: endless loops in calls that the
//! host makes before and around a stage, too many tables and memories, secrets that are output before they are known.

use std::sync::Mutex;
use std::time::Duration;

use stagewright_engine::{AttemptEnd, FailureKind, Outcome};
use stagewright_model::{JsonTemplate, Permissions, PluginRef, SecretValue, Trust};
use stagewright_plugin_host::{Secret, SecretError, SecretSource};

use crate::guest::{Guest, succeeding};
use crate::harness::Harness;

const FOR_EVER: &str = "(loop $again (br $again)) unreachable";

#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_that_never_ends_times_out() {
    let guest = Guest { run: "i32.const 512", describe: Some(FOR_EVER), ..Guest::default() };
    let harness = Harness::new();
    harness.install(&guest.build());
    let uses = PluginRef::Builtin("test".into());
    let error = harness.host.describe(&uses, &Trust::Component).await.unwrap_err();
    assert!(error.to_string().contains("`describe` failed"), "{error}");
    harness.install(&Guest { run: "i32.const 512", validate: Some(FOR_EVER), ..Guest::default() }.build());
    let error = harness.host.validate(&uses, &Trust::Component, &JsonTemplate::default()).await.unwrap_err();
    assert!(error.to_string().contains("`validate` failed"), "{error}");
    // The same host still works.
    assert_eq!(harness.run(&succeeding(), |_| {}).await.report().end, AttemptEnd::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_function_and_an_allocator_that_never_end_are_stopped() {
    let start = Guest {
        fields: "(func $for_ever (loop $again (br $again))) (start $for_ever)",
        run: "i32.const 512",
        ..Guest::default()
    };
    // A host function that returns a text calls the allocator.
    let allocator = Guest {
        imports: r#"(import "stagewright:stage/context@0.1.0" "config" (func $config (param i32)))"#,
        fields: "(global $stuck (mut i32) (i32.const 0))",
        run: "(global.set $stuck (i32.const 1)) (call $config (i32.const 600)) (i32.const 512)",
        allocate: "(if (global.get $stuck) (then (loop $again (br $again))))",
        ..Guest::default()
    };
    for guest in [start, allocator] {
        let timeout = |request: &mut stagewright_engine::AttemptRequest| request.timeout = Some(Duration::from_secs(1));
        let ended = Harness::new().run(&guest.build(), timeout).await;
        let (outcome, failure) = ended.failure();
        assert_eq!((outcome, failure.kind), (Outcome::TimedOut, FailureKind::Timeout), "{failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_memories_are_limited() {
    let grows = |fields: &'static str| Guest {
        fields,
        run: "(loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 100000)) (i32.const -1))))
              (i32.const 512)",
        ..Guest::default()
    };
    let ended = Harness::new().run(&grows("(table $t 1 funcref)").build(), |_| {}).await;
    assert_eq!(ended.report().end, AttemptEnd::Succeeded, "growing was refused, and the guest went on");
    // Two tables that only exceed the limit together.
    let two = "(table $t 600000 funcref) (table $u 600000 funcref)";
    let ended = Harness::new().run(&grows(two).build(), |_| {}).await;
    assert!(matches!(ended.report().end, AttemptEnd::Unsuccessful(Outcome::Errored, _)), "{ended:?}");
    // Empty memories, each of which still reserves address space.
    let memories = |count| {
        let fields = "(memory 0) ".repeat(count);
        Guest { fields: &fields, run: "(i32.const 512)", ..Guest::default() }.build()
    };
    let ended = Harness::new().run(&memories(60), |_| {}).await;
    assert_eq!(ended.report().end, AttemptEnd::Succeeded);
    let ended = Harness::new().run(&memories(64), |_| {}).await;
    assert!(matches!(ended.report().end, AttemptEnd::Unsuccessful(Outcome::Errored, _)), "{ended:?}");
}

/// A list whose texts all share the same bytes in the guest, and take a multiple of them in the host.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_exceeds_the_hosts_limit_for_a_call_traps() {
    let args = |count: u32| {
        let run = format!(
            r#"(local $command i32) (local $at i32)
            (local.set $command (call $command (i32.const 600) (i32.const 2)))
            (drop (memory.grow (i32.const 128)))
            (local.set $at (i32.const 131072))
            (loop $fill
                (i32.store (local.get $at) (i32.const 65536))
                (i32.store (i32.add (local.get $at) (i32.const 4)) (i32.const 65536))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $fill (i32.lt_u (local.get $at) (i32.const {}))))
            (call $args (local.get $command) (i32.const 131072) (i32.const {count}))
            (i32.const 512)"#,
            131_072 + 8 * count
        );
        let guest = Guest {
            imports: r#"
                (import "stagewright:stage/process@0.1.0" "[constructor]command" (func $command (param i32 i32) (result i32)))
                (import "stagewright:stage/process@0.1.0" "[method]command.args" (func $args (param i32 i32 i32)))"#,
            fields: r#"(data (i32.const 600) "sh")"#,
            run: &run,
            ..Guest::default()
        };
        guest.build()
    };
    let ended = Harness::new().run(&args(100_000), |_| {}).await;
    assert_eq!(ended.failure().1.kind, FailureKind::Trapped, "6 GiB of arguments");
    assert_eq!(Harness::new().run(&args(10), |_| {}).await.report().end, AttemptEnd::Succeeded);
}

/// A secret that is known only once it has been requested.
#[derive(Default)]
struct Late(Mutex<bool>);

impl SecretSource for Late {
    fn secret(&self, _name: &str) -> Result<Option<Secret>, SecretError> {
        *self.0.lock().unwrap() = true;
        Ok(Some(Secret {
            value: "hunter22".into(),
            hosts: Vec::new(),
            programs: Vec::new(),
            scheme: Default::default(),
        }))
    }

    fn stand_in(&self, _name: &str) -> Option<Secret> {
        None
    }

    fn known(&self) -> Vec<SecretValue> {
        self.0.lock().unwrap().then(|| "hunter22".into()).into_iter().collect()
    }
}

/// A guest that sets an output to the value of a secret, as if it had guessed it, and requests the secret only afterwards.
fn guessing(requests: bool) -> Vec<u8> {
    let get = if requests { "(call $get (i32.const 660) (i32.const 5) (i32.const 700))" } else { "" };
    let run = format!(
        "(call $set (i32.const 600) (i32.const 1) (i32.const 610) (i32.const 10) (i32.const 720)) {get} (i32.const 512)"
    );
    let guest = Guest {
        imports: r#"
            (import "stagewright:stage/outputs@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))
            (import "stagewright:stage/secrets@0.1.0" "get" (func $get (param i32 i32 i32)))"#,
        fields: r#"(data (i32.const 600) "a") (data (i32.const 610) "\"hunter22\"") (data (i32.const 660) "token")"#,
        run: &run,
        ..Guest::default()
    };
    guest.build()
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_set_before_a_secret_was_known_are_masked_when_the_attempt_ends() {
    let harness = Harness::with_secrets(Late::default());
    let granted = |request: &mut stagewright_engine::AttemptRequest| {
        request.permissions = Permissions { secrets: vec!["token".parse().unwrap()], ..Permissions::default() };
    };
    let ended = harness.run(&guessing(false), granted).await;
    assert_eq!(ended.report().outputs["a"], "hunter22", "not known as a secret yet");
    let ended = harness.run(&guessing(true), granted).await;
    assert_eq!(ended.report().outputs["a"], "***");
    // From now on it is masked for stages without grants too.
    let ended = harness.run(&guessing(false), |_| {}).await;
    assert_eq!(ended.report().outputs["a"], "***");
}
