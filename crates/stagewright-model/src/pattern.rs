//! Globs over paths of the workspace. No other module parses such globs.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use globset::{Glob, GlobBuilder, GlobMatcher};

use crate::entry::entry;
use crate::format_error::FormatError;
use crate::workspace_path::{PathError, WorkspacePath};

/// A glob over workspace paths. `*` and `?` match within a name, `**` matches any number of folders, `[ab]` and `{a,b}`
/// match alternatives, and `\` makes the next character literal. Matches bytes, so that `?` is one ASCII character. Cheap
/// to clone.
#[derive(Clone)]
pub struct PathPattern(Arc<ParsedPattern>);

struct ParsedPattern {
    /// The pattern as written.
    text: String,
    /// The longest path without wildcards at the start of the pattern. Every match is this path or lies below it.
    base: WorkspacePath,
    /// The pattern without `./`, doubled and trailing `/`; empty for the root.
    normal: String,
    /// None for a path without wildcards, which matches itself alone.
    glob: Option<Glob>,
    /// Compiled on first use: most patterns of a plan are never matched.
    matcher: OnceLock<GlobMatcher>,
    /// The largest number of names in a match; none if it is unlimited because of `**`, or unknown because of `{}`.
    depth: Option<usize>,
}

/// Why a text isn't a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It isn't below the workspace.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The glob's syntax is invalid.
    #[error("pattern `{pattern}`: {problem}")]
    Glob {
        /// The invalid text.
        pattern: String,
        /// What is wrong, as in "unclosed character class".
        problem: String,
    },
}

impl PatternError {
    /// The whole message.
    fn explain(&self, _: &str) -> String {
        self.to_string()
    }
}

/// The error about a string whose glob is invalid.
pub(crate) fn bad_pattern(problem: impl fmt::Display) -> FormatError {
    FormatError {
        code: "stagewright::bad-pattern",
        message: format!("isn't a valid pattern: {problem}"),
        help: "`*` matches within a name, `**` across folders, `[ab]` and `{a,b}` alternatives; `\\` makes the next \
               character literal"
            .to_owned(),
    }
}

/// Characters with a special meaning.
const WILDCARDS: [char; 5] = ['*', '?', '[', '{', '\\'];

impl PathPattern {
    /// Parses a pattern.
    pub fn parse(pattern: &str) -> Result<PathPattern, PatternError> {
        let path = WorkspacePath::parse(pattern)?;
        let normal = path.as_str();
        let glob = normal.contains(WILDCARDS).then(|| GlobBuilder::new(normal).literal_separator(true).build());
        let glob = glob
            .transpose()
            .map_err(|error| PatternError::Glob { pattern: pattern.to_owned(), problem: error.kind().to_string() })?;
        let literal = normal.split('/').take_while(|name| !name.contains(WILDCARDS)).collect::<Vec<_>>().join("/");
        // Only whole names before the first wildcard are part of the base: in `a/b*/c` it is `a`, since `a/b` need not
        // be a folder of any match. Parsing it can't fail, because it is a prefix of a path that was parsed above.
        let base = WorkspacePath::parse(if literal.is_empty() { "." } else { &literal })?;
        // Each name of the pattern matches one name of a path, except for `**`, and except for alternatives in braces,
        // which can contain a `/`.
        let depth = (!normal.contains("**") && !normal.contains('{')).then(|| normal.split('/').count());
        let normal = normal.to_owned();
        let text = pattern.to_owned();
        Ok(PathPattern(Arc::new(ParsedPattern { text, base, normal, glob, matcher: OnceLock::new(), depth })))
    }

    /// The pattern that matches this path alone, even if the path contains wildcard characters.
    pub fn literally(path: &WorkspacePath) -> PathPattern {
        let (text, normal) = (globset::escape(path.shown()), globset::escape(path.as_str()));
        let depth = Some(path.names().count());
        let base = path.clone();
        PathPattern(Arc::new(ParsedPattern { text, base, normal, glob: None, matcher: OnceLock::new(), depth }))
    }

    /// The pattern for the whole workspace.
    pub fn everything() -> PathPattern {
        PathPattern::literally(&WorkspacePath::default())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The pattern without `./`, doubled and trailing `/`; empty for the root.
    pub fn normal(&self) -> &str {
        &self.0.normal
    }

    /// The longest path without wildcards at the start of the pattern. Every match is this path or lies below it.
    pub fn base(&self) -> &WorkspacePath {
        &self.0.base
    }

    /// Whether the pattern has no wildcards, and so matches a single path.
    pub fn is_literal(&self) -> bool {
        self.0.glob.is_none()
    }

    /// Whether the pattern matches the path itself.
    pub fn matches(&self, path: &WorkspacePath) -> bool {
        self.is_match(path.as_str())
    }

    /// Whether the pattern matches the path or a folder that contains it.
    pub fn matches_within(&self, path: &WorkspacePath) -> bool {
        self.0.normal.is_empty() || path.lineage().any(|part| self.is_match(part))
    }

    /// Whether something in `folder` could match. May be true although nothing does.
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

/// The [bases](PathPattern::base) of some patterns, without those that lie below another.
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
    fn pattern_excludes_folders_that_cannot_contain_a_match() {
        let members = pattern("crates/*/Cargo.toml");
        assert_eq!(members.base(), &path("crates"));
        assert!(members.matches(&path("crates/a/Cargo.toml")) && !members.matches(&path("crates/a/b/Cargo.toml")));
        assert!(members.reaches_into(&path("crates/a")) && !members.reaches_into(&path("crates/a/b")));
        assert!(members.reaches_into(&path(".")) && !members.reaches_into(&path("target")));
        assert!(pattern("**/x").reaches_into(&path("a/b/c/d")));
    }

    #[test]
    fn path_without_wildcards_matches_itself() {
        assert!(pattern("./a//b/").matches(&path("a/b")) && !pattern("a/b").matches(&path("a/b/c")));
        assert!(pattern("a/b").matches_within(&path("a/b/c")) && !pattern("a/b").matches_within(&path("a/bc")));
        assert!(pattern(".").matches_within(&path("a/b")) && pattern("a/b").is_literal());
        assert!(pattern("a\\*").matches(&path("a*")) && !pattern("a\\*").matches(&path("ab")));
    }

    #[test]
    fn literal_pattern_ignores_wildcards_in_names() {
        let named = PathPattern::literally(&path("a[1]*{x}"));
        assert!(named.matches(&path("a[1]*{x}")) && named.matches_within(&path("a[1]*{x}/b")));
        assert!(!named.matches(&path("a1yx")) && PathPattern::literally(&path(".")).matches_within(&path("a")));
    }

    #[test]
    fn invalid_patterns_are_rejected() {
        assert_eq!(PathPattern::parse("../a").unwrap_err().to_string(), "path `../a` leaves a folder with `..`");
        assert!(matches!(PathPattern::parse("a[").unwrap_err(), PatternError::Glob { .. }));
        assert!(PathPattern::parse("").is_err());
    }
}
