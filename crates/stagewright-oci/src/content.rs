//! Manifests and blobs of images, and their verification.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{OciError, OciErrorKind};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// The largest manifest in bytes. The distribution spec requires registries to accept this size, and they don't accept
/// larger ones.
pub const MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// Identifies a manifest or blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type, such as `application/vnd.oci.image.manifest.v1+json`.
    pub media_type: String,
    /// The digest as `sha256:…`.
    pub digest: String,
    /// The size in bytes.
    pub size: u64,
}

/// A manifest or an index with its original bytes: serialising it again could change its digest.
#[derive(Clone, Debug)]
pub(crate) struct ManifestContent {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
    pub(crate) parsed: ImageManifest,
}

/// An image manifest, which has a config and layers, or an index, which has manifests.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageManifest {
    media_type: Option<String>,
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
    pub(crate) config: Option<Descriptor>,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
}

impl ManifestContent {
    /// Parses a manifest. `expected` is the digest by which it was requested, if any.
    pub(crate) fn new(bytes: Vec<u8>, expected: Option<&str>) -> Result<ManifestContent, OciError> {
        let digest = digest_of(&bytes);
        if let Some(expected) = expected
            && expected != digest
        {
            return Err(corrupt(&format!("manifest {expected} has the digest {digest}")));
        }
        let parsed: ImageManifest = serde_json::from_slice(&bytes).map_err(|error| {
            OciError::new(OciErrorKind::InvalidManifest, format!("manifest {digest} is malformed: {error}"))
        })?;
        let digests = parsed.manifests.iter().map(|child| &child.digest).chain(parsed.blobs().map(|blob| &blob.digest));
        if let Some(invalid) = digests.into_iter().find(|digest| !crate::reference::is_digest(digest)) {
            let message = format!("manifest {digest} contains `{invalid}`, which isn't a sha256 digest");
            return Err(OciError::new(OciErrorKind::InvalidManifest, message));
        }
        // The media type is optional in OCI manifests. Without it, the fields that are present determine it.
        let kind = if parsed.manifests.is_empty() && parsed.config.is_some() { MANIFEST } else { INDEX };
        let media_type = parsed.media_type.clone().unwrap_or_else(|| kind.to_owned());
        Ok(ManifestContent { descriptor: Descriptor { media_type, digest, size: bytes.len() as u64 }, bytes, parsed })
    }
}

impl ImageManifest {
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers)
    }
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    shown(Sha256::digest(bytes).as_slice())
}

/// Copies a blob, and fails unless it has the descriptor's size and digest.
pub(crate) fn copy_verified(
    source: &mut dyn Read,
    target: &mut dyn Write,
    descriptor: &Descriptor,
) -> Result<(), OciError> {
    // One more byte than expected is enough to detect that the blob is too long.
    let mut source = source.take(descriptor.size + 1);
    let mut check = BlobVerifier::default();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(&descriptor.digest, error)),
        };
        check.update(&buffer[..length]);
        target.write_all(&buffer[..length]).map_err(|error| unreadable(&descriptor.digest, error))?;
    }
    check.finish(descriptor)
}

/// Computes the size and digest of a blob while it is copied.
#[derive(Default)]
pub(crate) struct BlobVerifier {
    hash: Sha256,
    size: u64,
}

impl BlobVerifier {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }

    pub(crate) fn finish(self, descriptor: &Descriptor) -> Result<(), OciError> {
        let found = shown(self.hash.finalize().as_slice());
        if self.size != descriptor.size {
            let beyond = if self.size > descriptor.size { "more" } else { "fewer" };
            return Err(corrupt(&format!(
                "blob {} has {beyond} than its {} bytes",
                descriptor.digest, descriptor.size
            )));
        }
        if found != descriptor.digest {
            return Err(corrupt(&format!("blob {} has the digest {found}", descriptor.digest)));
        }
        Ok(())
    }
}

/// The permissions of blobs: other users' programs may read them.
pub(crate) fn readable() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

fn shown(hash: &[u8]) -> String {
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn corrupt(message: &str) -> OciError {
    OciError::new(OciErrorKind::DigestMismatch, message)
        .with_help("the image is damaged, or was changed during the transfer: build it or push it again")
}

fn unreadable(digest: &str, error: io::Error) -> OciError {
    OciError::new(OciErrorKind::Disk, format!("blob {digest} could not be copied")).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(bytes: &[u8]) -> Descriptor {
        Descriptor { media_type: "x".to_owned(), digest: digest_of(bytes), size: bytes.len() as u64 }
    }

    #[test]
    fn a_blob_that_differs_from_its_descriptor_is_refused() {
        let copy = |bytes: &[u8], descriptor: &Descriptor| {
            let mut target = Vec::new();
            copy_verified(&mut &*bytes, &mut target, descriptor).map(|()| target)
        };
        assert_eq!(copy(b"hello", &blob(b"hello")).unwrap(), b"hello");
        for (bytes, reason) in
            [(&b"hellO"[..], "has the digest"), (b"hell", "has fewer"), (b"hello, world", "has more")]
        {
            let error = copy(bytes, &blob(b"hello")).unwrap_err();
            assert!(error.message.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_missing_media_type_is_derived_from_the_fields() {
        let kind = |text: &str| ManifestContent::new(text.into(), None).unwrap().descriptor.media_type;
        let config = format!(r#"{{"mediaType":"c","digest":"{}","size":1}}"#, digest_of(b"x"));
        assert_eq!(kind(&format!(r#"{{"config":{config},"layers":[]}}"#)), MANIFEST);
        assert_eq!(kind(&format!(r#"{{"manifests":[{config}]}}"#)), INDEX);
        assert_eq!(kind(&format!(r#"{{"mediaType":"{DOCKER_MANIFEST}","config":{config}}}"#)), DOCKER_MANIFEST);
    }

    #[test]
    fn a_manifest_with_a_path_in_place_of_a_digest_is_refused() {
        let text = r#"{"config":{"mediaType":"c","digest":"sha256:../../etc/passwd","size":1}}"#;
        assert!(ManifestContent::new(text.into(), None).is_err());
    }
}
