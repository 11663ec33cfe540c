//! Records which files a stage left in the paths that it may write, so that the next attempt recognises them.
//!
//! A stage can read what it may write, which lets an incremental build continue where it stopped. Files that the stage
//! left there itself are not inputs. All others are: those of another stage, tier or pipeline, or of a person. To
//! distinguish them, the stamps of the files that an attempt made are stored, in one file for each tier, pipeline file and
//! stage. Write access to the files alone is not enough to forge a stamp, because it includes the `ctime`.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::scan::{EntryKind, ScannedEntry};
use crate::stamp::Stamp;
use crate::store;

/// Incremented when the format changes. A file in another format is ignored.
const FORMAT: u32 = 1;

/// A file is marked as used when its last mark is older than this.
const MARKED: Duration = Duration::from_hours(24);

/// The files that a stage left, by path.
#[derive(Debug)]
pub(crate) struct Leftovers {
    file: PathBuf,
    known: HashMap<String, Left>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Left {
    stamp: Stamp,
    mode: u32,
}

impl Leftovers {
    /// Empty if `file` does not exist or can't be read. The stage then treats every file that it finds as another's,
    /// which costs a cache hit but never gives a wrong one.
    pub(crate) fn load(file: PathBuf) -> Leftovers {
        let known =
            stagewright_files::read(&file, stagewright_files::RECORD).ok().and_then(
                |bytes| match postcard::from_bytes(&bytes) {
                    Ok((FORMAT, known)) => Some(known),
                    _ => None,
                },
            );
        if known.is_some() {
            mark(&file);
        }
        Leftovers { file, known: known.unwrap_or_default() }
    }

    /// Whether the stage left this entry and it is unchanged since. A folder is unchanged whatever its content.
    pub(crate) fn contains(&self, found: &ScannedEntry) -> bool {
        self.known.get(&found.path).is_some_and(|left| {
            left.mode == found.mode
                && match found.kind {
                    EntryKind::Folder => left.stamp.is_same_inode(&found.stamp),
                    _ => left.stamp == found.stamp,
                }
        })
    }

    /// Records what the stage left, after an attempt that began at `start`. These are the entries of `after` that changed
    /// since `start` and differ from `before`, and those that an earlier attempt left. The file is written only if the
    /// record changed.
    pub(crate) fn record(self, after: &[ScannedEntry], before: &[ScannedEntry], start: i128) -> io::Result<()> {
        let was_there: HashMap<&str, &Stamp> = before.iter().map(|found| (found.path.as_str(), &found.stamp)).collect();
        let is_own = |found: &&ScannedEntry| {
            let is_made = found.stamp.is_since(start) && was_there.get(found.path.as_str()) != Some(&&found.stamp);
            // Adding a file to a folder changes the folder's times. That alone does not make the folder the stage's own:
            // it must also be a different folder from the one that existed before.
            let is_made = match (found.kind, was_there.get(found.path.as_str())) {
                (EntryKind::Folder, Some(then)) => is_made && !then.is_same_inode(&found.stamp),
                _ => is_made,
            };
            is_made || self.contains(found)
        };
        let own = after.iter().filter(is_own);
        let own: HashMap<String, Left> =
            own.map(|found| (found.path.clone(), Left { stamp: found.stamp, mode: found.mode })).collect();
        if own == self.known {
            return Ok(());
        }
        let bytes = postcard::to_stdvec(&(FORMAT, &own)).map_err(io::Error::other)?;
        store::write(&self.file, |file| io::Write::write_all(file, &bytes))
    }
}

/// Updates the time of the file, at most once a day, so that garbage collection keeps it while it is used.
fn mark(file: &Path) {
    let Ok(opened) = std::fs::File::options().append(true).open(file) else { return };
    let modified = opened.metadata().and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|modified| modified.elapsed().ok());
    if age.is_some_and(|age| age > MARKED) {
        // If this fails, the file may be collected too early; the stage then runs once more than necessary.
        let _ = opened.set_modified(SystemTime::now());
    }
}
