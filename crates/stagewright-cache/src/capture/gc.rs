//! Removes captures that no run needs any more.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::store::{CaptureStore, remove_all};

/// A draft that is older than this is no longer being written by any process.
const DRAFT: Duration = Duration::from_hours(24);

/// Which of its captured files a run still needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CapturesNeeded {
    /// None: the run has been removed.
    #[default]
    Nothing,
    /// The lists of the files that its stages made: the run has ended behind its gates.
    Lists,
    /// The files themselves: the run can be resumed.
    All,
}

/// What [`gc_captures`] removed, or would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovedCaptures {
    /// The number of captures.
    pub captures: u64,
    /// The bytes of removed files that had no other hard link.
    pub bytes: u64,
}

/// Removes the captures that no run needs. `needs` returns what the run with an id needs; `root` is the folder of
/// captures. Runs that capture at the same time wait.
///
/// # Errors
/// When a file can't be read or removed.
pub fn gc_captures(root: &Path, needs: impl Fn(&str) -> CapturesNeeded, dry_run: bool) -> io::Result<RemovedCaptures> {
    let mut removed = RemovedCaptures::default();
    if !root.is_dir() {
        return Ok(removed);
    }
    let store = CaptureStore::new(root);
    let _alone = store.lock(File::lock)?;
    let mut remove = |path: &Path| -> io::Result<()> {
        removed.bytes += freed(path)?;
        if dry_run { Ok(()) } else { remove_all_or_file(path) }
    };
    let (mut lists, mut trees): (BTreeSet<String>, BTreeSet<String>) = Default::default();
    for (run, path) in entries(&store.path("runs"))? {
        let named = stagewright_files::read_text(&path, stagewright_files::RECORD)?;
        let named = named.lines().map(str::to_owned);
        match needs(&run) {
            CapturesNeeded::Nothing => remove(&path)?,
            CapturesNeeded::Lists => lists.extend(named),
            CapturesNeeded::All => trees.extend(named),
        }
    }
    for (run, path) in entries(&store.path("views"))? {
        if needs(&run) != CapturesNeeded::All {
            remove(&path)?;
        }
    }
    let mut captures = 0;
    for (name, path) in entries(&store.path("trees"))? {
        let digest = name.strip_suffix(".boot").unwrap_or(&name);
        let is_draft = name.starts_with(".draft-");
        if (is_draft && is_old(&path)) || (!is_draft && !trees.contains(digest)) {
            captures += u64::from(path.is_dir() && !is_draft);
            remove(&path)?;
        }
    }
    for (name, path) in entries(&store.path("contents"))? {
        let is_named = lists.contains(&name) || trees.contains(&name);
        if !is_named && (!name.starts_with('.') || is_old(&path)) {
            remove(&path)?;
        }
    }
    removed.captures = captures;
    Ok(removed)
}

fn remove_all_or_file(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { remove_all(path) } else { fs::remove_file(path) }
}

/// The bytes of files that have no other hard link.
fn freed(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = path.symlink_metadata()?;
    if !metadata.is_dir() {
        return Ok(if metadata.nlink() == 1 { metadata.len() } else { 0 });
    }
    entries(path)?.into_iter().map(|(_, path)| freed(&path)).sum()
}

/// The entries of a folder; empty if it does not exist.
fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?
            .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
            .collect(),
    }
}

/// A file with a modification time in the future doesn't count as old.
fn is_old(path: &Path) -> bool {
    let modified = path.symlink_metadata().and_then(|metadata| metadata.modified());
    let since = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    since.is_some_and(|since| since > DRAFT)
}
