//! The crates that a release is built from, by `cargo metadata` and Cargo.lock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::cargo::Result;

/// The package of the program.
const PRODUCT: &str = "stagewright-cli";

/// A crate that is part of the program or of a plugin in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ShippedCrate {
    pub(super) name: String,
    pub(super) version: String,
    /// An SPDX expression.
    pub(super) license: Option<String>,
    pub(super) authors: Vec<String>,
    /// The folder of its sources.
    pub(super) folder: PathBuf,
    /// Whether it belongs to this repository.
    pub(super) is_own: bool,
    /// The digest of its package in the registry.
    pub(super) sha256: Option<String>,
    /// The indices of the crates that it is built from, in the same list.
    pub(super) dependencies: Vec<usize>,
}

/// The program's package first, then all others by name and version: what it and the built-in plugins are linked from, with
/// the macros that wrote parts of it. What only tests and build scripts use is left out.
pub(super) fn shipped(metadata: &Json, lock: &str) -> Result<Vec<ShippedCrate>> {
    let unexpected = || "`cargo metadata` printed an unexpected format".to_owned();
    let packages = metadata["packages"].as_array().ok_or_else(unexpected)?;
    let nodes = metadata["resolve"]["nodes"].as_array().ok_or_else(unexpected)?;
    let members = metadata["workspace_members"].as_array().ok_or_else(unexpected)?;
    let needs: HashMap<&Json, Vec<&Json>> = nodes.iter().map(|node| (&node["id"], linked(node))).collect();
    let plugins = Path::new(metadata["workspace_root"].as_str().ok_or_else(unexpected)?).join("plugins");
    let is_root = |package: &&Json| package["name"] == PRODUCT || is_plugin(package, &plugins);
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Json> = packages.iter().filter(is_root).map(|package| &package["id"]).collect();
    while let Some(id) = open.pop() {
        if reached.insert(id.to_string()) {
            open.extend(needs.get(id).into_iter().flatten());
        }
    }
    let mut kept: Vec<&Json> = packages.iter().filter(|package| reached.contains(&package["id"].to_string())).collect();
    let text = |package: &Json, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    kept.sort_by_key(|package| (package["name"] != PRODUCT, text(package, "name"), text(package, "version")));
    let indices: HashMap<&Json, usize> =
        kept.iter().enumerate().map(|(index, package)| (&package["id"], index)).collect();
    let checksums = checksums(lock);
    Ok(kept
        .iter()
        .map(|package| {
            let (name, version) = (text(package, "name"), text(package, "version"));
            let authors = package["authors"].as_array().into_iter().flatten();
            let mut dependencies: Vec<usize> =
                needs.get(&package["id"]).into_iter().flatten().filter_map(|id| indices.get(id).copied()).collect();
            dependencies.sort_unstable();
            ShippedCrate {
                license: package["license"].as_str().map(str::to_owned),
                authors: authors.filter_map(|author| author.as_str().map(str::to_owned)).collect(),
                folder: PathBuf::from(text(package, "manifest_path")).parent().map(PathBuf::from).unwrap_or_default(),
                is_own: members.contains(&package["id"]),
                sha256: checksums.get(&(name.as_str(), version.as_str())).map(|sum| (*sum).to_owned()),
                name,
                version,
                dependencies,
            }
        })
        .collect())
}

/// Whether a package of the folder `plugins` is compiled to a component. A library that plugins share is not.
fn is_plugin(package: &Json, plugins: &Path) -> bool {
    let is_there = package["manifest_path"].as_str().is_some_and(|path| Path::new(path).starts_with(plugins));
    let needs_sdk =
        package["dependencies"].as_array().into_iter().flatten().any(|one| one["name"] == "stagewright-sdk");
    is_there && needs_sdk && package["source"].is_null()
}

/// The packages that a package is linked with.
fn linked(node: &Json) -> Vec<&Json> {
    let is_linked = |dependency: &&Json| {
        dependency["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
    };
    node["deps"].as_array().into_iter().flatten().filter(is_linked).map(|dependency| &dependency["pkg"]).collect()
}

/// The checksums in a Cargo.lock, by name and version.
fn checksums(lock: &str) -> BTreeMap<(&str, &str), &str> {
    let packages = lock.split("[[package]]").skip(1);
    packages
        .filter_map(|package| {
            let field = |key: &str| {
                let mut lines = package.lines();
                lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
            };
            Some(((field("name")?, field("version")?), field("checksum")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_linked_is_shipped_and_what_only_builds_or_tests_is_not() {
        let package = |name: &str, source: Json| {
            json!({
                "id": name, "name": name, "version": "1.0.0", "source": source, "license": "MIT",
                "authors": [], "dependencies": [], "manifest_path": format!("/r/{name}/Cargo.toml"),
            })
        };
        let needs = |name: &str, kind: Json| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "workspace_root": "/r",
            "workspace_members": [PRODUCT],
            "packages": [
                package("used", json!("registry")), package("builder", json!("registry")),
                package("tester", json!("registry")), package(PRODUCT, Json::Null), package("deep", json!("registry")),
            ],
            "resolve": { "nodes": [
                { "id": PRODUCT, "deps": [needs("used", Json::Null), needs("builder", json!("build")), needs("tester", json!("dev"))] },
                { "id": "used", "deps": [needs("deep", Json::Null)] },
            ] },
        });
        let lock = "[[package]]\nname = \"deep\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n";
        let crates = shipped(&metadata, lock).expect("valid metadata");
        let names: Vec<&str> = crates.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, [PRODUCT, "deep", "used"]);
        assert_eq!((crates[1].sha256.as_deref(), &crates[2].dependencies), (Some("abc"), &vec![1]));
        assert_eq!((crates[0].is_own, crates[2].is_own), (true, false));
    }
}
