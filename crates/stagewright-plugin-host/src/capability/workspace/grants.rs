//! Finds the existing paths that grants match at this moment; links are found as links.
//!
//! A grant never extends through a link. A link that is granted by its own name is mounted as a link, and its target is
//! only accessible if it is granted as well. Otherwise an earlier stage, or a branch, could decide what is granted by
//! creating a link.

use std::io;
use std::path::PathBuf;

use cap_std::fs::FileTypeExt as _;
use rustix::fs::OFlags;

use super::{WorkspaceFiles, failed};
use stagewright_model::{PathPattern, WorkspacePath};

use crate::error::{CapabilityError, ErrorCode};

/// A path that is granted and exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantedPath {
    pub(crate) path: WorkspacePath,
    pub(crate) kind: FileKind,
}

/// The kind of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Folder,
    /// A plain file, a socket or a device.
    File,
    /// A named pipe.
    Pipe,
    /// A link, with its target as it is written.
    Link(PathBuf),
}

impl WorkspaceFiles {
    /// The kind of the file at a path; none when it doesn't exist.
    ///
    /// # Errors
    /// When one of the path's folders is a link; the help of the error has the real path.
    pub(crate) fn look(&self, path: &WorkspacePath) -> Result<Option<FileKind>, CapabilityError> {
        let mut seen = WorkspacePath::default();
        for name in path.split().0.names() {
            seen = seen.join(name);
            match self.root.symlink_metadata(seen.as_path()) {
                Ok(found) if found.is_symlink() => return Err(self.through(&seen, path)),
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Ok(None),
                Err(error) => return absent(path, &error),
            }
        }
        match self.root.symlink_metadata(path.as_path()) {
            Ok(found) if found.is_symlink() => {
                let target = self.root.read_link_contents(path.as_path());
                Ok(Some(FileKind::Link(target.map_err(|error| failed("look at", path, &error))?)))
            }
            Ok(found) if found.is_dir() => Ok(Some(FileKind::Folder)),
            Ok(found) if found.file_type().is_fifo() => Ok(Some(FileKind::Pipe)),
            Ok(_) => Ok(Some(FileKind::File)),
            Err(error) => absent(path, &error),
        }
    }

    /// The paths that rules of `read` or `write` match: a path without wildcards, if it exists, and everything that matches
    /// a pattern, except for what lies in a folder that matches. Fails when there are more than `limit`.
    pub(crate) fn granted(&self, patterns: &[PathPattern], limit: usize) -> Result<Vec<GrantedPath>, CapabilityError> {
        let mut granted = Vec::new();
        for pattern in patterns {
            if pattern.is_literal() {
                let path = pattern.base().clone();
                granted.extend(self.look(&path)?.map(|kind| GrantedPath { path, kind }));
                continue;
            }
            // A base that is a link isn't followed.
            if self.look(pattern.base())? == Some(FileKind::Folder) {
                self.matching(pattern, &mut granted);
            }
            if granted.len() > limit {
                let message = format!("the pattern `{pattern}` matches more than {limit} paths");
                return Err(CapabilityError::new(ErrorCode::ResourceExhausted, message)
                    .with_help("grant the folder instead, so that it takes one mount and not one for each path"));
            }
        }
        Ok(granted)
    }

    fn matching(&self, pattern: &PathPattern, granted: &mut Vec<GrantedPath>) {
        let mut folders = vec![pattern.base().clone()];
        while let Some(folder) = folders.pop() {
            let entries = self.opener(false).folder(&folder).and_then(|folder| folder.entries());
            for entry in entries.into_iter().flatten().flatten() {
                let Ok(name) = entry.file_name().into_string() else { continue };
                let path = folder.join(&name);
                if self.policy.is_reserved(&path) {
                    continue;
                }
                // Removed since the folder was read.
                let Ok(own) = entry.metadata() else { continue };
                if !pattern.matches(&path) {
                    if own.is_dir() && pattern.reaches_into(&path) {
                        folders.push(path);
                    }
                    continue;
                }
                let kind = match own {
                    own if own.is_dir() => Some(FileKind::Folder),
                    own if own.is_symlink() => self.root.read_link_contents(path.as_path()).ok().map(FileKind::Link),
                    own if own.file_type().is_fifo() => Some(FileKind::Pipe),
                    _ => Some(FileKind::File),
                };
                granted.extend(kind.map(|kind| GrantedPath { path, kind }));
            }
        }
    }

    /// Refuses a rule without wildcards that names a link whose target isn't granted: it would open nothing, which its
    /// author couldn't see. `is_granted`: whether a target is granted.
    pub(crate) fn check_links(
        &self,
        patterns: &[PathPattern],
        is_granted: impl Fn(&WorkspacePath) -> bool,
    ) -> Result<(), CapabilityError> {
        for link in patterns.iter().filter(|pattern| pattern.is_literal()).map(PathPattern::base) {
            if !matches!(self.look(link)?, Some(FileKind::Link(_))) {
                continue;
            }
            let real = self.led_to(link)?;
            if !is_granted(&real) {
                return Err(self.ungranted(link, &real));
            }
        }
        Ok(())
    }

    /// The error for a link to `real`, which isn't granted.
    pub(crate) fn ungranted(&self, link: &WorkspacePath, real: &WorkspacePath) -> CapabilityError {
        let (why, help) = match self.policy.reserved_at(real) {
            Some(purpose) => (format!("in {}", purpose.described()), purpose.remedy().to_owned()),
            None => ("which isn't granted".to_owned(), format!("grant `{real}`, in addition to `{link}` or instead")),
        };
        let message = format!("`{link}` is a link to `{real}`, {why}");
        CapabilityError::new(ErrorCode::PermissionDenied, message).with_help(help)
    }

    /// The real path of a link's target within the workspace.
    pub(crate) fn led_to(&self, link: &WorkspacePath) -> Result<WorkspacePath, CapabilityError> {
        self.real(link).map_err(|_| leads_out(link, link))
    }

    /// The links in a chain after its first one, each with its target as it is written. The chain ends at a link out of the
    /// workspace, and before one that is reached through a linked folder, or whose name isn't UTF-8.
    pub(crate) fn links_on_the_way(&self, link: &WorkspacePath) -> Vec<(WorkspacePath, PathBuf)> {
        // The kernel's own limit.
        const MOST: usize = 40;
        let mut found: Vec<(WorkspacePath, PathBuf)> = Vec::new();
        let mut at = link.clone();
        while found.len() < MOST
            && let Ok(Some(FileKind::Link(target))) = self.look(&at)
        {
            let next = target.to_str().and_then(|target| at.parent()?.leads_to(target));
            found.push((at, target));
            let Some(next) = next else { break };
            at = next;
        }
        found.split_off(found.len().min(1))
    }

    /// Creates a path that is granted for writing and doesn't exist yet, as an empty file or as a folder.
    pub(crate) fn make(&self, granted: &PathPattern) -> Result<(), CapabilityError> {
        match names_folder(granted) {
            true => self.make_folder(granted.base()),
            false => self.make_file(granted.base()),
        }
    }

    /// Creates a folder, with its parents.
    pub(crate) fn make_folder(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        self.opener(true).made_folder(path).map(drop).map_err(|error| failed("create", path, &error))
    }

    /// Creates an empty file, with its parents.
    pub(crate) fn make_file(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        let (folder, name) = path.split();
        let opener = self.opener(true);
        let made = opener
            .made_folder(&folder)
            .and_then(|folder| opener.file(&folder, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL));
        made.map(drop).map_err(|error| failed("create", path, &error))
    }

    /// The error for a path that leads through `link`.
    fn through(&self, link: &WorkspacePath, path: &WorkspacePath) -> CapabilityError {
        let Ok(real) = self.real(path) else { return leads_out(link, path) };
        let message = format!("`{path}` leads through the link `{link}`, which grants don't follow");
        CapabilityError::new(ErrorCode::FailedPrecondition, message).with_help(format!("grant its real path `{real}`"))
    }
}

/// Whether a path without wildcards is meant as a folder: it ends in `/`, has no extension, or has one of folders.
fn names_folder(path: &PathPattern) -> bool {
    // Tools for Python create these beside the sources.
    const OF_FOLDERS: [&str; 2] = ["dist-info", "egg-info"];
    let extension = path.base().as_path().extension();
    path.as_str().ends_with('/') || extension.is_none_or(|extension| OF_FOLDERS.iter().any(|known| extension == *known))
}

fn absent(path: &WorkspacePath, error: &io::Error) -> Result<Option<FileKind>, CapabilityError> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
        _ => Err(failed("look at", path, error)),
    }
}

fn leads_out(link: &WorkspacePath, path: &WorkspacePath) -> CapabilityError {
    let through = if link == path { String::new() } else { format!("`{path}` can't be granted: ") };
    let message = format!("{through}the link `{link}` leads out of the workspace, or nowhere");
    CapabilityError::new(ErrorCode::FailedPrecondition, message)
        .with_help("grant a file or folder of the workspace, or replace the link with its target")
}
