//! The commit that the run is for, and what started it. A cached result of a stage that calls this is only used for the
//! same commit.

pub use crate::history::{Commit, History, HistoryEnd};

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

/// The newest commits that lead to the run's, newest first, at most `most`, which is at most 10,000. `since`, the full id of
/// a commit or the full name of a tag as in `refs/tags/v1.0`, leaves out all commits that lead to it. The result of a stage that
/// calls this isn't cached.
///
/// Since version 0.2.3 of the contract: a plugin that calls it needs an engine that has it.
///
/// # Errors
/// When the run is for no commit, or the repository has no commit `since`.
pub fn commits(since: Option<&str>, most: u32) -> Result<History> {
    Ok(serde_json::from_str(&host::commits(since, most)?)?)
}

/// The web address of the repository, from the URL of its remote `origin`, as in `https://github.com/acme/app`. Never with
/// credentials; none without such a remote, and for one that is a path. The result of a stage that calls this isn't cached.
///
/// Since version 0.2.3 of the contract: a plugin that calls it needs an engine that has it.
///
/// # Errors
/// When the repository can't be read.
pub fn repository() -> Result<Option<String>> {
    host::repository().map_err(Error::from)
}
