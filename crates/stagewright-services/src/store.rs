//! The files of one service.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stagewright_files::remove_tree;
use stagewright_files::replace_durably;

use crate::error::{ServiceError, ServiceErrorKind};

/// The release that is current: `current.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Current {
    /// Its name.
    pub release: String,
    /// `REFERENCE@DIGEST`.
    pub image: String,
    /// As in `http://127.0.0.1:41873`.
    pub address: String,
    /// Of the address.
    pub port: u16,
    /// In a rehearsal: the port that the deploy asks for, which is taken by its real self.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<u16>,
    /// When it was started, milliseconds since the Unix epoch.
    pub since: u64,
    /// The environment's token that it was deployed under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
}

/// The right to change a service; ends when dropped, or with the process.
#[derive(Debug)]
pub(crate) struct DeployLock(File);

/// To close the file is not enough: a child that another thread forks at this moment holds it until it execs.
impl Drop for DeployLock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Where the files of one service are.
#[derive(Clone, Debug)]
pub(crate) struct ServiceFolder {
    pub(crate) environment: String,
    pub(crate) service: String,
    path: PathBuf,
}

impl ServiceFolder {
    pub(crate) fn new(root: &Path, environment: &str, service: &str) -> Result<ServiceFolder, ServiceError> {
        for (what, name) in [("environment", environment), ("service", service)] {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if !name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) || !name.bytes().all(fits) {
                return Err(ServiceError::new(
                    ServiceErrorKind::InvalidArgument,
                    format!("{name:?} can't name a {what}"),
                )
                .with_help("use letters, digits, `-`, `_` and `.`, and begin with a letter or a digit"));
            }
        }
        let path = root.join(environment).join(service);
        Ok(ServiceFolder { environment: environment.to_owned(), service: service.to_owned(), path })
    }

    /// All services below `root`, sorted.
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

    pub(crate) fn release(&self, name: &str) -> PathBuf {
        self.path.join("releases").join(name)
    }

    /// The folders of all releases, oldest first.
    pub(crate) fn releases(&self) -> Result<Vec<PathBuf>, ServiceError> {
        let mut names = names(&self.path.join("releases"))?;
        names.sort_by_key(|name| number(name));
        Ok(names.iter().map(|name| self.release(name)).collect())
    }

    /// Refuses a token that is smaller than one that was here before, and remembers this one. The lock must be held.
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
        if fence < last {
            let message = format!(
                "`{}` in {} was deployed under the token {last}, and this deploy comes with the older {fence}",
                self.service, self.environment
            );
            return Err(ServiceError::new(ServiceErrorKind::StaleFence, message).with_help(format!(
                "start a new run; if the state folder has been created again since, remove {}",
                path.display()
            )));
        }
        replace_durably(&path, format!("{fence}\n").as_bytes()).map_err(|error| ServiceError::file(&path, error))
    }

    /// Keeps other deploys of the service out.
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
                let words = format!("another deploy of `{}` to `{}` is under way", self.service, self.environment);
                Err(ServiceError::new(ServiceErrorKind::DeployInProgress, words)
                    .with_help("wait until it has ended, or cancel it"))
            }
            Err(TryLockError::Error(error)) => Err(ServiceError::file(&path, error)),
        }
    }

    /// Makes the folder of a release, named by the image's digest and a number that is larger than all before it.
    pub(crate) fn new_release(&self, digest: &str) -> Result<(String, PathBuf), ServiceError> {
        let last = self.releases()?.last().and_then(|dir| Some(number(dir.file_name()?.to_str()?))).unwrap_or(0);
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        let name = format!("{}-{}", &hex[..hex.len().min(12)], last + 1);
        let dir = self.release(&name);
        fs::create_dir_all(&dir).map_err(|error| ServiceError::file(&dir, error))?;
        Ok((name, dir))
    }

    pub(crate) fn current(&self) -> Result<Option<Current>, ServiceError> {
        let path = self.path.join("current.json");
        let text = match stagewright_files::read(&path, stagewright_files::RECORD) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ServiceError::file(&path, error)),
        };
        let parsed = serde_json::from_slice(&text);
        parsed.map(Some).map_err(|error| ServiceError::file(&path, error.into()))
    }

    pub(crate) fn set_current(&self, current: &Current) -> Result<(), ServiceError> {
        let path = self.path.join("current.json");
        let written = serde_json::to_vec_pretty(current).map_err(io::Error::from);
        written.and_then(|text| replace_durably(&path, &text)).map_err(|error| ServiceError::file(&path, error))
    }

    /// Removes the oldest releases beyond `keep`, but neither the current one nor one that is `busy`.
    pub(crate) fn prune(&self, keep: usize, busy: impl Fn(&Path) -> bool) -> Result<(), ServiceError> {
        let current = self.current()?.map(|current| self.release(&current.release));
        let mut earlier = self.releases()?;
        earlier.retain(|dir| Some(dir) != current.as_ref());
        let many = earlier.len().saturating_sub(keep);
        for dir in earlier.iter().take(many).filter(|dir| !busy(dir)) {
            remove_tree(dir).map_err(|error| ServiceError::file(dir, error))?;
        }
        Ok(())
    }
}

/// What stands behind the last `-` of a release's name.
fn number(name: &str) -> u64 {
    name.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// Names of the folders in `path`, sorted; none when it isn't there.
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
            declared: None,
            since: 2,
            fence: None,
        }
    }

    #[test]
    fn releases_are_numbered_on_and_pruned_but_for_the_current_one() {
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
        assert!(refused.is_retryable() && refused.message.contains("under way"), "{refused:?}");
        drop(lock);
        folder.lock().unwrap();
        assert_eq!(ServiceFolder::all(root.path()).unwrap().len(), 1);
    }

    #[test]
    fn an_older_token_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = ServiceFolder::new(root.path(), "staging", "app").unwrap();
        let _lock = folder.lock().unwrap();
        folder.raise_fence(7).unwrap();
        folder.raise_fence(7).unwrap();
        folder.raise_fence(9).unwrap();
        let refused = folder.raise_fence(8).unwrap_err();
        assert!(refused.message.contains("the token 9") && refused.message.contains("older 8"), "{refused:?}");
        folder.raise_fence(10).unwrap();
    }

    #[test]
    fn names_can_not_lead_elsewhere() {
        for name in ["", "..", ".", "a/b", "-x", "a\0"] {
            assert!(ServiceFolder::new(Path::new("/x"), name, "app").is_err(), "{name:?}");
            assert!(ServiceFolder::new(Path::new("/x"), "env", name).is_err(), "{name:?}");
        }
    }
}
