//! Images. `local/NAME:TAG` is one in the embedded registry, `HOST[:PORT]/NAME:TAG` one behind the distribution API.
//! Credentials stay in the host. A layout is a folder of the workspace that holds an OCI image layout.

use crate::{Result, host::registry as host};

pub use crate::bindings::stage::stagewright::stage::registry::Descriptor;

/// Pushes the one image of a layout.
///
/// # Errors
/// When the layout isn't one, the repository isn't granted, or the registry refuses.
pub fn push(layout: &str, reference: &str) -> Result<Descriptor> {
    Ok(host::push(layout, reference)?)
}

/// What the registry answers now: the only source of a digest.
///
/// # Errors
/// [`crate::ErrorCode::NotFound`] when it has no such image.
pub fn resolve(reference: &str) -> Result<Descriptor> {
    Ok(host::resolve(reference)?)
}

/// Copies an image as it is.
///
/// # Errors
/// As [`resolve`] for the source and [`push`] for the destination.
pub fn copy(source: &str, destination: &str) -> Result<Descriptor> {
    Ok(host::copy(source, destination)?)
}

/// Pulls an image into a layout.
///
/// # Errors
/// As [`resolve`], and when the folder may not be written.
pub fn pull(reference: &str, layout: &str) -> Result<Descriptor> {
    Ok(host::pull(reference, layout)?)
}
