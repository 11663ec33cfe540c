//! Resolves claims to paths of the workspace.
use stagewright_model::WorkspacePath;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::mounts::Mounts;
use super::{Claim, Identity, Purpose, Reservations};

/// A path of the workspace that is reserved, or leads to one that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) purpose: Purpose,
    pub(crate) path: WorkspacePath,
    /// True if the path is reserved with everything below. False for a link or folder that leads to a reserved path, which
    /// must not be moved or replaced.
    pub(crate) whole: bool,
    /// None when the path doesn't exist.
    pub(crate) identity: Option<Identity>,
}

/// A spot whose path isn't UTF-8. Neither a rule nor a plugin can name it, but programs find it in granted folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unnamed {
    /// Relative to the workspace.
    pub(crate) path: PathBuf,
    pub(crate) whole: bool,
}

/// Collects spots. Of two at the same path, the one that reserves more is kept.
pub(super) struct Spots<'a> {
    workspace: &'a Path,
    mounts: &'a Mounts,
    found: BTreeMap<WorkspacePath, Spot>,
    unnamed: BTreeMap<PathBuf, bool>,
}

impl<'a> Spots<'a> {
    pub(super) fn new(workspace: &'a Path, mounts: &'a Mounts) -> Spots<'a> {
        Spots { workspace, mounts, found: BTreeMap::new(), unnamed: BTreeMap::new() }
    }

    /// Adds known spots.
    pub(super) fn with(mut self, known: &Reservations) -> Spots<'a> {
        self.found.extend(known.spots.iter().map(|spot| (spot.path.clone(), spot.clone())));
        self.unnamed.extend(known.unnamed.iter().map(|spot| (spot.path.clone(), spot.whole)));
        self
    }

    pub(super) fn claim(&mut self, claim: &Claim) -> io::Result<()> {
        let led = stagewright_files::follow(&claim.path)?;
        for step in &led.steps {
            self.step(claim.purpose, step);
        }
        for place in std::iter::once(led.real.clone()).chain(self.mounts.aliases(&led.real, self.workspace)) {
            if self.workspace.starts_with(&place) {
                let message = format!("{} `{}` contains the workspace", claim.purpose.described(), place.display());
                return Err(io::Error::other(message));
            }
            self.whole(claim.purpose, &place);
        }
        Ok(())
    }

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
        let Some(text) = below.to_str() else {
            *self.unnamed.entry(below.to_owned()).or_default() |= whole;
            return;
        };
        let Ok(path) = WorkspacePath::parse(text) else { return };
        // A reserved path stays reserved if it also leads to another one. Of two purposes, the one that is declared first in
        // `Purpose` is kept.
        let known = self.found.get(&path).is_some_and(|spot| spot.whole && (!whole || spot.purpose <= purpose));
        if known || (!whole && self.found.contains_key(&path)) {
            return;
        }
        let identity = fs::symlink_metadata(self.workspace.join(below)).ok().map(|found| (found.dev(), found.ino()));
        self.found.insert(path.clone(), Spot { purpose, path, whole, identity });
    }

    /// The result, without spots in closed folders, which can only be reached through those.
    pub(super) fn finish(self) -> Reservations {
        let closes =
            |folder: &WorkspacePath| self.found.get(folder).is_some_and(|spot| spot.whole && spot.purpose.is_closed());
        let is_covered =
            |path: &WorkspacePath| std::iter::successors(path.parent(), WorkspacePath::parent).any(|at| closes(&at));
        let stays = |spot: &&Spot| (spot.whole && spot.purpose < Purpose::Git) || !is_covered(&spot.path);
        let spots = self.found.values().filter(stays).cloned().collect();
        let unnamed = self.unnamed.iter().filter(|(path, _)| {
            let above = path.ancestors().skip(1);
            !above.clone().any(|folder| self.unnamed.get(folder).is_some_and(|whole| *whole))
                && !above
                    .filter_map(Path::to_str)
                    .filter_map(|text| WorkspacePath::parse(text).ok())
                    .any(|at| closes(&at))
        });
        let unnamed = unnamed.map(|(path, whole)| Unnamed { path: path.clone(), whole: *whole });
        Reservations { unnamed: unnamed.collect(), spots }
    }
}
