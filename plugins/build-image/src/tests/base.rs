use serde_json::{Value as Json, json};
use stagewright_sdk::Result;
use stagewright_sdk::fake::{FakeHost, Report};

use super::{app, entries, host, image, layer_tar, program};
use crate::BuildImage;
use crate::config::{Config, Platform};
use crate::document::{LayerRecord, image_config};
use crate::layout::Layout;
use crate::stream::digest;

/// A host whose registry has this image. Its blobs are put where the pull would store them, because the fake registry
/// writes only the index.
fn with_base(mut with: Json, config: &Json, layer: &[u8]) -> FakeHost {
    let config = config.to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "config": pointer("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [pointer("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)]
    })
    .to_string();
    let reference = format!("local/base@{}", digest(manifest.as_bytes()));
    with["base"] = json!(reference);
    let host = host(with).image(&reference, &digest(manifest.as_bytes()));
    [config.as_bytes(), manifest.as_bytes(), layer].into_iter().fold(host, |host, content| {
        host.file(&format!("target/image/base/blobs/sha256/{}", &digest(content)[7..]), content)
    })
}

fn pointer(media_type: &str, content: &[u8]) -> Json {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

/// Builds into an existing layout, the one with the base's blobs.
fn build_on(host: FakeHost) -> (Result<Json>, Report<()>) {
    host.with(|| {
        let config: Config = stagewright_sdk::context::config()?;
        let layout = Layout::at("target/image");
        let (manifest, _) = crate::build(&config, &layout)?;
        layout.write_index(&crate::document::index(&manifest, &[]))?;
        Ok(json!(manifest.digest))
    })
}

fn base_config() -> Json {
    json!({
        "architecture": "arm64", "os": "linux", "variant": "v8",
        "config": { "Env": ["PATH=/usr/bin", "LANG=C"], "Cmd": ["/bin/sh"], "User": "root", "StopSignal": "SIGQUIT",
            "Labels": { "base": "yes" } },
        "rootfs": { "type": "layers", "diff_ids": ["sha256:aa"] },
        "history": [{ "created_by": "debootstrap" }]
    })
}

#[test]
fn the_layers_of_the_base_come_first_and_its_platform_is_used() {
    let with = json!({ "layers": [{ "files": ["target/release/app"], "dest": "/usr/bin" }] });
    let (built, report) = build_on(with_base(with.clone(), &base_config(), b"layer of the base"));
    assert!(built.is_ok(), "{built:?}");
    let (manifest, config) = image(&report.files, "target/image");
    assert_eq!(manifest["layers"][0]["digest"], digest(b"layer of the base"));
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(config["architecture"], "arm64");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    let own = entries(&layer_tar(&report.files, "target/image", &manifest["layers"][1]));
    let own: Vec<&str> = own.iter().map(|(path, ..)| path.as_str()).collect();
    assert_eq!(own, ["usr/bin/app"], "a folder entry would replace a link of the base");
    assert_eq!(report.findings[0].rule, "foreign-architecture");
    assert!(!report.files.keys().any(|path| path.starts_with("target/image/base")));
    assert!(!report.logged("has a tag instead of a digest"));

    let mut other = with;
    other["platform"] = json!("linux/amd64");
    let error = build_on(with_base(other, &base_config(), b"layer")).0.unwrap_err();
    assert!(error.message.contains("is for linux/arm64/v8"), "{error}");
}

#[test]
fn a_dynamic_program_on_a_base_is_no_warning() {
    let mut config = base_config();
    config["architecture"] = json!("amd64");
    let host = with_base(app(json!({ "strict": true })), &config, b"layer");
    let (built, _) = build_on(host.executable("target/release/app", program("amd64", true)));
    assert!(built.is_ok(), "{built:?}");
}

#[test]
fn a_missing_base_is_an_error() {
    let error = host(app(json!({ "base": "local/none:1" }))).run::<BuildImage>().result.unwrap_err();
    assert!(error.is_not_found() && error.message.contains("can't pull the base local/none:1"), "{error:?}");
}

#[test]
fn the_configuration_extends_the_bases() {
    let config: Config =
        serde_json::from_value(app(json!({ "env": { "LANG": "de", "NEW": "1" }, "labels": { "team": "web" } })))
            .unwrap();
    let record = LayerRecord { diff_id: "sha256:bb".to_owned(), created_by: "test".to_owned() };
    let platform: Platform = serde_json::from_value(json!("linux/arm64/v8")).unwrap();
    let image = image_config(&config, &platform, Some(&base_config()), &[record]);
    assert_eq!(image["variant"], "v8");
    assert_eq!(image["rootfs"]["diff_ids"], json!(["sha256:aa", "sha256:bb"]));
    assert_eq!(image["history"][0]["created_by"], "debootstrap");
    let execution = &image["config"];
    assert_eq!(execution["Env"], json!(["PATH=/usr/bin", "LANG=de", "NEW=1"]));
    assert_eq!(execution["Labels"], json!({ "base": "yes", "team": "web" }));
    assert_eq!(execution["StopSignal"], "SIGQUIT");
    assert_eq!(execution["User"], "65532:65532");
    assert_eq!(execution["Entrypoint"], json!(["/app"]));
    assert_eq!(execution["Cmd"], Json::Null, "a new entrypoint resets the base's command");
}
