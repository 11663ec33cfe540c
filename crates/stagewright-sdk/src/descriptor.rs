//! What an image's reference stands for.

/// What a reference stands for: the properties that every OCI descriptor has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// As in `application/vnd.oci.image.manifest.v1+json`.
    pub media_type: String,
    /// As in `sha256:…`.
    pub digest: String,
    /// In bytes.
    pub size: u64,
}
