//! Each plugin must be run by a pipeline of this repository or by a system test.

use std::collections::BTreeSet;

use super::TidyFinding;
use super::tree::File;

/// Every plugin that no pipeline and no system test runs.
pub(super) fn check(files: &[File]) -> Vec<TidyFinding> {
    let plugins: BTreeSet<_> =
        files.iter().filter(|file| is_loaded(file)).filter_map(|file| plugin_of_manifest(&file.path)).collect();
    let unused = plugins.into_iter().filter(|plugin| !files.iter().any(|file| runs(file, plugin)));
    unused
        .map(|plugin| {
            let message = format!("no pipeline and no test names the plugin {plugin}");
            TidyFinding::error(format!("plugins/{plugin}"), message, "use it in pipelines/ or in a test of tests/")
        })
        .collect()
}

/// The name of the plugin with this manifest, `plugins/NAME/Cargo.toml`.
fn plugin_of_manifest(path: &str) -> Option<&str> {
    path.strip_prefix("plugins/")?.strip_suffix("/Cargo.toml").filter(|name| !name.contains('/'))
}

/// Whether the manifest is that of something to load, and not of a library that plugins share.
fn is_loaded(file: &File) -> bool {
    file.text.contains("\"cdylib\"")
}

/// Whether a file runs the plugin. Its own unit tests don't count, since they run outside of the engine.
fn runs(file: &File, plugin: &str) -> bool {
    let is_pipeline = file.path.starts_with("pipelines/") && file.path.ends_with(".toml");
    let is_test =
        file.path.starts_with("tests/") || (file.path.starts_with("crates/") && file.path.contains("/tests/"));
    // A stage with `uses = "deploy"` runs the plugin of its environment's target.
    let target = plugin.strip_prefix("deploy-").map(|target| format!("target = \"{target}\""));
    let names = [format!("\"{plugin}\""), format!("plugins/{plugin}\""), format!("{plugin}.wasm")];
    (is_pipeline || is_test) && names.iter().chain(&target).any(|name| file.text.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unused(files: &[(&str, &str)]) -> Vec<String> {
        let file = |&(path, text): &(&str, &str)| File { path: path.to_owned(), text: text.to_owned() };
        check(&files.iter().map(file).collect::<Vec<_>>()).into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn a_plugin_without_a_pipeline_or_test_is_found() {
        let files = [
            ("plugins/used/Cargo.toml", "crate-type = [\"cdylib\"]"),
            ("plugins/tested/Cargo.toml", "crate-type = [\"cdylib\"]"),
            ("plugins/idle/Cargo.toml", "name = \"idle\"\ncrate-type = [\"cdylib\", \"rlib\"]"),
            ("plugins/shared/Cargo.toml", "name = \"shared\""),
            ("plugins/deploy-cloud/Cargo.toml", "crate-type = [\"cdylib\"]"),
            ("tests/main/cloud.rs", "target = \"cloud\""),
            ("plugins/idle/src/lib.rs", "\"idle\""),
            ("pipelines/release.toml", "uses = \"used\""),
            ("tests/tests/plugins.rs", "run(\"plugins/tested\")"),
        ];
        assert_eq!(unused(&files), ["plugins/idle"]);
    }
}
