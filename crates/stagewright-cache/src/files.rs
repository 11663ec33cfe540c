//! Puts the files of a result where they belong.
//!
//! A result may come from elsewhere: nothing is written but what the stage names as its outputs and may write, and no
//! link of the workspace leads out of it.

use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use rustix::fs::{Mode, OFlags, openat};

use crate::digest::copy;
use crate::globs::Globs;
use crate::store::{Entry, Store};
use crate::tree::{Kind, Node, Workspace};

/// Which files a result may have.
pub(crate) struct Allowed<'a> {
    pub(crate) outputs: &'a Globs,
    /// What the stage may write.
    pub(crate) writes: &'a Globs,
}

/// Puts all files of the result there; those that are as they should be stay untouched.
pub(crate) fn restore(
    workspace: &Workspace<'_>,
    store: &Store,
    entry: &Entry,
    allowed: &Allowed<'_>,
) -> io::Result<()> {
    if entry.files.is_empty() {
        return Ok(());
    }
    for path in entry.files.keys() {
        let leads_out = path.starts_with('/') || path.split('/').any(|name| matches!(name, "" | "." | ".."));
        let reserved = workspace.reserved.iter().any(|reserved| crate::globs::is_within(path, reserved));
        if leads_out || reserved || !allowed.outputs.matches(path) || !allowed.writes.matches(path) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("it holds `{path}`, which the stage may not make"),
            ));
        }
    }
    let root = Dir::open_ambient_dir(workspace.root, ambient_authority())?;
    for (path, node) in &entry.files {
        if !workspace.holds(path, node) {
            put(&root, store, path, node)
                .map_err(|error| io::Error::new(error.kind(), format!("`{path}` can't be put back: {error}")))?;
        }
    }
    Ok(())
}

fn put(root: &Dir, store: &Store, path: &str, node: &Node) -> io::Result<()> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let folder = made_folder(root, folder)?;
    let draft = draft_name();
    let filled = (|| {
        let mut blob = stagewright_files::open(&store.blob(&node.digest))?;
        if node.kind == Kind::Link {
            let mut target = Vec::new();
            io::Read::read_to_end(&mut blob, &mut target)?;
            // Where it leads is the stage's affair; that it is followed nowhere is everybody else's.
            return folder.symlink_contents(Path::new(std::ffi::OsStr::from_bytes(&target)), &draft);
        }
        let mode = if node.kind == Kind::Program { 0o777 } else { 0o666 };
        let mut file = folder.open_with(&draft, OpenOptions::new().write(true).create_new(true).mode(mode))?;
        if copy(&mut blob, &mut file)? == node.digest {
            return file.flush();
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "its content is damaged"))
    })();
    let put = filled.and_then(|()| {
        // A folder in its place is a leftover of something else.
        if folder.symlink_metadata(name).is_ok_and(|found| found.is_dir()) {
            folder.remove_dir_all(name)?;
        }
        folder.rename(&draft, &folder, name)
    });
    if put.is_err() {
        // It may not even have been made.
        let _ = folder.remove_file(&draft);
    }
    put
}

/// The folder at `path`, made where it is missing. A link on the way is followed nowhere: it may lead to what the stage
/// may not write.
fn made_folder(root: &Dir, path: &str) -> io::Result<Dir> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    path.split('/').filter(|name| !name.is_empty()).try_fold(root.try_clone()?, |folder, name| {
        match folder.create_dir(name) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        Ok(Dir::from_std_file(openat(&folder, name, how, Mode::empty())?.into()))
    })
}

/// Differs from every other name that this process makes.
fn draft_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(".stagewright-draft-{}-c{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
