//! What grants stand for at this moment: paths that are there, and links as links.
//!
//! No grant goes through a link. One that is granted by its own name is shown as what it is, and leads to something only
//! where that is granted as well: else whoever may lay a link, an earlier stage or a branch, would say what is granted.

use std::io;
use std::path::PathBuf;

use cap_std::fs::FileTypeExt as _;
use rustix::fs::OFlags;

use super::{Workspace, failed};
use stagewright_model::{PathPattern, WorkspacePath};

use crate::error::{CapabilityError, ErrorCode};

/// A path that is granted, and there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantedPath {
    pub(crate) path: WorkspacePath,
    pub(crate) kind: Kind,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    /// Or a socket, a device.
    File,
    /// By name.
    Pipe,
    /// As it is written.
    Link(PathBuf),
}

impl Workspace {
    /// What is at a path, none of whose folders is a link; none when nothing is.
    ///
    /// # Errors
    /// When the path goes through a link; the error names the path that has none.
    pub(crate) fn look(&self, path: &WorkspacePath) -> Result<Option<Kind>, CapabilityError> {
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
                Ok(Some(Kind::Link(target.map_err(|error| failed("look at", path, &error))?)))
            }
            Ok(found) if found.is_dir() => Ok(Some(Kind::Folder)),
            Ok(found) if found.file_type().is_fifo() => Ok(Some(Kind::Pipe)),
            Ok(_) => Ok(Some(Kind::File)),
            Err(error) => absent(path, &error),
        }
    }

    /// The paths that rules of `read` or `write` stand for: a path without wildcards itself, if it is there, and all
    /// that match a pattern, without what lies in a folder that does. At most `limit`.
    pub(crate) fn granted(&self, patterns: &[PathPattern], limit: usize) -> Result<Vec<GrantedPath>, CapabilityError> {
        let mut granted = Vec::new();
        for pattern in patterns {
            if pattern.is_literal() {
                let path = pattern.base().clone();
                granted.extend(self.look(&path)?.map(|kind| GrantedPath { path, kind }));
                continue;
            }
            // A base that isn't there, or no folder, holds nothing; through a link it doesn't go.
            if self.look(pattern.base())? == Some(Kind::Folder) {
                self.matching(pattern, &mut granted);
            }
            if granted.len() > limit {
                let message = format!("the pattern `{pattern}` stands for more than {limit} paths");
                return Err(CapabilityError::new(ErrorCode::ResourceExhausted, message)
                    .with_help("grant the folder instead: each path is a mount of its own for programs"));
            }
        }
        Ok(granted)
    }

    fn matching(&self, pattern: &PathPattern, granted: &mut Vec<GrantedPath>) {
        let mut folders = vec![pattern.base().clone()];
        while let Some(folder) = folders.pop() {
            let entries = self.reach(false).folder(&folder).and_then(|folder| folder.entries());
            for entry in entries.into_iter().flatten().flatten() {
                let Ok(name) = entry.file_name().into_string() else { continue };
                let path = folder.join(&name);
                if self.policy.is_reserved(&path) {
                    continue;
                }
                // What vanished meanwhile isn't granted.
                let Ok(own) = entry.metadata() else { continue };
                if !pattern.matches(&path) {
                    if own.is_dir() && pattern.reaches_into(&path) {
                        folders.push(path);
                    }
                    continue;
                }
                let kind = match own {
                    own if own.is_dir() => Some(Kind::Folder),
                    own if own.is_symlink() => self.root.read_link_contents(path.as_path()).ok().map(Kind::Link),
                    own if own.file_type().is_fifo() => Some(Kind::Pipe),
                    _ => Some(Kind::File),
                };
                granted.extend(kind.map(|kind| GrantedPath { path, kind }));
            }
        }
    }

    /// Refuses a rule without wildcards that names a link to what isn't granted: it would give nothing, and whoever
    /// wrote it can't see that. `is_granted`: whether the place that the link leads to is.
    pub(crate) fn check_links(
        &self,
        patterns: &[PathPattern],
        is_granted: impl Fn(&WorkspacePath) -> bool,
    ) -> Result<(), CapabilityError> {
        for link in patterns.iter().filter(|pattern| pattern.is_literal()).map(PathPattern::base) {
            if !matches!(self.look(link)?, Some(Kind::Link(_))) {
                continue;
            }
            let real = self.led_to(link)?;
            if !is_granted(&real) {
                return Err(self.ungranted(link, &real));
            }
        }
        Ok(())
    }

    /// The refusal of a link that leads to `real`, which isn't granted.
    pub(crate) fn ungranted(&self, link: &WorkspacePath, real: &WorkspacePath) -> CapabilityError {
        let (why, help) = match self.policy.reserved_at(real) {
            Some(purpose) => (format!("in {}", purpose.described()), purpose.remedy().to_owned()),
            None => ("which isn't granted".to_owned(), format!("grant `{real}`, beside `{link}` or instead of it")),
        };
        let message = format!("`{link}` is a link to `{real}`, {why}");
        CapabilityError::new(ErrorCode::PermissionDenied, message).with_help(help)
    }

    /// Where a link of the workspace leads to within it.
    pub(crate) fn led_to(&self, link: &WorkspacePath) -> Result<WorkspacePath, CapabilityError> {
        self.real(link).map_err(|_| leads_out(link, link))
    }

    /// The links between a link and what it leads to, each with what is written in it. One that lies behind a folder that
    /// is a link, or has no name that is text, isn't among them.
    pub(crate) fn links_on_the_way(&self, link: &WorkspacePath) -> Vec<(WorkspacePath, PathBuf)> {
        // As many as the kernel follows.
        const MOST: usize = 40;
        let mut found: Vec<(WorkspacePath, PathBuf)> = Vec::new();
        let mut at = link.clone();
        while found.len() < MOST
            && let Ok(Some(Kind::Link(target))) = self.look(&at)
        {
            let Some(next) = target.to_str().and_then(|target| at.parent()?.leads_to(target)) else { break };
            found.push((at, target));
            at = next;
        }
        found.split_off(found.len().min(1))
    }

    /// Makes what is granted to be written and isn't there yet: an empty file when its name has an extension, a folder
    /// otherwise.
    pub(crate) fn make(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        match path.as_path().extension() {
            Some(_) => self.make_file(path),
            None => self.make_folder(path),
        }
    }

    /// With those that it is in.
    pub(crate) fn make_folder(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        self.reach(true).made_folder(path).map(drop).map_err(|error| failed("make", path, &error))
    }

    /// An empty file.
    pub(crate) fn make_file(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        let (folder, name) = path.split();
        let reach = self.reach(true);
        let made = reach
            .made_folder(&folder)
            .and_then(|folder| reach.file(&folder, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL));
        made.map(drop).map_err(|error| failed("make", path, &error))
    }

    /// `link` is on the way to `path`.
    fn through(&self, link: &WorkspacePath, path: &WorkspacePath) -> CapabilityError {
        let Ok(real) = self.real(path) else { return leads_out(link, path) };
        let message = format!("`{path}` goes through the link `{link}`, and grants don't");
        CapabilityError::new(ErrorCode::FailedPrecondition, message)
            .with_help(format!("grant `{real}`, which is where it leads"))
    }
}

fn absent(path: &WorkspacePath, error: &io::Error) -> Result<Option<Kind>, CapabilityError> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
        _ => Err(failed("look at", path, error)),
    }
}

fn leads_out(link: &WorkspacePath, path: &WorkspacePath) -> CapabilityError {
    let through = if link == path { String::new() } else { format!("`{path}` can't be granted: ") };
    let message = format!("{through}the link `{link}` leads out of the workspace, or nowhere");
    CapabilityError::new(ErrorCode::FailedPrecondition, message)
        .with_help("grant a file or folder of the workspace, or replace the link by what it leads to")
}
