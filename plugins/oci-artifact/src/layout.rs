//! An OCI image layout with one artifact.

use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};
use stagewright_sdk::{Error, Result, workspace};

use crate::config::Config;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const TITLE: &str = "org.opencontainers.image.title";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// How many bytes are copied at a time.
const CHUNK: u32 = 1 << 20;

/// A layout that is being written.
pub(crate) struct Layout {
    folder: String,
    size: u64,
}

/// A file in it.
pub(crate) struct Layer {
    pub(crate) digest: String,
    media_type: String,
    size: u64,
    title: Option<String>,
}

impl Layer {
    fn descriptor(&self) -> Json {
        let mut descriptor = json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size });
        if let Some(title) = &self.title {
            descriptor["annotations"] = json!({ TITLE: title });
        }
        descriptor
    }
}

impl Layout {
    pub(crate) fn create(folder: &str) -> Result<Layout> {
        let folder = folder.trim_end_matches('/').to_owned();
        workspace::remove(&folder)?;
        workspace::write(&format!("{folder}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Layout { folder, size: 0 })
    }

    fn blob(&self, digest: &str) -> String {
        format!("{}/blobs/{}", self.folder, digest.replacen(':', "/", 1))
    }

    pub(crate) fn add_file(&mut self, path: &str, media_type: &str, title: Option<String>) -> Result<Layer> {
        let digest = workspace::digest(path)?;
        let blob = self.blob(&digest);
        let size = copy(path, &blob)?;
        // It could have been replaced while it was copied.
        if workspace::digest(&blob)? != digest {
            return Err(Error::failed(format!("`{path}` was changed while it was packed")).retryable());
        }
        self.size += size;
        Ok(Layer { digest, media_type: media_type.to_owned(), size, title })
    }

    fn add(&self, media_type: &str, content: &[u8]) -> Result<Layer> {
        let digest: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = format!("sha256:{digest}");
        workspace::write(&self.blob(&digest), content)?;
        Ok(Layer { digest, media_type: media_type.to_owned(), size: content.len() as u64, title: None })
    }

    /// Writes the manifest and the index, and returns the manifest's digest.
    pub(crate) fn finish(
        &self,
        config: &Config,
        settings_type: &str,
        settings: &[u8],
        layers: &[Layer],
    ) -> Result<String> {
        let settings = self.add(settings_type, settings)?;
        let mut manifest = Map::new();
        manifest.insert("schemaVersion".to_owned(), json!(2));
        manifest.insert("mediaType".to_owned(), json!(MANIFEST));
        if let Some(kind) = &config.artifact_type {
            manifest.insert("artifactType".to_owned(), json!(kind));
        }
        manifest.insert("config".to_owned(), settings.descriptor());
        manifest.insert("layers".to_owned(), layers.iter().map(Layer::descriptor).collect());
        if !config.annotations.is_empty() {
            manifest.insert("annotations".to_owned(), json!(config.annotations));
        }
        let manifest = self.add(MANIFEST, &serde_json::to_vec(&manifest)?)?;
        let named = |tag: &String| {
            let mut descriptor = manifest.descriptor();
            descriptor["annotations"] = json!({ REF_NAME: tag });
            descriptor
        };
        let manifests: Vec<Json> = match config.tags.is_empty() {
            true => vec![manifest.descriptor()],
            false => config.tags.iter().map(named).collect(),
        };
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        workspace::write(&format!("{}/index.json", self.folder), serde_json::to_vec(&index)?)?;
        Ok(manifest.digest)
    }

    /// The bytes of all files.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

/// Returns how many bytes were copied.
fn copy(from: &str, to: &str) -> Result<u64> {
    let mut part = workspace::read_at(from, 0, CHUNK)?;
    let mut size = part.len() as u64;
    workspace::write(to, &part)?;
    while part.len() == CHUNK as usize {
        part = workspace::read_at(from, size, CHUNK)?;
        size += part.len() as u64;
        workspace::append(to, &part)?;
    }
    Ok(size)
}
