//! Container images: image layouts on disk, registries behind the distribution API, and unpacking.
//!
//! In flow a [`ImageReference`] and on whose behalf it is used ([`RegistryAccess`]); out comes the [`Descriptor`] of what was found or
//! copied, or an image's files in a folder ([`Layout::unpack`]). Content is checked against its digest whenever it is
//! copied, and images are not trusted: sizes are bounded and no entry of a layer leads out of its folder.
//!
//! Architecture invariant: this crate knows neither plugins nor stages. Whether a reference may be used was decided by
//! the caller. It is the only crate that speaks to registries, and it never hands credentials on.

mod blocking;
mod content;
mod credentials;
mod error;
mod layout;
mod reference;
mod registry;
mod remote;
mod transfer;
mod unpack;

pub use content::{Descriptor, MANIFEST_BYTES};
pub use credentials::{CredentialSource, DockerConfig};
pub use error::{OciError, OciErrorKind};
pub use layout::Layout;
pub use reference::{ImageLocation, ImageReference};
pub use registry::{Registry, RegistryAccess, RegistryConfig, inside};
pub use unpack::UnpackedImage;
