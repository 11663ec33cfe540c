//! Download caches of toolchains, kept from one attempt of a stage to its next.
//!
//! What lies there is content that a program downloaded, or says that it downloaded, and that a later attempt believes.
//! So a cache has exactly one writer: a stage of one pipeline *file*, in one trust tier. Nothing is shared between tiers,
//! not even from `trusted` downwards, because a cache is mounted to be written.
//!
//! ```text
//! <kept>/2/<owner>/owner        who it belongs to; modified when it is used, locked while it is
//! <kept>/2/<owner>/<need>       a folder or file, mounted where the program looks for it
//! ```
//!
//! `<owner>` and `<need>` end in a digest: no two names come to the same folder, whatever characters they have.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::digest::sha256;

/// Raised when folders of before may not be used any more; those of another layout are removed by age.
const LAYOUT: &str = "2";
/// The file that names the owner.
const OWNER: &str = "owner";
/// Readable characters of a name, before its digest.
const READABLE: usize = 40;

/// Whose stages these are: a pipeline file, in a trust tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StageOwner {
    /// The trust tier, as `trusted` or `pr-12`. The operator says it, never a pipeline.
    pub tier: String,
    /// The pipeline file, relative to the repository. Its `[pipeline] name` isn't enough: any file may have any name.
    pub file: String,
}

/// The caches of one stage, in use until this is dropped.
#[derive(Debug)]
pub(crate) struct KeptCaches {
    folder: PathBuf,
    /// Keeps [`remove_kept`] away.
    _used: File,
}

impl KeptCaches {
    /// `table`: as in `stages.test`. Cells of a matrix share it.
    pub(crate) fn open(root: &Path, owner: &StageOwner, table: &str) -> io::Result<KeptCaches> {
        let StageOwner { tier, file } = owner;
        // With its length before it, no part can be read as the end of another.
        let parts = [tier.as_str(), file, table].map(|part| format!("{}:{part}\n", part.len())).concat();
        let folder = root.join(LAYOUT).join(name_of(table, &parts));
        fs::create_dir_all(&folder)?;
        // No other user may exchange what one user's programs downloaded.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        let mut used = File::options().create(true).append(true).read(true).open(folder.join(OWNER))?;
        used.lock_shared()?;
        if used.metadata()?.len() == 0 {
            used.write_all(parts.as_bytes())?;
        }
        used.set_modified(SystemTime::now())?;
        Ok(KeptCaches { folder, _used: used })
    }

    /// Where what is kept of `need` is: a folder, or a file. Made when it isn't there.
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

/// The end of `shown` as far as it can be part of a file's name, and the digest of `of`.
fn name_of(shown: &str, of: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    let readable: Vec<char> = shown.chars().map(|letter| if plain(letter) { letter } else { '.' }).collect();
    let readable: String = readable[readable.len().saturating_sub(READABLE)..].iter().collect();
    format!("{}-{}", readable.trim_start_matches('.'), &sha256(of.as_bytes())["sha256:".len()..][..32])
}

/// What [`remove_kept`] removed, or would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovedKept {
    /// Caches: one of each stage.
    pub caches: u64,
    /// Bytes of their files.
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
            // Being made at this moment, or damaged: by the folder's own age.
            Err(_) if is_older(&folder.symlink_metadata()?, age) => {
                remove(&folder)?;
                continue;
            }
            Err(_) => continue,
        };
        if used.try_lock().is_ok() && is_older(&used.metadata()?, age) {
            remove(&folder)?;
        }
    }
    // Folders of an earlier layout: no stage uses them any more.
    for folder in entries(root)?.into_iter().filter(|folder| folder.file_name().is_none_or(|name| name != LAYOUT)) {
        if is_older(&folder.symlink_metadata()?, age) {
            remove(&folder)?;
        }
    }
    Ok(removed)
}

/// None when the folder isn't there.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// What changed in the future isn't old.
fn is_older(metadata: &fs::Metadata, age: Duration) -> bool {
    let since = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    since.is_some_and(|since| since >= age)
}

/// What can't be looked at, as what lies deeper than a path can say, counts for nothing.
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
    fn a_cache_has_one_tier_one_file_and_one_stage() {
        let root = tempfile::tempdir().unwrap();
        let mut places = Vec::new();
        for tier in ["trusted", "pr/12", "pr%12", "pr-12"] {
            for file in ["stagewright.toml", "pipelines/a.toml", "pipelines/a%toml"] {
                for table in ["stages.test", "finally.test", "stages.tést"] {
                    places.push(place(root.path(), &owner(tier, file), table));
                }
            }
        }
        // Parts that only together are the same.
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
    fn what_is_old_goes_and_what_is_used_stays() {
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
