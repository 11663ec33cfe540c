//! No cycles of dependencies between the modules of a crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::TidyFinding;
use super::modules::{Arrows, Modules};
use crate::cargo::Result;

/// Every cycle of files within one crate.
pub(super) fn check(root: &Path) -> Result<Vec<TidyFinding>> {
    let mut findings = Vec::new();
    for crate_root in crate_roots(root)? {
        let arrows = Modules::read(&crate_root)?.arrows();
        findings.extend(cycles(&arrows).iter().map(|cycle| finding(root, cycle, &arrows)));
    }
    Ok(findings)
}

/// `lib.rs` and `main.rs` of each crate, of each plugin and of xtask.
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

/// The files of each cycle.
fn cycles(arrows: &Arrows) -> Vec<Vec<&Path>> {
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
    let mut cycles: Vec<Vec<&Path>> = tarjan_scc(&graph)
        .into_iter()
        .filter(|cycle| cycle.len() > 1)
        .map(|cycle| cycle.into_iter().map(|node| graph[node]).collect())
        .collect();
    for cycle in &mut cycles {
        cycle.sort();
    }
    cycles.sort();
    cycles
}

fn finding(root: &Path, cycle: &[&Path], arrows: &Arrows) -> TidyFinding {
    let shown = |file: &Path| file.strip_prefix(root).unwrap_or(file).display().to_string();
    let within =
        arrows.iter().filter(|((from, to), _)| cycle.contains(&from.as_path()) && cycle.contains(&to.as_path()));
    let ties = within.map(|((from, to), names)| format!("\n  {} -> {}: {}", shown(from), shown(to), names.join(", ")));
    let message = format!("{} modules depend on each other:{}", cycle.len(), ties.collect::<String>());
    TidyFinding::error(shown(cycle[0]), message, "move what both need into a module that depends on neither")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings in a crate with these files.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("xtask/src");
        for (path, text) in files {
            let file = source.join(path);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            std::fs::write(file, text).expect("a file");
        }
        for group in ["crates", "plugins"] {
            std::fs::create_dir(folder.path().join(group)).expect("a folder");
        }
        check(folder.path()).expect("sources that can be read").into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn cycles_are_found_through_imports_and_reexports() {
        let lib = ("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\npub use b::*;\n");
        let a = ("a.rs", "pub struct A;\nfn f() { let x = crate::b::make(1); println!(\"{}\", x); }\n");
        let b = ("b.rs", "use crate::c::C;\npub fn make(c: u8) -> C { C }\n");
        assert_eq!(found(&[lib, a, b, ("c.rs", "pub struct C;\n")]), [""; 0]);
        let cycle = found(&[lib, a, b, ("c.rs", "use crate::A as Other;\npub struct C(Other);\n")]);
        assert_eq!(cycle.len(), 1);
        assert!(
            cycle[0].contains("3 modules") && cycle[0].contains("xtask/src/c.rs -> xtask/src/a.rs: A"),
            "{cycle:?}"
        );
        let in_a_macro = ("c.rs", "pub struct C;\nfn f() { assert!(matches!(0, _ if crate::make(2) == C)); }\n");
        assert!(found(&[lib, a, b, in_a_macro])[0].contains("2 modules"));
    }

    #[test]
    fn inner_modules_may_use_outer_ones_and_tests_may_use_everything() {
        let files = [
            ("main.rs", "mod a;\n"),
            ("a/mod.rs", "mod inner;\npub struct A;\nfn f() { inner::g(A) }\n#[cfg(test)]\nmod tests;\n"),
            ("a/inner.rs", "use super::A;\npub fn g(a: A) {}\n"),
            ("a/tests.rs", "use super::*;\n"),
        ];
        assert_eq!(found(&files), [""; 0]);
        let root = [
            ("main.rs", "mod a;\npub struct Root;\nfn main() { a::f() }\n"),
            ("a.rs", "pub fn f() { crate::Root; }\n"),
        ];
        assert_eq!(found(&root).len(), 1, "the root isn't above its modules");
    }
}
