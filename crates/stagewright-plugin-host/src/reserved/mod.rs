//! What the engine runs or believes, known by where it really is.
//!
//! ```text
//! claims (state, caches, home, git directories, hooks) ── Reserved, one for a run
//!        └─ of(): links followed, mounts looked at, repositories within what is granted ── Reservations, one for an
//!           attempt ── workspace, sandbox, cache
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

mod attempt;
mod git;
mod mounts;
mod nested;
mod placeholders;
mod spots;
use stagewright_model::WorkspacePath;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use git::{UserGit, git_directories};
pub(crate) use nested::{Nested, SearchError};
pub(crate) use placeholders::Placeholders;
pub(crate) use spots::{Spot, Unnamed};

use self::spots::Spots;

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
    /// The same, of which each is a file.
    PrivateFile,
    /// A git directory, or a file that leads to one: closed to plugins; programs that may read all of the workspace may
    /// read it, and those may write it whose stage names it in `write`.
    Git,
    /// What a git directory's links lead to, but for hooks, and the user's configuration of git: neither read nor
    /// written, but by programs whose stage names `.git` in `write`.
    Settings,
    /// A folder of hooks elsewhere (`core.hooksPath`, or a link that is the usual folder). It is read like everything else,
    /// and written only by programs whose stage names `.git` in `write`.
    Hooks,
    /// A file that git runs or reads, because its configuration names it or a hook is a link to it: the same.
    Program,
    /// A file that git's configuration includes (`include.path`), with which hooks can be named: the same.
    Config,
    /// The operator's policy: read like everything else, and never written.
    Policy,
}

impl Purpose {
    /// Whether stages may not read it either.
    pub(crate) fn is_closed(self) -> bool {
        match self {
            Purpose::State
            | Purpose::Cache
            | Purpose::Home
            | Purpose::Private
            | Purpose::PrivateFile
            | Purpose::Git
            | Purpose::Settings => true,
            Purpose::Hooks | Purpose::Program | Purpose::Config | Purpose::Policy => false,
        }
    }

    /// Whether programs see nothing of it, not even parts.
    pub(crate) fn is_hidden(self) -> bool {
        self.is_closed() && self != Purpose::Git
    }

    /// Whether a stage that names `.git` in `write` may write it.
    pub(crate) fn is_of_git(self) -> bool {
        matches!(self, Purpose::Settings | Purpose::Hooks | Purpose::Program | Purpose::Config)
    }

    /// Whether it is a file; a folder otherwise, unless something else is there already.
    pub(crate) fn is_file(self) -> bool {
        matches!(self, Purpose::PrivateFile | Purpose::Settings | Purpose::Program | Purpose::Config)
    }

    /// For a sentence such as "`x` lies in …".
    pub(crate) fn described(self) -> &'static str {
        match self {
            Purpose::State => "the engine's state folder",
            Purpose::Cache => "the engine's cache of plugins",
            Purpose::Home => "your home folder",
            Purpose::Private | Purpose::PrivateFile => "the private files of your home folder",
            Purpose::Git => "a git directory",
            Purpose::Hooks => "what git runs as a hook (`core.hooksPath`)",
            Purpose::Settings => "what git is configured by",
            Purpose::Program => "what git runs or reads as its configuration says",
            Purpose::Policy => "the operator's policy",
            Purpose::Config => "what git is configured by (`include.path`)",
        }
    }

    /// What to do instead of reaching for it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Purpose::State | Purpose::Cache | Purpose::Policy => "choose another path: no grant opens it",
            Purpose::Home | Purpose::Private | Purpose::PrivateFile => {
                "choose another path, or set HOME to a folder outside of the workspace"
            }
            Purpose::Git => "choose another path: plugins have no access, and programs only where `write` names it",
            Purpose::Settings | Purpose::Hooks | Purpose::Program | Purpose::Config => {
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

/// Why what is reserved is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReservedError {
    #[error("what the stage must not reach can't be determined: {0}")]
    Claims(#[from] io::Error),
    #[error(transparent)]
    Nested(#[from] SearchError),
}

/// All claims of a run. Cheap to clone; what was learned of nested repositories is shared.
#[derive(Clone, Debug)]
pub struct Reserved {
    workspace: PathBuf,
    claims: Arc<Vec<Claim>>,
    git: Arc<UserGit>,
    /// The record of placeholders.
    placeholders: Option<PathBuf>,
    pub(crate) nested: Arc<Mutex<Nested>>,
}

impl Reserved {
    /// `workspace`: its real path. `record`: the file that remembers which nested repositories stages made.
    pub fn new(workspace: &Path, claims: Vec<Claim>, record: Option<PathBuf>) -> Reserved {
        Reserved {
            workspace: workspace.to_owned(),
            claims: Arc::new(claims),
            git: Arc::default(),
            placeholders: record.as_ref().map(|record| record.with_file_name("placeholders.jsonl")),
            nested: Arc::new(Mutex::new(Nested::remembered(record))),
        }
    }

    /// With the user's configuration of git, for repositories within the workspace.
    #[must_use]
    pub fn with_git(mut self, git: UserGit) -> Reserved {
        self.git = Arc::new(git);
        self
    }

    /// Where all of it is at this moment, but for repositories within the workspace.
    ///
    /// # Errors
    /// When a claim can't be followed, as through a loop of links, or holds the whole workspace.
    pub(crate) fn now(&self) -> io::Result<Reservations> {
        self.spots(&self.workspace, &self.claims, &Reservations::default())
    }

    /// The same, with the repositories that people have put into `folders`, or around them. `files`: the folder whose
    /// files the stage works on.
    ///
    /// # Errors
    /// As [`Reserved::now`]; and when the folders hold more than can be looked at.
    pub(crate) fn of(&self, files: &Path, folders: &[WorkspacePath]) -> Result<Reservations, ReservedError> {
        let own = self.now()?;
        let nested = {
            let mut nested = self.nested.lock().unwrap_or_else(PoisonError::into_inner);
            nested.before(files, folders, &own, &self.git)?
        };
        Ok(if nested.is_empty() { own } else { self.spots(files, &nested, &own)? })
    }

    fn spots(&self, files: &Path, claims: &[Claim], known: &Reservations) -> io::Result<Reservations> {
        let mounts = mounts::Mounts::read()?;
        let mut spots = Spots::new(files, &mounts).with(known);
        claims.iter().try_for_each(|claim| spots.claim(claim))?;
        Ok(spots.finish())
    }

    /// To be taken before it is looked what of the workspace is there; none without a state folder.
    pub(crate) fn placeholders(&self) -> io::Result<Option<Placeholders>> {
        self.placeholders.as_deref().map(Placeholders::hold).transpose()
    }

    /// Where the engine's state and caches really are, anywhere on this machine.
    pub(crate) fn engine_folders(&self) -> Vec<PathBuf> {
        let own = self.claims.iter().filter(|claim| matches!(claim.purpose, Purpose::State | Purpose::Cache));
        own.filter_map(|claim| Some(stagewright_files::follow(&claim.path).ok()?.real)).collect()
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
        let (now, own) = (self.now()?, self.clone());
        // By folder: what a repository around it reserves.
        let around = Mutex::new(BTreeMap::new());
        Ok(move |path: &str| {
            let Ok(path) = WorkspacePath::parse(path) else { return Some(format!("`{path}` leads nowhere")) };
            let refusal = |purpose: Purpose| Some(format!("`{path}` lies in, or holds, {}", purpose.described()));
            let over = |now: &Reservations| now.over(&path).or_else(|| now.below(&path)).map(|spot| spot.purpose);
            if let Some(purpose) = over(&now).or_else(|| names_git(&path).then_some(Purpose::Git)) {
                return refusal(purpose);
            }
            let folder = path.parent().unwrap_or_default();
            let mut around = around.lock().unwrap_or_else(PoisonError::into_inner);
            let found = around.entry(folder).or_insert_with(|| own.around(&path, &now));
            match found {
                Ok(found) => over(found).and_then(refusal),
                Err(error) => Some(format!("`{path}` may belong to a git repository: {error}")),
            }
        })
    }

    /// What repositories reserve that a path lies in.
    fn around(&self, path: &WorkspacePath, now: &Reservations) -> Result<Reservations, ReservedError> {
        let nested = {
            let mut nested = self.nested.lock().unwrap_or_else(PoisonError::into_inner);
            nested.around(&self.workspace, path, now, &self.git)?
        };
        if nested.is_empty() {
            return Ok(Reservations::default());
        }
        Ok(self.spots(&self.workspace, &nested, &Reservations::default())?)
    }
}

/// What is reserved of the workspace, while one attempt runs. None of it can be moved by the attempt, so that the paths
/// stay true.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reservations {
    /// By path, folders before what lies in them.
    spots: Vec<Spot>,
    unnamed: Vec<Unnamed>,
}

impl Reservations {
    pub(crate) fn spots(&self) -> &[Spot] {
        &self.spots
    }

    /// What no text names, in the order of their paths.
    pub(crate) fn unnamed(&self) -> &[Unnamed] {
        &self.unnamed
    }

    /// What reserves the path, itself or with a folder that it is in; the outermost such.
    pub(crate) fn over(&self, path: &WorkspacePath) -> Option<&Spot> {
        let upwards = std::iter::successors(Some(path.clone()), WorkspacePath::parent);
        let spots = upwards.filter_map(|path| self.spots.binary_search_by(|spot| spot.path.cmp(&path)).ok());
        spots.map(|at| &self.spots[at]).filter(|spot| spot.whole).last()
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
        Reservations { spots: paths.iter().map(spot).collect(), unnamed: Vec::new() }
    }
}

/// Whether a name of the path is one that git takes for a repository's folder.
pub(crate) fn names_git(path: &WorkspacePath) -> bool {
    path.names().any(|name| name.eq_ignore_ascii_case(".git"))
}

#[cfg(test)]
mod tests;
