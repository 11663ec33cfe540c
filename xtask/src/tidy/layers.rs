//! The permitted dependencies between crates: the arrows of ARCHITECTURE.md.

use super::TidyFinding;
use super::graph::{DependencyGraph, Package};

/// The crates of the workspace that each crate may depend on.
const ARROWS: [(&str, &[&str]); 29] = [
    ("aws", &["stagewright-sdk"]),
    ("compose-file", &["located-yaml", "plain-secrets", "rollout", "stagewright-sdk"]),
    ("database", &["aws", "stagewright-sdk"]),
    ("docker-engine", &["stagewright-sdk"]),
    ("kubernetes", &["located-yaml", "plain-secrets", "rollout", "stagewright-sdk"]),
    ("located-yaml", &[]),
    ("plain-secrets", &[]),
    ("problem-matchers", &[]),
    ("rollout", &["docker-engine", "stagewright-sdk"]),
    ("stagewright-api", &[]),
    ("stagewright-model", &[]),
    ("stagewright-builtin-plugins", &[]),
    ("stagewright-cache", &["stagewright-engine", "stagewright-files", "stagewright-model"]),
    ("stagewright-engine", &["stagewright-model"]),
    ("stagewright-files", &[]),
    ("stagewright-oci", &["stagewright-files"]),
    ("stagewright-process", &["stagewright-files"]),
    ("stagewright-services", &["stagewright-files", "stagewright-oci", "stagewright-process"]),
    ("stagewright-plugin-build", &["stagewright-files", "stagewright-process"]),
    (
        "stagewright-plugin-host",
        &[
            "stagewright-engine",
            "stagewright-files",
            "stagewright-model",
            "stagewright-oci",
            "stagewright-process",
            "stagewright-services",
        ],
    ),
    ("stagewright-store", &["stagewright-engine", "stagewright-files", "stagewright-model"]),
    ("stagewright-report", &["stagewright-api", "stagewright-engine", "stagewright-model"]),
    (
        "stagewright-cli",
        &[
            "stagewright-api",
            "stagewright-builtin-plugins",
            "stagewright-engine",
            "stagewright-files",
            "stagewright-model",
            "stagewright-plugin-build",
            "stagewright-plugin-host",
            "stagewright-process",
            "stagewright-report",
            "stagewright-session",
            "stagewright-store",
        ],
    ),
    (
        "stagewright-session",
        &[
            "stagewright-cache",
            "stagewright-engine",
            "stagewright-files",
            "stagewright-model",
            "stagewright-plugin-host",
            "stagewright-process",
            "stagewright-secrets",
            "stagewright-store",
        ],
    ),
    ("stagewright-properties", &["stagewright-model", "stagewright-plugin-host", "stagewright-report"]),
    ("stagewright-sdk", &[]),
    ("stagewright-secrets", &["stagewright-files", "stagewright-model", "stagewright-process"]),
    ("stagewright-tests", &[]),
    ("xtask", &[]),
];

/// The crates of the workspace that a plugin may depend on, including plugins that only tests use.
const PLUGIN_ARROWS: &[&str] = &[
    "aws",
    "compose-file",
    "database",
    "docker-engine",
    "kubernetes",
    "located-yaml",
    "plain-secrets",
    "problem-matchers",
    "rollout",
    "stagewright-sdk",
];

/// Heavy libraries, and those that give access to a resource. Only the crates named here may depend on a library; all
/// other crates may depend on it only through one of these.
const OWNERS: [(&str, &[&str]); 15] = [
    ("age", &["stagewright-secrets"]),
    ("aws-sigv4", &["stagewright-secrets"]),
    ("cap-std", &["stagewright-cache", "stagewright-oci", "stagewright-plugin-host"]),
    ("cel", &["rollout", "stagewright-model"]),
    ("clap", &["stagewright-cli", "xtask"]),
    ("git2", &["stagewright-session"]),
    ("globset", &["stagewright-cache", "stagewright-model"]),
    ("indicatif", &["stagewright-report"]),
    ("libloading", &["stagewright-plugin-host"]),
    ("object_store", &["stagewright-cache"]),
    ("oci-client", &["stagewright-oci"]),
    ("reqwest", &["stagewright-cache", "stagewright-oci", "stagewright-plugin-host", "stagewright-secrets"]),
    ("rusqlite", &["stagewright-store"]),
    (
        "tokio",
        &[
            "stagewright-cache",
            "stagewright-cli",
            "stagewright-engine",
            "stagewright-oci",
            "stagewright-plugin-build",
            "stagewright-plugin-host",
            "stagewright-process",
            "stagewright-secrets",
            "stagewright-services",
            "stagewright-session",
        ],
    ),
    ("wasmtime", &["stagewright-plugin-host"]),
];

/// Every dependency that isn't permitted.
pub(super) fn check(graph: &DependencyGraph) -> Vec<TidyFinding> {
    let mut findings = Vec::new();
    for (index, package, manifest) in graph.members() {
        check_arrows(graph, package, manifest, &mut findings);
        check_owners(graph, index, manifest, &mut findings);
    }
    findings
}

fn check_arrows(graph: &DependencyGraph, package: &Package, manifest: &str, findings: &mut Vec<TidyFinding>) {
    let allowed = match ARROWS.iter().find(|(name, _)| *name == package.name) {
        Some((_, allowed)) => *allowed,
        None if manifest.starts_with("plugins/") || manifest.starts_with("tests/guests/") => PLUGIN_ARROWS,
        None => {
            let help = "add its permitted dependencies to ARROWS in xtask/src/tidy/layers.rs, and to ARCHITECTURE.md";
            findings.push(TidyFinding::error(manifest, format!("{} isn't part of the layers", package.name), help));
            return;
        }
    };
    for dependency in package.dependencies.iter().map(|&index| &graph.packages[index]) {
        if dependency.member.is_some() && !allowed.contains(&dependency.name.as_str()) {
            let help = match allowed {
                [] => "it may depend on none of the workspace's crates".to_owned(),
                allowed => format!("it may depend on {}", allowed.join(", ")),
            };
            findings.push(TidyFinding::error(manifest, format!("{} -> {}", package.name, dependency.name), help));
        }
    }
}

fn check_owners(graph: &DependencyGraph, index: usize, manifest: &str, findings: &mut Vec<TidyFinding>) {
    let package = &graph.packages[index];
    for (library, owners) in OWNERS.iter().filter(|(_, owners)| !owners.contains(&package.name.as_str())) {
        // Paths through an owner are permitted: it is the owner's purpose to hide the library.
        let is_open = |package: &Package| !owners.contains(&package.name.as_str());
        if let Some(path) = graph.path(index, |package| package.name == *library, is_open) {
            let help = format!("only {} may use {library}: go through it, by a port if needed", owners.join(", "));
            findings.push(TidyFinding::error(manifest, path.join(" -> "), help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::parse;
    use super::*;

    fn messages(lines: &str) -> Vec<String> {
        check(&parse(lines)).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn dependencies_in_the_table_are_permitted() {
        let lines = "
            stagewright-model [crates/stagewright-model/Cargo.toml] -> cel
            stagewright-engine [crates/stagewright-engine/Cargo.toml] -> stagewright-model tokio
            stagewright-sdk [crates/stagewright-sdk/Cargo.toml]
            deploy-process [plugins/deploy-process/Cargo.toml] -> stagewright-sdk";
        assert_eq!(messages(lines), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_against_the_layers_is_found() {
        let lines = "
            stagewright-engine [crates/stagewright-engine/Cargo.toml]
            stagewright-model [crates/stagewright-model/Cargo.toml] -> stagewright-engine";
        assert_eq!(messages(lines), ["stagewright-model -> stagewright-engine"]);
    }

    #[test]
    fn a_session_may_not_depend_on_the_report_or_clap() {
        let lines = "
            stagewright-report [crates/stagewright-report/Cargo.toml] -> indicatif
            stagewright-session [crates/stagewright-session/Cargo.toml] -> stagewright-report clap git2";
        assert_eq!(messages(lines), ["stagewright-session -> stagewright-report", "stagewright-session -> clap"]);
    }

    #[test]
    fn a_plugin_may_not_depend_on_a_crate_of_the_host() {
        let lines = "
            stagewright-model [crates/stagewright-model/Cargo.toml]
            deploy-process [plugins/deploy-process/Cargo.toml] -> stagewright-model";
        assert_eq!(messages(lines), ["deploy-process -> stagewright-model"]);
    }

    #[test]
    fn a_direct_dependency_on_the_library_of_another_crate_is_found() {
        let lines = "
            stagewright-plugin-host [crates/stagewright-plugin-host/Cargo.toml] -> wasmtime
            stagewright-cli [crates/stagewright-cli/Cargo.toml] -> stagewright-plugin-host wasmtime";
        assert_eq!(messages(lines), ["stagewright-cli -> wasmtime"]);
    }

    #[test]
    fn an_indirect_dependency_on_such_a_library_is_found_with_its_path() {
        let lines = "
            stagewright-model [crates/stagewright-model/Cargo.toml] -> harmless
            harmless -> tokio";
        assert_eq!(messages(lines), ["stagewright-model -> harmless -> tokio"]);
    }

    #[test]
    fn a_dependency_through_the_owner_of_a_library_is_permitted() {
        let lines = "
            stagewright-model [crates/stagewright-model/Cargo.toml] -> cel
            stagewright-store [crates/stagewright-store/Cargo.toml] -> stagewright-model rusqlite";
        assert_eq!(messages(lines), Vec::<String>::new());
    }

    #[test]
    fn a_crate_missing_from_the_table_is_found() {
        let found = messages("stagewright-common [crates/stagewright-common/Cargo.toml]");
        assert_eq!(found, ["stagewright-common isn't part of the layers"]);
    }
}
