//! The origins behind `net = ["cargo"]`, `["npm"]` and `["pip"]`: the registries that those clients are configured with.
//!
//! ```text
//! files of the repository ─┐                     ┌─ open ──> policy of a stage; lock (repository), operator (machine)
//!                          ├─ named ── the guard ┤
//! files of the user, /etc, ┘                     └─ closed ──> shown, never granted
//! variables
//! ```
//!
//! A branch or a stage that changes a file of the repository changes what a word opens. So each origin is recorded with its
//! source: the lock file covers those that the repository names, the operator's policy those that the machine names, and
//! neither can be this machine, its network segment or a cloud's metadata service. All files are read once, before a run
//! starts, so that a stage can't change a configuration file for its own run.
//!
//! Architecture invariant: an origin that the guard refuses is never in [`PackageHosts::open`], because only one function
//! adds to it.

mod cargo;
mod credentials;
mod guard;
mod npm;
mod pip;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use stagewright_files::CONFIGURATION;
use stagewright_model::{NamedBy, Origin, PackageManager, PackageOrigin};

pub use credentials::{CredentialFile, credential_files};
pub use guard::ClosedOrigin;

/// The origins that the words open, for one repository on one machine.
#[derive(Clone, Debug, Default)]
pub struct PackageHosts {
    open: Vec<PackageOrigin>,
    closed: Vec<ClosedOrigin>,
    withheld: Vec<PackageOrigin>,
    unreadable: Vec<String>,
}

impl PackageHosts {
    /// Reads the configuration that the clients would read at `root`, the repository's, with the variables of
    /// `environment`. An invalid file is ignored; its client reports it.
    pub fn read(root: &Path, environment: &BTreeMap<String, String>) -> PackageHosts {
        let mut reader = ConfigReader {
            root,
            real_root: canonical(root),
            machine: guard::MachineAddresses::read(),
            environment,
            hosts: PackageHosts::default(),
        };
        cargo::read(&mut reader);
        npm::read(&mut reader);
        pip::read(&mut reader);
        let mut hosts = reader.hosts;
        hosts.open.sort();
        // An origin that both name counts as the repository's.
        hosts.open.dedup_by(|later, first| (later.manager, &later.origin) == (first.manager, &first.origin));
        hosts.closed.sort();
        hosts.closed.dedup();
        hosts
    }

    /// The origins that a client uses without any configuration. `npm` includes those of yarn: npm's registry by another
    /// name, and the releases of yarn itself, which corepack downloads.
    pub fn usual(manager: PackageManager) -> impl Iterator<Item = Origin> {
        let origins: &[&str] = match manager {
            PackageManager::Cargo => &["https://crates.io", "https://index.crates.io", "https://static.crates.io"],
            PackageManager::Npm => {
                &["https://registry.npmjs.org", "https://registry.yarnpkg.com", "https://repo.yarnpkg.com"]
            }
            PackageManager::Pip => &["https://files.pythonhosted.org", "https://pypi.org"],
        };
        origins.iter().filter_map(|origin| Origin::parse(origin))
    }

    /// All origins that the word opens: the usual ones, and those that a configuration names.
    pub fn origins(&self, manager: PackageManager) -> BTreeSet<Origin> {
        let named = self.open.iter().filter(|named| named.manager == manager).map(|named| named.origin.clone());
        PackageHosts::usual(manager).chain(named).collect()
    }

    /// The origins that configurations name beside the usual ones, each once for its word.
    pub fn open(&self) -> &[PackageOrigin] {
        &self.open
    }

    /// The origins that configurations name and that no word opens.
    pub fn closed(&self) -> &[ClosedOrigin] {
        &self.closed
    }

    /// For a rehearsal: withholds the origins that the repository names, unless they are locked. A branch must not choose
    /// which hosts its rehearsal calls.
    #[must_use]
    pub fn of_rehearsal(mut self, is_locked: impl Fn(&PackageOrigin) -> bool) -> PackageHosts {
        let of_branch = |named: &PackageOrigin| named.by == NamedBy::Repository && !is_locked(named);
        (self.withheld, self.open) = self.open.into_iter().partition(of_branch);
        self
    }

    /// The origins that a rehearsal withholds.
    pub fn withheld(&self) -> &[PackageOrigin] {
        &self.withheld
    }

    /// Configuration files that exist but could not be read, each with the error.
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }
}

/// Reads configuration files for the modules of clients.
struct ConfigReader<'a> {
    root: &'a Path,
    real_root: PathBuf,
    machine: guard::MachineAddresses,
    environment: &'a BTreeMap<String, String>,
    hosts: PackageHosts,
}

/// A configuration file, read.
struct ConfigFile {
    text: String,
    /// Its path for messages, relative to the repository if it is inside.
    shown: String,
    by: NamedBy,
}

impl ConfigReader<'_> {
    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// A path below the folder that a variable names.
    fn folder(&self, name: &str, below: &str) -> Option<PathBuf> {
        Some(Path::new(self.variable(name)?).join(below))
    }

    /// Reads a file; none when it doesn't exist.
    fn file(&mut self, path: &Path) -> Option<ConfigFile> {
        let path = self.root.join(path);
        // Clients are configured with this path to read no file.
        if path == Path::new("/dev/null") {
            return None;
        }
        match stagewright_files::read(&path, CONFIGURATION) {
            Ok(bytes) => Some(ConfigFile {
                text: String::from_utf8_lossy(&bytes).into_owned(),
                shown: path.strip_prefix(self.root).unwrap_or(&path).display().to_string(),
                by: self.owner(&path),
            }),
            Err(error) => {
                if !matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) {
                    self.hosts.unreadable.push(format!("{}: {error}", path.display()));
                }
                None
            }
        }
    }

    /// Whether a file belongs to the repository or the machine. It is the repository's if its path or its real path is
    /// inside, however it was found: a home, a virtual environment or a variable can lead into the repository, where a
    /// stage may write.
    fn owner(&self, path: &Path) -> NamedBy {
        let lies_there = |path: &Path| path.starts_with(self.root) || path.starts_with(&self.real_root);
        match lies_there(path) || lies_there(&canonical(path)) {
            true => NamedBy::Repository,
            false => NamedBy::Machine,
        }
    }

    fn name_in(&mut self, manager: PackageManager, file: &ConfigFile, line: usize, url: &str) {
        self.name(manager, file.by, format!("{}:{line}", file.shown), url);
    }

    fn name_by_variable(&mut self, manager: PackageManager, variable: &str, url: &str) {
        self.name(manager, NamedBy::Machine, format!("${variable}"), url);
    }

    /// Adds an origin to the open or to the closed ones. Nothing else adds to them, so no origin gets past the guard.
    fn name(&mut self, manager: PackageManager, by: NamedBy, place: String, url: &str) {
        let Some(origin) = origin_of(url) else { return };
        let named = PackageOrigin { manager, origin, by, place };
        match guard::check(&named.origin, &self.machine) {
            Ok(()) if PackageHosts::usual(manager).any(|usual| usual == named.origin) => {}
            Ok(()) => self.hosts.open.push(named),
            Err(why) => self.hosts.closed.push(ClosedOrigin { named, why }),
        }
    }
}

/// The origin of an index's URL, such as `sparse+https://mirror.example/index/`. None for a URL that isn't http, and for a
/// host that can't be written to a lock file and parsed again, such as one with a variable.
fn origin_of(url: &str) -> Option<Origin> {
    let url = url.trim();
    let origin = Origin::of_url(url.strip_prefix("sparse+").or_else(|| url.strip_prefix("registry+")).unwrap_or(url))?;
    (Origin::parse(&origin.to_string()).as_ref() == Some(&origin)).then_some(origin)
}

fn canonical(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
impl PackageHosts {
    /// The usual hosts and one more origin, as if a file of the repository named it.
    pub(crate) fn with(manager: PackageManager, url: &str) -> PackageHosts {
        let environment = BTreeMap::new();
        let root = Path::new("/");
        let mut reader = ConfigReader {
            root,
            real_root: root.to_owned(),
            machine: guard::MachineAddresses::default(),
            environment: &environment,
            hosts: PackageHosts::default(),
        };
        reader.name(manager, NamedBy::Repository, "test:1".to_owned(), url);
        reader.hosts
    }
}

#[cfg(test)]
mod tests;
