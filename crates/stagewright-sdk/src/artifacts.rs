//! Artifacts: named files that stages pass to later ones.

use crate::{Result, host::artifacts as host};

pub use crate::bindings::stage::stagewright::stage::artifacts::Artifact;

/// Publishes a file of the workspace under a name.
///
/// # Errors
/// When the file can't be read, or exceeds the host's size limit.
pub fn publish(name: &str, path: &str, media_type: &str) -> Result<Artifact> {
    Ok(host::publish(name, path, media_type)?)
}

/// Writes an artifact of this run to a file of the workspace.
///
/// # Errors
/// When no earlier stage published it, or writing the file isn't granted.
pub fn fetch(name: &str, path: &str) -> Result<Artifact> {
    Ok(host::fetch(name, path)?)
}
