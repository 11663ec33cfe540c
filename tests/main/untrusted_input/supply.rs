//! The supply of plugins: only the plugin that was locked, recorded or compiled runs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::server::{Server, ok};
use super::{digest, run};
use crate::environment::{TestEnvironment, failure, outcomes, plugins};

fn built_in(name: &str) -> PathBuf {
    let path = |folder: PathBuf| folder.join(name).with_extension("wasm");
    std::env::split_paths(&plugins()).map(path).find(|path| path.is_file()).expect("a built plugin")
}

/// A repository with its own plugin, and a stage that runs before it.
fn with_plugin(before: &str, name: &str) -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(&format!(
        "schema = 1\n[pipeline]\nname = \"p\"\n[stages.before]\nuses = \"command\"\nwith = {{ run = '{before}' }}\n\
         [stages.before.permissions]\nprocess = [\"sh\"]\nread = [\"other.wasm\"]\nwrite = [\"plugins\"]\n\
         [stages.mine]\nneeds = [\"before\"]\nuses = \"path:plugins/mine.wasm\"\n"
    ));
    environment.write("plugins/.keep", "");
    copy(&built_in("noop"), &environment.root().join("plugins/mine.wasm"));
    copy(&built_in(name), &environment.root().join("other.wasm"));
    environment
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("a copy");
}

#[test]
fn a_plugin_replaced_by_an_earlier_stage_does_not_run() {
    let ended = run(&with_plugin("cat other.wasm > plugins/mine.wasm", "misbehave"));
    assert_eq!(ended.code, 1);
    let failure = failure(&ended.events, "mine");
    assert!(failure["message"].to_string().contains("changed since the run started"), "{failure:#}");
    let untouched = run(&with_plugin("true", "misbehave"));
    assert_eq!(outcomes(&untouched.events)["mine"], "succeeded");
}

#[test]
fn a_plugin_that_changed_after_it_was_locked_does_not_run() {
    let environment = with_plugin("true", "stranger");
    environment.run(&["lock"]).exits(0);
    environment.run(&["run", "--locked"]).exits(0);
    copy(&built_in("stranger"), &environment.root().join("plugins/mine.wasm"));
    let refused = environment.run(&["run", "--locked"]).exits(4);
    assert!(
        refused.stderr.contains("changed: sha256:") && refused.stderr.contains("now imports"),
        "{}",
        refused.stderr
    );
}

/// A digest, a permission or a checksum was edited manually: the whole lock is rejected, and nothing runs.
#[test]
fn a_lock_that_was_edited_stops_the_run() {
    let environment = with_plugin("true", "noop");
    environment.run(&["lock"]).exits(0);
    let good = environment.read("stagewright.lock");
    let digest = good.split("sha256:").nth(1).unwrap()[..64].to_owned();
    let edits = [
        good.replace(&digest, &"0".repeat(64)),
        good.replace("process = [\"sh\"]", "process = [\"sh\", \"curl\"]"),
        good.lines().filter(|line| !line.contains("checksum")).collect::<Vec<_>>().join("\n"),
    ];
    for edited in edits {
        assert_ne!(edited, good);
        environment.write("stagewright.lock", &edited);
        let refused = environment.run(&["run", "--locked"]).exits(4);
        assert!(refused.stderr.contains("stagewright.lock"), "{}", refused.stderr);
    }
    environment.write("stagewright.lock", &good);
    environment.run(&["run", "--locked"]).exits(0);
}

/// A registry that returns other content for a digest, either the manifest or the component.
#[test]
fn a_plugin_with_another_digest_is_not_taken_from_a_registry() {
    let component = std::fs::read(built_in("noop")).expect("a component");
    let empty = "{}".as_bytes();
    let described = |media_type: &str, content: &[u8]| json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("application/vnd.oci.empty.v1+json", empty),
        "layers": [described("application/wasm", &component)],
    });
    let manifest = manifest.to_string().into_bytes();
    let other_manifest = [&manifest[..], b" "].concat();
    let mut other = component.clone();
    *other.last_mut().expect("bytes") ^= 1;
    let tries = [
        (manifest.clone(), component.clone(), 0),
        (other_manifest, component.clone(), 4),
        (manifest.clone(), other, 4),
        (manifest.clone(), component[1..].to_vec(), 4),
    ];
    for (sent, blob, code) in tries {
        let server = Server::start(move |head| {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let kind = |name: &str| format!("content-type: application/{name}\r\n");
            match path {
                path if path.contains("/manifests/") => ok(&kind("vnd.oci.image.manifest.v1+json"), &sent),
                path if path.ends_with(&digest(empty)) => ok(&kind("octet-stream"), empty),
                path if path.contains("/blobs/") => ok(&kind("octet-stream"), &blob),
                _ => ok("", ""),
            }
        });
        let uses = format!("oci:127.0.0.1:{}/team/noop@{}", server.port, digest(&manifest));
        let mut environment = TestEnvironment::with_pipeline(&format!(
            "schema = 1\n[pipeline]\nname = \"p\"\n[stages.mine]\nuses = \"{uses}\"\n"
        ));
        // A verified component is cached.
        environment.set("XDG_CACHE_HOME", &environment.root().join("../cache").display().to_string());
        let ended = environment.run(&["run"]).exits(code);
        assert!(code == 0 || ended.stderr.contains("another digest than requested"), "{}", ended.stderr);
    }
}

/// Compiled code runs like native code: if others could have written it, it isn't loaded, and damaged code isn't run.
#[test]
fn modified_compiled_plugins_are_not_loaded() {
    let mut environment = with_plugin("true", "noop");
    let cache = environment.root().join("../cache");
    environment.set("XDG_CACHE_HOME", &cache.display().to_string());
    environment.run(&["run"]).exits(0);
    let compiled = find(&cache, "cwasm");
    assert!(!compiled.is_empty(), "nothing was compiled");
    let good: Vec<Vec<u8>> = compiled.iter().map(|file| std::fs::read(file).expect("a file")).collect();
    for file in &compiled {
        std::fs::write(file, b"\x7fELF, or anything").expect("a file");
    }
    environment.run(&["run"]).exits(0);
    let again: Vec<Vec<u8>> = compiled.iter().map(|file| std::fs::read(file).expect("a file")).collect();
    assert_eq!(again.iter().map(Vec::len).collect::<Vec<_>>(), good.iter().map(Vec::len).collect::<Vec<_>>());
    // In a folder that others can write to, not even valid code is used.
    let folder = compiled[0].parent().unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).expect("a mode");
    for file in &compiled {
        std::fs::write(file, b"left alone").expect("a file");
    }
    environment.run(&["run"]).exits(0);
    assert!(compiled.iter().all(|file| std::fs::read(file).is_ok_and(|bytes| bytes == b"left alone")));
}

fn find(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let below = entries.flat_map(|path| if path.is_dir() { find(&path, extension) } else { vec![path] });
    below.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}
