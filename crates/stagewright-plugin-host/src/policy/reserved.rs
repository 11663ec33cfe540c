//! The checks of reserved paths, which no grant opens.

use super::{Policy, grant};
use stagewright_model::{PathPattern, Permission, WorkspacePath};

use crate::error::{CapabilityError, ErrorCode};
use crate::reserved::{Identity, Purpose, Reservations, Spot, names_git};

impl Policy {
    /// The paths that no grant opens.
    pub(crate) fn reserved(&self) -> &Reservations {
        &self.reserved
    }

    /// Whether a rule of `write` is exactly this path. Only such a rule opens a git directory, since many folders that
    /// contain one are granted for other reasons.
    pub(crate) fn writes_by_name(&self, path: &WorkspacePath) -> bool {
        named(&self.write, path)
    }

    /// Whether programs may read a git directory: if it is granted by name, or the whole workspace is. A cached stage may
    /// only read what its `inputs` name.
    pub(crate) fn reads_history(&self, path: &WorkspacePath) -> bool {
        if let Some(declared) = self.declared() {
            return named(declared, path);
        }
        let root = WorkspacePath::default();
        [&self.read, &self.write].into_iter().any(|rules| named(rules, path) || named(rules, &root))
    }

    /// Checks that programs may read the history in a git directory. For another path, or in a cached stage, no grant
    /// decides that.
    pub(crate) fn history(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        let is_git = self.reserved.spots().iter().any(|spot| spot.purpose == Purpose::Git && spot.path == *path);
        if !is_git || self.declared().is_some() || self.reads_history(path) {
            return Ok(());
        }
        Err(self.deny(&format!("read the git repository `{path}`"), Permission::Read, path.shown()))
    }

    /// Whether the grants allow reading a path, regardless of the inputs that a cached stage declares.
    pub(crate) fn grants_read(&self, path: &WorkspacePath) -> bool {
        !self.is_reserved(path) && (grant(&self.read, path) || grant(&self.write, path))
    }

    /// Whether a path may be written.
    pub(crate) fn grants_write(&self, path: &WorkspacePath) -> bool {
        self.fixed(path).is_none() && grant(&self.write, path)
    }

    /// Whether a path is closed to reading, and therefore not listed.
    pub(crate) fn is_reserved(&self, path: &WorkspacePath) -> bool {
        self.closed(path).is_some()
    }

    /// Checks that a path may be removed. A folder may not if something reserved lies in it.
    pub(crate) fn removal(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        match self.reserved.below(path) {
            None => Ok(()),
            Some(Spot { purpose, path: held, .. }) => {
                let message = format!("`{path}` can't be removed: `{held}` leads to {}", purpose.described());
                let help = "remove the other entries in it one by one";
                Err(CapabilityError::new(ErrorCode::PermissionDenied, message).with_help(help))
            }
        }
    }

    /// What reserves an opened file or folder, identified by device and inode, if anything does.
    pub(crate) fn reserved_as(&self, identity: Identity, writing: bool) -> Option<Purpose> {
        let spot = self.reserved.at(identity)?;
        (writing || spot.purpose.is_closed()).then_some(spot.purpose)
    }

    /// What reserves the path, if anything does.
    pub(crate) fn reserved_at(&self, path: &WorkspacePath) -> Option<Purpose> {
        self.fixed(path)
    }

    /// What closes the path to reading, if anything does.
    fn closed(&self, path: &WorkspacePath) -> Option<Purpose> {
        let spot = self.reserved.over(path).filter(|spot| spot.purpose.is_closed());
        spot.map(|spot| spot.purpose).or_else(|| names_git(path).then_some(Purpose::Git))
    }

    /// What closes the path to writing, if anything does.
    fn fixed(&self, path: &WorkspacePath) -> Option<Purpose> {
        self.closed(path).or_else(|| self.reserved.over(path).map(|spot| spot.purpose))
    }

    /// Refuses a path that is closed to reading.
    pub(super) fn not_closed(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        self.closed(path).map_or(Ok(()), |purpose| Err(refusal(path, purpose)))
    }

    /// Refuses a path that is closed to writing.
    pub(super) fn not_fixed(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        self.fixed(path).map_or(Ok(()), |purpose| Err(refusal(path, purpose)))
    }
}

fn named(patterns: &[PathPattern], path: &WorkspacePath) -> bool {
    patterns.iter().any(|pattern| pattern.is_literal() && pattern.base() == path)
}

/// The error for a reserved path.
fn refusal(path: &WorkspacePath, purpose: Purpose) -> CapabilityError {
    let message = format!("`{path}` lies in {}", purpose.described());
    CapabilityError::new(ErrorCode::PermissionDenied, message).with_help(purpose.remedy())
}
