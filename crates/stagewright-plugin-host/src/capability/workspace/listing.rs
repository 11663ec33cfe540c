//! Lists the files that match a guest's pattern.

use std::io;
use std::os::unix::ffi::OsStrExt as _;

use cap_std::fs::{FileTypeExt as _, Metadata};

use super::{WorkspaceFiles, failed};
use stagewright_model::{PathPattern, WorkspacePath};

use crate::error::{CapabilityError, ErrorCode};

/// The most entries of one listing.
const ENTRIES: usize = 100_000;

/// A file or folder, with links followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GlobEntry {
    pub(crate) path: String,
    pub(crate) directory: bool,
    /// Bytes; 0 for a folder.
    pub(crate) size: u64,
}

/// A file, folder or other node, with links not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) path: String,
    pub(crate) node: NodeKind,
    /// Bytes of a file; 0 for everything else.
    pub(crate) size: u64,
}

/// What a [`Located`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    File,
    Folder,
    /// A link, with its target as it is written.
    Link(String),
    /// A pipe, a socket or a device, with a description such as `a socket`.
    Special(String),
}

/// An entry of a folder that is being walked.
struct WalkedEntry<'a> {
    /// The path by which the guest reaches it.
    path: &'a WorkspacePath,
    /// The path with the links among its folders followed.
    real: WorkspacePath,
    /// The metadata of the entry itself, even if it is a link.
    metadata: Metadata,
}

impl WorkspaceFiles {
    /// The readable files and folders that match. A link to a folder is listed, but not entered.
    pub(crate) fn glob(&self, pattern: &str) -> Result<Vec<GlobEntry>, CapabilityError> {
        let mut found = Vec::new();
        let unnamed = |_: &str| Ok(());
        self.walk(&PathPattern::parse(pattern)?, unnamed, |listed| {
            let WalkedEntry { path, mut real, metadata } = listed;
            let link = metadata.is_symlink();
            if link {
                let Ok(target) = self.real(&real) else { return Ok(()) };
                real = target;
            }
            if !self.policy.may_read(&real) {
                return Ok(());
            }
            self.policy.saw(&real);
            let followed = if link { self.root.metadata(real.as_path()) } else { Ok(metadata) };
            let Ok(metadata) = followed else { return Ok(()) };
            let size = if metadata.is_dir() { 0 } else { metadata.len() };
            add(&mut found, GlobEntry { path: path.shown().to_owned(), directory: metadata.is_dir(), size })
        })?;
        found.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(found)
    }

    /// Like [`WorkspaceFiles::glob`], with links as links. Never incomplete: fails if something that matches and is readable
    /// can't be listed.
    pub(crate) fn locate(&self, pattern: &str) -> Result<Vec<Located>, CapabilityError> {
        let mut found = Vec::new();
        self.walk(
            &PathPattern::parse(pattern)?,
            |path| Err(unnamed(path)),
            |listed| {
                if !self.policy.may_read(&listed.real) {
                    return Ok(());
                }
                self.policy.saw(&listed.real);
                let node = self.node(&listed)?;
                let size = if matches!(node, NodeKind::File) { listed.metadata.len() } else { 0 };
                add(&mut found, Located { path: listed.path.shown().to_owned(), node, size })
            },
        )?;
        found.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(found)
    }

    /// Everything in a folder, without following links, sorted by path.
    pub(crate) fn below(&self, folder: &WorkspacePath) -> Result<Vec<Located>, CapabilityError> {
        let escaped = PathPattern::literally(folder);
        match folder.is_root() {
            true => self.locate("**"),
            false => self.locate(&format!("{}/**", escaped.normal())),
        }
    }

    fn node(&self, listed: &WalkedEntry<'_>) -> Result<NodeKind, CapabilityError> {
        let kind = listed.metadata.file_type();
        Ok(match () {
            () if kind.is_file() => NodeKind::File,
            () if kind.is_dir() => NodeKind::Folder,
            () if kind.is_symlink() => {
                let target = self.root.read_link_contents(listed.real.as_path());
                let target = target.map_err(|error| failed("read the link", listed.path, &error))?;
                let text = std::str::from_utf8(target.as_os_str().as_bytes());
                let shown = format!("{}` -> `{}", listed.path, target.display());
                NodeKind::Link(text.map_err(|_| unnamed(&shown))?.to_owned())
            }
            () if kind.is_fifo() => NodeKind::Special("a named pipe".to_owned()),
            () if kind.is_socket() => NodeKind::Special("a socket".to_owned()),
            () => NodeKind::Special("a device".to_owned()),
        })
    }

    /// Calls `on` for each match that is readable by its own path, and `on_unnamed` for each one that isn't UTF-8.
    fn walk(
        &self,
        pattern: &PathPattern,
        mut on_unnamed: impl FnMut(&str) -> Result<(), CapabilityError>,
        mut on: impl FnMut(WalkedEntry<'_>) -> Result<(), CapabilityError>,
    ) -> Result<(), CapabilityError> {
        // A pattern without wildcards is its own base.
        let base = if pattern.matches(pattern.base()) { pattern.base().parent() } else { None };
        let base = base.unwrap_or_else(|| pattern.base().clone());
        // Links on the way to the base are followed, as when a file is read; those below it are not.
        let Ok(real_base) = self.real(&base) else { return Ok(()) };
        let mut folders = vec![(base, real_base)];
        while let Some((folder, real)) = folders.pop() {
            if !self.policy.may_list(&folder) || !self.policy.may_list(&real) {
                continue;
            }
            let entries = match self.opener(false).folder(&real).and_then(|folder| folder.entries()) {
                Ok(entries) => entries,
                // A missing folder, or one that was removed meanwhile, is empty.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => return Err(failed("list", &folder, &error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| failed("list", &folder, &error))?;
                let name = match entry.file_name().into_string() {
                    Ok(name) => name,
                    // A name that isn't UTF-8 can't be passed to a guest.
                    Err(name) => {
                        let path = folder.join(&name.to_string_lossy());
                        if pattern.matches(&path) && self.policy.may_read(&path) {
                            on_unnamed(path.shown())?;
                        }
                        continue;
                    }
                };
                let (path, real) = (folder.join(&name), real.join(&name));
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() && pattern.reaches_into(&path) {
                    folders.push((path.clone(), real.clone()));
                }
                if pattern.matches(&path) && self.policy.may_read(&path) {
                    on(WalkedEntry { path: &path, real, metadata })?;
                }
            }
        }
        Ok(())
    }
}

fn unnamed(path: &str) -> CapabilityError {
    CapabilityError::new(ErrorCode::InvalidArgument, format!("the name of `{path}` is not UTF-8"))
        .with_help("rename the file, or use a pattern that doesn't match it")
}

fn add<T>(found: &mut Vec<T>, entry: T) -> Result<(), CapabilityError> {
    if found.len() >= ENTRIES {
        let message = format!("the pattern matches more than {ENTRIES} paths");
        return Err(CapabilityError::new(ErrorCode::ResourceExhausted, message).with_help("narrow the pattern"));
    }
    found.push(entry);
    Ok(())
}
