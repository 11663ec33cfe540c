//! No module of a crate depends on one that depends on it, also not by way of others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::Finding;
use super::modules::{Arrows, Modules};
use crate::cargo::Result;

/// Every circle of files within one crate.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for crate_root in crate_roots(root)? {
        let arrows = Modules::read(&crate_root)?.arrows();
        findings.extend(circles(&arrows).iter().map(|circle| finding(root, circle, &arrows)));
    }
    Ok(findings)
}

/// `lib.rs` and `main.rs` of each crate, plugin and of xtask.
fn crate_roots(root: &Path) -> Result<Vec<PathBuf>> {
    let mut roots = Vec::new();
    for group in ["crates", "plugins"] {
        let folder = root.join(group);
        let entries =
            std::fs::read_dir(&folder).map_err(|error| format!("can't read {}: {error}", folder.display()))?;
        for entry in entries {
            roots.push(entry.map_err(|error| format!("can't read {}: {error}", folder.display()))?.path());
        }
    }
    roots.push(root.join("xtask"));
    roots.sort();
    let files = roots.iter().flat_map(|folder| ["lib.rs", "main.rs"].map(|name| folder.join("src").join(name)));
    Ok(files.filter(|file| file.is_file()).collect())
}

/// The files that depend on each other, for each circle.
fn circles(arrows: &Arrows) -> Vec<Vec<&Path>> {
    let files: BTreeMap<&Path, usize> =
        arrows.keys().flat_map(|(from, to)| [from, to]).map(|file| (file.as_path(), 0)).collect();
    let names: Vec<&Path> = files.into_keys().collect();
    let number = |file: &Path| NodeIndex::new(names.binary_search(&file).expect("it is one of them"));
    let mut graph = DiGraph::<&Path, ()>::new();
    for name in &names {
        graph.add_node(name);
    }
    for (from, to) in arrows.keys() {
        graph.add_edge(number(from), number(to), ());
    }
    let mut circles: Vec<Vec<&Path>> = tarjan_scc(&graph)
        .into_iter()
        .filter(|circle| circle.len() > 1)
        .map(|circle| circle.into_iter().map(|node| graph[node]).collect())
        .collect();
    for circle in &mut circles {
        circle.sort();
    }
    circles.sort();
    circles
}

fn finding(root: &Path, circle: &[&Path], arrows: &Arrows) -> Finding {
    let shown = |file: &Path| file.strip_prefix(root).unwrap_or(file).display().to_string();
    let within =
        arrows.iter().filter(|((from, to), _)| circle.contains(&from.as_path()) && circle.contains(&to.as_path()));
    let ties = within.map(|((from, to), names)| format!("\n  {} -> {}: {}", shown(from), shown(to), names.join(", ")));
    let message = format!("{} modules depend on each other:{}", circle.len(), ties.collect::<String>());
    Finding::warning(shown(circle[0]), message, "move what both need into a module of its own, below them")
}
