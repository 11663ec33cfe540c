use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, Report};
use stagewright_sdk::{Outcome, Result};

use crate::OciArtifact;

fn run(host: FakeHost) -> Report<Result<Outcome>> {
    host.run::<OciArtifact>()
}

fn json_of(report: &Report<Result<Outcome>>, path: &str) -> Json {
    serde_json::from_str(report.text(path)).unwrap()
}

fn blob(digest: &Json) -> String {
    format!("target/artifact/blobs/{}", digest.as_str().unwrap().replace(':', "/"))
}

fn manifest(report: &Report<Result<Outcome>>) -> Json {
    let index = json_of(report, "target/artifact/index.json");
    json_of(report, &blob(&index["manifests"][0]["digest"]))
}

#[test]
fn wasm_has_the_media_types_that_its_clients_read() {
    for (start, os) in [(&b"\0asm\x01\0\0\0"[..], "wasip1"), (b"\0asm\x0d\0\x01\0", "wasip2")] {
        let content = [start, &[7; 3 << 20]].concat();
        let host = || {
            FakeHost::new()
                .config(json!({ "wasm": "a.wasm", "tags": ["1.0", "latest"] }))
                .file("a.wasm", content.clone())
        };
        let report = run(host());
        assert_eq!(report.result, Ok(Outcome::Succeeded), "{:?}", report.result);
        let manifest = manifest(&report);
        assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
        let layer = &manifest["layers"][0];
        assert_eq!((&layer["mediaType"], &layer["size"]), (&json!("application/wasm"), &json!(content.len())));
        assert_eq!(report.files[&blob(&layer["digest"])], content);
        let settings = json_of(&report, &blob(&manifest["config"]["digest"]));
        assert_eq!((&settings["os"], &settings["layerDigests"]), (&json!(os), &json!([layer["digest"]])));
        let index = json_of(&report, "target/artifact/index.json");
        let names: Vec<&Json> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| &entry["annotations"]["org.opencontainers.image.ref.name"])
            .collect();
        assert_eq!(names, ["1.0", "latest"]);
        assert_eq!(report.outputs["digest"], run(host()).outputs["digest"], "equal content has an equal digest");
    }
    let other = run(FakeHost::new().config(json!({ "wasm": "a.wasm" })).file("a.wasm", "#!/bin/sh"));
    assert!(other.result.unwrap_err().message.contains("neither a WASM module nor a component"));
}

#[test]
fn files_are_layers_with_titles() {
    let with = json!({
        "files": [{ "path": "policy/a.json", "media-type": "application/json" }, { "path": "b.txt", "title": "notes.txt" }],
        "artifact-type": "application/vnd.acme.policy.v1",
        "annotations": { "org.opencontainers.image.source": "https://example.org" },
    });
    let report = run(FakeHost::new()
        .config(with)
        .file("policy/a.json", "{}")
        .file("b.txt", "")
        .file("target/artifact/old", "x"));
    assert_eq!(report.result, Ok(Outcome::Succeeded), "{:?}", report.result);
    let manifest = manifest(&report);
    assert_eq!(
        (&manifest["artifactType"], &manifest["config"]["size"]),
        (&json!("application/vnd.acme.policy.v1"), &json!(2))
    );
    let titles: Vec<&Json> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| &layer["annotations"]["org.opencontainers.image.title"])
        .collect();
    assert_eq!(titles, ["a.json", "notes.txt"]);
    assert_eq!(report.outputs["size"], 2);
    assert!(!report.files.contains_key("target/artifact/old"), "what was there before isn't part of it");
}

#[test]
fn mistakes_are_named_with_their_keys() {
    let file = json!([{ "path": "a" }]);
    for (with, key) in [
        (json!({}), "files"),
        (json!({ "wasm": "a", "files": file }), "files"),
        (json!({ "files": file }), "artifact-type"),
        (json!({ "wasm": "a", "artifact-type": "a/b" }), "artifact-type"),
        (json!({ "files": file, "artifact-type": "policy" }), "artifact-type"),
        (json!({ "files": [{ "path": "a", "media-type": "a b/c" }], "artifact-type": "a/b" }), "files[0].media-type"),
    ] {
        let found = FakeHost::new().config(with.clone()).validate::<OciArtifact>();
        assert_eq!(found.iter().map(|problem| problem.key.as_deref()).collect::<Vec<_>>(), [Some(key)], "{with}");
    }
}
