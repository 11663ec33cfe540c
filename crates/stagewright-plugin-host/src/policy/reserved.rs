//! What no grant opens, as checks.

use super::{Policy, grant};
use stagewright_model::{PathPattern, WorkspacePath};

use crate::error::{CapabilityError, ErrorCode};
use crate::reserved::{Identity, Purpose, Reservations, Spot, names_git};

impl Policy {
    /// What no grant opens.
    pub(crate) fn reserved(&self) -> &Reservations {
        &self.reserved
    }

    /// Whether a rule of `write` is this very path. It takes that to open a git directory, which lies in much that is
    /// granted for other reasons.
    pub(crate) fn writes_by_name(&self, path: &WorkspacePath) -> bool {
        named(&self.write, path)
    }

    /// Whether programs may read a git directory: by its name, or because they may read all of the workspace. A cached
    /// stage reads of it what its `inputs` name, as of every other file.
    pub(crate) fn reads_history(&self, path: &WorkspacePath) -> bool {
        if let Some(declared) = self.declared() {
            return named(declared, path);
        }
        let root = WorkspacePath::default();
        [&self.read, &self.write].into_iter().any(|rules| named(rules, path) || named(rules, &root))
    }

    /// Whether a path may be read by its grants, whatever a cached stage declares.
    pub(crate) fn grants_read(&self, path: &WorkspacePath) -> bool {
        !self.is_reserved(path) && (grant(&self.read, path) || grant(&self.write, path))
    }

    /// Whether a path may be written.
    pub(crate) fn grants_write(&self, path: &WorkspacePath) -> bool {
        self.fixed(path).is_none() && grant(&self.write, path)
    }

    /// Whether the path may not be read, and so not be listed.
    pub(crate) fn is_reserved(&self, path: &WorkspacePath) -> bool {
        self.closed(path).is_some()
    }

    /// What keeps a folder from being moved or removed: something reserved lies in it.
    pub(crate) fn removal(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        match self.reserved.below(path) {
            None => Ok(()),
            Some(Spot { purpose, path: held, .. }) => {
                let message = format!("`{path}` can't be removed: `{held}` is on the way to {}", purpose.described());
                let help = "remove what is in it, entry by entry";
                Err(CapabilityError::new(ErrorCode::PermissionDenied, message).with_help(help))
            }
        }
    }

    /// What a file or folder is that was reached, whatever its path is.
    pub(crate) fn reserved_as(&self, identity: Identity, writing: bool) -> Option<Purpose> {
        let spot = self.reserved.at(identity)?;
        (writing || spot.purpose.is_closed()).then_some(spot.purpose)
    }

    /// What reserves the path, if anything does.
    pub(crate) fn reserved_at(&self, path: &WorkspacePath) -> Option<Purpose> {
        self.fixed(path)
    }

    /// What the path is closed for to reading.
    fn closed(&self, path: &WorkspacePath) -> Option<Purpose> {
        let spot = self.reserved.over(path).filter(|spot| spot.purpose.is_closed());
        spot.map(|spot| spot.purpose).or_else(|| names_git(path).then_some(Purpose::Git))
    }

    /// What the path is closed for to writing.
    fn fixed(&self, path: &WorkspacePath) -> Option<Purpose> {
        self.closed(path).or_else(|| self.reserved.over(path).map(|spot| spot.purpose))
    }

    /// Refuses what may not be read.
    pub(super) fn not_closed(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        self.closed(path).map_or(Ok(()), |purpose| Err(refusal(path, purpose)))
    }

    /// Refuses what may not be written.
    pub(super) fn not_fixed(&self, path: &WorkspacePath) -> Result<(), CapabilityError> {
        self.fixed(path).map_or(Ok(()), |purpose| Err(refusal(path, purpose)))
    }
}

fn named(patterns: &[PathPattern], path: &WorkspacePath) -> bool {
    patterns.iter().any(|pattern| pattern.is_literal() && pattern.base() == path)
}

/// The refusal of what is reserved.
fn refusal(path: &WorkspacePath, purpose: Purpose) -> CapabilityError {
    let message = format!("`{path}` lies in {}", purpose.described());
    CapabilityError::new(ErrorCode::PermissionDenied, message).with_help(purpose.remedy())
}
