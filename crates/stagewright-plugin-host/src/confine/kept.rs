//! Download caches of toolchains, kept from one attempt of a stage to the next.
//!
//! A cache holds what a program downloaded, or claims to have downloaded, and a later attempt trusts it. So a cache has
//! exactly one writer: a stage of one pipeline *file*, in one trust tier. Nothing is shared between tiers, not even from
//! `trusted` to lower ones, because a cache is mounted writable.
//!
//! ```text
//! <kept>/2/<owner>/owner        names the owner; its modification time is that of the last use; locked while in use
//! <kept>/2/<owner>/<need>       a folder or file, mounted where the program expects it
//! ```
//!
//! `<owner>` and `<need>` end in a digest, so that different names never share a folder, whatever characters they have.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::digest::sha256;

/// Increased when existing folders may no longer be used. Folders of other layouts are removed by age.
const LAYOUT: &str = "2";
/// The file that names the owner.
const OWNER: &str = "owner";
/// The most readable characters of a name, before its digest.
const READABLE: usize = 40;

/// The owner of stages: a pipeline file, in a trust tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StageOwner {
    /// The trust tier, such as `trusted` or `pr-12`. Set by the operator, never by a pipeline.
    pub tier: String,
    /// The pipeline file, relative to the repository. Its `[pipeline] name` isn't enough: any file can use any name.
    pub file: String,
}

/// The caches of one stage, in use until this is dropped.
#[derive(Debug)]
pub(crate) struct KeptCaches {
    folder: PathBuf,
    /// A shared lock, so that [`remove_kept`] leaves the folder alone.
    _used: File,
}

impl KeptCaches {
    /// Opens or creates the caches. `table`: the stage's, as in `stages.test`; cells of a matrix share it.
    pub(crate) fn open(root: &Path, owner: &StageOwner, table: &str) -> io::Result<KeptCaches> {
        let StageOwner { tier, file } = owner;
        // Each part is preceded by its length, so that different parts can't be concatenated to the same text.
        let parts = [tier.as_str(), file, table].map(|part| format!("{}:{part}\n", part.len())).concat();
        let folder = root.join(LAYOUT).join(name_of(table, &parts));
        fs::create_dir_all(&folder)?;
        // Another user who could write here could replace the downloads.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        // Locked before anything in the folder is used, so that `remove_kept` doesn't remove it under a running program.
        // The owner is written under the shared lock: two attempts of a stage can do so at the same time, but both append
        // the same text, which is for people only.
        let mut used = File::options().create(true).append(true).read(true).open(folder.join(OWNER))?;
        used.lock_shared()?;
        if used.metadata()?.len() == 0 {
            used.write_all(parts.as_bytes())?;
        }
        used.set_modified(SystemTime::now())?;
        Ok(KeptCaches { folder, _used: used })
    }

    /// The folder or file in which `need` is kept; created if it doesn't exist.
    pub(crate) fn place(&self, need: &Path, is_file: bool) -> io::Result<PathBuf> {
        let text = need.to_string_lossy();
        let place = self.folder.join(name_of(&text, &text));
        if !is_file {
            fs::create_dir_all(&place)?;
        } else if !place.exists() {
            fs::write(&place, "")?;
        }
        fs::canonicalize(place)
    }
}

/// A file name: the readable end of `shown`, and the digest of `of`.
fn name_of(shown: &str, of: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    let readable: Vec<char> = shown.chars().map(|letter| if plain(letter) { letter } else { '.' }).collect();
    let readable: String = readable[readable.len().saturating_sub(READABLE)..].iter().collect();
    format!("{}-{}", readable.trim_start_matches('.'), &sha256(of.as_bytes())["sha256:".len()..][..32])
}

/// What [`remove_kept`] removed, or would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovedKept {
    /// The number of caches; each stage has one.
    pub caches: u64,
    /// The size of their files in bytes.
    pub bytes: u64,
}

/// Removes download caches that no stage has used for `age`; those that are in use stay. `root`:
/// [`SandboxConfig::kept`](crate::SandboxConfig::kept).
///
/// # Errors
/// When something can't be read or removed.
pub fn remove_kept(root: &Path, age: Duration, dry_run: bool) -> io::Result<RemovedKept> {
    let mut removed = RemovedKept::default();
    let mut remove = |folder: &Path| -> io::Result<()> {
        removed.caches += 1;
        removed.bytes += size_of(folder);
        if dry_run { Ok(()) } else { stagewright_files::remove_tree(folder) }
    };
    for folder in entries(&root.join(LAYOUT))? {
        let used = match File::options().read(true).open(folder.join(OWNER)) {
            Ok(used) => used,
            // Without its owner file, the folder is being created at this moment, or damaged; its own age decides.
            Err(_) if is_older(&folder.symlink_metadata()?, age) => {
                remove(&folder)?;
                continue;
            }
            Err(_) => continue,
        };
        // The age is read only after the exclusive lock is held: an attempt that used the cache in between has updated it.
        if used.try_lock().is_ok() && is_older(&used.metadata()?, age) {
            remove(&folder)?;
        }
    }
    // Folders of other layouts aren't used by any stage of this version.
    for folder in entries(root)?.into_iter().filter(|folder| folder.file_name().is_none_or(|name| name != LAYOUT)) {
        if is_older(&folder.symlink_metadata()?, age) {
            remove(&folder)?;
        }
    }
    Ok(removed)
}

/// The entries of a folder; empty when it doesn't exist.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether the last modification is at least `age` ago. A time in the future counts as recent.
fn is_older(metadata: &fs::Metadata, age: Duration) -> bool {
    let since = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    since.is_some_and(|since| since >= age)
}

/// The size of all files below `path` in bytes. Unreadable entries, such as paths that are too long, count as empty.
fn size_of(path: &Path) -> u64 {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => entries(path).unwrap_or_default().iter().map(|entry| size_of(entry)).sum(),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(tier: &str, file: &str) -> StageOwner {
        StageOwner { tier: tier.to_owned(), file: file.to_owned() }
    }

    fn place(root: &Path, owner: &StageOwner, table: &str) -> PathBuf {
        KeptCaches::open(root, owner, table).unwrap().place(Path::new("/root/go/pkg"), false).unwrap()
    }

    #[test]
    fn each_tier_file_and_stage_has_a_cache_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let mut places = Vec::new();
        for tier in ["trusted", "pr/12", "pr%12", "pr-12"] {
            for file in ["stagewright.toml", "pipelines/a.toml", "pipelines/a%toml"] {
                for table in ["stages.test", "finally.test", "stages.tést"] {
                    places.push(place(root.path(), &owner(tier, file), table));
                }
            }
        }
        // Different parts that are the same when they are concatenated.
        places.push(place(root.path(), &owner("a", "b\n1:c"), "d"));
        places.push(place(root.path(), &owner("a", "b"), "c\n1:d"));
        assert_eq!(place(root.path(), &owner("trusted", "stagewright.toml"), "stages.test"), places[0], "kept");
        let count = places.len();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), count);
        assert!(places.iter().all(|place| place.starts_with(root.path().canonicalize().unwrap())));
    }

    #[test]
    fn old_caches_are_removed_and_used_ones_stay() {
        let root = tempfile::tempdir().unwrap();
        let used = KeptCaches::open(root.path(), &owner("trusted", "f"), "stages.used").unwrap();
        let old = KeptCaches::open(root.path(), &owner("trusted", "f"), "stages.old").unwrap();
        let locked = old.place(Path::new("/locked"), false).unwrap();
        fs::write(locked.join("file"), "12345").unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
        let earlier = root.path().join("pipeline/stages.test");
        fs::create_dir_all(&earlier).unwrap();
        let folder = old.folder.clone();
        assert_eq!(remove_kept(root.path(), Duration::from_hours(1), false).unwrap(), RemovedKept::default());
        drop(old);
        let would = remove_kept(root.path(), Duration::ZERO, true).unwrap();
        assert!(would.caches == 2 && would.bytes >= 5 && folder.is_dir(), "{would:?}");
        assert_eq!(remove_kept(root.path(), Duration::ZERO, false).unwrap(), would);
        assert!(!folder.exists() && !earlier.exists() && used.folder.is_dir());
        assert_eq!(remove_kept(&root.path().join("nowhere"), Duration::ZERO, false).unwrap(), RemovedKept::default());
    }
}
