//! Native plugins, with the example in `plugins/native-example`, whose library cargo builds beside this test.

use std::path::PathBuf;

use serde_json::json;
use stagewright_engine::{AttemptEnd, AttemptRequest, Call, EffectRefused, FailureKind, Observation, Outcome};
use stagewright_model::{PluginRef, RehearsalTerms, Trust};

use crate::harness::{Harness, request};

fn library() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    folder.join("libnative_example.so")
}

fn digest() -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(std::fs::read(library()).unwrap());
    format!("sha256:{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn native(digest: String) -> AttemptRequest {
    let uses = PluginRef::Path(library().display().to_string());
    AttemptRequest { uses, trust: Trust::Native { digest }, ..request() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_library_runs() {
    let harness = Harness::new();
    let ended = harness.start(native(digest())).end().await;
    assert_eq!(ended.report().end, AttemptEnd::Succeeded);
    assert_eq!(json!(ended.report().outputs), json!({ "greeting": "hello from native code" }));
    assert_eq!(ended.lines, ["hello from native code"]);

    let refused = harness.start(AttemptRequest { config: json!({ "refuse": true }), ..native(digest()) }).end().await;
    let (outcome, failure) = refused.failure();
    assert_eq!((outcome, failure.message.as_str()), (Outcome::Failed, "the configuration asks to refuse"));
    assert_eq!(failure.help.as_deref(), Some("remove `refuse`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_with_another_digest_does_not_run() {
    let pinned = format!("sha256:{}", "0".repeat(64));
    let harness = Harness::new();
    let ended = harness.start(native(pinned.clone())).end().await;
    let failure = ended.failure().1;
    assert_eq!(failure.kind, FailureKind::BadPlugin);
    assert!(failure.message.contains(&pinned) && failure.message.contains(&digest()), "{failure:?}");
    assert_eq!(ended.lines, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_is_announced_before_it_runs_and_must_be_the_recorded_one() {
    let harness = Harness::new();
    let ended = harness.start(native(digest())).end().await;
    assert_eq!(ended.effects, [format!("run the native plugin path:{}", library().display())]);
    let superseded = EffectRefused::Superseded("staging".into());
    let ended = harness.start(native(digest())).refused(superseded).end().await;
    assert_eq!((ended.failure().1.kind, ended.lines.len()), (FailureKind::Superseded, 0));

    let recorded = format!("sha256:{}", "1".repeat(64));
    let ended = harness.start(AttemptRequest { plugin: Some(recorded.clone()), ..native(digest()) }).end().await;
    let failure = ended.failure().1;
    assert!(failure.kind == FailureKind::BadPlugin && failure.message.contains(&recorded), "{failure:?}");
    assert!(ended.effects.is_empty());

    let ended = harness.start(AttemptRequest { call: Call::Observe, ..native(digest()) }).end().await;
    assert!(matches!(ended.report().end, AttemptEnd::Observed(Observation::Unknown(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_calls_a_library_only_if_the_pipeline_configures_it() {
    let harness = Harness::new();
    let rehearsed = |acts| {
        let terms = RehearsalTerms { is_configured: acts, ..RehearsalTerms::default() };
        AttemptRequest { rehearsal: Some(terms), ..native(digest()) }
    };
    let ended = harness.start(rehearsed(false)).end().await;
    let AttemptEnd::Rehearsed(would) = &ended.report().end else { panic!("{ended:?}") };
    assert!(would.starts_with("would call the native plugin"), "{would}");
    assert!(ended.effects.is_empty() && ended.lines.is_empty(), "{ended:?}");
    assert_eq!(harness.start(rehearsed(true)).end().await.report().end, AttemptEnd::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_describes_itself() {
    let request = native(digest());
    let description = Harness::new().host.describe(&request.uses, &request.trust).await.unwrap();
    assert_eq!((description.manifest.name.as_str(), description.native), ("native-example", true));
}
