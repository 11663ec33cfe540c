//! Globs over paths of the workspace: the one place where they are parsed.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use globset::{Glob, GlobBuilder, GlobMatcher};

use crate::entry::entry;
use crate::format_error::FormatError;
use crate::workspace_path::{PathError, WorkspacePath};

/// A glob over workspace paths. `*` and `?` stay within a name, `**` crosses folders, `[ab]` and `{a,b}` choose, and `\`
/// takes the next character literally. Cheap to clone.
#[derive(Clone)]
pub struct PathPattern(Arc<Parsed>);

struct Parsed {
    /// As it was written.
    text: String,
    /// The folder below which every match lies.
    base: WorkspacePath,
    /// Without `./`, doubled and trailing `/`; empty for the root.
    normal: String,
    /// None for a path without wildcards, which matches itself.
    glob: Option<Glob>,
    /// Compiled when it is first asked, as most patterns of most plans never are.
    matcher: OnceLock<GlobMatcher>,
    /// No match lies deeper below the root than so many names; none when a `**` allows any depth.
    depth: Option<usize>,
}

/// Why a text isn't a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It can't match a path of the workspace.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A bracket that isn't closed, and the like.
    #[error("pattern `{pattern}`: {problem}")]
    Glob {
        /// The text.
        pattern: String,
        /// As in "unclosed character class".
        problem: String,
    },
}

impl PatternError {
    /// The whole message.
    fn explain(&self, _: &str) -> String {
        self.to_string()
    }
}

/// Of a glob that can't be read: a diagnostic about the string that it was written as.
pub(crate) fn bad_pattern(problem: impl fmt::Display) -> FormatError {
    FormatError {
        code: "stagewright::bad-pattern",
        message: format!("isn't a valid pattern: {problem}"),
        help: "`*` stays within a folder, `**` crosses folders, `[ab]` and `{a,b}` choose; `\\` takes the next \
               character literally"
            .to_owned(),
    }
}

/// What makes a name more than itself.
const WILDCARDS: [char; 5] = ['*', '?', '[', '{', '\\'];

impl PathPattern {
    /// Reads a pattern.
    pub fn parse(pattern: &str) -> Result<PathPattern, PatternError> {
        let path = WorkspacePath::parse(pattern)?;
        let normal = path.as_str();
        let glob = normal.contains(WILDCARDS).then(|| GlobBuilder::new(normal).literal_separator(true).build());
        let glob = glob
            .transpose()
            .map_err(|error| PatternError::Glob { pattern: pattern.to_owned(), problem: error.kind().to_string() })?;
        let literal = normal.split('/').take_while(|name| !name.contains(WILDCARDS)).collect::<Vec<_>>().join("/");
        // It is a path with some of its names left out at the end.
        let base = WorkspacePath::parse(if literal.is_empty() { "." } else { &literal })?;
        let depth = (!normal.contains("**") && !normal.contains('{')).then(|| normal.split('/').count());
        let normal = normal.to_owned();
        let text = pattern.to_owned();
        Ok(PathPattern(Arc::new(Parsed { text, base, normal, glob, matcher: OnceLock::new(), depth })))
    }

    /// The pattern that matches this very path, wildcards in it or not.
    pub fn literally(path: &WorkspacePath) -> PathPattern {
        let (text, normal) = (globset::escape(path.shown()), globset::escape(path.as_str()));
        let depth = Some(path.names().count());
        PathPattern(Arc::new(Parsed { text, base: path.clone(), normal, glob: None, matcher: OnceLock::new(), depth }))
    }

    /// The whole workspace.
    pub fn everything() -> PathPattern {
        PathPattern::literally(&WorkspacePath::default())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Without `./`, doubled and trailing `/`; empty for the root.
    pub fn normal(&self) -> &str {
        &self.0.normal
    }

    /// The folder, or single path, that all matches are in.
    pub fn base(&self) -> &WorkspacePath {
        &self.0.base
    }

    /// Whether it has no wildcard, and so matches one path.
    pub fn is_literal(&self) -> bool {
        self.0.glob.is_none()
    }

    /// Whether it matches the path itself.
    pub fn matches(&self, path: &WorkspacePath) -> bool {
        self.is_match(path.as_str())
    }

    /// Whether it matches the path, or a folder that the path is in.
    pub fn matches_within(&self, path: &WorkspacePath) -> bool {
        self.0.normal.is_empty() || path.lineage().any(|part| self.is_match(part))
    }

    /// Whether something in `folder` could match.
    pub fn reaches_into(&self, folder: &WorkspacePath) -> bool {
        let deeper = folder.names().count() + 1;
        let base = self.base();
        self.0.depth.is_none_or(|depth| deeper <= depth) && (folder.is_within(base) || base.is_within(folder))
    }

    fn is_match(&self, path: &str) -> bool {
        match &self.0.glob {
            None => self.0.base.as_str() == path,
            Some(glob) => self.0.matcher.get_or_init(|| glob.compile_matcher()).is_match(path),
        }
    }
}

/// The folders, or single paths, that all matches of some patterns are in, without those that lie in others.
pub fn outermost<'a>(patterns: impl Iterator<Item = &'a PathPattern>) -> Vec<WorkspacePath> {
    let found: BTreeSet<&WorkspacePath> = patterns.map(PathPattern::base).collect();
    let inner = |path: &WorkspacePath| found.iter().any(|other| *other != path && path.is_within(other));
    found.iter().filter(|path| !inner(path)).map(|path| (*path).clone()).collect()
}

entry!(PathPattern, PatternError);

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PathPattern").field(&self.0.text).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> WorkspacePath {
        WorkspacePath::parse(text).unwrap()
    }

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text).unwrap()
    }

    #[test]
    fn a_pattern_knows_where_not_to_look() {
        let members = pattern("crates/*/Cargo.toml");
        assert_eq!(members.base(), &path("crates"));
        assert!(members.matches(&path("crates/a/Cargo.toml")) && !members.matches(&path("crates/a/b/Cargo.toml")));
        assert!(members.reaches_into(&path("crates/a")) && !members.reaches_into(&path("crates/a/b")));
        assert!(members.reaches_into(&path(".")) && !members.reaches_into(&path("target")));
        assert!(pattern("**/x").reaches_into(&path("a/b/c/d")));
    }

    #[test]
    fn a_path_without_wildcards_matches_itself() {
        assert!(pattern("./a//b/").matches(&path("a/b")) && !pattern("a/b").matches(&path("a/b/c")));
        assert!(pattern("a/b").matches_within(&path("a/b/c")) && !pattern("a/b").matches_within(&path("a/bc")));
        assert!(pattern(".").matches_within(&path("a/b")) && pattern("a/b").is_literal());
        assert!(pattern("a\\*").matches(&path("a*")) && !pattern("a\\*").matches(&path("ab")));
    }

    #[test]
    fn a_name_with_wildcards_can_be_meant_literally() {
        let named = PathPattern::literally(&path("a[1]*{x}"));
        assert!(named.matches(&path("a[1]*{x}")) && named.matches_within(&path("a[1]*{x}/b")));
        assert!(!named.matches(&path("a1yx")) && PathPattern::literally(&path(".")).matches_within(&path("a")));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert_eq!(PathPattern::parse("../a").unwrap_err().to_string(), "path `../a` leaves a folder with `..`");
        assert!(matches!(PathPattern::parse("a[").unwrap_err(), PatternError::Glob { .. }));
        assert!(PathPattern::parse("").is_err());
    }
}
