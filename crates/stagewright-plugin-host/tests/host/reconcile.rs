//! Effects that are announced and may be refused, and `observe` and `undo` for attempts whose outcome is unknown.

use serde_json::json;
use stagewright_engine::{
    AttemptEnd, AttemptRequest, Call, EffectClass, EffectRefused, EnvironmentView, FailureKind, Finding, Observation,
    Outcome, ReleaseNote,
};
use stagewright_model::{Permissions, PluginRef, Reaches, Trust};

use crate::guest::{Guest, looping, reconciling_shell, shell, succeeding};
use crate::harness::{Ended, Harness, request};

/// A request for a stage whose program could send a secret elsewhere, so that starting it is an effect.
fn reaching(call: Call) -> AttemptRequest {
    let permissions = Permissions {
        process: vec!["sh".parse().unwrap()],
        secrets: vec!["token".parse().unwrap()],
        ..Permissions::default()
    };
    AttemptRequest { call, permissions, ..request() }
}

async fn run(harness: &Harness, component: &[u8], request: AttemptRequest) -> Ended {
    harness.install(component);
    harness.start(request).end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_granted_effect_is_announced() {
    let harness = Harness::new();
    let ended = run(&harness, &shell("true"), reaching(Call::Run)).await;
    assert_eq!(ended.report().end, AttemptEnd::Succeeded);
    assert_eq!(ended.effects, ["run sh"]);
    let denied = AttemptRequest { permissions: Permissions::default(), ..reaching(Call::Run) };
    assert_eq!(run(&harness, &shell("true"), denied).await.effects, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_attempt_fails_without_its_effect() {
    let harness = Harness::new();
    harness.install(&shell("touch done"));
    let superseded = EffectRefused::Superseded("production".into());
    let ended = harness.start(reaching(Call::Run)).refused(superseded).end().await;
    let (outcome, failure) = ended.failure();
    assert_eq!((outcome, failure.kind, failure.retryable), (Outcome::Errored, FailureKind::Superseded, false));
    assert!(failure.message.contains("`production`"), "{failure:?}");
    assert!(!harness.path("workspace/done").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_may_not_have_effects_and_those_of_undo_are_announced() {
    let harness = Harness::new();
    let guest = reconciling_shell("touch done");
    let ended = run(&harness, &guest, reaching(Call::Observe)).await;
    assert!(ended.failure().1.message.contains("`observe` may not have effects"), "{ended:?}");
    assert_eq!(ended.effects, [""; 0]);
    assert!(!harness.path("workspace/done").exists());

    let ended = run(&harness, &guest, reaching(Call::Undo)).await;
    assert_eq!(ended.report().end, AttemptEnd::Succeeded);
    assert_eq!(ended.effects, ["run sh"]);
    assert!(harness.path("workspace/done").exists());
}

/// A guest whose `observe` returns the case with this number; the text is at 1024.
fn observing(case: u8) -> Vec<u8> {
    let observe = format!(
        "(i32.store8 (i32.const 516) (i32.const {case})) (i32.store (i32.const 520) (i32.const 1024))
         (i32.store (i32.const 524) (i32.const 4)) (i32.const 512)"
    );
    Guest {
        fields: r#"(data (i32.const 1024) "text")"#,
        run: "unreachable",
        reconcile: Some([&observe, "unreachable"]),
        ..Guest::default()
    }
    .build()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observation_is_returned_to_the_engine() {
    let harness = Harness::new();
    let expected = [
        Observation::Found(Finding::NotStarted),
        Observation::InProgress,
        Observation::Found(Finding::Applied("text".into())),
        Observation::Found(Finding::Failed("text".into())),
        Observation::Unknown("text".into()),
    ];
    for (case, expected) in (0..).zip(expected) {
        let ended = run(&harness, &observing(case), AttemptRequest { call: Call::Observe, ..request() }).await;
        assert_eq!(ended.report().end, AttemptEnd::Observed(expected));
    }
    let trapped = run(&harness, &observing(0), AttemptRequest { call: Call::Undo, ..request() }).await;
    assert_eq!(trapped.failure().1.kind, FailureKind::Trapped);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_every_call() {
    let harness = Harness::new();
    let endless = "(loop $again (br $again)) unreachable";
    let guest = Guest { run: "unreachable", reconcile: Some([endless; 2]), ..Guest::default() }.build();
    for call in [Call::Observe, Call::Undo] {
        let timeout = Some(std::time::Duration::from_millis(200));
        let ended = run(&harness, &guest, AttemptRequest { call, timeout, ..request() }).await;
        assert_eq!(ended.failure().1.kind, FailureKind::Timeout, "{call:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_and_undo_do_not_start_a_plugin_without_reconcile() {
    let harness = Harness::new();
    let ended = run(&harness, &looping(), AttemptRequest { call: Call::Observe, ..request() }).await;
    match &ended.report().end {
        AttemptEnd::Observed(Observation::Unknown(why)) => {
            assert_eq!(why, "the plugin `test` can't observe its effects: it doesn't export `reconcile`");
        }
        other => panic!("{other:?}"),
    }
    let ended = run(&harness, &looping(), AttemptRequest { call: Call::Undo, ..request() }).await;
    let (outcome, failure) = ended.failure();
    assert_eq!((outcome, failure.kind, failure.retryable), (Outcome::Errored, FailureKind::Reported, false));
    assert!(failure.message.contains("can't undo its effects"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_says_whether_the_plugin_reconciles() {
    let harness = Harness::new();
    let uses = PluginRef::Builtin("test".into());
    let mut known = Vec::new();
    for guest in [succeeding(), reconciling_shell("true")] {
        harness.install(&guest);
        let description = harness.host.describe(&uses, &Trust::Component).await.unwrap();
        known.push((
            description.reconciles,
            Reaches::of(None, &reaching(Call::Run).permissions, description.code()).effect_class(),
        ));
    }
    assert_eq!(known, [(false, EffectClass::Pure), (true, EffectClass::External)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_plugin_that_was_recorded_runs() {
    let harness = Harness::new();
    let uses = PluginRef::Builtin("test".into());
    harness.install(&succeeding());
    let recorded = harness.host.describe(&uses, &Trust::Component).await.unwrap().digest;
    let pinned = || AttemptRequest { plugin: Some(recorded.clone()), ..request() };
    assert_eq!(harness.start(pinned()).end().await.report().end, AttemptEnd::Succeeded);

    let ended = run(&harness, &shell("true"), pinned()).await;
    let failure = ended.failure().1;
    assert_eq!((failure.kind, failure.retryable), (FailureKind::BadPlugin, false));
    let found = harness.host.describe(&uses, &Trust::Component).await.unwrap().digest;
    assert!(failure.message.contains(&recorded) && failure.message.contains(&found), "{failure:?}");
    assert!(failure.help.as_deref().unwrap().contains("stagewright resume run-1 --accept-changes"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_reads_its_environment_and_records_a_release() {
    let guest = Guest {
        imports: r#"
            (import "stagewright:stage/environment@0.1.0" "fence" (func $fence (param i32)))
            (import "stagewright:stage/environment@0.1.0" "last-known-good" (func $good (param i32)))
            (import "stagewright:stage/environment@0.1.0" "released" (func $released (param i32 i32 i32 i32 i32 i32)))
            (import "stagewright:stage/logging@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))"#,
        fields: r#"(data (i32.const 1024) "app@1") (data (i32.const 1032) "app@2")"#,
        // Expects the fence 7, logs the last good release, and records two releases, of which the second one is kept.
        run: r#"
            (call $fence (i32.const 704))
            (if (i64.ne (i64.load (i32.const 712)) (i64.const 7)) (then unreachable))
            (call $good (i32.const 720))
            (call $log (i32.const 2) (i32.load (i32.const 724)) (i32.load (i32.const 728)) (i32.const 0) (i32.const 0))
            (call $released (i32.const 1024) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512))
            (call $released (i32.const 1032) (i32.const 5) (i32.const 1) (i32.const 1024) (i32.const 3) (i32.const 512))
            (i32.const 512)"#,
        ..Guest::default()
    };
    let good = json!({ "environment": "staging", "artifact": "app@0", "fence": 3, "config": { "a": 1 },
        "way": "deploy" });
    let view = EnvironmentView {
        name: "staging".into(),
        fence: Some(7),
        last_known_good: Some(serde_json::from_value(good).unwrap()),
        ..EnvironmentView::default()
    };
    let ended = Harness::new().run(&guest.build(), |request| request.environment = Some(view)).await;
    assert_eq!(ended.report().end, AttemptEnd::Succeeded);
    let note = ReleaseNote { artifact: "app@2".into(), url: Some("app".into()), ..ReleaseNote::default() };
    assert_eq!(ended.report().release, Some(note));
    let logged: serde_json::Value = serde_json::from_str(&ended.lines.concat()).unwrap();
    assert_eq!((&logged["artifact"], &logged["config"]), (&json!("app@0"), &json!({ "a": 1 })));

    let nowhere = Harness::new().run(&guest.build(), |_| {}).await;
    assert_eq!(nowhere.failure().1.kind, FailureKind::Trapped, "without an environment, the guest gets no fence");
}
