//! Rules for this tree that the compiler doesn't check.
//!
//! The input is `cargo metadata` and the text of the sources; the output is findings, each with a location and a remedy.
//! Every rule is a function from data to findings, so that it can be tested without a tree.

mod cycles;
mod graph;
mod language;
mod layers;
mod licenses;
mod modules;
mod plugins;
mod promises;
mod sources;
mod tree;
mod weight;

use std::fmt;
use std::path::Path;

use crate::cargo::{Result, metadata, root};
use graph::DependencyGraph;

/// A violation of a rule.
#[derive(Debug, PartialEq, Eq)]
struct TidyFinding {
    severity: FindingSeverity,
    /// A file, with the line if there is one.
    place: String,
    message: String,
    help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FindingSeverity {
    Error,
    Warning,
}

impl TidyFinding {
    fn error(place: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> TidyFinding {
        TidyFinding {
            severity: FindingSeverity::Error,
            place: place.into(),
            message: message.into(),
            help: help.into(),
        }
    }

    fn warning(place: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> TidyFinding {
        TidyFinding { severity: FindingSeverity::Warning, ..TidyFinding::error(place, message, help) }
    }
}

impl fmt::Display for TidyFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            FindingSeverity::Error => "error",
            FindingSeverity::Warning => "warning",
        };
        write!(f, "{severity}: {}: {}\n  help: {}", self.place, self.message, self.help)
    }
}

/// Checks the tree and prints what it finds.
pub(crate) fn run() -> Result<()> {
    let findings = findings(&root())?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.iter().filter(|finding| finding.severity == FindingSeverity::Error).count() {
        0 => Ok(()),
        1 => Err("tidy found an error".to_owned()),
        errors => Err(format!("tidy found {errors} errors")),
    }
}

fn findings(root: &Path) -> Result<Vec<TidyFinding>> {
    let graph = DependencyGraph::from_metadata(&metadata(&root.join("Cargo.toml"))?)?;
    let sample = DependencyGraph::from_metadata(&metadata(&root.join("pipelines/greeter/Cargo.toml"))?)?;
    let files = tree::read(root, &["crates", "pipelines", "plugins", "tests", "xtask"])?;
    let mut findings = layers::check(&graph);
    findings.extend(cycles::check(root)?);
    findings.extend(licenses::check(&graph));
    findings.extend(licenses::check(&sample));
    findings.extend(files.iter().flat_map(|file| sources::check(&file.path, &file.text)));
    findings.extend(weight::check()?);
    findings.extend(language::check(&files));
    findings.extend(plugins::check(&files));
    findings.extend(promises::check(&tree::documents(root)?, &files));
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_tree_is_tidy() {
        let findings = findings(&root()).expect("the tree can be read");
        let errors: Vec<_> = findings.iter().filter(|finding| finding.severity == FindingSeverity::Error).collect();
        let shown: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{}", shown.join("\n"));
    }
}
