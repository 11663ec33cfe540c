//! The component within an OCI image.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::registry::MANIFEST_BYTES;

/// CNCF's guidance for components as OCI artifacts: one layer of this type.
const COMPONENT: &str = "application/wasm";

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
}

/// The component's blob in an image layout; `manifest` is the digest of the image's manifest.
pub(super) fn component(layout: &Path, manifest: &str) -> Result<PathBuf, String> {
    let blob = |digest: &str| layout.join("blobs").join(digest.replacen(':', "/", 1));
    let text = stagewright_files::read_unlinked(&blob(manifest), MANIFEST_BYTES)
        .map_err(|error| format!("its manifest can't be read: {error}"))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| format!("its manifest isn't that of an image: {error}"))?;
    match manifest.layers.as_slice() {
        [layer] if layer.media_type == COMPONENT => Ok(blob(&layer.digest)),
        [layer] => Err(format!("its layer is of the media type `{}`", layer.media_type)),
        layers => Err(format!("it has {} layers", layers.len())),
    }
}
