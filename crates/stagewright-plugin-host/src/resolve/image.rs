//! The component in an OCI image.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::digest::sha256;
use crate::plugin::PLUGIN_BYTES;
use crate::registry::MANIFEST_BYTES;

/// The media type of the only layer, by CNCF's guidance for components as OCI artifacts.
const COMPONENT: &str = "application/wasm";

#[derive(Deserialize)]
struct ImageManifest {
    layers: Vec<ImageLayer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageLayer {
    media_type: String,
    digest: String,
}

/// The component's blob in an image layout; `manifest` is the digest of the image's manifest.
pub(super) fn component(layout: &Path, manifest: &str) -> Result<PathBuf, String> {
    let text = stagewright_files::read_unlinked(&blob(layout, manifest), MANIFEST_BYTES)
        .map_err(|error| format!("its manifest can't be read: {error}"))?;
    Ok(blob(layout, &layer(&text)?))
}

/// The digest of the only layer.
fn layer(manifest: &[u8]) -> Result<String, String> {
    let manifest: ImageManifest =
        serde_json::from_slice(manifest).map_err(|error| format!("its manifest isn't that of an image: {error}"))?;
    match manifest.layers.as_slice() {
        [layer] if layer.media_type == COMPONENT => Ok(layer.digest.clone()),
        [layer] => Err(format!("its layer is of the media type `{}`", layer.media_type)),
        layers => Err(format!("it has {} layers", layers.len())),
    }
}

fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replacen(':', "/", 1))
}

/// Stores the manifest and the component at a path, with the extensions `.json` and `.wasm`.
pub(super) fn keep(layout: &Path, manifest: &str, kept: &Path) -> io::Result<()> {
    let component = component(layout, manifest).map_err(io::Error::other)?;
    fs::rename(component, kept.with_extension("wasm"))?;
    fs::rename(blob(layout, manifest), kept.with_extension("json"))
}

/// The stored component, if its content is still that of the manifest with this digest. The file's name proves nothing:
/// anyone who can write to the folder can give it to another file.
pub(super) fn kept(kept: &Path, manifest: &str) -> Option<PathBuf> {
    let text = stagewright_files::read_unlinked(&kept.with_extension("json"), MANIFEST_BYTES).ok()?;
    let file = kept.with_extension("wasm");
    let content = stagewright_files::read_unlinked(&file, PLUGIN_BYTES).ok()?;
    (sha256(&text) == manifest && sha256(&content) == layer(&text).ok()?).then_some(file)
}
