//! Reads the digest and the names of an OCI image layout.

use serde::Deserialize;
use stagewright_sdk::{Error, Result, workspace};

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A layout with one image.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The digest of the image's manifest.
    pub(crate) digest: String,
    /// The image's names in `index.json`; may be empty.
    pub(crate) names: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Layout {
    /// Reads `index.json`. An index with several images is an error, because it is ambiguous.
    pub(crate) fn read(folder: &str) -> Result<Layout> {
        let path = format!("{}/index.json", folder.trim_end_matches('/'));
        let text = workspace::read(&path).map_err(|error| {
            error.context(format!("`{folder}` isn't an OCI image layout")).help(
                "set `layout` to the folder that `build-image` wrote, its output `layout`, and grant `read` on it",
            )
        })?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|error| Error::failed(format!("invalid OCI index `{path}`: {error}")))?;
        let Some(first) = index.manifests.first() else {
            return Err(
                Error::failed(format!("`{path}` lists no images")).help("build an image into this layout first")
            );
        };
        if let Some(other) = index.manifests.iter().find(|manifest| manifest.digest != first.digest) {
            let message = format!("`{path}` lists several images, {} and {}", first.digest, other.digest);
            return Err(Error::failed(message).help("build each image into a layout of its own"));
        }
        let names = index.manifests.iter().filter_map(|manifest| manifest.annotations.get(REF_NAME)).map(|name| {
            // A name may be a whole reference; its tag follows the last colon.
            name.rsplit_once(':').map_or(name.as_str(), |(_, tag)| tag).to_owned()
        });
        Ok(Layout { digest: first.digest.clone(), names: names.collect() })
    }
}
