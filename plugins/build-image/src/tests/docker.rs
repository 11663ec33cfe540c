use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use stagewright_sdk::Outcome;
use stagewright_sdk::fake::{FakeHost, ProcessScript};

use super::{app, entries, host, image, layer_tar};
use crate::BuildImage;
use crate::stream::digest;

const SAVED: &str = "target/image/docker.tar";

fn tar_of(members: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = plain_header();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    for (name, target) in links {
        let mut header = plain_header();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, name, target).unwrap();
    }
    archive.into_inner().unwrap()
}

fn plain_header() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn members(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        (name, content)
    };
    archive.entries().unwrap().map(read).collect()
}

/// The archive that `docker save` writes for an image with two equal layers.
fn saved() -> Vec<u8> {
    let layer = tar_of(&[("hello", b"hello")], &[]);
    let config = json!({ "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer), digest(&layer)] } })
    .to_string();
    let name = format!("{}.json", &digest(config.as_bytes())[7..]);
    let manifest =
        json!([{ "Config": name, "RepoTags": ["x:1"], "Layers": ["aa/layer.tar", "bb/layer.tar"] }]).to_string();
    tar_of(
        &[(&name, config.as_bytes()), ("aa/layer.tar", &layer), ("manifest.json", manifest.as_bytes())],
        &[("bb/layer.tar", "../aa/layer.tar")],
    )
}

fn dockerfile(builder: &str) -> FakeHost {
    FakeHost::new().config(json!({ "dockerfile": "docker/Dockerfile", "builder": builder, "context": "docker",
        "build-args": { "VERSION": "1.0" }, "labels": { "team": "web = api" }, "platform": "linux/amd64", "tags": ["1.0"] }))
}

#[test]
fn an_archive_lists_its_tags_configuration_and_layers() {
    let with = app(json!({ "archive": "out/app.tar", "name": "local/app", "tags": ["1.0", "example.org/app:2.0"] }));
    let report = host(with).run::<BuildImage>();
    assert_eq!(report.outputs["archive"], "out/app.tar");
    let members = members(&report.files["out/app.tar"]);
    let manifest: Json = serde_json::from_slice(&members["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["RepoTags"], json!(["local/app:1.0", "example.org/app:2.0"]));
    let config = &members[manifest[0]["Config"].as_str().unwrap()];
    assert_eq!(report.outputs["image-id"], digest(config));
    let (image, _) = image(&report.files, "target/image");
    assert_eq!(image["layers"][0]["digest"], digest(&members[manifest[0]["Layers"][0].as_str().unwrap()]));
    let unnamed = host(app(json!({ "archive": "app.tar", "tags": ["1.0"] }))).run::<BuildImage>();
    let manifest: Json = serde_json::from_slice(&self::members(&unnamed.files["app.tar"])["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["RepoTags"], Json::Null);
}

#[test]
fn a_docker_archive_becomes_a_layout() {
    let report = dockerfile("docker")
        .process(ProcessScript::new("docker", ["build"]))
        .process(ProcessScript::new("docker", ["save"]).writes(SAVED, saved()))
        .process(ProcessScript::new("docker", ["image", "rm"]))
        .run::<BuildImage>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    let args: Vec<String> = report.spawned.iter().map(|spawned| spawned.args.join(" ")).collect();
    assert_eq!(
        args[0],
        "build --file docker/Dockerfile --tag stagewright-build:run-1-stage --platform linux/amd64 --build-arg VERSION=1.0 --label team=web = api docker"
    );
    assert_eq!(args[1], format!("save --output {SAVED} stagewright-build:run-1-stage"));
    let (manifest, config) = image(&report.files, "target/image");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
    let tar = layer_tar(&report.files, "target/image", &manifest["layers"][1]);
    assert_eq!(config["rootfs"]["diff_ids"][1], digest(&tar));
    assert_eq!(entries(&tar)[0].2.as_deref(), Some("hello"));
    assert!(!report.files.contains_key(SAVED));
}

#[test]
fn an_archive_with_missing_or_wrong_members_is_refused() {
    let run = |saved: Vec<u8>| {
        let host = dockerfile("docker")
            .process(ProcessScript::new("docker", ["build"]))
            .process(ProcessScript::new("docker", ["save"]).writes(SAVED, saved));
        host.run::<BuildImage>().result.unwrap_err().message
    };
    let missing = json!([{ "Config": "c.json", "Layers": [] }]).to_string();
    assert!(run(tar_of(&[("manifest.json", missing.as_bytes())], &[])).contains("refers to `c.json`"));
    assert!(run(tar_of(&[("other", b"")], &[])).contains("manifest.json"));
    let config = json!({ "rootfs": { "diff_ids": ["sha256:00"] } }).to_string();
    let manifest = json!([{ "Config": "c.json", "Layers": ["l.tar"] }]).to_string();
    let forged = [("c.json", config.as_bytes()), ("l.tar", b"x".as_slice()), ("manifest.json", manifest.as_bytes())];
    assert!(run(tar_of(&forged, &[])).contains("doesn't list"));
}

#[test]
fn a_buildah_layout_is_copied_byte_for_byte() {
    let config =
        json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": ["sha256:aa"] } })
            .to_string();
    let layer = b"a layer";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config.as_bytes()), "size": config.len() },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(layer), "size": layer.len() }],
        "annotations": { "kept": "byte for byte" }
    }).to_string();
    let index = json!({ "schemaVersion": 2, "manifests": [{ "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(manifest.as_bytes()), "size": manifest.len() }] })
    .to_string();
    let mut push = ProcessScript::new("buildah", ["push"]).writes("target/image/buildah/index.json", index);
    for content in [config.as_bytes(), manifest.as_bytes(), layer.as_slice()] {
        push = push.writes(&format!("target/image/buildah/blobs/sha256/{}", &digest(content)[7..]), content);
    }
    let report = dockerfile("buildah")
        .process(ProcessScript::new("buildah", ["build"]))
        .process(push)
        .process(ProcessScript::new("buildah", ["rmi"]))
        .run::<BuildImage>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.outputs["digest"], digest(manifest.as_bytes()));
    assert_eq!(report.spawned[0].args[..3], ["build", "--timestamp", "0"]);
    assert_eq!(image(&report.files, "target/image").0["annotations"]["kept"], "byte for byte");
    assert!(!report.files.keys().any(|path| path.starts_with("target/image/buildah")));
}

#[test]
fn a_failing_builder_fails_the_stage() {
    for builder in ["docker", "buildah"] {
        let host = dockerfile(builder).process(ProcessScript::new(builder, ["build"]).stderr("no such file").exit(1));
        let error = host.run::<BuildImage>().result.unwrap_err();
        assert!(error.message.contains(&format!("`{builder} build` ended with exit code 1")), "{error}");
    }
}
