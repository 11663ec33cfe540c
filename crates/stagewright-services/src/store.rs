//! Reads and writes the files of one service.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stagewright_files::remove_tree;
use stagewright_files::replace_durably;

use crate::error::{ServiceError, ServiceErrorKind};
use crate::proxy::{Backend, Proxy};
use crate::replica::Replica;

/// The record of a release, which `current.json` contains for the current one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Current {
    /// The name of the release.
    pub release: String,
    /// The image, as `REFERENCE@DIGEST`.
    pub image: String,
    /// The URL of the service, as in `http://127.0.0.1:41873`.
    pub address: String,
    /// The port in the address: that of the proxy, if there is one.
    pub port: u16,
    /// The ports of its replicas behind the proxy; empty without a proxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// In a rehearsal, the port in the deploy, which the real service may use; none if the deploy sets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<u16>,
    /// When the release was started, in milliseconds since the Unix epoch.
    pub since: u64,
    /// The environment's fencing token that it was deployed under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
}

impl Current {
    /// The ports of its replicas. A release without a proxy has its own port as its address.
    pub(crate) fn replica_ports(&self) -> Vec<u16> {
        if self.ports.is_empty() { vec![self.port] } else { self.ports.clone() }
    }
}

/// What the folder of a release behind a proxy has until it is promoted or discarded, so that it can be continued by another
/// attempt of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Unfinished {
    /// The run that started it.
    pub(crate) run: String,
    /// What a promotion writes.
    pub(crate) record: Current,
    /// Where its proxy accepts requests, as the deploy says.
    pub(crate) listen: SocketAddr,
    /// How many earlier releases a promotion keeps.
    pub(crate) keep: usize,
    /// How long requests in flight may take, in milliseconds.
    pub(crate) drain_ms: u64,
}

/// The lock that a deploy holds on its service; released when dropped, or when the process ends.
#[derive(Debug)]
pub(crate) struct DeployLock(File);

impl Drop for DeployLock {
    fn drop(&mut self) {
        // The lock belongs to the open file, which is shared with a child that another thread forks at this moment. The
        // child's copy is only closed when it execs, so closing the file here would leave the service locked until
        // then, and the next deploy could be refused. Unlocking takes effect at once.
        let _ = self.0.unlock();
    }
}

/// The folder of one service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceFolder {
    pub(crate) environment: String,
    pub(crate) service: String,
    path: PathBuf,
}

impl ServiceFolder {
    /// The folder of a service below `root`, which doesn't need to exist.
    ///
    /// # Errors
    /// [`ServiceErrorKind::InvalidArgument`] if a name is invalid.
    pub(crate) fn new(root: &Path, environment: &str, service: &str) -> Result<ServiceFolder, ServiceError> {
        // The names come from pipelines and plugins, and become names of folders. Since a name begins with a letter or
        // a digit and contains no slash, it can't be `..` and can't lead out of `root`.
        for (what, name) in [("environment", environment), ("service", service)] {
            if !is_name(name) {
                return Err(ServiceError::new(
                    ServiceErrorKind::InvalidArgument,
                    format!("{name:?} is not a valid {what} name"),
                )
                .with_help("use letters, digits, `-`, `_` and `.`, and begin with a letter or a digit"));
            }
        }
        let path = root.join(environment).join(service);
        Ok(ServiceFolder { environment: environment.to_owned(), service: service.to_owned(), path })
    }

    /// All services below `root`, sorted by environment and name.
    pub(crate) fn all(root: &Path) -> Result<Vec<ServiceFolder>, ServiceError> {
        let mut all = Vec::new();
        for environment in names(root)? {
            for service in names(&root.join(&environment))? {
                all.extend(ServiceFolder::new(root, &environment, &service));
            }
        }
        Ok(all)
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// The folder of the release `name`, which doesn't need to exist.
    pub(crate) fn release(&self, name: &str) -> PathBuf {
        self.path.join("releases").join(name)
    }

    /// The folder of a volume, which doesn't need to exist.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.path.join("volumes").join(name)
    }

    /// The folders of all releases, oldest first.
    pub(crate) fn releases(&self) -> Result<Vec<PathBuf>, ServiceError> {
        let mut names = names(&self.path.join("releases"))?;
        names.sort_by_key(|name| number(name));
        Ok(names.iter().map(|name| self.release(name)).collect())
    }

    /// Records a fencing token. The deploy lock must be held.
    ///
    /// # Errors
    /// [`ServiceErrorKind::StaleFence`] if a larger token was recorded before.
    pub(crate) fn raise_fence(&self, fence: u64) -> Result<(), ServiceError> {
        let path = self.path.join("fence");
        let last = match stagewright_files::read_text(&path, stagewright_files::RECORD) {
            Ok(text) => text.trim().parse::<u64>().map_err(|error| {
                let error = io::Error::new(io::ErrorKind::InvalidData, error);
                ServiceError::file(&path, error)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(ServiceError::file(&path, error)),
        };
        // A run whose process hangs loses its environment after the lease, and a newer run deploys. If the hanging
        // process wakes up later, it still has its earlier, smaller token and is refused here, so it can't replace the
        // newer release. An equal token is accepted, because the start and the promotion of a release record the same
        // one.
        if fence < last {
            let message = format!(
                "`{}` in {} was deployed under the token {last}, but this deploy has the older token {fence}",
                self.service, self.environment
            );
            return Err(ServiceError::new(ServiceErrorKind::StaleFence, message).with_help(format!(
                "start a new run; if the state folder was recreated since then, remove {}",
                path.display()
            )));
        }
        replace_durably(&path, format!("{fence}\n").as_bytes()).map_err(|error| ServiceError::file(&path, error))
    }

    /// Prevents other deploys of the service until the lock is dropped.
    ///
    /// # Errors
    /// [`ServiceErrorKind::DeployInProgress`] if another deploy holds the lock; doesn't wait for it.
    pub(crate) fn lock(&self) -> Result<DeployLock, ServiceError> {
        let path = self.path.join("lock");
        let open = || {
            fs::create_dir_all(&self.path)?;
            File::options().create(true).append(true).open(&path)
        };
        let file = open().map_err(|error| ServiceError::file(&path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(DeployLock(file)),
            Err(TryLockError::WouldBlock) => {
                let message = format!("another deploy of `{}` to `{}` is in progress", self.service, self.environment);
                Err(ServiceError::new(ServiceErrorKind::DeployInProgress, message)
                    .with_help("wait until it ends, or cancel it"))
            }
            Err(TryLockError::Error(error)) => Err(ServiceError::file(&path, error)),
        }
    }

    /// Creates the folder of a release and returns its name and path. The name consists of 12 digits of the image's
    /// digest and a number that is larger than those of all existing releases.
    pub(crate) fn new_release(&self, digest: &str) -> Result<(String, PathBuf), ServiceError> {
        let last = self.releases()?.last().and_then(|dir| Some(number(dir.file_name()?.to_str()?))).unwrap_or(0);
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        let name = format!("{}-{}", &hex[..hex.len().min(12)], last + 1);
        let dir = self.release(&name);
        fs::create_dir_all(&dir).map_err(|error| ServiceError::file(&dir, error))?;
        Ok((name, dir))
    }

    /// The current release; none if no release was promoted yet.
    pub(crate) fn current(&self) -> Result<Option<Current>, ServiceError> {
        read_json(&self.path.join("current.json"))
    }

    /// Makes a release the current one. The record is on disk when this returns.
    pub(crate) fn set_current(&self, current: &Current) -> Result<(), ServiceError> {
        write_json(&self.path.join("current.json"), current)
    }

    /// What a release in the folder `dir` needs to be continued; none if it was promoted or discarded.
    pub(crate) fn unfinished(dir: &Path) -> Result<Option<Unfinished>, ServiceError> {
        read_json(&dir.join(UNFINISHED))
    }

    /// Records how to continue the release in the folder `dir`.
    pub(crate) fn set_unfinished(dir: &Path, unfinished: &Unfinished) -> Result<(), ServiceError> {
        write_json(&dir.join(UNFINISHED), unfinished)
    }

    /// Records that the release in the folder `dir` isn't to be continued.
    pub(crate) fn set_finished(dir: &Path) -> Result<(), ServiceError> {
        let path = dir.join(UNFINISHED);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ServiceError::file(&path, error)),
            _ => Ok(()),
        }
    }

    /// The proxy of the service, whether it runs or not.
    pub(crate) fn proxy(&self) -> Proxy {
        Proxy::new(self.path.join("proxy"))
    }

    /// Checks that no other service of this state folder has its proxy at the port.
    ///
    /// # Errors
    /// [`ServiceErrorKind::PortTaken`], with the service's name.
    pub(crate) fn require_no_other_proxy(&self, listen: SocketAddr) -> Result<(), ServiceError> {
        let root = self.path.parent().and_then(Path::parent).unwrap_or(&self.path);
        for other in ServiceFolder::all(root)?.into_iter().filter(|other| other.path != self.path) {
            if other.proxy().address()?.is_some_and(|address| address.port() == listen.port()) {
                let message = format!(
                    "port {} is the public port of the service `{}` in {}",
                    listen.port(),
                    other.service,
                    other.environment
                );
                return Err(ServiceError::new(ServiceErrorKind::PortTaken, message)
                    .with_help("give this service another port, or stop the other one"));
            }
        }
        Ok(())
    }

    /// The replicas of the current release that haven't ended, which can get requests.
    pub(crate) fn serving(&self) -> Result<Option<Backend>, ServiceError> {
        let Some(current) = self.current()? else { return Ok(None) };
        let running = Replica::running(&self.release(&current.release), &current.replica_ports())?;
        let ports: Vec<u16> = running.iter().map(|replica| replica.port).collect();
        Ok((!ports.is_empty()).then_some(Backend { release: current.release, ports }))
    }

    /// Removes the oldest releases, so that `keep` remain beside the current one. A release for which `busy` is true is
    /// not removed.
    pub(crate) fn prune(&self, keep: usize, busy: impl Fn(&Path) -> bool) -> Result<(), ServiceError> {
        let current = self.current()?.map(|current| self.release(&current.release));
        let mut earlier = self.releases()?;
        earlier.retain(|dir| Some(dir) != current.as_ref());
        let excess = earlier.len().saturating_sub(keep);
        for dir in earlier.iter().take(excess).filter(|dir| !busy(dir)) {
            remove_tree(dir).map_err(|error| ServiceError::file(dir, error))?;
        }
        Ok(())
    }
}

/// Whether a name can be that of a folder, and leads nowhere else.
pub(crate) fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) && name.bytes().all(is_allowed)
}

/// The name of the file of an [`Unfinished`] release.
const UNFINISHED: &str = "unfinished.json";

/// Reads a record; none if the file does not exist.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ServiceError> {
    let text = match stagewright_files::read(path, stagewright_files::RECORD) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ServiceError::file(path, error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| ServiceError::file(path, error.into()))
}

/// Replaces a record. It is on disk when this returns.
fn write_json(path: &Path, record: &impl Serialize) -> Result<(), ServiceError> {
    let written = serde_json::to_vec_pretty(record).map_err(io::Error::from);
    written.and_then(|text| replace_durably(path, &text)).map_err(|error| ServiceError::file(path, error))
}

/// The number after the last `-` of a release's name; 0 if it has none.
fn number(name: &str) -> u64 {
    name.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// The names of the folders in `path`, sorted; empty if `path` does not exist.
fn names(path: &Path) -> Result<Vec<String>, ServiceError> {
    let entries = match path.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ServiceError::file(path, error)),
    };
    let folders = entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir());
    let mut names = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn current(release: &str) -> Current {
        let address = "http://127.0.0.1:1".to_owned();
        Current {
            release: release.to_owned(),
            image: format!("local/x@{DIGEST}"),
            address,
            port: 1,
            ports: Vec::new(),
            declared: None,
            since: 2,
            fence: None,
        }
    }

    #[test]
    fn numbers_increase_and_pruning_keeps_the_current_release() {
        let root = tempfile::tempdir().unwrap();
        let folder = ServiceFolder::new(root.path(), "staging", "app").unwrap();
        let made = (0..12).map(|_| folder.new_release(DIGEST).unwrap().0).collect::<Vec<_>>();
        assert_eq!((made[0].as_str(), made[11].as_str()), ("0123456789ab-1", "0123456789ab-12"));
        folder.set_current(&current(&made[0])).unwrap();
        folder.prune(2, |dir| dir.ends_with("0123456789ab-3")).unwrap();
        let left = folder.releases().unwrap();
        let left = left.iter().map(|dir| number(dir.file_name().unwrap().to_str().unwrap())).collect::<Vec<_>>();
        assert_eq!(left, [1, 3, 11, 12]);
        assert_eq!(folder.current().unwrap(), Some(current(&made[0])));
    }

    #[test]
    fn two_deploys_of_one_service_do_not_overlap() {
        let root = tempfile::tempdir().unwrap();
        let folder = ServiceFolder::new(root.path(), "staging", "app").unwrap();
        let lock = folder.lock().unwrap();
        let refused = folder.lock().unwrap_err();
        assert!(refused.is_retryable() && refused.message.contains("in progress"), "{refused:?}");
        drop(lock);
        folder.lock().unwrap();
        assert_eq!(ServiceFolder::all(root.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_smaller_token_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = ServiceFolder::new(root.path(), "staging", "app").unwrap();
        let _lock = folder.lock().unwrap();
        folder.raise_fence(7).unwrap();
        folder.raise_fence(7).unwrap();
        folder.raise_fence(9).unwrap();
        let refused = folder.raise_fence(8).unwrap_err();
        assert!(refused.message.contains("the token 9") && refused.message.contains("older token 8"), "{refused:?}");
        folder.raise_fence(10).unwrap();
    }

    #[test]
    fn names_that_lead_out_of_the_folder_are_invalid() {
        for name in ["", "..", ".", "a/b", "-x", "a\0"] {
            assert!(ServiceFolder::new(Path::new("/x"), name, "app").is_err(), "{name:?}");
            assert!(ServiceFolder::new(Path::new("/x"), "env", name).is_err(), "{name:?}");
        }
    }
}
