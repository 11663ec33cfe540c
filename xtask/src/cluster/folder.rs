//! The state folder of a cluster: where everything is, and who may remove it.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::cargo::Result;

/// A file that identifies a state folder, so that no other folder is ever removed.
const MARKER: &str = "stagewright-cluster";

/// The subfolders that processes and certificates expect.
const SUBFOLDERS: [&str; 6] = ["certificates", "config", "log", "pids", "run", "var-log"];

/// The most bytes of the path of a Unix socket, including its end.
const SOCKET_PATH_LIMIT: usize = 108;

/// The folder of one cluster; an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClusterFolder(PathBuf);

impl ClusterFolder {
    /// An error if the path is too long for the socket of dockerd.
    pub(super) fn new(path: &Path) -> Result<ClusterFolder> {
        let path =
            std::path::absolute(path).map_err(|error| format!("invalid state folder {}: {error}", path.display()))?;
        let folder = ClusterFolder(path);
        let length = folder.docker_socket().as_os_str().len();
        if length >= SOCKET_PATH_LIMIT {
            return Err(format!(
                "the path {} has {length} bytes, and a socket's path has at most {}\n  help: choose a shorter `--folder`",
                folder.docker_socket().display(),
                SOCKET_PATH_LIMIT - 1
            ));
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Creates the folder and its subfolders, accessible to their owner only, because they contain private keys. An error if
    /// a folder exists that belongs to something else.
    pub(super) fn create(&self) -> Result<()> {
        self.require_ownership()?;
        let failed = |error| format!("can't create {}: {error}", self.0.display());
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.0).map_err(failed)?;
        std::fs::write(self.0.join(MARKER), "").map_err(failed)?;
        SUBFOLDERS.iter().try_for_each(|name| builder.create(self.0.join(name))).map_err(failed)
    }

    /// Removes the folder with all that is in it, if it exists. An error if it belongs to something else.
    pub(super) fn remove(&self) -> Result<()> {
        self.require_ownership()?;
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("can't remove {}: {error}", self.0.display()))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is absent, empty or the state folder of a cluster.
    fn require_ownership(&self) -> Result<()> {
        let mut entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("can't read {}: {error}", self.0.display())),
        };
        if entries.next().is_none() || self.0.join(MARKER).is_file() {
            return Ok(());
        }
        Err(format!(
            "{} is not the state folder of a cluster, and not empty\n  help: choose another `--folder`",
            self.0.display()
        ))
    }

    /// Writes a file that only its owner can read.
    pub(super) fn write(&self, path: &Path, content: &str) -> Result<()> {
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let written = opened.and_then(|mut file| file.write_all(content.as_bytes()));
        written.map_err(|error| format!("can't write {}: {error}", path.display()))
    }

    pub(super) fn certificate(&self, name: &str) -> PathBuf {
        self.0.join("certificates").join(format!("{name}.crt"))
    }

    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.0.join("certificates").join(format!("{name}.key"))
    }

    /// The kubeconfig that authenticates with the client certificate of the same name.
    pub(super) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.0.join("config").join(format!("{name}.kubeconfig"))
    }

    pub(super) fn config(&self, name: &str) -> PathBuf {
        self.0.join("config").join(name)
    }

    pub(super) fn log(&self, process: &str) -> PathBuf {
        self.0.join("log").join(format!("{process}.log"))
    }

    pub(super) fn pid_file(&self, process: &str) -> PathBuf {
        self.0.join("pids").join(process)
    }

    /// Where dockerd listens for tests.
    pub(super) fn docker_socket(&self) -> PathBuf {
        self.0.join("docker.sock")
    }

    /// What `up` has printed as JSON. It exists once the cluster has become ready.
    pub(super) fn details(&self) -> PathBuf {
        self.0.join("cluster.json")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_state_folder_is_private_and_can_be_removed_twice() {
        let parent = tempfile::tempdir().unwrap();
        let folder = ClusterFolder::new(&parent.path().join("cluster")).unwrap();
        folder.create().unwrap();
        folder.create().expect("it exists already");
        folder.write(&folder.kubeconfig("admin"), "secret").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(folder.path()), mode(&folder.kubeconfig("admin"))), (0o700, 0o600));
        folder.remove().unwrap();
        assert!(!folder.path().exists());
        folder.remove().expect("it is absent already");
    }

    #[test]
    fn a_folder_of_something_else_is_neither_used_nor_removed() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("thesis.txt");
        std::fs::write(&file, "").unwrap();
        let folder = ClusterFolder::new(parent.path()).unwrap();
        let error = folder.remove().expect_err("the folder has another file");
        assert!(error.contains("is not the state folder of a cluster"), "{error}");
        folder.create().expect_err("the folder has another file");
        assert!(file.is_file());
    }

    #[test]
    fn a_path_that_is_too_long_for_a_socket_is_refused() {
        let error = ClusterFolder::new(&Path::new("/").join("a".repeat(100))).expect_err("112 bytes are too many");
        assert!(error.contains("choose a shorter `--folder`"), "{error}");
        ClusterFolder::new(&Path::new("/").join("a".repeat(90))).expect("102 bytes are few enough");
    }
}
