//! Placeholders: empty files and folders that the engine creates in a workspace for reserved paths, and removes again.
//!
//! A path that doesn't exist can't be covered by a mount. Where a stage could create a reserved path, the engine creates it
//! first, empty, and covers that. A mount ends when the file under it is removed, even in other namespaces, so a
//! placeholder may only be removed when no sandbox is left that may cover it. Every sandbox therefore holds a shared lock,
//! and the process that can take it exclusively removes the placeholders that are still empty, including those of killed
//! processes.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::{Deserialize, Serialize};

use super::Identity;

/// A line of the record.
#[derive(Debug, Serialize, Deserialize)]
struct Placeholder {
    path: PathBuf,
    identity: Identity,
}

/// The share of one sandbox. If it is dropped without [`Placeholders::release`], a later one removes the placeholders.
#[derive(Debug)]
pub(crate) struct Placeholders(File);

impl Placeholders {
    /// Takes a share. `record`: a file in the state folder. Waits while another process removes placeholders.
    pub(super) fn hold(record: &Path) -> io::Result<Placeholders> {
        fs::create_dir_all(record.parent().unwrap_or(Path::new("/")))?;
        let how = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(record, how, Mode::from_raw_mode(0o600))?);
        flock(&file, FlockOperation::LockShared)?;
        Ok(Placeholders(file))
    }

    /// Calls `make`, which creates `path`, and records the path and those of its folders that didn't exist before. `path`
    /// must be absolute.
    pub(crate) fn made<E>(&self, path: &Path, make: impl FnOnce() -> Result<(), E>) -> Result<io::Result<()>, E> {
        let missing: Vec<_> = path.ancestors().take_while(|path| identity(path).is_none()).collect();
        make()?;
        Ok(missing.iter().rev().try_for_each(|path| match identity(path) {
            // Each line is one write, because other processes append to the same file.
            Some(identity) => {
                let line = serde_json::to_string(&Placeholder { path: path.to_path_buf(), identity })?;
                (&self.0).write_all(format!("{line}\n").as_bytes())
            }
            None => Ok(()),
        }))
    }

    /// Removes the placeholders, if this is the last share. No process of the sandbox may be running any more.
    pub(crate) fn release(mut self) -> io::Result<()> {
        match flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        // With the exclusive lock, no other sandbox exists that may cover a placeholder, and none can be created until it is
        // released. In reverse order, so that a folder is removed after what was created in it. A path whose inode differs
        // belongs to someone else by now, even if it is empty.
        self.0.rewind()?;
        let lines = BufReader::new(&self.0).lines().map_while(Result::ok);
        let made: Vec<Placeholder> = lines.filter_map(|line| serde_json::from_str(&line).ok()).collect();
        for Placeholder { path, identity: own } in made.iter().rev() {
            let Ok(found) = fs::symlink_metadata(path) else { continue };
            if (found.dev(), found.ino()) != *own {
                continue;
            }
            // A file that has content by now isn't a placeholder any more. `remove_dir` fails for a folder with entries.
            let _ = match found.is_dir() {
                true => fs::remove_dir(path),
                false if found.is_file() && found.len() == 0 => fs::remove_file(path),
                false => Ok(()),
            };
        }
        self.0.set_len(0)
    }
}

fn identity(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_user_removes_a_placeholder_that_is_still_empty() {
        let folder = tempfile::tempdir().unwrap();
        let (record, root) = (folder.path().join("st/record"), folder.path().join("w"));
        fs::create_dir(&root).unwrap();
        let [first, second] = [0, 1].map(|_| Placeholders::hold(&record).unwrap());
        let file = |path: &str| {
            let path = root.join(path);
            let make = || fs::create_dir_all(path.parent().unwrap()).and_then(|()| fs::write(&path, ""));
            first.made(&path, make).unwrap().unwrap();
        };
        ["a/b/config", ".profile", "kept", "changed"].iter().for_each(|path| file(path));
        fs::write(root.join("kept"), "mine").unwrap();
        fs::write(root.join("other"), "").unwrap();
        fs::rename(root.join("other"), root.join("changed")).unwrap();
        first.release().unwrap();
        assert!(root.join("a/b/config").exists(), "another sandbox may cover it");
        second.release().unwrap();
        let mut left: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["changed", "kept"]);
        assert_eq!(fs::metadata(&record).unwrap().len(), 0);
    }

    #[test]
    fn a_later_process_removes_placeholders_of_a_killed_one() {
        let folder = tempfile::tempdir().unwrap();
        let (record, path) = (folder.path().join("record"), folder.path().join("x"));
        let killed = Placeholders::hold(&record).unwrap();
        killed.made(&path, || fs::create_dir(&path)).unwrap().unwrap();
        drop(killed);
        Placeholders::hold(&record).unwrap().release().unwrap();
        assert!(!path.exists());
    }
}
