//! Entries of `permissions.read` and `permissions.write`: a path with all below it, or a glob of such.

use super::glob::glob_covers;
use crate::entry::entry;
use crate::format_error::{FormatError, refuse};
use crate::pattern::{PathPattern, PatternError, bad_pattern};
use crate::workspace_path::{PathProblem, WorkspacePath};

/// The code of the diagnostic about an entry that can't be read.
const CODE: &str = "stagewright::bad-path";

/// One entry. It grants what it names, and where that is a folder all below it.
#[derive(Clone, Debug)]
pub struct PathRule {
    text: String,
    pattern: PathPattern,
}

impl PathRule {
    /// Reads an entry.
    pub fn parse(entry: &str) -> Result<PathRule, FormatError> {
        const RELATIVE: &str = "write it relative to the workspace, as in `target`; `.` is all of it";
        if entry.starts_with('\\') || entry.as_bytes().get(1) == Some(&b':') {
            return refuse(CODE, "is an absolute path", RELATIVE);
        }
        if entry.starts_with('~') {
            return refuse(
                CODE,
                "is in a home folder",
                "a stage sees the workspace alone: write a path relative to it",
            );
        }
        let leaves = || refuse(CODE, "leaves the workspace", "write a path below the workspace, without `..`");
        if entry.split(['/', '\\']).any(|part| part == "..") {
            return leaves();
        }
        match PathPattern::parse(entry) {
            Ok(pattern) => Ok(PathRule { text: entry.to_owned(), pattern }),
            Err(PatternError::Path(error)) => match error.problem {
                PathProblem::Empty => refuse(CODE, "is empty", "`.` is the whole workspace"),
                PathProblem::Absolute => refuse(CODE, "is an absolute path", RELATIVE),
                PathProblem::Nul => refuse(CODE, "contains a NUL character", "remove it"),
                PathProblem::Parent => leaves(),
            },
            Err(PatternError::Glob { problem, .. }) => Err(bad_pattern(problem)),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it names.
    pub fn pattern(&self) -> &PathPattern {
        &self.pattern
    }

    /// Whether it is the whole workspace.
    pub fn is_root(&self) -> bool {
        self.pattern.normal().is_empty()
    }

    /// Whether it is this very path, and no pattern.
    pub fn names(&self, path: &WorkspacePath) -> bool {
        self.pattern.is_literal() && self.pattern.base() == path
    }

    /// Whether `path` is granted, by itself or with a folder that it is in.
    pub fn grants(&self, path: &WorkspacePath) -> bool {
        self.pattern.matches_within(path)
    }

    /// Whether `folder` may hold anything that is granted, or is granted itself.
    pub fn reaches_into(&self, folder: &WorkspacePath) -> bool {
        folder.is_within(self.pattern.base()) || self.pattern.base().is_within(folder)
    }

    /// Whether all that `other` grants is granted by this. What can't be decided counts as no.
    pub fn covers(&self, other: &PathRule) -> bool {
        if self.is_root() {
            return true;
        }
        let names = |rule: &PathRule| rule.pattern.normal().split('/').map(str::to_owned).collect::<Vec<_>>();
        let (own, others) = (names(self), names(other));
        // Braces can hold a `/`: names don't end where they seem to.
        let is_plain = |rule: &PathRule| !rule.pattern.normal().contains(['{', '[', '\\']);
        if is_plain(self) && is_plain(other) && !other.is_root() {
            let mut pairs = own.iter().zip(&others);
            if own.len() <= others.len() && pairs.all(|(own, other)| glob_covers(own, other)) {
                return true;
            }
        }
        // The folder below which all of the other lies.
        self.grants(other.pattern.base())
    }
}

entry!(PathRule, FormatError);
