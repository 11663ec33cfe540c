//! What an OCI image layout says of itself.

use serde::Deserialize;
use stagewright_sdk::{Error, Result, workspace};

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A layout of one image.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Of the image's manifest.
    pub(crate) digest: String,
    /// What `index.json` calls it; may be none.
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
    /// Reads `index.json`. An index with several images is an error: which of them was meant can't be known.
    pub(crate) fn read(folder: &str) -> Result<Layout> {
        let path = format!("{}/index.json", folder.trim_end_matches('/'));
        let text = workspace::read(&path).map_err(|error| {
            error
                .context(format!("`{folder}` is no OCI image layout"))
                .help("name the folder that `build-image` wrote, its output `layout`, and grant `read` on it")
        })?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|error| Error::failed(format!("`{path}` is no OCI index: {error}")))?;
        let Some(first) = index.manifests.first() else {
            return Err(Error::failed(format!("`{path}` holds no image")).help("build one into it first"));
        };
        if let Some(other) = index.manifests.iter().find(|manifest| manifest.digest != first.digest) {
            let message = format!("`{path}` holds several images, {} and {}", first.digest, other.digest);
            return Err(Error::failed(message).help("build each image into a layout of its own"));
        }
        let names = index.manifests.iter().filter_map(|manifest| manifest.annotations.get(REF_NAME)).map(|name| {
            // A name may be a whole reference; its tag is what follows the last colon.
            name.rsplit_once(':').map_or(name.as_str(), |(_, tag)| tag).to_owned()
        });
        Ok(Layout { digest: first.digest.clone(), names: names.collect() })
    }
}
