//! The dependency graph, read from `cargo metadata`.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use serde_json::Value as Json;

use crate::cargo::Result;

/// All packages of a workspace and their dependencies, without development dependencies.
#[derive(Default)]
pub(super) struct DependencyGraph {
    pub(super) packages: Vec<Package>,
}

#[derive(Default)]
pub(super) struct Package {
    pub(super) name: String,
    /// The path of its manifest from the root of the workspace; none for a package from elsewhere.
    pub(super) member: Option<String>,
    /// The `license` of its manifest.
    pub(super) license: Option<String>,
    /// Indices of its normal and build dependencies.
    pub(super) dependencies: Vec<usize>,
}

impl DependencyGraph {
    /// Reads format version 1 of `cargo metadata`.
    pub(super) fn from_metadata(metadata: &Json) -> Result<DependencyGraph> {
        let unexpected = || "`cargo metadata` printed an unexpected format".to_owned();
        let root = metadata["workspace_root"].as_str().ok_or_else(unexpected)?;
        let members = metadata["workspace_members"].as_array().ok_or_else(unexpected)?;
        let packages = metadata["packages"].as_array().ok_or_else(unexpected)?;
        let nodes = metadata["resolve"]["nodes"].as_array().ok_or_else(unexpected)?;

        let indices: HashMap<_, _> =
            packages.iter().enumerate().map(|(index, package)| (&package["id"], index)).collect();
        let mut graph = DependencyGraph { packages: Vec::with_capacity(packages.len()) };
        for package in packages {
            let manifest = Path::new(package["manifest_path"].as_str().ok_or_else(unexpected)?);
            let manifest = manifest.strip_prefix(root).unwrap_or(manifest).display().to_string();
            graph.packages.push(Package {
                name: package["name"].as_str().ok_or_else(unexpected)?.to_owned(),
                member: members.contains(&package["id"]).then_some(manifest),
                license: package["license"].as_str().map(str::to_owned),
                dependencies: Vec::new(),
            });
        }
        for node in nodes {
            let &index = indices.get(&node["id"]).ok_or_else(unexpected)?;
            let dependencies = node["deps"].as_array().ok_or_else(unexpected)?;
            let kept = dependencies.iter().filter(|dependency| !is_for_development_only(dependency));
            graph.packages[index].dependencies = kept.filter_map(|dep| indices.get(&dep["pkg"]).copied()).collect();
        }
        Ok(graph)
    }

    /// The packages of the workspace itself, each with its index and the path of its manifest.
    pub(super) fn members(&self) -> impl Iterator<Item = (usize, &Package, &str)> {
        self.packages
            .iter()
            .enumerate()
            .filter_map(|(index, package)| Some((index, package, package.member.as_deref()?)))
    }

    /// The names on a shortest path from one package to the nearest that matches `is_target`, both ends included. The path
    /// leads only through packages for which `may_pass` returns true.
    pub(super) fn path(
        &self,
        from: usize,
        is_target: impl Fn(&Package) -> bool,
        may_pass: impl Fn(&Package) -> bool,
    ) -> Option<Vec<&str>> {
        let mut came_from = vec![None; self.packages.len()];
        came_from[from] = Some(from);
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            if at != from && is_target(&self.packages[at]) {
                let steps = std::iter::successors(Some(at), |&step| came_from[step].filter(|_| step != from));
                let mut names: Vec<_> = steps.map(|step| self.packages[step].name.as_str()).collect();
                names.reverse();
                return Some(names);
            }
            if at != from && !may_pass(&self.packages[at]) {
                continue;
            }
            for &next in &self.packages[at].dependencies {
                if came_from[next].is_none() {
                    came_from[next] = Some(at);
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

fn is_for_development_only(dependency: &Json) -> bool {
    dependency["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind["kind"] == "dev"))
}

/// Parses a graph for tests of rules. Each line is `name -> dependency dependency`; the name of a member of the workspace
/// is followed by its manifest in brackets.
#[cfg(test)]
pub(super) fn parse(lines: &str) -> DependencyGraph {
    let mut graph = DependencyGraph::default();
    let index_of = |graph: &mut DependencyGraph, name: &str| {
        graph.packages.iter().position(|package| package.name == name).unwrap_or_else(|| {
            graph.packages.push(Package { name: name.to_owned(), ..Package::default() });
            graph.packages.len() - 1
        })
    };
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (head, dependencies) = line.split_once("->").unwrap_or((line, ""));
        let (name, manifest) = head.trim().split_once(" [").unwrap_or((head.trim(), ""));
        let index = index_of(&mut graph, name);
        let dependencies = dependencies.split_whitespace().map(|name| index_of(&mut graph, name)).collect();
        graph.packages[index].member = manifest.strip_suffix(']').map(str::to_owned);
        graph.packages[index].dependencies = dependencies;
    }
    graph
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metadata_is_read_without_development_dependencies() {
        let metadata = json!({
            "workspace_root": "/w",
            "workspace_members": ["a"],
            "packages": [
                { "id": "a", "name": "ours", "manifest_path": "/w/crates/ours/Cargo.toml", "license": "MIT" },
                { "id": "b", "name": "used", "manifest_path": "/r/used/Cargo.toml", "license": null },
                { "id": "c", "name": "tested-with", "manifest_path": "/r/tested-with/Cargo.toml", "license": "MIT" },
            ],
            "resolve": { "nodes": [
                { "id": "a", "deps": [
                    { "pkg": "b", "dep_kinds": [{ "kind": "dev" }, { "kind": null }] },
                    { "pkg": "c", "dep_kinds": [{ "kind": "dev" }] },
                ] },
                { "id": "b", "deps": [] },
                { "id": "c", "deps": [] },
            ] },
        });
        let graph = DependencyGraph::from_metadata(&metadata).unwrap();
        let (_, ours, manifest) = graph.members().next().unwrap();
        assert_eq!((ours.name.as_str(), manifest, &ours.dependencies), ("ours", "crates/ours/Cargo.toml", &vec![1]));
        assert!(DependencyGraph::from_metadata(&json!({})).is_err());
    }

    #[test]
    fn the_shortest_path_through_permitted_packages_is_found() {
        let graph = parse("a -> b c\n b -> d\n c -> x\n d -> x");
        let path = |closed: &str| graph.path(0, |package| package.name == "x", |package| package.name != closed);
        assert_eq!(path(""), Some(vec!["a", "c", "x"]));
        assert_eq!(path("c"), Some(vec!["a", "b", "d", "x"]));
        assert_eq!(graph.path(0, |package| package.name == "y", |_| true), None);
    }
}
