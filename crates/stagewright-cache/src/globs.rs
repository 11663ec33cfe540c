//! Which files a list of globs names.

use std::io;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use stagewright_model::{PathPattern, WorkspacePath};

/// Globs of workspace paths. One that matches a folder stands for all below it.
#[derive(Clone, Debug)]
pub struct Globs {
    set: GlobSet,
    bases: Vec<String>,
}

impl Globs {
    /// # Errors
    /// When they are too large together to be compiled.
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

    /// Whether one of them means the path.
    pub fn matches(&self, path: &str) -> bool {
        self.set.is_match(path)
    }

    /// Whether one of them means the path, or all that lies in the folder at it, as `dist/**` does of `dist`.
    pub fn name(&self, path: &str) -> bool {
        self.matches(path) || (!path.is_empty() && self.bases.iter().any(|base| base == path))
    }

    /// The paths before each glob's first wildcard, below which all that it matches lies; empty for the root.
    pub(crate) fn bases(&self) -> &[String] {
        &self.bases
    }

    /// Whether one path could be meant by both. Says yes rather than too little.
    pub(crate) fn may_meet(&self, other: &Globs) -> bool {
        self.bases.iter().any(|base| other.reach_into(base))
    }

    /// Whether something in the folder could match.
    pub fn reach_into(&self, folder: &str) -> bool {
        self.bases.iter().any(|base| is_within(folder, base) || is_within(base, folder))
    }
}

/// Whether `path` is `folder` or below it; every path is below the root.
pub(crate) fn is_within(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A pattern that matches the path alone, and what is below it.
///
/// # Errors
/// When it isn't a path of the workspace.
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
    fn a_folder_stands_for_all_below_it() {
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
    fn a_name_with_wildcards_can_be_meant_literally() {
        let named = Globs::new(&[literally("a[1]*{x}").unwrap()]).unwrap();
        assert!(named.matches("a[1]*{x}") && named.matches("a[1]*{x}/b") && !named.matches("a1yx"));
    }
}
