//! The commit that the run is for, and what started it. A cached result of a stage that calls this is only used for the
//! same commit.

use crate::host::source as host;
use crate::{Error, Result};

/// The full id of the commit; none outside of a repository.
pub fn commit() -> Option<String> {
    host::commit()
}

/// The full name of the branch or tag that the run is for, as in `refs/heads/main`.
pub fn reference() -> Option<String> {
    host::reference()
}

/// The branch that the run is for.
pub fn branch() -> Option<String> {
    host::branch()
}

/// A tag that points at the commit.
pub fn tag() -> Option<String> {
    host::tag()
}

/// Whether the files differ from the commit.
pub fn dirty() -> bool {
    host::dirty()
}

/// What started the run: `manual`, or an event of the pipeline's `on`.
pub fn trigger() -> String {
    host::trigger()
}

/// Who started the run.
pub fn actor() -> Option<String> {
    host::actor()
}

/// The paths of the files that differ from another commit, committed or not, sorted; of a renamed file, both. Only those
/// that the stage may read. `since` is the full id of a commit; none for where the run's commit diverged from the main
/// branch.
///
/// # Errors
/// When there is no such commit.
pub fn changed_files(since: Option<&str>) -> Result<Vec<String>> {
    host::changed_files(since).map_err(Error::from)
}
