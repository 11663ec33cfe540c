//! Container images: image layouts on disk, registries behind the distribution API, and unpacking.
//!
//! The input is an [`ImageReference`] and the terms of its use ([`RegistryAccess`]). The output is the [`Descriptor`] of the
//! image that was found or copied, or the image's files in a folder ([`Layout::unpack`]). Content is checked against its
//! digest whenever it is copied. Images are not trusted: sizes are limited, and no entry of a layer can be written outside
//! of the folder.
//!
//! Architecture invariant: this crate knows neither plugins nor stages; the caller decides whether a reference may be used.
//! It is the only crate that contacts registries, and it never exposes credentials.

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
pub use unpack::{Owners, UnpackedImage};
