//! Entries of `permissions.read`, `write` and `exec`: a path or a glob, including everything below the matched folders.

use super::glob::glob_covers;
use crate::entry::entry;
use crate::format_error::{FormatError, refuse};
use crate::pattern::{PathPattern, PatternError, bad_pattern};
use crate::workspace_path::{PathProblem, WorkspacePath};

/// The code of diagnostics about invalid entries.
const CODE: &str = "stagewright::bad-path";

/// One entry. It grants the files and folders that it matches, and everything below the folders.
#[derive(Clone, Debug)]
pub struct PathRule {
    text: String,
    pattern: PathPattern,
}

impl PathRule {
    /// Parses an entry.
    pub fn parse(entry: &str) -> Result<PathRule, FormatError> {
        const RELATIVE: &str = "write it relative to the workspace, as in `target`; `.` is the whole workspace";
        if entry.starts_with('\\') || entry.as_bytes().get(1) == Some(&b':') {
            return refuse(CODE, "is an absolute path", RELATIVE);
        }
        if entry.starts_with('~') {
            return refuse(
                CODE,
                "is in a home folder",
                "a stage can only access the workspace: write a path relative to it",
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

    /// The entry as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The pattern, which matches the granted folders but not their contents.
    pub fn pattern(&self) -> &PathPattern {
        &self.pattern
    }

    /// Whether the entry grants the whole workspace by `.`.
    pub fn is_root(&self) -> bool {
        self.pattern.normal().is_empty()
    }

    /// Whether the entry is exactly this path, without wildcards.
    pub fn names(&self, path: &WorkspacePath) -> bool {
        self.pattern.is_literal() && self.pattern.base() == path
    }

    /// Whether `path`, or a folder that contains it, is granted.
    pub fn grants(&self, path: &WorkspacePath) -> bool {
        self.pattern.matches_within(path)
    }

    /// Whether `folder` or anything in it could be granted. May be true although nothing matches.
    pub fn reaches_into(&self, folder: &WorkspacePath) -> bool {
        folder.is_within(self.pattern.base()) || self.pattern.base().is_within(folder)
    }

    /// Whether this entry grants everything that `other` grants. No if that can't be decided.
    pub fn covers(&self, other: &PathRule) -> bool {
        if self.is_root() {
            return true;
        }
        let names = |rule: &PathRule| rule.pattern.normal().split('/').map(str::to_owned).collect::<Vec<_>>();
        let (own, others) = (names(self), names(other));
        // Compare name by name: an entry covers another that is at least as deep and whose first names are all covered.
        // This is only possible without braces and sets, which can contain a `/` and so don't divide into names.
        let is_plain = |rule: &PathRule| !rule.pattern.normal().contains(['{', '[', '\\']);
        if is_plain(self) && is_plain(other) && !other.is_root() {
            let mut pairs = own.iter().zip(&others);
            if own.len() <= others.len() && pairs.all(|(own, other)| glob_covers(own, other)) {
                return true;
            }
        }
        // Otherwise, the other is certainly covered if the folder that contains all of its matches is granted.
        self.grants(other.pattern.base())
    }
}

entry!(PathRule, FormatError);
