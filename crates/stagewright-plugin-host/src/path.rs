//! Paths of the workspace, and patterns over them.

use globset::{GlobBuilder, GlobMatcher};

use crate::error::{CapabilityError, ErrorCode};

/// A path below the workspace's root: relative, `/` between names, without `.` and `..`. The root itself is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkspacePath(String);

impl WorkspacePath {
    /// Takes `a/b`, `./a//b`, `a/` and `.`; refuses all that leads or might lead outside.
    pub(crate) fn parse(path: &str) -> Result<WorkspacePath, CapabilityError> {
        let refuse = |why: &str| {
            CapabilityError::new(ErrorCode::InvalidArgument, format!("path `{path}` {why}"))
                .with_help("give a path relative to the workspace's root, as in `target/report.xml`")
        };
        if path.is_empty() {
            return Err(refuse("is empty"));
        }
        if path.starts_with('/') {
            return Err(refuse("is absolute"));
        }
        if path.contains('\0') {
            return Err(refuse("holds a NUL character"));
        }
        let mut names = Vec::new();
        for name in path.split('/') {
            match name {
                "" | "." => {}
                ".." => return Err(refuse("leads out of a folder with `..`")),
                name => names.push(name),
            }
        }
        Ok(WorkspacePath(names.join("/")))
    }

    /// For the file system: `.` for the root.
    pub(crate) fn as_path(&self) -> &std::path::Path {
        std::path::Path::new(self.shown())
    }

    /// For people: `.` for the root.
    pub(crate) fn shown(&self) -> &str {
        if self.0.is_empty() { "." } else { &self.0 }
    }

    /// Whether it is the root.
    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The folder that it is in; none for the root.
    pub(crate) fn parent(&self) -> Option<WorkspacePath> {
        if self.is_root() {
            return None;
        }
        Some(WorkspacePath(self.0.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned())))
    }

    /// The folder that it is in, and its name there; the root is `.` in itself.
    pub(crate) fn split(&self) -> (WorkspacePath, &str) {
        match self.0.rsplit_once('/') {
            Some((folder, name)) => (WorkspacePath(folder.to_owned()), name),
            None => (WorkspacePath(String::new()), self.shown()),
        }
    }

    /// From the root down.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// An entry of this folder.
    pub(crate) fn join(&self, name: &str) -> WorkspacePath {
        if self.is_root() { WorkspacePath(name.to_owned()) } else { WorkspacePath(format!("{}/{name}", self.0)) }
    }

    /// What a link with this content in this folder means, by its text alone; none when it leads out of the workspace.
    pub(crate) fn leads_to(&self, target: &str) -> Option<WorkspacePath> {
        let start = (!target.starts_with('/')).then(|| self.clone())?;
        target.split('/').try_fold(start, |folder, name| match name {
            "" | "." => Some(folder),
            ".." => folder.parent(),
            name => Some(folder.join(name)),
        })
    }

    /// Whether this is `folder` or lies below it.
    pub(crate) fn is_within(&self, folder: &WorkspacePath) -> bool {
        folder.is_root() || self.0.strip_prefix(&folder.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Itself, then the folders that it is in, up to and without the root.
    fn lineage(&self) -> impl Iterator<Item = &str> {
        let ends = std::iter::once(self.0.len()).chain(self.0.rmatch_indices('/').map(|(at, _)| at));
        ends.map(|end| &self.0[..end]).filter(|path| !path.is_empty())
    }
}

impl std::fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.shown())
    }
}

/// A glob over workspace paths. `*` and `?` stay within a name, `**` crosses folders.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// The folder below which every match lies.
    base: WorkspacePath,
    matcher: GlobMatcher,
    /// No match lies deeper below the root than so many names; none when a `**` allows any depth.
    depth: Option<usize>,
}

impl Pattern {
    pub(crate) fn parse(pattern: &str) -> Result<Pattern, CapabilityError> {
        let normal = WorkspacePath::parse(pattern)?.0;
        let glob = GlobBuilder::new(&normal).literal_separator(true).build().map_err(|error| {
            CapabilityError::new(ErrorCode::InvalidArgument, format!("pattern `{pattern}`: {}", error.kind()))
        })?;
        let literal = normal.split('/').take_while(|name| !name.contains(['*', '?', '[', '{', '\\']));
        let base = WorkspacePath(literal.collect::<Vec<_>>().join("/"));
        let depth = (!normal.contains("**") && !normal.contains('{')).then(|| normal.split('/').count());
        Ok(Pattern { base, matcher: glob.compile_matcher(), depth })
    }

    /// The folder, or single path, that all matches are in.
    pub(crate) fn base(&self) -> &WorkspacePath {
        &self.base
    }

    pub(crate) fn matches(&self, path: &WorkspacePath) -> bool {
        self.matcher.is_match(&path.0)
    }

    /// Whether something in `folder` could match.
    pub(crate) fn reaches_into(&self, folder: &WorkspacePath) -> bool {
        let deeper = if folder.is_root() { 1 } else { folder.0.split('/').count() + 1 };
        self.depth.is_none_or(|depth| deeper <= depth) && (folder.is_within(&self.base) || self.base.is_within(folder))
    }
}

/// What a list of `read` or `write` permissions grants: each of them a path with all below it, or a glob of such.
#[derive(Clone, Debug, Default)]
pub(crate) struct PathRules {
    everything: bool,
    patterns: Vec<Pattern>,
}

impl PathRules {
    pub(crate) fn parse(rules: &[String]) -> Result<PathRules, CapabilityError> {
        let mut parsed = PathRules::default();
        for rule in rules {
            if WorkspacePath::parse(rule)?.is_root() {
                parsed.everything = true;
            } else {
                parsed.patterns.push(Pattern::parse(rule)?);
            }
        }
        Ok(parsed)
    }

    /// Whether `path` is granted, by itself or with a folder that it is in.
    pub(crate) fn grant(&self, path: &WorkspacePath) -> bool {
        self.everything || self.patterns.iter().any(|pattern| path.lineage().any(|part| pattern.matcher.is_match(part)))
    }

    /// Whether `folder` may hold anything that is granted.
    pub(crate) fn reach_into(&self, folder: &WorkspacePath) -> bool {
        self.everything
            || self.patterns.iter().any(|pattern| folder.is_within(pattern.base()) || pattern.base().is_within(folder))
    }
}

/// The folders, or single paths, that all matches of some rules are in, without those that lie in others.
pub(crate) fn bases<'a>(rules: impl Iterator<Item = &'a String>) -> Vec<WorkspacePath> {
    let found = rules.filter_map(|rule| Some(Pattern::parse(rule).ok()?.base));
    let found = found.collect::<std::collections::BTreeSet<_>>();
    let inner = |path: &WorkspacePath| found.iter().any(|other| other != path && path.is_within(other));
    found.iter().filter(|path| !inner(path)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_from_its_folder() {
        let folder = WorkspacePath::parse("a/b").unwrap();
        let leads = |target: &str| folder.leads_to(target).map(|path| path.to_string());
        assert_eq!(leads("../c/./d"), Some("a/c/d".into()));
        assert_eq!(leads("../.."), Some(".".into()));
        assert_eq!((leads("../../.."), leads("/a")), (None, None));
    }

    fn path(text: &str) -> WorkspacePath {
        WorkspacePath::parse(text).unwrap()
    }

    #[test]
    fn paths_stay_inside() {
        assert_eq!(path("./a//b/").shown(), "a/b");
        assert!(path(".").is_root() && path("./").is_root());
        for bad in ["", "/etc/passwd", "..", "a/../b", "a/..", "x\0y"] {
            assert!(WorkspacePath::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(path("a/b/c").parent(), Some(path("a/b")));
        assert_eq!(path("a").parent(), Some(path(".")));
    }

    #[test]
    fn a_folder_grants_all_below_and_nothing_beside() {
        let rules = PathRules::parse(&["target".into(), "crates/*/src".into(), "**/*.lock".into()]).unwrap();
        for granted in ["target", "target/debug/app", "crates/x/src/lib.rs", "Cargo.lock", "a/b/c.lock"] {
            assert!(rules.grant(&path(granted)), "{granted}");
        }
        for denied in [".", "target2", "targe", "crates/x/y/src/lib.rs", "crates/x/tests/a.rs", "src/target"] {
            assert!(!rules.grant(&path(denied)), "{denied}");
        }
        assert!(PathRules::parse(&[".".into()]).unwrap().grant(&path("anything/at/all")));
        assert!(!PathRules::parse(&[]).unwrap().grant(&path("a")));
    }

    #[test]
    fn a_pattern_knows_where_not_to_look() {
        let pattern = Pattern::parse("crates/*/Cargo.toml").unwrap();
        assert_eq!(pattern.base(), &path("crates"));
        assert!(pattern.matches(&path("crates/a/Cargo.toml")) && !pattern.matches(&path("crates/a/b/Cargo.toml")));
        assert!(pattern.reaches_into(&path("crates/a")) && !pattern.reaches_into(&path("crates/a/b")));
        assert!(pattern.reaches_into(&path(".")) && !pattern.reaches_into(&path("target")));
        assert!(Pattern::parse("**/x").unwrap().reaches_into(&path("a/b/c/d")));
    }
}
