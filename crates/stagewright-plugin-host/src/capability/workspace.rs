//! `workspace`: the granted files below the workspace's root.
//!
//! Each access is checked twice: the path as the guest wrote it, and the path that it leads to once symbolic links are
//! followed. A link that leaves the workspace can't be followed at all, because every access goes through a folder handle
//! that only resolves paths beneath itself. The checked path is then opened without following links ([`opener`]), since a
//! program of the stage may exchange a folder for a link after the check.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::fs::{Dir, File, OpenOptions, Permissions, PermissionsExt as _};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use stagewright_files::remove_tree_at;
use stagewright_model::WorkspacePath;

use crate::blocking::blocking;
use crate::error::{CapabilityError, ErrorCode};
use crate::limits::{ByteBudget, ByteSize, Metered};
use crate::policy::Policy;

mod grants;
mod listing;
mod opener;

pub(crate) use grants::{FileKind, GrantedPath};
pub(crate) use listing::{GlobEntry, Located, NodeKind};
use opener::PathOpener;

/// The files of a workspace, with the access that a stage has to them.
#[derive(Clone, Debug)]
pub(crate) struct WorkspaceFiles {
    root: Arc<Dir>,
    policy: Arc<Policy>,
    /// The most bytes that are read into memory at a time.
    largest: u64,
    /// The bytes that the stage may still write.
    budget: ByteBudget,
}

impl WorkspaceFiles {
    pub(crate) fn new(root: Arc<Dir>, policy: Arc<Policy>, largest: u64) -> WorkspaceFiles {
        WorkspaceFiles { root, policy, largest, budget: ByteBudget::new("workspace", u64::MAX) }
    }

    /// Limits the bytes that may be written.
    pub(crate) fn bounded(self, bytes: u64) -> WorkspaceFiles {
        WorkspaceFiles { budget: ByteBudget::new("workspace", bytes), ..self }
    }

    /// Opens files whose paths passed the checks.
    fn opener(&self, writing: bool) -> PathOpener<'_> {
        PathOpener { root: &self.root, policy: &self.policy, writing }
    }

    /// Runs work on files on a thread that may block.
    pub(crate) async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WorkspaceFiles) -> Result<T, CapabilityError> + Send + 'static,
    ) -> Result<T, CapabilityError> {
        let workspace = self.clone();
        blocking(move || work(&workspace)).await?
    }

    /// Opens a file for reading.
    pub(crate) fn open(&self, path: &str) -> Result<File, CapabilityError> {
        let path = WorkspacePath::parse(path)?;
        self.policy.read(&path)?;
        let real = self.real(&path)?;
        self.policy.read(&real)?;
        if self.root.metadata(real.as_path()).is_ok_and(|metadata| metadata.is_dir()) {
            return Err(CapabilityError::new(ErrorCode::InvalidArgument, format!("`{path}` is a folder, not a file")));
        }
        let (folder, name) = real.split();
        self.opener(false)
            .folder(&folder)
            .and_then(|folder| self.opener(false).file(&folder, name, OFlags::RDONLY))
            .map_err(|error| failed("open", &path, &error))
    }

    /// Whether the path is a folder, with links followed. It doesn't say whether its files may be read.
    pub(crate) fn is_folder(&self, path: &str) -> Result<bool, CapabilityError> {
        let path = WorkspacePath::parse(path)?;
        Ok(self.root.metadata(path.as_path()).is_ok_and(|metadata| metadata.is_dir()))
    }

    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, CapabilityError> {
        let mut file = self.open(path)?;
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let mut data = Vec::new();
        // The size can't be relied on: the file may grow, and those in /proc have none. So one byte more than allowed is
        // read, which shows that the file is too large.
        let read = (&mut file).take(self.largest.saturating_add(1)).read_to_end(&mut data);
        read.map_err(|error| failed_at("read", path, &error))?;
        if data.len() as u64 > self.largest {
            let limit = ByteSize(self.largest);
            let message = format!("`{path}` ({size} bytes) doesn't fit into the memory limit of {limit}");
            return Err(CapabilityError::new(ErrorCode::ResourceExhausted, message)
                .with_help("read it in parts, or raise the stage's `memory`"));
        }
        Ok(data)
    }

    pub(crate) fn read_at(&self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, CapabilityError> {
        let mut file = self.open(path)?;
        let mut data = Vec::new();
        let length = u64::from(length).min(self.largest);
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.take(length).read_to_end(&mut data))
            .map_err(|error| failed_at("read", path, &error))?;
        Ok(data)
    }

    pub(crate) fn write(&self, path: &str, data: &[u8]) -> Result<(), CapabilityError> {
        self.replace(path, |file| Ok(file.write_all(data)?))
    }

    /// Replaces a file with what `fill` writes. On failure the file stays as it was.
    pub(crate) fn replace<T>(
        &self,
        path: &str,
        fill: impl FnOnce(&mut Metered<'_, &mut File>) -> Result<T, FillError>,
    ) -> Result<T, CapabilityError> {
        self.replace_as(path, None, fill)
    }

    /// Like [`WorkspaceFiles::replace`], with the permission bits that the file gets; none to keep those of the old one.
    pub(crate) fn replace_as<T>(
        &self,
        path: &str,
        mode: Option<u32>,
        fill: impl FnOnce(&mut Metered<'_, &mut File>) -> Result<T, FillError>,
    ) -> Result<T, CapabilityError> {
        let path = self.writable(path)?;
        let (folder, name) = path.split();
        let folder =
            self.opener(true).made_folder(&folder).map_err(|error| failed("create the folder of", &path, &error))?;
        // The draft is created and renamed by the handle of the folder that was checked, never by a path. So it stays in
        // that folder even if a program of the stage renames it, or puts a link in its place, while the content is written.
        let draft = draft_name();
        let filled = (|| {
            let mut file = folder.open_with(&draft, OpenOptions::new().write(true).create_new(true))?;
            let value = fill(&mut Metered { to: &mut file, budget: &self.budget })?;
            if let Some(mode) = mode {
                file.set_permissions(Permissions::from_mode(mode))?;
            // A script that is rewritten stays executable.
            } else if let Some(before) = folder.symlink_metadata(name).ok().filter(|before| before.is_file()) {
                file.set_permissions(before.permissions())?;
            }
            folder.rename(&draft, &folder, name)?;
            Ok(value)
        })();
        filled.map_err(|error| {
            // This fails when the draft could not be created.
            let _ = folder.remove_file(&draft);
            match error {
                FillError::Io(error) => failed("write", &path, &error),
                FillError::Other(error) => error,
            }
        })
    }

    pub(crate) fn append(&self, path: &str, data: &[u8]) -> Result<(), CapabilityError> {
        let path = self.writable(path)?;
        // Unlike a replaced file, this one is written through a link.
        let path = match self.real(&path) {
            Ok(real) => {
                self.policy.write(&real)?;
                real
            }
            Err(error) if error.code == ErrorCode::NotFound => path,
            Err(error) => return Err(error),
        };
        let (folder, name) = path.split();
        self.opener(true)
            .made_folder(&folder)
            .and_then(|folder| self.opener(true).file(&folder, name, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE))
            .and_then(|file| Metered { to: file, budget: &self.budget }.write_all(data))
            .map_err(|error| failed("append to", &path, &error))
    }

    pub(crate) fn remove(&self, path: &str) -> Result<(), CapabilityError> {
        let path = self.writable(path)?;
        self.policy.removal(&path)?;
        let (folder, name) = path.split();
        let removed = self.opener(true).folder(&folder).and_then(|folder| match folder.symlink_metadata(name)? {
            metadata if metadata.is_dir() => remove_tree_at(&folder, name.as_ref()),
            _ => folder.remove_file(name),
        });
        match removed {
            Err(error) if !is_missing(&error) => Err(failed("remove", &path, &error)),
            _ => Ok(()),
        }
    }

    /// Whether the stage may learn that a path has changed. `path` may have been removed.
    pub(crate) fn may_learn_of(&self, path: &WorkspacePath) -> bool {
        match self.root.symlink_metadata(path.as_path()) {
            Ok(_) => self.policy.may_read(path),
            Err(_) => self.policy.may_miss(path),
        }
    }

    /// The digest of a file, as `sha256:…`.
    pub(crate) fn digest(&self, path: &str) -> Result<String, CapabilityError> {
        let mut file = self.open(path)?;
        let digest = copy_and_digest(&mut file, &mut io::sink()).map_err(|error| failed_at("read", path, &error))?;
        Ok(digest.0)
    }

    /// Compresses a file into another one. Neither its name nor a time is stored, so that the same content always gives the
    /// same result.
    pub(crate) fn gzip(&self, path: &str, to: &str) -> Result<(), CapabilityError> {
        let mut file = self.open(path)?;
        self.replace(to, |zipped| {
            let mut zip = GzEncoder::new(zipped, Compression::fast());
            io::copy(&mut file, &mut zip)?;
            Ok(zip.finish().map(drop)?)
        })
    }

    pub(crate) fn executable(&self, path: &str) -> Result<bool, CapabilityError> {
        let metadata = self.open(path)?.metadata().map_err(|error| failed_at("look at", path, &error))?;
        Ok(metadata.permissions().mode() & 0o111 != 0)
    }

    /// The real path of a folder, as a working directory for a program. It doesn't need a grant of `read`: the sandbox
    /// decides which of its files the program may read.
    pub(crate) fn folder(&self, path: &str) -> Result<WorkspacePath, CapabilityError> {
        let path = WorkspacePath::parse(path)?;
        let real = self.real(&path)?;
        if self.root.metadata(path.as_path()).is_ok_and(|metadata| metadata.is_dir()) {
            return Ok(real);
        }
        Err(CapabilityError::new(ErrorCode::InvalidArgument, format!("`{path}` is not a folder")))
    }

    /// Checks a path that is going to be created, replaced or removed, and returns its real path: links among its folders
    /// are followed, the last name isn't.
    pub(crate) fn writable(&self, path: &str) -> Result<WorkspacePath, CapabilityError> {
        let path = WorkspacePath::parse(path)?;
        let Some(parent) = path.parent() else {
            let message = "the workspace's root itself can't be replaced or removed";
            return Err(CapabilityError::new(ErrorCode::InvalidArgument, message));
        };
        self.policy.write(&path)?;
        // The path needn't exist, and neither need its folders. So links are followed in the longest part of it that
        // exists, and the rest is appended as it is: what doesn't exist contains no links. The result is checked again,
        // because a link among the folders can lead out of what is granted.
        let mut existing = parent.clone();
        let real = loop {
            match self.root.canonicalize(existing.as_path()) {
                Ok(real) => break named(&existing, &real)?,
                Err(error) => match existing.parent().filter(|_| is_missing(&error)) {
                    Some(parent) => existing = parent,
                    None => return Err(failed("find", &existing, &error)),
                },
            }
        };
        let below = match existing.is_root() {
            true => path.shown(),
            false => path.shown().strip_prefix(existing.shown()).unwrap_or_default().trim_start_matches('/'),
        };
        let real = real.join(below);
        self.policy.write(&real)?;
        Ok(real)
    }

    /// The real path of `path`, with all links followed.
    fn real(&self, path: &WorkspacePath) -> Result<WorkspacePath, CapabilityError> {
        let real = self.root.canonicalize(path.as_path()).map_err(|error| failed("find", path, &error))?;
        named(path, &real)
    }
}

/// The real path of `path`, which may be a name that isn't UTF-8.
fn named(path: &WorkspacePath, real: &Path) -> Result<WorkspacePath, CapabilityError> {
    let real = real.to_str().ok_or_else(|| {
        CapabilityError::new(ErrorCode::InvalidArgument, format!("`{path}` leads to a name that isn't UTF-8"))
    })?;
    Ok(WorkspacePath::parse(if real.is_empty() { "." } else { real })?)
}

/// Whether the path of a failed call doesn't exist. Below a file, nothing does.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Why the content of a file could not be written.
pub(crate) enum FillError {
    Io(io::Error),
    Other(CapabilityError),
}

impl From<io::Error> for FillError {
    fn from(error: io::Error) -> FillError {
        FillError::Io(error)
    }
}

/// Copies everything, and returns `sha256:…` of it and the number of bytes.
pub(crate) fn copy_and_digest(from: &mut impl io::Read, to: &mut impl io::Write) -> io::Result<(String, u64)> {
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 128 * 1024]);
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..length]);
        to.write_all(&buffer[..length])?;
        size += length as u64;
    }
    Ok((format!("sha256:{}", crate::digest::hex(&hasher.finalize())), size))
}

/// A name for a temporary file, unique within this process.
fn draft_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(".stagewright-draft-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn failed(doing: &str, path: &WorkspacePath, error: &io::Error) -> CapabilityError {
    failed_at(doing, path.shown(), error)
}

pub(crate) fn failed_at(doing: &str, path: &str, error: &io::Error) -> CapabilityError {
    let code = match error.kind() {
        io::ErrorKind::NotFound => ErrorCode::NotFound,
        io::ErrorKind::AlreadyExists => ErrorCode::AlreadyExists,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::ResourceExhausted,
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput => {
            ErrorCode::InvalidArgument
        }
        // Also the error of the folder handle for a link that leads out of the workspace.
        io::ErrorKind::PermissionDenied => ErrorCode::FailedPrecondition,
        _ => ErrorCode::Internal,
    };
    CapabilityError::new(code, format!("could not {doing} `{path}`: {error}"))
}

#[cfg(test)]
mod tests;
