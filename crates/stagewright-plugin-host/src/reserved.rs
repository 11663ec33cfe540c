//! Reserved paths: everything that the engine or git executes or trusts, identified by its real location.
//!
//! ```text
//! claims (state, caches, home, git directories, hooks) ── Reserved, one for a run
//!        └─ of(): follows links and mounts, finds repositories in granted folders ── Reservations, one for an attempt
//!           ── workspace, sandbox, cache
//! ```
//!
//! A claim is a path as a person or a configuration file wrote it. Resolved, it becomes spots of the workspace: the path
//! that it leads to, which is reserved with everything below, and every link and folder that leads there, which must not be
//! moved or replaced, because the same claim would then lead elsewhere the next time. Paths are compared with the spots,
//! and opened files also by device and inode, so that neither a link nor another mount of the same folder gets around them.
//!
//! Architecture invariant: this module only says what is reserved, and for what purpose. The policy decides what that means
//! for a plugin's own access, and the sandbox's mounts for its programs.

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
pub(crate) use nested::{NestedRepositories, SearchError};
pub(crate) use placeholders::Placeholders;
pub(crate) use spots::{Spot, Unnamed};

use self::spots::Spots;

/// Device and inode.
pub(crate) type Identity = (u64, u64);

/// The purpose of a reserved path, which decides the access that a stage has to it.
///
/// The order matters: of two purposes of one path, the one that is declared first is kept. Those before [`Purpose::Git`] can
/// be written by no stage, so a link or an include of git's configuration, which a stage with `.git` in `write` can make,
/// opens none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The engine's state folder: no access.
    State,
    /// The engine's cache of compiled and pulled plugins: no access.
    Cache,
    /// The user's home folder: no access; programs get an empty one.
    Home,
    /// A folder with credentials or configuration, in a home that is the workspace itself: no access.
    Private,
    /// A file with credentials or configuration, in a home that is the workspace itself: no access.
    PrivateFile,
    /// A file with the values of secrets that the pipeline declares: no access.
    SecretFile,
    /// The operator's policy: it can be read as granted, but never written.
    Policy,
    /// A git directory, or a file that leads to one. Plugins have no access. Programs may read it if `read` or `write` names
    /// it or the whole workspace, and write it if `write` names it.
    Git,
    /// The targets of links in a git directory, except for hooks, and the user's configuration of git. No access, except for
    /// programs whose stage names `.git` in `write`.
    Settings,
    /// A folder of hooks elsewhere (`core.hooksPath`, or the target of a link in place of the usual folder). It can be read
    /// as granted, but only be written by programs whose stage names `.git` in `write`.
    Hooks,
    /// A file that git runs or reads, because its configuration names it or a hook is a link to it. Access as to hooks.
    Program,
    /// A file that git's configuration includes (`include.path`), which can name hooks. Access as to hooks.
    Config,
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
            | Purpose::SecretFile
            | Purpose::Git
            | Purpose::Settings => true,
            Purpose::Hooks | Purpose::Program | Purpose::Config | Purpose::Policy => false,
        }
    }

    /// Whether no part of it is visible to programs.
    pub(crate) fn is_hidden(self) -> bool {
        self.is_closed() && self != Purpose::Git
    }

    /// Whether a stage that names `.git` in `write` may write it.
    pub(crate) fn is_of_git(self) -> bool {
        matches!(self, Purpose::Settings | Purpose::Hooks | Purpose::Program | Purpose::Config)
    }

    /// Whether a placeholder for it must be a file; otherwise a folder.
    pub(crate) fn is_file(self) -> bool {
        matches!(
            self,
            Purpose::PrivateFile | Purpose::SecretFile | Purpose::Settings | Purpose::Program | Purpose::Config
        )
    }

    /// Completes a sentence such as "`x` lies in …".
    pub(crate) fn described(self) -> &'static str {
        match self {
            Purpose::State => "the engine's state folder",
            Purpose::Cache => "the engine's cache of plugins",
            Purpose::Home => "your home folder",
            Purpose::Private | Purpose::PrivateFile => "the private files of your home folder",
            Purpose::SecretFile => "the files of this pipeline's secrets",
            Purpose::Git => "a git directory",
            Purpose::Hooks => "the hooks of a git repository (`core.hooksPath`)",
            Purpose::Settings => "the configuration of git",
            Purpose::Program => "the files that git runs or reads by its configuration",
            Purpose::Policy => "the operator's policy",
            Purpose::Config => "the configuration of git (`include.path`)",
        }
    }

    /// The help for a denied access to it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Purpose::State | Purpose::Cache | Purpose::Policy => "choose another path: no grant opens it",
            Purpose::Home | Purpose::Private | Purpose::PrivateFile => {
                "choose another path, or set HOME to a folder outside of the workspace"
            }
            Purpose::SecretFile => "choose another path: no grant opens it; grant the secret instead, in `secrets`",
            Purpose::Git => {
                "choose another path: plugins have no access, and programs only if `read` or `write` names it"
            }
            Purpose::Settings | Purpose::Hooks | Purpose::Program | Purpose::Config => {
                "choose another path, or name `.git` in `write`, which lets the stage change hooks"
            }
        }
    }
}

/// A path to reserve, before links are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Why it is reserved.
    pub purpose: Purpose,
    /// The absolute path. It needn't exist yet.
    pub path: PathBuf,
}

/// Why the reserved paths can't be determined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReservedError {
    #[error("could not determine the reserved paths: {0}")]
    Claims(#[from] io::Error),
    #[error(transparent)]
    Nested(#[from] SearchError),
}

/// All claims of a run. Cheap to clone; clones share what is known about nested repositories.
#[derive(Clone, Debug)]
pub struct Reserved {
    workspace: PathBuf,
    claims: Arc<Vec<Claim>>,
    git: Arc<UserGit>,
    /// The file that records placeholders.
    placeholders: Option<PathBuf>,
    pub(crate) nested: Arc<Mutex<NestedRepositories>>,
}

impl Reserved {
    /// `workspace`: its real path. `record`: the file that records which nested repositories stages created.
    pub fn new(workspace: &Path, claims: Vec<Claim>, record: Option<PathBuf>) -> Reserved {
        Reserved {
            workspace: workspace.to_owned(),
            claims: Arc::new(claims),
            git: Arc::default(),
            placeholders: record.as_ref().map(|record| record.with_file_name("placeholders.jsonl")),
            nested: Arc::new(Mutex::new(NestedRepositories::remembered(record))),
        }
    }

    /// Adds the user's configuration of git, which applies to repositories in the workspace.
    #[must_use]
    pub fn with_git(mut self, git: UserGit) -> Reserved {
        self.git = Arc::new(git);
        self
    }

    /// The reserved paths at this moment, without those of nested repositories.
    ///
    /// # Errors
    /// When a claim can't be followed, as through a loop of links, or contains the whole workspace.
    pub(crate) fn now(&self) -> io::Result<Reservations> {
        self.spots(&self.workspace, &self.claims, &Reservations::default())
    }

    /// The reserved paths at this moment, including those of repositories in or around `folders` that no stage created.
    /// `files`: the folder whose files the stage works on.
    ///
    /// # Errors
    /// See [`Reserved::now`]; also when there is too much in the folders to search them.
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

    /// A share of the placeholders; none without a state folder. It must be taken before looking for existing paths of the
    /// workspace: otherwise another sandbox could remove a placeholder that was just found, and leave the path uncovered.
    pub(crate) fn placeholders(&self) -> io::Result<Option<Placeholders>> {
        self.placeholders.as_deref().map(Placeholders::hold).transpose()
    }

    /// The real paths of the engine's state and caches, anywhere on this machine.
    pub(crate) fn engine_folders(&self) -> Vec<PathBuf> {
        let own = self.claims.iter().filter(|claim| matches!(claim.purpose, Purpose::State | Purpose::Cache));
        own.filter_map(|claim| Some(stagewright_files::follow(&claim.path).ok()?.real)).collect()
    }

    /// The paths, relative to the workspace, that can't be a stage's inputs or outputs.
    ///
    /// # Errors
    /// See [`Reserved::now`]: a claim can't be followed.
    pub fn closed_paths(&self) -> io::Result<Vec<String>> {
        let now = self.now()?;
        let closed = now.spots.iter().filter(|spot| spot.whole && spot.purpose.is_closed());
        Ok(closed.map(|spot| spot.path.shown().to_owned()).collect())
    }

    /// A function that returns why nothing may be written to a path of the workspace, if it is reserved or contains
    /// something reserved.
    ///
    /// # Errors
    /// See [`Reserved::now`]: a claim can't be followed.
    pub fn guard(&self) -> io::Result<impl Fn(&str) -> Option<String> + Send + use<>> {
        let (now, own) = (self.now()?, self.clone());
        // The paths that repositories around a folder reserve, by folder.
        let around = Mutex::new(BTreeMap::new());
        Ok(move |path: &str| {
            let Ok(path) = WorkspacePath::parse(path) else { return Some(format!("`{path}` leads nowhere")) };
            let refusal = |purpose: Purpose| Some(format!("`{path}` lies in or contains {}", purpose.described()));
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

    /// The paths that repositories around a path reserve.
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

/// The reserved paths of the workspace while one attempt runs. The attempt can't move any of them, so the paths stay valid.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reservations {
    /// Sorted by path, so that folders come before what lies in them.
    spots: Vec<Spot>,
    unnamed: Vec<Unnamed>,
}

impl Reservations {
    pub(crate) fn spots(&self) -> &[Spot] {
        &self.spots
    }

    /// The spots whose paths aren't UTF-8, sorted by path.
    pub(crate) fn unnamed(&self) -> &[Unnamed] {
        &self.unnamed
    }

    /// The spot that reserves the path: itself, or a folder that contains it. The outermost one if there are several.
    pub(crate) fn over(&self, path: &WorkspacePath) -> Option<&Spot> {
        let upwards = std::iter::successors(Some(path.clone()), WorkspacePath::parent);
        let spots = upwards.filter_map(|path| self.spots.binary_search_by(|spot| spot.path.cmp(&path)).ok());
        spots.map(|at| &self.spots[at]).filter(|spot| spot.whole).last()
    }

    /// A spot at or below the path, because of which it must not be moved or removed.
    pub(crate) fn below(&self, path: &WorkspacePath) -> Option<&Spot> {
        self.spots.iter().find(|spot| spot.path.is_within(path))
    }

    /// The reserved spot that is this file or folder, however it was reached.
    pub(crate) fn at(&self, identity: Identity) -> Option<&Spot> {
        self.spots.iter().find(|spot| spot.whole && spot.identity == Some(identity))
    }

    /// The identities of all reserved files and folders, which no stage may reach under another name.
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

/// Whether a name of the path is `.git`, in upper or lower case: on some file systems git treats both as a git directory.
pub(crate) fn names_git(path: &WorkspacePath) -> bool {
    path.names().any(|name| name.eq_ignore_ascii_case(".git"))
}

#[cfg(test)]
mod tests;
