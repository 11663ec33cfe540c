//! What a stage left in the places that it may write, so that it isn't taken for something else the next time.
//!
//! A stage can read what it may write, so that a build can go on where it stopped. What it left there itself is no
//! input; everything else is: what another stage, another tier, another pipeline or a person put there. To tell them
//! apart, the stamps of what an attempt made are kept, in a file for each tier, pipeline file and stage. A stamp can't
//! be forged by whoever may only write the files: it has the time of the inode's last change.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::scan::{EntryKind, ScannedEntry};
use crate::stamp::Stamp;
use crate::store;

/// Raised when the format changes; a file of another one counts as none.
const FORMAT: u32 = 1;

/// How long a file may go without being marked as used.
const MARKED: Duration = Duration::from_hours(24);

/// What a stage left, by path.
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
    /// Nothing when `file` isn't there, or can't be read: all that is found is somebody else's then.
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

    /// Whether the stage left it, and nothing was done to it since. A folder is the same whatever comes and goes in it.
    pub(crate) fn contains(&self, found: &ScannedEntry) -> bool {
        self.known.get(&found.path).is_some_and(|left| {
            left.mode == found.mode
                && match found.kind {
                    EntryKind::Folder => left.stamp.is_same_inode(&found.stamp),
                    _ => left.stamp == found.stamp,
                }
        })
    }

    /// Notes what is there after an attempt that began at `start`: what was changed since, but for what was as it is
    /// `before`, and what it had left earlier. Writes it down if that is news.
    pub(crate) fn record(self, after: &[ScannedEntry], before: &[ScannedEntry], start: i128) -> io::Result<()> {
        let was_there: HashMap<&str, &Stamp> = before.iter().map(|found| (found.path.as_str(), &found.stamp)).collect();
        let is_own = |found: &&ScannedEntry| {
            let is_made = found.stamp.is_since(start) && was_there.get(found.path.as_str()) != Some(&&found.stamp);
            // A folder that others had made gets no other owner by a file that is put into it.
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

/// So that it stays as long as it is of use.
fn mark(file: &Path) {
    let Ok(opened) = std::fs::File::options().append(true).open(file) else { return };
    let modified = opened.metadata().and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|modified| modified.elapsed().ok());
    if age.is_some_and(|age| age > MARKED) {
        // One that is removed too early costs a stage to run once more.
        let _ = opened.set_modified(SystemTime::now());
    }
}
