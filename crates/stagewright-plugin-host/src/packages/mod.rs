//! The origins behind `net = ["cargo"]`, `["npm"]` and `["pip"]`: the registries that those clients are configured with.
//!
//! ```text
//! files of the repository ─┐                     ┌─ open ──> policy of a stage; lock (repository), operator (machine)
//!                          ├─ named ── the guard ┤
//! files of the user, /etc, ┘                     └─ closed ──> shown, never granted
//! variables
//! ```
//!
//! A branch or a stage that changes a file of the repository changes what a word stands for. So each origin is kept with who
//! names it:
//! what the repository names is held by the lock, what the machine names is bounded by the operator's policy, and
//! neither ever leads to this machine, its network segment or a cloud's metadata service. All of it is read once, before
//! a run starts: what a stage writes into a configuration file has no part in its own run.
//!
//! Architecture invariant: an origin that the guard refuses can't be in [`PackageHosts::open`], as there is one way in.

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

/// What the words stand for in one repository on one machine.
#[derive(Clone, Debug, Default)]
pub struct PackageHosts {
    open: Vec<PackageOrigin>,
    closed: Vec<ClosedOrigin>,
    withheld: Vec<PackageOrigin>,
    unreadable: Vec<String>,
}

impl PackageHosts {
    /// Reads what the clients would read at `root`, which is the repository's, with the variables of `environment`. A
    /// file that isn't in its client's format is the client's to complain about, and names nothing.
    pub fn read(root: &Path, environment: &BTreeMap<String, String>) -> PackageHosts {
        let mut reader = Reader {
            root,
            real_root: canonical(root),
            machine: guard::ThisMachine::read(),
            environment,
            hosts: PackageHosts::default(),
        };
        cargo::read(&mut reader);
        npm::read(&mut reader);
        pip::read(&mut reader);
        let mut hosts = reader.hosts;
        hosts.open.sort();
        // What both name is the repository's.
        hosts.open.dedup_by(|later, first| (later.manager, &later.origin) == (first.manager, &first.origin));
        hosts.closed.sort();
        hosts.closed.dedup();
        hosts
    }

    /// What a client uses when nothing is configured.
    pub fn usual(manager: PackageManager) -> impl Iterator<Item = Origin> {
        let origins: &[&str] = match manager {
            PackageManager::Cargo => &["https://crates.io", "https://index.crates.io", "https://static.crates.io"],
            PackageManager::Npm => &["https://registry.npmjs.org"],
            PackageManager::Pip => &["https://files.pythonhosted.org", "https://pypi.org"],
        };
        origins.iter().filter_map(|origin| Origin::parse(origin))
    }

    /// Every origin that the word opens: the usual ones, and those that a configuration names.
    pub fn origins(&self, manager: PackageManager) -> BTreeSet<Origin> {
        let named = self.open.iter().filter(|named| named.manager == manager).map(|named| named.origin.clone());
        PackageHosts::usual(manager).chain(named).collect()
    }

    /// What configurations name beside the usual ones, each origin of a word once.
    pub fn open(&self) -> &[PackageOrigin] {
        &self.open
    }

    /// What configurations name and no word stands for.
    pub fn closed(&self) -> &[ClosedOrigin] {
        &self.closed
    }

    /// For a rehearsal: of what the repository names, only what holds. A branch must not choose whom its rehearsal calls.
    #[must_use]
    pub fn of_rehearsal(mut self, is_locked: impl Fn(&PackageOrigin) -> bool) -> PackageHosts {
        let of_branch = |named: &PackageOrigin| named.by == NamedBy::Repository && !is_locked(named);
        (self.withheld, self.open) = self.open.into_iter().partition(of_branch);
        self
    }

    /// What a rehearsal leaves out.
    pub fn withheld(&self) -> &[PackageOrigin] {
        &self.withheld
    }

    /// Configuration files that are there and could not be read, each with why.
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }
}

/// Reads configuration files for the modules of clients.
struct Reader<'a> {
    root: &'a Path,
    real_root: PathBuf,
    machine: guard::ThisMachine,
    environment: &'a BTreeMap<String, String>,
    hosts: PackageHosts,
}

/// A configuration file, read.
struct ConfigFile {
    text: String,
    /// For messages: relative to the repository where it lies there.
    shown: String,
    by: NamedBy,
}

impl Reader<'_> {
    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// A folder that a variable names.
    fn folder(&self, name: &str, below: &str) -> Option<PathBuf> {
        Some(Path::new(self.variable(name)?).join(below))
    }

    /// None when it isn't there.
    fn file(&mut self, path: &Path) -> Option<ConfigFile> {
        let path = self.root.join(path);
        // The name of a file that clients are given to read none.
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

    /// A file is the repository's when it lies there by its name or in truth, whatever named it: a home, a virtual
    /// environment or a variable can lead into the repository, where a stage may write.
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

    /// The one way into what a word stands for.
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

/// Of an index's URL, as in `sparse+https://mirror.example/index/`. None where no request is made, and for a host that
/// could not be shown, locked and read again, as one that holds a variable.
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
    /// With one more origin, as a file of the repository would name it.
    pub(crate) fn with(manager: PackageManager, url: &str) -> PackageHosts {
        let environment = BTreeMap::new();
        let root = Path::new("/");
        let mut reader = Reader {
            root,
            real_root: root.to_owned(),
            machine: guard::ThisMachine::default(),
            environment: &environment,
            hosts: PackageHosts::default(),
        };
        reader.name(manager, NamedBy::Repository, "test:1".to_owned(), url);
        reader.hosts
    }
}

#[cfg(test)]
mod tests;
