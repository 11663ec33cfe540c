//! Plugins that were built for other versions of the contract than this engine's.

use std::path::Path;

use crate::environment::{TestEnvironment, plugins};

/// Plugins as they were built when a version was published, one folder for each version. They are never built again.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contract");

const PIPELINE: &str = "schema = 1\npipeline.name = \"old\"\n[stages.old]\nuses = \"path:old.wasm\"\n";

/// A repository whose only stage runs `noop`, with some bytes of the component replaced by as many others. That is how
/// names of other versions get in.
fn with_noop(replaced: &[(&str, &str)]) -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    let folder = std::env::split_paths(&plugins()).next().expect("a folder of plugins");
    let mut component = std::fs::read(folder.join("noop.wasm")).expect("a built plugin");
    for (name, other) in replaced {
        assert_eq!(name.len(), other.len(), "{name}");
        component = replace(&component, name.as_bytes(), other.as_bytes());
    }
    std::fs::write(environment.root().join(Path::new("old.wasm")), component).expect("a component");
    environment
}

fn replace(bytes: &[u8], name: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let found: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(name)).collect();
    assert!(!found.is_empty(), "the component doesn't contain {}", String::from_utf8_lossy(name));
    found.into_iter().for_each(|at| bytes[at..at + name.len()].copy_from_slice(other));
    bytes
}

#[test]
fn a_plugin_for_another_patch_version_passes_check_and_validate_and_runs() {
    let environment = with_noop(&[("@0.2.0", "@0.2.9")]);
    environment.run(&["plugin", "check", "old.wasm"]).exits(0);
    environment.run(&["validate"]).exits(0);
    environment.run(&["run"]).exits(0);
}

#[test]
fn check_validate_and_run_alike_name_a_missing_function_and_its_version() {
    let environment = with_noop(&[("@0.2.0", "@0.2.9"), ("config", "konfig")]);
    for command in [&["plugin", "check", "old.wasm"][..], &["validate"], &["run"]] {
        let refused = environment.run(command);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert_ne!(refused.code, 0, "{command:?}: {said}");
        assert!(said.contains("needs `context.konfig` from 0.2.9; this engine has 0.2.0"), "{command:?}: {said}");
    }
}

/// A repository with a kept plugin as `old.wasm`.
fn with_kept(plugin: &str, pipeline: &str) -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(pipeline);
    std::fs::copy(Path::new(KEPT).join(plugin), environment.root().join("old.wasm")).expect("a kept plugin");
    environment
}

#[test]
fn a_plugin_of_0_1_calls_the_host_as_before() {
    let mut environment = with_kept(
        "0.1/stranger.wasm",
        r#"
        schema = 1
        pipeline.name = "old"
        [secrets.token]
        from = "env:TOKEN"
        [stages.old]
        uses = "path:old.wasm"
        env = { MODE = "fast" }
        with.actions = [
            { do = "write", path = "out/a", text = "hello" },
            { do = "append", path = "out/a", text = " again" },
            { do = "read", path = "out/a" },
            { do = "read-at", path = "out/a" },
            { do = "glob", pattern = "out/**" },
            { do = "start", program = "sh", args = ["-c", "echo $MODE $T"], secret-env = { T = "token" } },
            { do = "publish", name = "app", path = "out/a" },
            { do = "fetch", name = "app", path = "out/b" },
            { do = "read", path = "out/b" },
            { do = "reveal", secret = "token" },
            { do = "call", url = "http://127.0.0.1:9" },
            { do = "read", path = "../secret" },
            { do = "output", name = "a b", value = 1 },
            { do = "output", name = "n", value = 7 },
            { do = "say", place = "summary", text = "done" },
            { do = "wait", for-ms = 1 },
        ]
        [stages.old.permissions]
        write = ["out"]
        process = ["sh"]
        secrets = ["token"]
        reveal = ["token"]
        [stages.next]
        uses = "command"
        needs = ["old"]
        with.run = "test ${{ stages.old.outputs.n }} = 7"
        permissions = { process = ["sh"] }
        "#,
    );
    environment.set("TOKEN", "hunter2hunter2");
    environment.run(&["plugin", "check", "old.wasm"]).exits(0);
    environment.run(&["validate"]).exits(0);
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 0, "{events:#?}");
    let ended = events.iter().find(|event| event["type"] == "attempt-ended" && event["stage-id"] == "old").unwrap();
    let answers = serde_json::to_string(&ended["outputs"]["answers"]).expect("JSON");
    for expected in ["hello again", "out/a", "fast", "PermissionDenied", "InvalidArgument"] {
        assert!(answers.contains(expected), "{expected}: {answers}");
    }
}
