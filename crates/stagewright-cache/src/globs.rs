//! Matches paths of the workspace against a list of globs.

use std::io;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use stagewright_model::{PathPattern, WorkspacePath};

/// Globs of workspace paths. A glob that matches a folder also matches everything below it.
#[derive(Clone, Debug)]
pub struct Globs {
    set: GlobSet,
    bases: Vec<String>,
}

impl Globs {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// When together they are too large to compile.
    pub fn new(patterns: &[PathPattern]) -> io::Result<Globs> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let normal = pattern.normal();
            let texts = if normal.is_empty() {
                ["**".to_owned(); 1].to_vec()
            } else {
                vec![normal.to_owned(), format!("{normal}/**")]
            };
            for text in texts {
                set.add(GlobBuilder::new(&text).literal_separator(true).build().map_err(io::Error::other)?);
            }
        }
        let mut bases: Vec<String> = patterns.iter().map(|pattern| pattern.base().as_str().to_owned()).collect();
        bases.sort();
        bases.dedup();
        Ok(Globs { set: set.build().map_err(io::Error::other)?, bases })
    }

    /// Whether one of the globs matches the path or a folder above it.
    pub fn matches(&self, path: &str) -> bool {
        self.set.is_match(path)
    }

    /// Like [`matches`](Self::matches), and also true for a folder whose content a glob names, such as `dist` for
    /// `dist/**`.
    pub fn name(&self, path: &str) -> bool {
        self.matches(path) || (!path.is_empty() && self.bases.iter().any(|base| base == path))
    }

    /// For each glob the folders before its first wildcard, which contain everything that it matches; empty for the root.
    pub(crate) fn bases(&self) -> &[String] {
        &self.bases
    }

    /// Whether a path could match both. May return true when there is no such path, but never the reverse.
    pub(crate) fn may_meet(&self, other: &Globs) -> bool {
        self.bases.iter().any(|base| other.reach_into(base))
    }

    /// Whether a path in the folder could match.
    pub fn reach_into(&self, folder: &str) -> bool {
        self.bases.iter().any(|base| is_within(folder, base) || is_within(base, folder))
    }
}

/// Whether `path` is `folder` or below it; every path is below the root.
pub(crate) fn is_within(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A pattern that matches exactly this path and everything below it.
///
/// # Errors
/// When it isn't a valid path of the workspace.
pub(crate) fn literally(path: &str) -> io::Result<PathPattern> {
    WorkspacePath::parse(path).map(|path| PathPattern::literally(&path)).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(globs: &[&str]) -> Globs {
        Globs::new(&globs.iter().map(|glob| glob.parse().unwrap()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_glob_of_a_folder_matches_everything_below_it() {
        let named = globs(&["src", "./docs//*.md", "**/*.lock"]);
        for path in ["src", "src/a/b.rs", "docs/a.md", "Cargo.lock", "a/b/c.lock", "a.lock/x"] {
            assert!(named.matches(path), "{path}");
        }
        for path in ["src2/a", "docs/a/b.md", "a/src", "lock"] {
            assert!(!named.matches(path), "{path}");
        }
        assert!(globs(&["."]).matches("anything/at/all"));
        assert!(!globs(&[]).matches("a"));
    }

    #[test]
    fn a_base_ends_before_the_first_wildcard() {
        assert_eq!(globs(&["crates/*/src/**", "Cargo.lock", "crates/*.md"]).bases(), ["Cargo.lock", "crates"]);
        assert_eq!(globs(&["**/*.rs"]).bases(), [""]);
        let named = globs(&["crates/*/src/**"]);
        assert!(named.reach_into("") && named.reach_into("crates/a") && !named.reach_into("docs"));
    }

    #[test]
    fn a_literal_pattern_does_not_expand_wildcard_characters() {
        let named = Globs::new(&[literally("a[1]*{x}").unwrap()]).unwrap();
        assert!(named.matches("a[1]*{x}") && named.matches("a[1]*{x}/b") && !named.matches("a1yx"));
    }
}
