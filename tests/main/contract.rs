//! Plugins that were built for other versions of the contract than this engine's.

use std::path::Path;

use crate::environment::{TestEnvironment, plugins};

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
    let environment = with_noop(&[("@0.1.0", "@0.1.9")]);
    environment.run(&["plugin", "check", "old.wasm"]).exits(0);
    environment.run(&["validate"]).exits(0);
    environment.run(&["run"]).exits(0);
}

#[test]
fn check_validate_and_run_alike_name_a_missing_function_and_its_version() {
    let environment = with_noop(&[("@0.1.0", "@0.1.9"), ("config", "konfig")]);
    for command in [&["plugin", "check", "old.wasm"][..], &["validate"], &["run"]] {
        let refused = environment.run(command);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert_ne!(refused.code, 0, "{command:?}: {said}");
        assert!(said.contains("needs `context.konfig` from 0.1.9; this engine has 0.1.0"), "{command:?}: {said}");
    }
}
