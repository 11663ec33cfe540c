//! Which state folder belongs to the cluster of this machine, and who is working on it.
//!
//! One file is both: its content is the path of the folder, and a process that starts or ends a cluster holds its lock. It
//! is in `/run`, and thus gone after a boot, like the cluster.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
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
        let registration = Registration::read()?;
        match registration.file.try_lock() {
            // It may have changed before it was locked.
            Ok(()) => registration.read_again(),
            Err(TryLockError::WouldBlock) => Err("another process is starting or ending a cluster".to_owned()),
            Err(TryLockError::Error(error)) => Err(format!("can't lock {PATH}: {error}")),
        }
    }

    /// Reads the machine's registration without waiting for the process that has locked it.
    pub(super) fn read() -> Result<Registration> {
        Registration::open(Path::new(PATH))
    }

    /// Writes go to the end of the file, also after it was truncated.
    pub(super) fn open(path: &Path) -> Result<Registration> {
        let opened = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = opened.map_err(|error| format!("can't open {}: {error}", path.display()))?;
        Registration { file, folder: None }.read_again()
    }

    fn read_again(mut self) -> Result<Registration> {
        let mut path = Vec::new();
        let read = self.file.rewind().and_then(|()| self.file.read_to_end(&mut path));
        read.map_err(|error| format!("can't read the registration: {error}"))?;
        let path = OsString::from_vec(path);
        self.folder = if path.is_empty() { None } else { Some(ClusterFolder::new(Path::new(&path))?) };
        Ok(self)
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
        replaced.map_err(|error| format!("can't write the registration: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_kept_and_replaced_and_cleared() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("registration");
        let reopened = || Registration::open(&path).unwrap();
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
        let mut registration = Registration::open(&parent.path().join("registration")).unwrap();
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
