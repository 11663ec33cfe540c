use std::time::Duration;

use serde_json::json;
use stagewright_sdk::fake::FakeHost;
use stagewright_sdk::workspace::Node;
use stagewright_sdk::{ErrorCode, Outcome, Permission, Severity};

use super::{app, build, entries, host, image, layer_tar, paths, program};
use crate::BuildImage;
use crate::stream::{CHUNK, digest};
use crate::tree::Tree;

#[test]
fn a_layout_has_what_the_specification_requires() {
    let report = build(app(json!({
        "cmd": ["--serve"], "env": { "B": "2", "A": "1" }, "labels": { "team": "web" }, "workdir": "/srv",
        "expose": [8080, "53/udp"], "tags": ["1.0", "latest"]
    })));
    let files = &report.files;
    assert_eq!(report.text("target/image/oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}");
    let (manifest, config) = image(files, "target/image");
    assert_eq!(manifest["schemaVersion"], 2);
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let tar = layer_tar(files, "target/image", &manifest["layers"][0]);
    assert_eq!(config["rootfs"], json!({ "type": "layers", "diff_ids": [digest(&tar)] }));
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    assert_eq!((config["os"].as_str(), config["architecture"].as_str()), (Some("linux"), Some("amd64")));
    assert_eq!(
        config["config"],
        json!({
            "User": "65532:65532", "ExposedPorts": { "53/udp": {}, "8080/tcp": {} }, "Labels": { "team": "web" },
            "Env": ["A=1", "B=2"], "Entrypoint": ["/app"], "Cmd": ["--serve"], "WorkingDir": "/srv"
        })
    );
    let index: serde_json::Value = serde_json::from_str(report.text("target/image/index.json")).unwrap();
    let names: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|manifest| {
            assert_eq!(manifest["digest"], report.outputs["digest"]);
            manifest["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap()
        })
        .collect();
    assert_eq!(names, ["1.0", "latest"]);
    assert_eq!(report.outputs["image-id"], manifest["config"]["digest"]);
    let blobs = files.iter().filter(|(path, _)| path.contains("/blobs/"));
    assert_eq!(report.outputs["size"], blobs.map(|(_, blob)| blob.len()).sum::<usize>());
}

#[test]
fn two_builds_are_equal_byte_for_byte() {
    let with = json!({ "layers": [{ "files": ["static"] }, { "files": ["target/release/app"], "dest": "/usr/bin" }],
        "env": { "A": "1", "B": "2", "C": "3" }, "labels": { "x": "1", "y": "2" }, "tags": ["a", "b"], "archive": "target/app.tar" });
    let first = host(with.clone()).run::<BuildImage>();
    // At another time, in another attempt, and over the files that the first build left.
    let mut again = host(with).now(Duration::from_secs(2_000_000_000)).attempt(2);
    for (path, content) in first.files.iter().filter(|(path, _)| path.starts_with("target/image")) {
        again = again.file(path, content.clone());
    }
    let again = again.file("target/image/blobs/sha256/of-an-older-image", "old").run::<BuildImage>();
    assert_eq!(first.result, Ok(Outcome::Succeeded));
    assert!(first.files == again.files);
    assert!(first.outputs == again.outputs);
}

#[test]
fn files_go_to_their_configured_targets() {
    let cases = [
        (json!(["target/release/app"]), "/", vec![("app", 0o755)]),
        (
            json!(["./target/release/app"]),
            "/usr/bin",
            vec![("usr/", 0o755), ("usr/bin/", 0o755), ("usr/bin/app", 0o755)],
        ),
        (json!([{ "from": "target/release/app", "to": "/bin/" }]), "/srv", vec![("bin/", 0o755), ("bin/app", 0o755)]),
        (json!([{ "from": "target/release/app", "to": "tool" }]), "/", vec![("tool", 0o755)]),
        (json!([{ "from": "config/base.toml", "mode": "0600" }]), "/", vec![("base.toml", 0o600)]),
        (json!([{ "from": "config/base.toml", "executable": true }]), "/", vec![("base.toml", 0o755)]),
        (json!(["config/*.toml"]), "/", vec![("base.toml", 0o644), ("production.toml", 0o644)]),
        (
            json!(["static/"]),
            "/",
            vec![
                ("static/", 0o755),
                ("static/css/", 0o755),
                ("static/css/site.css", 0o644),
                ("static/index.html", 0o644),
            ],
        ),
        (
            json!([{ "from": "static", "to": "www" }]),
            "/",
            vec![("www/", 0o755), ("www/css/", 0o755), ("www/css/site.css", 0o644), ("www/index.html", 0o644)],
        ),
    ];
    for (files, dest, expected) in cases {
        let report = build(json!({ "layers": [{ "files": files, "dest": dest }] }));
        let expected: Vec<(String, u32)> = expected.into_iter().map(|(path, mode)| (path.to_owned(), mode)).collect();
        assert_eq!(paths(&report), expected, "{files} to {dest}");
    }
}

#[test]
fn long_paths_are_kept() {
    let deep = format!("static/{}/file", "a-folder-with-a-long-name/".repeat(8).trim_end_matches('/'));
    let report = host(json!({ "files": ["static"] })).file(&deep, "deep").run::<BuildImage>();
    let (manifest, _) = image(&report.files, "target/image");
    let tar = layer_tar(&report.files, "target/image", &manifest["layers"][0]);
    assert!(entries(&tar).iter().any(|(path, _, content)| *path == deep && content.as_deref() == Some("deep")));
}

/// Path and target of a layer's links, in order.
fn links(tar: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(tar);
    let links = archive.entries().unwrap().map(Result::unwrap).filter_map(|entry| {
        let target = entry.link_name_bytes()?.into_owned();
        let path = entry.path_bytes().into_owned();
        Some((String::from_utf8(path).unwrap(), String::from_utf8(target).unwrap()))
    });
    links.collect()
}

#[test]
fn links_and_empty_folders_are_kept() {
    let long = format!("../{}ende-ü", "a-folder-with-a-long-name/".repeat(11));
    let nodes = [("lib/libx.so", "libx.so.1"), ("lib64", "./lib//"), ("abs", "/opt/./x/"), ("long", long.as_str())];
    let with = json!({ "files": [{ "from": "app", "to": "opt" }], "archive": "target/app.tar" });
    let mut host = host(with).file("app/lib/libx.so.1", "so").node("app/empty/deep", Node::Folder);
    for (path, target) in nodes {
        host = host.node(&format!("app/{path}"), Node::Link(target.to_owned()));
    }
    let report = host.run::<BuildImage>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    let (manifest, _) = image(&report.files, "target/image");
    let found = links(&layer_tar(&report.files, "target/image", &manifest["layers"][0]));
    let expected = [("abs", "/opt/./x/"), ("lib/libx.so", "libx.so.1"), ("lib64", "./lib//"), ("long", long.as_str())];
    assert_eq!(found, expected.map(|(path, target)| (format!("opt/{path}"), target.to_owned())));
    let names: Vec<String> = paths(&report).into_iter().map(|(path, _)| path).collect();
    assert!(names.contains(&"opt/empty/deep/".to_owned()), "{names:?}");
    let dangling: Vec<&str> = report.findings.iter().map(|finding| finding.file.as_deref().unwrap()).collect();
    assert_eq!((dangling, report.findings[0].rule.as_str()), (vec!["app/abs", "app/long"], "dangling-link"));
}

#[test]
fn links_are_resolved_within_the_images_root() {
    let mut tree = Tree::default();
    for (path, target) in [
        ("usr/bin/x", "../../../../opt/x"),
        ("bin", "usr/bin"),
        ("a", "/bin/x"),
        ("b", "bin/../../x"),
        ("round", "round"),
        ("c", "bin/y"),
    ] {
        tree.add_link(path, path, target).unwrap();
    }
    tree.add_file("opt/x", "x", 1, 0o644).unwrap();
    tree.add_parents().unwrap();
    let dangling: Vec<&str> = tree.dangling().into_iter().map(|(path, ..)| path).collect();
    assert_eq!(dangling, ["b", "c", "round"]);
}

#[test]
fn a_dangling_link_in_files_is_an_error() {
    let fail = |target: &str| {
        let with = json!({ "files": ["current"] });
        host(with).node("current", Node::Link(target.to_owned())).run::<BuildImage>().result.unwrap_err()
    };
    assert!(fail("nowhere").message.contains("`current` is a link to `nowhere`"));
}

#[test]
fn whiteouts_special_files_and_files_below_links_are_refused() {
    let fail = |with: serde_json::Value, path: &str, node: Option<Node>| {
        let host = match node {
            Some(node) => host(with).node(path, node),
            None => host(with).file(path, "x"),
        };
        let error = host.run::<BuildImage>().result.unwrap_err();
        format!("{} {}", error.message, error.help.unwrap_or_default())
    };
    let app = || json!({ "files": ["app", "config"] });
    for path in ["app/.wh.passwd", "app/.wh..wh..opq"] {
        let message = fail(app(), path, None);
        assert!(
            message.contains(&format!("`{path}`")) && message.contains("deletes files") && message.contains("rename"),
            "{message}"
        );
    }
    assert!(fail(app(), "app/.wh.l", Some(Node::Link("x".to_owned()))).contains("deletes files"));
    assert!(fail(json!({ "files": ["config"] }), "config/.wh.e", Some(Node::Folder)).contains("deletes files"));
    assert!(fail(app(), "app/.wh.d/x", None).contains("`app/.wh.d` can't be added to an image as /app/.wh.d"));
    let message = fail(app(), "app/pipe", Some(Node::Special("a named pipe".to_owned())));
    assert!(message.contains("`app/pipe` is a named pipe") && message.contains("remove it"), "{message}");
    let below = json!({ "files": ["app", { "from": "config/base.toml", "to": "app/lib64/base.toml" }] });
    let message = fail(below, "app/lib64", Some(Node::Link("/".to_owned())));
    assert!(message.contains("/app/lib64/base.toml would be below the link `app/lib64`"), "{message}");
}

#[test]
fn a_missing_file_is_reported_with_its_neighbours() {
    let fail = |files: serde_json::Value| host(json!({ "files": files })).run::<BuildImage>().result.unwrap_err();
    let error = fail(json!(["target/release/ap"]));
    assert_eq!(error.code, ErrorCode::NotFound);
    assert!(error.help.as_deref().unwrap().contains("`target/release` contains target/release/app"), "{error:?}");
    let error = fail(json!(["config/deep/down.toml"]));
    assert!(error.help.as_deref().unwrap().contains("config/base.toml, config/production.toml"), "{error:?}");
    let denied = host(json!({ "files": ["secret/app"] })).deny(Permission::Read, "secret/app").run::<BuildImage>();
    assert!(denied.result.unwrap_err().is_denied());
    assert!(fail(json!(["config/*.yaml"])).message.contains("matches no files"));
    let error = fail(json!(["config/base.toml", { "from": "config/production.toml", "to": "base.toml" }]));
    assert!(error.message.contains("/base.toml would come from"), "{error}");
    assert!(fail(json!([{ "from": "config", "to": "../etc" }])).message.contains("leaves the image's root"));
}

#[test]
fn a_layer_larger_than_a_chunk_is_written_whole() {
    let size = CHUNK as usize * 3 + 17;
    let noise: Vec<u8> = (0..size as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for compression in ["gzip", "none"] {
        let with = json!({ "files": ["big"], "compression": compression, "archive": "target/big.tar" });
        let report = host(with).file("big", noise.clone()).run::<BuildImage>();
        assert_eq!(report.result, Ok(Outcome::Succeeded));
        let (manifest, config) = image(&report.files, "target/image");
        let tar = layer_tar(&report.files, "target/image", &manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&tar));
        let mut content = Vec::new();
        let mut archive = tar::Archive::new(tar.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        assert!(content == noise, "{compression}");
        assert!(!report.files.contains_key("target/image/blobs/unnamed"));
    }
}

#[test]
fn a_program_that_cannot_start_is_a_warning_or_with_strict_an_error() {
    let run = |strict: bool, bytes: Vec<u8>, more: serde_json::Value| {
        let mut with = app(more);
        with["strict"] = json!(strict);
        FakeHost::new().config(with).executable("target/release/app", bytes).run::<BuildImage>()
    };
    let codes = |report: &stagewright_sdk::fake::Report<stagewright_sdk::Result<Outcome>>| -> Vec<(Severity, String)> {
        report.findings.iter().map(|finding| (finding.severity, finding.rule.clone())).collect()
    };
    let report = run(false, program("amd64", true), json!({}));
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(codes(&report), [(Severity::Warning, "dynamic-program".to_owned())]);
    assert!(report.findings[0].message.contains("/lib64/ld-linux-x86-64.so.2"), "{}", report.findings[0].message);

    let report = run(true, program("amd64", true), json!({}));
    assert!(report.result.as_ref().unwrap_err().help.as_ref().unwrap().contains("statically"));
    assert_eq!(codes(&report), [(Severity::Error, "dynamic-program".to_owned())]);

    let report = run(false, program("arm64", false), json!({}));
    assert_eq!(codes(&report), [(Severity::Warning, "foreign-architecture".to_owned())]);
    assert_eq!(codes(&run(true, program("arm64", false), json!({ "platform": "linux/arm64" }))), []);
    assert_eq!(codes(&run(true, b"#!/bin/sh".to_vec(), json!({}))), []);
    assert_eq!(codes(&run(true, b"\x7fELF".to_vec(), json!({}))), []);
}

#[test]
fn root_is_allowed_with_a_warning() {
    let report = build(app(json!({ "user": "0:0" })));
    assert_eq!(report.findings[0].rule, "root-user");
    assert_eq!(image(&report.files, "target/image").1["config"]["User"], "0:0");
    assert!(host(app(json!({ "user": "root", "strict": true }))).run::<BuildImage>().result.is_err());
}

#[test]
fn a_folder_that_is_not_a_layout_is_not_replaced() {
    let report = host(app(json!({ "layout": "config" }))).run::<BuildImage>();
    assert!(report.result.unwrap_err().message.contains("isn't an image layout"));
    assert!(report.files.contains_key("config/base.toml"));
}

#[test]
fn configuration_errors_name_their_key() {
    let keys = |with: serde_json::Value| -> Vec<String> {
        let found = FakeHost::new().config(with).validate::<BuildImage>();
        found.into_iter().map(|found| found.key.unwrap_or_default()).collect()
    };
    assert_eq!(keys(json!({})), ["files"]);
    assert_eq!(keys(app(json!({ "layout": "../out" }))), ["layout"]);
    assert_eq!(keys(app(json!({ "layout": "." }))), ["layout"]);
    assert_eq!(keys(app(json!({ "archive": "/srv/app.tar" }))), ["archive"]);
    assert_eq!(keys(json!({ "files": ["app", "/etc/passwd"] })), ["files[1]"]);
    assert_eq!(keys(json!({ "layers": [{ "files": [{ "from": "../app", "to": "app" }] }] })), ["layers[0].files[0]"]);
    assert_eq!(keys(json!({ "dockerfile": "/Dockerfile", "builder": "docker" })), ["dockerfile"]);
    assert_eq!(keys(json!({ "dockerfile": "Dockerfile", "builder": "docker", "context": ".." })), ["context"]);
    assert_eq!(keys(app(json!({ "workdir": "srv" }))), ["workdir"]);
    assert_eq!(keys(app(json!({ "created": "yesterday" }))), ["created"]);
    assert_eq!(keys(app(json!({ "platform": "linux" }))), ["platform"]);
    assert_eq!(keys(app(json!({ "expose": ["http"] }))), ["expose[0]"]);
    assert_eq!(keys(app(json!({ "dockerfile": "Dockerfile" }))), ["dockerfile", "entrypoint"]);
    assert_eq!(keys(app(json!({ "dockerfile": "Dockerfile", "builder": "docker" }))), ["dockerfile", "entrypoint"]);
    assert_eq!(keys(json!({ "dockerfile": "Dockerfile", "builder": "docker" })), [""; 0]);
    assert_eq!(keys(app(json!({ "created": "2026-01-31T12:00:00+01:00" }))), [""; 0]);
}

#[test]
fn what_is_read_and_written_is_required() {
    let entries = |with: serde_json::Value| -> Vec<String> {
        let required = FakeHost::new().config(with).requirements::<BuildImage>().into_iter();
        required.map(|needed| format!("{} {}", needed.permission.key(), needed.entry)).collect()
    };
    let files = json!({ "files": ["target/release/app", "."], "base": "ghcr.io/acme/base:1", "archive": "app.tar" });
    let expected =
        ["read target/release/app", "read .", "write target/image", "write app.tar", "registry ghcr.io/acme/base"];
    assert_eq!(entries(files), expected);
    let dockerfile = json!({ "dockerfile": "Dockerfile", "builder": "docker", "context": "app" });
    let expected = ["write target/image", "read Dockerfile", "read app", "process docker", "socket docker"];
    assert_eq!(entries(dockerfile), expected);
}
