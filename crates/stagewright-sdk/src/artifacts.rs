//! Named files handed between stages.

use crate::{Result, host::artifacts as host};

pub use crate::bindings::stage::stagewright::stage::artifacts::Artifact;

/// Keeps a file of the workspace under a name.
///
/// # Errors
/// When the file can't be read, or is larger than the host takes.
pub fn publish(name: &str, path: &str, media_type: &str) -> Result<Artifact> {
    Ok(host::publish(name, path, media_type)?)
}

/// Writes an artifact of this run into a file of the workspace.
///
/// # Errors
/// When no stage before this one published it, or the file may not be written.
pub fn fetch(name: &str, path: &str) -> Result<Artifact> {
    Ok(host::fetch(name, path)?)
}
