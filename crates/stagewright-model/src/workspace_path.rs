//! Paths in the workspace.

use std::fmt;

/// A normalised path relative to the workspace's root, with `/` between names, without `.` and `..`. The root is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkspacePath(String);

/// The error about a text that isn't a path in the workspace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("path `{path}` {problem}")]
pub struct PathError {
    /// The invalid text.
    pub path: String,
    /// Why it is invalid.
    pub problem: PathProblem,
}

/// Why a text isn't a path in the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// The text is empty.
    #[error("is empty")]
    Empty,
    /// It starts with `/`.
    #[error("is absolute")]
    Absolute,
    /// It contains a character that file names can't contain.
    #[error("contains a NUL character")]
    Nul,
    /// It contains `..`, which could lead out of the workspace.
    #[error("leaves a folder with `..`")]
    Parent,
}

impl WorkspacePath {
    /// Parses and normalises a path such as `a/b`, `./a//b`, `a/` or `.`.
    ///
    /// # Errors
    /// If the path is absolute, empty or contains a NUL character, or contains a `..`, even if that stays inside.
    pub fn parse(path: &str) -> Result<WorkspacePath, PathError> {
        let refuse = |problem| Err(PathError { path: path.to_owned(), problem });
        if path.is_empty() {
            return refuse(PathProblem::Empty);
        }
        if path.starts_with('/') {
            return refuse(PathProblem::Absolute);
        }
        if path.contains('\0') {
            return refuse(PathProblem::Nul);
        }
        let mut names = Vec::new();
        for name in path.split('/') {
            match name {
                "" | "." => {}
                // `a/../b` isn't simplified to `b`: if `a` is a symbolic link, the kernel resolves it to a path next to
                // the link's target. A check of the simplified path would then allow access to another file than the
                // one that is opened.
                ".." => return refuse(PathProblem::Parent),
                name => names.push(name),
            }
        }
        Ok(WorkspacePath(names.join("/")))
    }

    /// The normalised path; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path for file system calls; `.` for the root.
    pub fn as_path(&self) -> &std::path::Path {
        std::path::Path::new(self.shown())
    }

    /// The path for messages; `.` for the root.
    pub fn shown(&self) -> &str {
        if self.0.is_empty() { "." } else { &self.0 }
    }

    /// Whether the path is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The parent folder; none for the root.
    pub fn parent(&self) -> Option<WorkspacePath> {
        if self.is_root() {
            return None;
        }
        Some(WorkspacePath(self.0.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned())))
    }

    /// The parent folder and the last name. For the root, the root and `.`.
    pub fn split(&self) -> (WorkspacePath, &str) {
        match self.0.rsplit_once('/') {
            Some((folder, name)) => (WorkspacePath(folder.to_owned()), name),
            None => (WorkspacePath(String::new()), self.shown()),
        }
    }

    /// The names of the path, from the root down.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// The path of an entry in this folder.
    #[must_use]
    pub fn join(&self, name: &str) -> WorkspacePath {
        if self.is_root() { WorkspacePath(name.to_owned()) } else { WorkspacePath(format!("{}/{name}", self.0)) }
    }

    /// Resolves a symbolic link in this folder by the text of its target, without looking at the file system. None if
    /// the target is absolute or outside of the workspace.
    pub fn leads_to(&self, target: &str) -> Option<WorkspacePath> {
        let start = (!target.starts_with('/')).then(|| self.clone())?;
        target.split('/').try_fold(start, |folder, name| match name {
            "" | "." => Some(folder),
            ".." => folder.parent(),
            name => Some(folder.join(name)),
        })
    }

    /// Whether the path is `folder` or lies below it.
    pub fn is_within(&self, folder: &WorkspacePath) -> bool {
        folder.is_root() || self.0.strip_prefix(&folder.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The path itself, then its parent folders, up to but excluding the root.
    pub(crate) fn lineage(&self) -> impl Iterator<Item = &str> {
        let ends = std::iter::once(self.0.len()).chain(self.0.rmatch_indices('/').map(|(at, _)| at));
        ends.map(|end| &self.0[..end]).filter(|path| !path.is_empty())
    }
}

impl fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> WorkspacePath {
        WorkspacePath::parse(text).unwrap()
    }

    #[test]
    fn paths_outside_of_the_workspace_are_rejected() {
        assert_eq!(path("./a//b/").shown(), "a/b");
        assert!(path(".").is_root() && path("./").is_root());
        for bad in ["", "/etc/passwd", "..", "a/../b", "a/..", "x\0y"] {
            assert!(WorkspacePath::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(path("a/b/c").parent(), Some(path("a/b")));
        assert_eq!(path("a").parent(), Some(path(".")));
    }

    #[test]
    fn link_is_resolved_relative_to_its_folder() {
        let leads = |target: &str| path("a/b").leads_to(target).map(|path| path.to_string());
        assert_eq!(leads("../c/./d"), Some("a/c/d".into()));
        assert_eq!(leads("../.."), Some(".".into()));
        assert_eq!((leads("../../.."), leads("/a")), (None, None));
    }
}
