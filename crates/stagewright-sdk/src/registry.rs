//! Images. `local/NAME:TAG` is one in the embedded registry, `HOST[:PORT]/NAME:TAG` one in a registry that speaks the OCI
//! distribution API. The host supplies the credentials. A layout is a folder of the workspace with an OCI image layout.

use crate::{Result, host::registry as host};

pub use crate::descriptor::Descriptor;

/// Pushes the only image of a layout.
///
/// # Errors
/// When the layout is invalid, the repository isn't granted, or the registry refuses it.
pub fn push(layout: &str, reference: &str) -> Result<Descriptor> {
    Ok(host::push(layout, reference)?.into())
}

/// The digest that the registry has for the reference now.
///
/// # Errors
/// [`crate::ErrorCode::NotFound`] when the image doesn't exist.
pub fn resolve(reference: &str) -> Result<Descriptor> {
    Ok(host::resolve(reference)?.into())
}

/// Copies an image unchanged.
///
/// # Errors
/// As [`resolve`] for the source and [`push`] for the destination.
pub fn copy(source: &str, destination: &str) -> Result<Descriptor> {
    Ok(host::copy(source, destination)?.into())
}

/// Pulls an image into a layout.
///
/// # Errors
/// As [`resolve`], and when writing the folder isn't granted.
pub fn pull(reference: &str, layout: &str) -> Result<Descriptor> {
    Ok(host::pull(reference, layout)?.into())
}
