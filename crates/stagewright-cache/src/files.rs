//! Puts the files of a result where they belong.
//!
//! A result may come from elsewhere: nothing is written but what the stage names as its outputs and may write, and no
//! link of the workspace leads out of it. Modes are those that the stage's programs set, whatever the umask of this
//! process; bits that make a program run as another user are never among them.

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

/// What the owner of a folder needs to put something into it.
const OWN: u32 = 0o700;
/// Of a folder on the way to a file, as programs of stages make one: their umask is 022.
const MADE: u32 = 0o755;

/// Which files a result may have.
pub(crate) struct AllowedFiles<'a> {
    pub(crate) outputs: &'a Globs,
    /// What the stage may write.
    pub(crate) writes: &'a Globs,
    /// What nothing may be put over.
    pub(crate) guard: &'a Guard,
}

/// Puts all files of the result there; those that are as they should be stay untouched. Whether anything was written.
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
                format!("it holds `{path}`, which the stage may not make"),
            ));
        }
    }
    let missing: Vec<_> = entry.files.iter().filter(|(path, node)| !workspace.holds(path, node)).collect();
    if missing.is_empty() {
        return Ok(false);
    }
    let root = Dir::open_ambient_dir(workspace.root, ambient_authority())?;
    let failed =
        |path: &str, error: io::Error| io::Error::new(error.kind(), format!("`{path}` can't be put back: {error}"));
    for (path, node) in &entry.files {
        if let TreeNode::Folder { mode } = node
            && mode & OWN != OWN
        {
            // Nothing can be put into it as it is; that it isn't there is as good.
            let _ = set_mode(&root, path, mode | OWN);
        }
    }
    for (path, node) in missing {
        put(&root, store, path, node).map_err(|error| failed(path, error))?;
    }
    // Only now, and the inner ones first: a folder may be one that nothing can be put into.
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
            // A file in its place is a leftover of something else.
            if folder.symlink_metadata(name).is_ok_and(|found| !found.is_dir()) {
                folder.remove_file(name)?;
            }
            made_folder(root, path).map(drop)
        }
        TreeNode::File { mode, digest } => place(&folder, name, |draft| fill(&folder, draft, store, digest, *mode)),
        TreeNode::Link { digest } => place(&folder, name, |draft| link(&folder, draft, store, digest)),
    }
}

/// Makes a draft, and gives it its name when it is whole.
fn place(folder: &Dir, name: &str, make: impl FnOnce(&str) -> io::Result<()>) -> io::Result<()> {
    let draft = draft_name();
    let put = make(&draft).and_then(|()| {
        // A folder in its place is a leftover of something else.
        if folder.symlink_metadata(name).is_ok_and(|found| found.is_dir()) {
            stagewright_files::remove_tree_at(folder, name.as_ref())?;
        }
        folder.rename(&draft, folder, name)
    });
    if put.is_err() {
        // It may not even have been made.
        let _ = folder.remove_file(&draft);
    }
    put
}

fn fill(folder: &Dir, draft: &str, store: &ResultStore, digest: &Digest, mode: u32) -> io::Result<()> {
    let mut blob = stagewright_files::open(&store.blob(digest))?;
    // Until it is complete, only its owner may read it.
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
    // Where it leads is the stage's affair; that it is followed nowhere is everybody else's.
    folder.symlink_contents(Path::new(std::ffi::OsStr::from_bytes(&target)), draft)
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its content is damaged")
}

/// The folder at `path`, made where it is missing. A link on the way is followed nowhere: it may lead to what the stage
/// may not write.
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

/// Differs from every other name that this process makes.
fn draft_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(".stagewright-draft-{}-c{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
