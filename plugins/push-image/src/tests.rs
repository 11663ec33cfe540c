//! Tests on the fake host.

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, Interface};
use stagewright_sdk::{Error, ErrorCode, Observation, Outcome, Permission};

use crate::PushImage;

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const OTHER: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn index(images: &[(&str, Option<&str>)]) -> String {
    let manifest = |(digest, name): &(&str, Option<&str>)| {
        let annotations = name.map(|name| json!({ "org.opencontainers.image.ref.name": name })).unwrap_or(json!({}));
        json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 2, "annotations": annotations })
    };
    json!({ "schemaVersion": 2, "manifests": images.iter().map(manifest).collect::<Vec<_>>() }).to_string()
}

fn host(with: Json) -> FakeHost {
    FakeHost::new().config(with).file("target/image/index.json", index(&[(DIGEST, Some("1.0"))]))
}

#[test]
fn every_image_gets_every_tag_and_the_registry_confirms_them() {
    let with = json!({ "image": "local/app", "images": ["127.0.0.1:5000/app"], "tags": ["refs/tags/v1.0", "v1.0", "", "a/b"] });
    let report = host(with).run::<PushImage>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.outputs["image"], "local/app");
    assert_eq!(report.outputs["digest"], DIGEST);
    assert_eq!(report.outputs["reference"], format!("local/app@{DIGEST}"));
    assert_eq!(report.outputs["tags"], json!(["v1.0", "a-b"]));
    assert_eq!(
        report.outputs["images"],
        json!([format!("local/app@{DIGEST}"), format!("127.0.0.1:5000/app@{DIGEST}")])
    );
    for reference in ["local/app:v1.0", "local/app:a-b", "127.0.0.1:5000/app:v1.0", "127.0.0.1:5000/app:a-b"] {
        assert!(report.logged(&format!("pushing {reference}")), "{reference}");
    }
}

#[test]
fn without_tags_the_names_in_the_layout_are_used() {
    let report = host(json!({ "image": "local/app" })).run::<PushImage>();
    assert_eq!(report.outputs["tags"], json!(["1.0"]));
    let whole = host(json!({ "image": "local/app", "tags": [""] })).file(
        "target/image/index.json",
        index(&[(DIGEST, Some("example.org:5000/app:2.0")), (DIGEST, Some("latest"))]),
    );
    assert_eq!(whole.run::<PushImage>().outputs["tags"], json!(["2.0", "latest"]));
    let unnamed = host(json!({ "image": "local/app" })).file("target/image/index.json", index(&[(DIGEST, None)]));
    assert!(unnamed.run::<PushImage>().result.unwrap_err().message.contains("nor the layout has a tag"));
}

#[test]
fn a_layout_must_hold_exactly_one_image() {
    let with = json!({ "image": "local/app", "tags": ["1"] });
    let error = FakeHost::new().config(with.clone()).run::<PushImage>().result.unwrap_err();
    assert!(error.message.contains("`target/image` isn't an OCI image layout") && error.help.is_some(), "{error:?}");
    for (images, message) in [(vec![], "lists no images"), (vec![(DIGEST, None), (OTHER, None)], "several images")] {
        let host = host(with.clone()).file("target/image/index.json", index(&images));
        let error = host.run::<PushImage>().result.unwrap_err();
        assert!(error.message.contains(message), "{error}");
    }
}

#[test]
fn a_denied_push_fails_the_stage() {
    let with = json!({ "image": "local/app", "tags": ["1"] });
    let denied = host(with.clone()).deny(Permission::Registry, "local/app:1").run::<PushImage>();
    assert!(denied.result.unwrap_err().is_denied());
    assert!(denied.outputs.is_empty());
}

#[test]
fn a_different_digest_in_the_registry_is_an_error() {
    let push = crate::Push {
        layout: crate::layout::Layout { digest: DIGEST.to_owned(), names: Vec::new() },
        images: vec!["local/app".to_owned()],
        tags: vec!["1".to_owned()],
    };
    let (confirmed, _) = FakeHost::new().image("local/app:1", OTHER).with(|| push.confirm("local/app:1"));
    let error = confirmed.unwrap_err();
    assert!(error.message.contains(DIGEST) && error.message.contains(OTHER), "{error}");
    let (confirmed, _) = FakeHost::new().image("local/app:1", DIGEST).with(|| push.confirm("local/app:1"));
    assert_eq!(confirmed, Ok(()));
}

#[test]
fn observe_checks_every_reference() {
    let with = json!({ "image": "local/app", "tags": ["1", "2"] });
    let observe = |host: FakeHost| host.observe::<PushImage>();
    assert_eq!(observe(host(with.clone())).result, Ok(Observation::NotStarted));
    let half = host(with.clone()).image("local/app:1", DIGEST).image("local/app:2", OTHER);
    assert_eq!(observe(half).result, Ok(Observation::NotStarted));
    let whole = observe(host(with.clone()).image("local/app:1", DIGEST).image("local/app:2", DIGEST));
    assert_eq!(whole.result, Ok(Observation::Applied(format!("local/app@{DIGEST}"))));
    assert_eq!(whole.outputs["reference"], format!("local/app@{DIGEST}"));
    let down =
        host(with.clone()).fail(Interface::Registry, "*", Error::new(ErrorCode::Unavailable, "connection refused"));
    assert!(observe(down).result.is_err());
    assert!(host(with).undo::<PushImage>().result.unwrap_err().help.is_some());
}

#[test]
fn a_cancelled_stage_stops_pushing() {
    let report = host(json!({ "image": "local/app", "tags": ["1"] })).cancelled().run::<PushImage>();
    assert_eq!(report.result.unwrap_err().code, ErrorCode::Cancelled);
    assert!(!report.logs.iter().any(|line| line.message.contains("pushing")));
}

#[test]
fn configuration_errors_name_their_key() {
    let paths = |with: Json| -> Vec<String> {
        let found = FakeHost::new().config(with).validate::<PushImage>();
        found.into_iter().map(|found| found.key.unwrap_or_default()).collect()
    };
    assert_eq!(paths(json!({})), ["image"]);
    assert_eq!(paths(json!({ "images": ["local/a", "local/a:1"], "tags": ["ok", "-no"] })), ["images[1]", "tags[1]"]);
    assert_eq!(paths(json!({ "image": "local/app", "tag": "1" })), ["tag"]);
    assert_eq!(paths(json!({ "image": "local/app", "layout": "/srv/image" })), ["layout"]);
}

#[test]
fn the_layout_and_the_repositories_are_required() {
    let required = host(json!({ "image": "local/app", "images": ["ghcr.io/acme/app"] })).requirements::<PushImage>();
    let entries: Vec<_> = required.iter().map(|needed| (needed.permission, needed.entry.as_str())).collect();
    let registry = Permission::Registry;
    assert_eq!(entries, [(Permission::Read, "target/image"), (registry, "local/app"), (registry, "ghcr.io/acme/app")]);
}
