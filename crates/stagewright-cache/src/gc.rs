//! Removes results that have not been used for a given time, and content that no result refers to.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::store::ResultStore;

/// A draft that is older than this counts as abandoned.
const DRAFT: Duration = Duration::from_hours(24);

/// What [`gc`] removed, or would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The number of results.
    pub results: u64,
    /// The bytes of these results and of all other removed files.
    pub bytes: u64,
}

/// Removes results that were last stored or used longer than `age` ago. `root` is the cache's folder. Runs that store
/// results at the same time wait.
///
/// # Errors
/// When something can't be read or removed.
pub fn gc(root: &Path, age: Duration, dry_run: bool) -> io::Result<Removed> {
    let mut removed = Removed::default();
    if !root.is_dir() {
        return Ok(removed);
    }
    let store = ResultStore::new(root);
    let _alone = store.lock(fs::File::lock)?;
    let mut remove = |path: &Path| -> io::Result<()> {
        removed.bytes += path.symlink_metadata()?.len();
        if dry_run { Ok(()) } else { fs::remove_file(path) }
    };
    let (mut kept, mut named) = (BTreeSet::new(), BTreeSet::new());
    let mut results = 0;
    for (key, path) in digests(&root.join("entries"))? {
        match store.find(&key).filter(|_| !is_older(&path, age)) {
            Some(entry) => {
                kept.insert(key);
                named.extend(entry.content());
            }
            None => {
                remove(&path)?;
                results += 1;
            }
        }
    }
    // The manifest of a remaining result is kept, because explanations compare the next result with it.
    for (key, path) in digests(&root.join("manifests"))? {
        if !kept.contains(&key) && is_older(&path, age) {
            remove(&path)?;
        }
    }
    for (_, path) in digests(&root.join("latest"))? {
        let key = stagewright_files::read_text(&path, stagewright_files::CONFIGURATION)
            .ok()
            .and_then(|key| Digest::parse(&key));
        if !key.is_some_and(|key| kept.contains(&key)) && is_older(&path, age) {
            remove(&path)?;
        }
    }
    // These are marked as used once a day. If one is removed too early, its stage runs once more than necessary.
    for (_, path) in digests(&root.join("left"))? {
        if is_older(&path, age) {
            remove(&path)?;
        }
    }
    for (digest, path) in digests(&root.join("blobs"))? {
        if !named.contains(&digest) {
            remove(&path)?;
        }
    }
    for path in files(root)?.into_iter().filter(|path| is_draft(path) && is_older(path, DRAFT)) {
        remove(&path)?;
    }
    removed.results = results;
    Ok(removed)
}

/// The files below a folder of the store, with the digests that they are named by.
fn digests(part: &Path) -> io::Result<Vec<(Digest, PathBuf)>> {
    let digest = |path: PathBuf| {
        let rest = path.file_stem()?.to_str()?;
        let first = path.parent()?.file_name()?.to_str()?;
        Some((Digest::parse(&format!("sha256:{first}{rest}"))?, path))
    };
    let folders = entries(part)?.into_iter().filter(|path| path.is_dir());
    let files = folders.map(|folder| files(&folder)).collect::<io::Result<Vec<_>>>()?;
    Ok(files.into_iter().flatten().filter_map(digest).collect())
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_file()).collect())
}

/// The entries of a folder; empty if it does not exist.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_draft(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(".tmp"))
}

/// A file with a modification time in the future doesn't count as old.
fn is_older(path: &Path, age: Duration) -> bool {
    let modified = path.symlink_metadata().and_then(|metadata| metadata.modified());
    let since = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    since.is_some_and(|since| since > age)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stagewright_engine::RunId;

    use super::*;
    use crate::store::CachedResult;
    use crate::tree::TreeNode;

    #[test]
    fn old_results_are_removed_and_content_shared_with_others_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResultStore::new(folder.path());
        let [shared, own] = ["shared", "own"].map(|content| store.add_bytes(content.as_bytes()).unwrap());
        let keep = |key: &str, content: &[Digest]| {
            let node = |digest: &Digest| (digest.to_string(), TreeNode::File { mode: 0o644, digest: *digest });
            let entry = CachedResult {
                key: Digest::of(key),
                run: RunId("run".into()),
                outputs: BTreeMap::new(),
                files: content.iter().map(node).collect(),
                artifacts: Vec::new(),
                said: None,
            };
            store.keep(&entry).unwrap();
            Digest::of(key)
        };
        let (old, new) = (keep("old", &[shared, own]), keep("new", &[shared]));
        let entries = digests(&folder.path().join("entries")).unwrap();
        let path = &entries.iter().find(|(key, _)| *key == old).unwrap().1;
        let long_ago = SystemTime::now() - Duration::from_hours(48);
        fs::File::options().append(true).open(path).unwrap().set_modified(long_ago).unwrap();

        let day = Duration::from_hours(24);
        let would = gc(folder.path(), day, true).unwrap();
        assert!(would.results == 1 && store.find(&old).is_some());
        assert_eq!(gc(folder.path(), day, false).unwrap(), would);
        assert!(store.find(&old).is_none() && store.find(&new).is_some());
        assert!(store.blob(&shared).is_file() && !store.blob(&own).is_file());
        assert_eq!(gc(folder.path(), day, false).unwrap(), Removed::default());
        assert_eq!(gc(&folder.path().join("nowhere"), day, false).unwrap(), Removed::default());
    }

    #[test]
    fn a_result_that_was_used_again_is_not_old() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResultStore::new(folder.path());
        let key = Digest::of("key");
        let entry = CachedResult {
            key,
            run: RunId("run".into()),
            outputs: BTreeMap::new(),
            files: BTreeMap::new(),
            artifacts: Vec::new(),
            said: None,
        };
        store.keep(&entry).unwrap();
        let path = digests(&folder.path().join("entries")).unwrap().remove(0).1;
        fs::File::options().append(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        store.touch(&key);
        assert_eq!(gc(folder.path(), Duration::from_hours(1), false).unwrap(), Removed::default());
    }
}
