//! How many crates a first build of the engine takes.

use std::collections::BTreeSet;

use super::TidyFinding;
use crate::cargo::{Result, capture, cargo};

/// The most crates that `cargo xtask pipeline` may build for the engine, its own included. To be lowered with each crate
/// that goes; what raises it should be worth the wait of everyone who builds Stagewright for the first time.
///
/// Some versions in Cargo.lock are older than the newest for its sake, and `cargo update` would bring the newer ones:
/// `idna_adapter` 1.1 and `textwrap` 0.16.2 (which work without ICU: 21 crates), and `encoding_rs` 0.8.35 (4).
const MOST: usize = 335;

pub(super) fn check() -> Result<Vec<TidyFinding>> {
    let arguments = ["tree", "--package", "stagewright-cli", "--edges", "normal,build", "--prefix", "none"];
    let tree = capture(cargo().args(arguments))?;
    Ok(finding(&String::from_utf8_lossy(&tree), MOST).into_iter().collect())
}

fn finding(tree: &str, most: usize) -> Option<TidyFinding> {
    let crates = crates(tree);
    (crates > most).then(|| {
        TidyFinding::error(
            "Cargo.lock",
            format!("the engine is built from {crates} crates; {most} is the most"),
            "choose a lighter dependency, put it behind a feature that is off by default, or, after `cargo update`, keep \
             the versions that MOST of xtask/src/tidy/weight.rs names",
        )
    })
}

/// Counts each version of a package once, in a list that names some of them several times.
fn crates(tree: &str) -> usize {
    let names = tree.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
    names.filter(|words| !words.is_empty()).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_counts_once_and_one_too_many_is_found() {
        let tree =
            "cli v0.1.0 (/here)\nsyn v2.0.1\nsyn v3.0.0 (*)\nsyn v2.0.1 (*)\nserde_derive v1.0.0 (proc-macro)\n\n";
        assert!(finding(tree, 4).is_none());
        let found = finding(tree, 3).expect("four are more than three").to_string();
        assert!(found.contains("built from 4 crates; 3 is the most"), "{found}");
    }
}
