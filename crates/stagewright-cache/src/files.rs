//! Restores the files of a result in the workspace.
//!
//! A result may come from another machine. Only paths that the stage declares as outputs and may write are written, and
//! links in the workspace are never followed. Modes are restored as the stage's programs set them, whatever the umask of
//! this process, but without set-user-id and set-group-id bits.

use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _, Permissions, PermissionsExt as _};
use rustix::fs::{Mode, OFlags, openat};

use crate::config::Guard;
use crate::digest::{Digest, copy};
use crate::globs::Globs;
use crate::scan::WorkspaceScan;
use crate::store::{CachedResult, ResultStore};
use crate::tree::{self, BITS, FOLDER_BITS, TreeNode};

/// The permissions that the owner of a folder needs to add a file to it.
const OWN: u32 = 0o700;
/// The mode of a folder that is created above a file: the mode that a stage's program would give it with umask 022.
const MADE: u32 = 0o755;

/// The files that a result may contain.
pub(crate) struct AllowedFiles<'a> {
    pub(crate) outputs: &'a Globs,
    /// The paths that the stage may write.
    pub(crate) writes: &'a Globs,
    /// Returns a reason for paths that must not be overwritten.
    pub(crate) guard: &'a Guard,
}

/// Restores all files of the result. Files that are already identical are not touched. Returns whether anything was
/// written.
pub(crate) fn restore(
    workspace: &WorkspaceScan<'_>,
    store: &ResultStore,
    entry: &CachedResult,
    allowed: &AllowedFiles<'_>,
) -> io::Result<bool> {
    if entry.files.is_empty() {
        return Ok(false);
    }
    for path in entry.files.keys() {
        let leads_out = path.starts_with('/') || path.split('/').any(|name| matches!(name, "" | "." | ".."));
        if let Some(reserved) = (allowed.guard)(path) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reserved));
        }
        if leads_out || workspace.is_reserved(path) || !allowed.outputs.name(path) || !allowed.writes.matches(path) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("it contains `{path}`, which the stage isn't allowed to create"),
            ));
        }
    }
    let missing: Vec<_> = entry.files.iter().filter(|(path, node)| !workspace.holds(path, node)).collect();
    if missing.is_empty() {
        return Ok(false);
    }
    let root = Dir::open_ambient_dir(workspace.root, ambient_authority())?;
    let failed =
        |path: &str, error: io::Error| io::Error::new(error.kind(), format!("could not restore `{path}`: {error}"));
    for (path, node) in &entry.files {
        if let TreeNode::Folder { mode } = node
            && mode & OWN != OWN
        {
            // The folder may lack the permissions that are needed to add files to it. It may also not exist yet, so an
            // error is ignored.
            let _ = set_mode(&root, path, mode | OWN);
        }
    }
    for (path, node) in missing {
        put(&root, store, path, node).map_err(|error| failed(path, error))?;
    }
    // The modes of folders come last, and those of inner folders first: a folder's final mode may forbid adding files
    // to it.
    for (path, node) in entry.files.iter().rev() {
        if let TreeNode::Folder { mode } = node {
            set_mode(&root, path, *mode).map_err(|error| failed(path, error))?;
        }
    }
    Ok(true)
}

fn put(root: &Dir, store: &ResultStore, path: &str, node: &TreeNode) -> io::Result<()> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let folder = made_folder(root, parent)?;
    match node {
        TreeNode::Folder { .. } => {
            // Anything else at this path is a leftover of earlier work.
            if folder.symlink_metadata(name).is_ok_and(|found| !found.is_dir()) {
                folder.remove_file(name)?;
            }
            made_folder(root, path).map(drop)
        }
        TreeNode::File { mode, digest } => place(&folder, name, |draft| fill(&folder, draft, store, digest, *mode)),
        TreeNode::Link { digest } => place(&folder, name, |draft| link(&folder, draft, store, digest)),
    }
}

/// Creates a draft with `make` and renames it once it is complete.
fn place(folder: &Dir, name: &str, make: impl FnOnce(&str) -> io::Result<()>) -> io::Result<()> {
    let draft = draft_name();
    let put = make(&draft).and_then(|()| {
        // A folder at this path is a leftover of earlier work.
        if folder.symlink_metadata(name).is_ok_and(|found| found.is_dir()) {
            stagewright_files::remove_tree_at(folder, name.as_ref())?;
        }
        folder.rename(&draft, folder, name)
    });
    if put.is_err() {
        // The draft may not exist, so an error is ignored.
        let _ = folder.remove_file(&draft);
    }
    put
}

fn fill(folder: &Dir, draft: &str, store: &ResultStore, digest: &Digest, mode: u32) -> io::Result<()> {
    let mut blob = stagewright_files::open(&store.blob(digest))?;
    // Until the file is complete, only its owner may read it.
    let mut file = folder.open_with(draft, OpenOptions::new().write(true).create_new(true).mode(0o600))?;
    if copy(&mut blob, &mut file)? != *digest {
        return Err(damaged());
    }
    file.set_permissions(Permissions::from_mode(mode & BITS))?;
    file.flush()
}

fn link(folder: &Dir, draft: &str, store: &ResultStore, digest: &Digest) -> io::Result<()> {
    let target = stagewright_files::read(&store.blob(digest), stagewright_files::CONFIGURATION)?;
    if Digest::of(&target) != *digest {
        return Err(damaged());
    }
    // Any target is allowed, also one outside the workspace: the stage could have created the same link itself, and all
    // code that reads the workspace must refuse to follow links anyway.
    folder.symlink_contents(Path::new(std::ffi::OsStr::from_bytes(&target)), draft)
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its content is damaged")
}

/// Opens the folder at `path` and creates the folders that are missing. Links are not followed, because they may lead to
/// paths that the stage may not write.
fn made_folder(root: &Dir, path: &str) -> io::Result<Dir> {
    path.split('/').filter(|name| !name.is_empty()).try_fold(root.try_clone()?, |folder, name| {
        let made = match folder.create_dir(name) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            made => made.is_ok(),
        };
        let below = enter(&folder, name)?;
        if made {
            below.set_permissions(".", Permissions::from_mode(MADE))?;
        }
        Ok(below)
    })
}

fn enter(folder: &Dir, name: &str) -> io::Result<Dir> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(Dir::from_std_file(openat(folder, name, how, Mode::empty())?.into()))
}

fn set_mode(root: &Dir, path: &str, mode: u32) -> io::Result<()> {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    let folder = names.try_fold(root.try_clone()?, |folder, name| enter(&folder, name))?;
    let folder = folder.into_std_file();
    if tree::mode(&folder.metadata()?) == mode & FOLDER_BITS {
        return Ok(());
    }
    folder.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode & FOLDER_BITS))
}

/// A name that is unique within this process.
fn draft_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(".stagewright-draft-{}-c{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
