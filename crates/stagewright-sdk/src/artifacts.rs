//! Artifacts: named files and folders that stages pass to later ones.

use crate::{Result, host::artifacts as host};

/// A published file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its name.
    pub name: String,
    /// `sha256:…` of the content; of a folder, of the archive of its files.
    pub digest: String,
    /// The media type.
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// The unique name of the stage that published it, with its matrix values.
    pub stage_id: String,
    /// Whether it is a folder.
    pub folder: bool,
}

/// Publishes a file or a folder of the workspace under a name. Without a media type: `application/octet-stream`, or that
/// of a tar archive for a folder.
///
/// # Errors
/// When the file can't be read, exceeds the host's size limit, or another stage has published the name.
pub fn publish(name: &str, path: &str, media_type: Option<&str>) -> Result<Artifact> {
    let publication = host::Publication::new(name, path);
    if let Some(media_type) = media_type {
        publication.media_type(media_type);
    }
    Ok(publication.publish()?.into())
}

/// The artifacts that stages before this one have published, sorted by name.
///
/// # Errors
/// When the host can't read its records.
pub fn published() -> Result<Vec<Artifact>> {
    Ok(host::published()?.into_iter().map(Artifact::from).collect())
}

/// Writes an artifact of this run to a file of the workspace, or the files of a folder into a folder.
///
/// # Errors
/// When no earlier stage published it, or writing isn't granted.
pub fn fetch(name: &str, path: &str) -> Result<Artifact> {
    Ok(host::fetch(name, path)?.into())
}
