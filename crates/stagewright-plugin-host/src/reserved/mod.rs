//! What the engine runs or believes, known by where it really is.
//!
//! ```text
//! claims (state, caches, home, git directories, hooks) ── Reserved, one for a run
//!        └─ now(): links followed, mounts looked at ── Reservations, one for an attempt ── workspace, sandbox, cache
//! ```
//!
//! A claim is a path as a person or a configuration file spelled it. Looked at, it becomes spots of the workspace: the
//! place that it leads to, which is reserved with all below, and every link and folder on the way there, which may be
//! neither moved nor replaced, or the same spelling would lead elsewhere the next time. Spots are compared by path, and
//! what is opened is compared by device and inode, so that neither a link nor another mount of the same folder leads
//! past them.
//!
//! Architecture invariant: this room says what is reserved, and for what. What follows from that is decided by the
//! policy, for a plugin's own access, and by the sandbox's places, for its programs.

mod mounts;
mod nested;
mod steps;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub(crate) use nested::Nested;
#[cfg(test)]
use nested::SearchError;

use crate::path::WorkspacePath;

/// Device and inode.
pub(crate) type Identity = (u64, u64);

/// What a reserved place is for, which decides what a stage may still do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The engine's state folder: neither read nor written by any stage.
    State,
    /// A cache of the engine's, with compiled and pulled plugins: neither read nor written.
    Cache,
    /// The user's home folder: neither read nor written; programs get an empty one.
    Home,
    /// Credentials and configuration in a home that is the workspace itself: neither read nor written.
    Private,
    /// A git directory, or a file that leads to one: closed to plugins; programs that may read all of the workspace may
    /// read it, and those may write it whose stage names it in `write`.
    Git,
    /// A folder of hooks elsewhere (`core.hooksPath`), or a program that git runs (`core.fsmonitor`). It is read like
    /// everything else, and written only by programs whose stage names `.git` in `write`.
    Hooks,
    /// A file that git's configuration includes (`include.path`), with which hooks can be named: the same.
    Config,
    /// The operator's policy: read like everything else, and never written.
    Policy,
}

impl Purpose {
    /// Whether stages may not read it either.
    pub(crate) fn is_closed(self) -> bool {
        match self {
            Purpose::State | Purpose::Cache | Purpose::Home | Purpose::Private | Purpose::Git => true,
            Purpose::Hooks | Purpose::Config | Purpose::Policy => false,
        }
    }

    /// For a sentence such as "`x` lies in …".
    pub(crate) fn described(self) -> &'static str {
        match self {
            Purpose::State => "the engine's state folder",
            Purpose::Cache => "the engine's cache of plugins",
            Purpose::Home => "your home folder",
            Purpose::Private => "the private files of your home folder",
            Purpose::Git => "a git directory",
            Purpose::Hooks => "what git runs as a hook (`core.hooksPath`)",
            Purpose::Policy => "the operator's policy",
            Purpose::Config => "what git is configured by (`include.path`)",
        }
    }

    /// What to do instead of reaching for it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Purpose::State | Purpose::Cache | Purpose::Policy => "choose another path: no grant opens it",
            Purpose::Home | Purpose::Private => "choose another path, or set HOME to a folder outside of the workspace",
            Purpose::Git => "choose another path: plugins have no access, and programs only where `write` names it",
            Purpose::Hooks | Purpose::Config => {
                "choose another path, or name `.git` in `write`, which lets the stage change hooks"
            }
        }
    }
}

/// A place that is reserved, as it was spelled; absolute. It needn't exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// For what.
    pub purpose: Purpose,
    /// Where.
    pub path: PathBuf,
}

/// All claims of a run. Cheap to clone; what was learned of nested repositories is shared.
#[derive(Clone, Debug)]
pub struct Reserved {
    workspace: PathBuf,
    claims: Arc<Vec<Claim>>,
    pub(crate) nested: Arc<Mutex<Nested>>,
}

impl Reserved {
    /// `workspace`: its real path. `record`: the file that remembers which nested repositories stages made.
    pub fn new(workspace: &Path, claims: Vec<Claim>, record: Option<PathBuf>) -> Reserved {
        Reserved {
            workspace: workspace.to_owned(),
            claims: Arc::new(claims),
            nested: Arc::new(Mutex::new(Nested::remembered(record))),
        }
    }

    /// Where all of it is at this moment.
    ///
    /// # Errors
    /// When a claim can't be followed, as through a loop of links, or holds the whole workspace.
    pub(crate) fn now(&self) -> io::Result<Reservations> {
        let mut spots = Spots { workspace: &self.workspace, found: BTreeMap::new() };
        let mounts = mounts::Mounts::read()?;
        for claim in self.claims.iter() {
            let led = steps::follow(&claim.path)?;
            for step in &led.steps {
                spots.step(claim.purpose, step);
            }
            for place in std::iter::once(led.real.clone()).chain(mounts.aliases(&led.real, &self.workspace)) {
                if self.workspace.starts_with(&place) {
                    let holds = format!("{} `{}` holds the workspace", claim.purpose.described(), place.display());
                    return Err(io::Error::other(holds));
                }
                spots.whole(claim.purpose, &place);
            }
        }
        Ok(Reservations { spots: spots.found.into_values().collect() })
    }

    /// Where the engine's state and caches really are, anywhere on this machine.
    pub(crate) fn engine_folders(&self) -> Vec<PathBuf> {
        let own = self.claims.iter().filter(|claim| matches!(claim.purpose, Purpose::State | Purpose::Cache));
        own.filter_map(|claim| Some(steps::follow(&claim.path).ok()?.real)).collect()
    }

    /// Paths of the workspace that are no stage's inputs or outputs, relative to it.
    ///
    /// # Errors
    /// See [`Reserved::now`]: a claim can't be followed.
    pub fn closed_paths(&self) -> io::Result<Vec<String>> {
        let now = self.now()?;
        let closed = now.spots.iter().filter(|spot| spot.whole && spot.purpose.is_closed());
        Ok(closed.map(|spot| spot.path.shown().to_owned()).collect())
    }

    /// Says of a path of the workspace why nothing may be put there, if nothing may: it is reserved, or a folder with
    /// something reserved in it.
    ///
    /// # Errors
    /// See [`Reserved::now`]: a claim can't be followed.
    pub fn guard(&self) -> io::Result<impl Fn(&str) -> Option<String> + Send + use<>> {
        let now = self.now()?;
        Ok(move |path: &str| {
            let Ok(path) = WorkspacePath::parse(path) else { return Some(format!("`{path}` leads nowhere")) };
            let spot = now.over(&path).or_else(|| now.below(&path)).map(|spot| spot.purpose);
            let purpose = spot.or_else(|| names_git(&path).then_some(Purpose::Git))?;
            Some(format!("`{path}` lies in, or holds, {}", purpose.described()))
        })
    }
}

/// A path of the workspace that is reserved, or on the way to what is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) purpose: Purpose,
    pub(crate) path: WorkspacePath,
    /// With all below. Otherwise a link or a folder on the way: it stays where it is and what it is.
    pub(crate) whole: bool,
    /// None when it isn't there.
    pub(crate) identity: Option<Identity>,
}

/// Collects spots; of two at a path, the one that reserves more counts.
struct Spots<'a> {
    workspace: &'a Path,
    found: BTreeMap<WorkspacePath, Spot>,
}

impl Spots<'_> {
    fn whole(&mut self, purpose: Purpose, place: &Path) {
        let Ok(below) = place.strip_prefix(self.workspace) else { return };
        for folder in below.ancestors().skip(1) {
            self.put(purpose, folder, false);
        }
        self.put(purpose, below, true);
    }

    fn step(&mut self, purpose: Purpose, place: &Path) {
        let Ok(below) = place.strip_prefix(self.workspace) else { return };
        for folder in below.ancestors() {
            self.put(purpose, folder, false);
        }
    }

    fn put(&mut self, purpose: Purpose, below: &Path, whole: bool) {
        // A name that isn't text can't be granted by a rule, which is text.
        let Some(path) = below.to_str().and_then(|below| WorkspacePath::parse(below).ok()) else { return };
        let known = self.found.get(&path).is_some_and(|spot| spot.whole && (!whole || spot.purpose <= purpose));
        if known || (!whole && self.found.contains_key(&path)) {
            return;
        }
        let identity = fs::symlink_metadata(self.workspace.join(below)).ok().map(|found| (found.dev(), found.ino()));
        self.found.insert(path.clone(), Spot { purpose, path, whole, identity });
    }
}

/// What is reserved of the workspace, while one attempt runs. None of it can be moved by the attempt, so that the paths
/// stay true.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reservations {
    /// By path, folders before what lies in them.
    spots: Vec<Spot>,
}

impl Reservations {
    pub(crate) fn spots(&self) -> &[Spot] {
        &self.spots
    }

    /// What reserves the path, itself or with a folder that it is in.
    pub(crate) fn over(&self, path: &WorkspacePath) -> Option<&Spot> {
        self.spots.iter().find(|spot| spot.whole && path.is_within(&spot.path))
    }

    /// What keeps the path from being moved or removed: it is on the way to something reserved.
    pub(crate) fn below(&self, path: &WorkspacePath) -> Option<&Spot> {
        self.spots.iter().find(|spot| spot.path.is_within(path))
    }

    /// What is reserved and is this very file or folder, under whatever name it was reached.
    pub(crate) fn at(&self, identity: Identity) -> Option<&Spot> {
        self.spots.iter().find(|spot| spot.whole && spot.identity == Some(identity))
    }

    /// Of all that no stage may reach by another name.
    pub(crate) fn identities(&self) -> impl Iterator<Item = Identity> {
        self.spots.iter().filter(|spot| spot.whole).filter_map(|spot| spot.identity)
    }

    #[cfg(test)]
    pub(crate) fn of(paths: &[&str]) -> Reservations {
        let spot = |path: &&str| Spot {
            purpose: Purpose::State,
            path: WorkspacePath::parse(path).expect("a path of the workspace"),
            whole: true,
            identity: None,
        };
        Reservations { spots: paths.iter().map(spot).collect() }
    }
}

/// Whether a name of the path is one that git takes for a repository's folder.
pub(crate) fn names_git(path: &WorkspacePath) -> bool {
    path.names().any(|name| name.eq_ignore_ascii_case(".git"))
}

#[cfg(test)]
mod tests;
