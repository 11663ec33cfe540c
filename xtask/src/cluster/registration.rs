//! Which state folder belongs to the cluster of this machine, and who is working on it.
//!
//! One file is both: its content is the path of the folder, and a process that starts or ends a cluster holds its lock. It
//! is in `/run`, and thus gone after a boot, like the cluster.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use super::folder::ClusterFolder;
use crate::cargo::Result;

const PATH: &str = "/run/stagewright-cluster";

/// The opened file, locked as long as this value lives if [`Registration::lock`] returned it.
pub(super) struct Registration {
    file: File,
    folder: Option<ClusterFolder>,
}

impl Registration {
    /// Locks the machine's registration. An error if another process is starting or ending a cluster.
    pub(super) fn lock() -> Result<Registration> {
        let file = open(Path::new(PATH))?;
        match file.try_lock() {
            Ok(()) => Registration::new(file),
            Err(TryLockError::WouldBlock) => Err("another process is starting or ending a cluster".to_owned()),
            Err(TryLockError::Error(error)) => Err(format!("can't lock {PATH}: {error}")),
        }
    }

    /// Reads the machine's registration without waiting for the process that has locked it.
    pub(super) fn read() -> Result<Registration> {
        Registration::new(open(Path::new(PATH))?)
    }

    fn new(mut file: File) -> Result<Registration> {
        let mut path = Vec::new();
        file.read_to_end(&mut path).map_err(|error| format!("can't read {PATH}: {error}"))?;
        let path = std::ffi::OsString::from_vec(path);
        let folder = if path.is_empty() { None } else { Some(ClusterFolder::new(Path::new(&path))?) };
        Ok(Registration { file, folder })
    }

    /// The folder of the cluster that was started and not ended, whether or not it still runs.
    pub(super) fn folder(&self) -> Option<&ClusterFolder> {
        self.folder.as_ref()
    }

    /// An error if another folder is registered: its cluster may run, or have left something behind.
    pub(super) fn require(&self, folder: &ClusterFolder) -> Result<()> {
        match &self.folder {
            Some(registered) if registered != folder => Err(format!(
                "this machine has a cluster with the state folder {}, and can't have two\n  help: use that one, or end it: \
                 cargo xtask cluster down",
                registered.path().display()
            )),
            _ => Ok(()),
        }
    }

    /// Records the folder before anything is started.
    pub(super) fn register(&mut self, folder: &ClusterFolder) -> Result<()> {
        self.replace(folder.path().as_os_str().as_bytes())?;
        self.folder = Some(folder.clone());
        Ok(())
    }

    pub(super) fn clear(&mut self) -> Result<()> {
        self.replace(b"")?;
        self.folder = None;
        Ok(())
    }

    fn replace(&mut self, content: &[u8]) -> Result<()> {
        let replaced = self.file.set_len(0).and_then(|()| self.file.write_all(content));
        replaced.map_err(|error| format!("can't write {PATH}: {error}"))
    }
}

/// Opened for appending: a write goes to the end of the file, also after it was truncated.
fn open(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().read(true).append(true).create(true).open(path);
    opened.map_err(|error| format!("can't open {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_kept_and_replaced_and_cleared() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("registration");
        let reopened = || Registration::new(open(&path).unwrap()).unwrap();
        let [long, short] = ["/a/long/path", "/b"].map(|path| ClusterFolder::new(Path::new(path)).unwrap());
        let mut registration = reopened();
        assert_eq!(registration.folder(), None);
        registration.register(&long).unwrap();
        assert_eq!(reopened().folder(), Some(&long));
        registration.register(&short).unwrap();
        assert_eq!(reopened().folder(), Some(&short));
        registration.clear().unwrap();
        assert_eq!((registration.folder(), reopened().folder()), (None, None));
    }

    #[test]
    fn a_second_cluster_is_refused_until_the_first_one_is_cleared() {
        let parent = tempfile::tempdir().unwrap();
        let mut registration = Registration::new(open(&parent.path().join("registration")).unwrap()).unwrap();
        let [first, second] = ["/first", "/second"].map(|path| ClusterFolder::new(Path::new(path)).unwrap());
        registration.require(&second).expect("none is registered");
        registration.register(&first).unwrap();
        registration.require(&first).expect("it is the same");
        let error = registration.require(&second).expect_err("the first one is registered");
        assert!(error.starts_with("this machine has a cluster with the state folder /first"), "{error}");
        registration.clear().unwrap();
        registration.require(&second).expect("none is registered");
    }
}
