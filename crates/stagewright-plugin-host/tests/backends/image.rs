//! Image layouts that are built from the image specification, without the code under test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image layout, which tests fill and damage.
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    /// An empty layout.
    pub(crate) fn new(root: PathBuf) -> Layout {
        std::fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        std::fs::write(root.join("index.json"), json!({ "schemaVersion": 2, "manifests": [] }).to_string()).unwrap();
        Layout { root }
    }

    /// Adds an image of one file, and returns its digest.
    pub(crate) fn image(&self, tag: &str, content: &str) -> String {
        let manifest = self.manifest(&[("content", content.as_bytes())], &["/content"]);
        self.list(tag, &manifest)
    }

    /// Adds an image for several platforms, each with content of its own.
    pub(crate) fn index(&self, tag: &str, platforms: &[&str]) -> String {
        let manifests = platforms.iter().map(|architecture| {
            let mut manifest = self.manifest(&[("content", architecture.as_bytes())], &["/content"]);
            manifest["platform"] = json!({ "os": "linux", "architecture": architecture });
            manifest
        });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests.collect::<Vec<_>>() });
        self.list(tag, &self.blob(INDEX, index.to_string().as_bytes()))
    }

    /// Adds an image's blobs without a tag, and returns the manifest's descriptor.
    pub(crate) fn manifest(&self, files: &[(&str, &[u8])], entrypoint: &[&str]) -> Json {
        let mut layer = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            layer.append_data(&mut header, path, *content).unwrap();
        }
        let layer = layer.into_inner().unwrap();
        let config = json!({
            "os": "linux",
            "architecture": "amd64",
            "config": { "Entrypoint": entrypoint, "WorkingDir": "/not/in/any/layer" },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes()),
            "layers": [self.blob("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Adds a tag for a manifest, and returns the manifest's digest.
    pub(crate) fn list(&self, tag: &str, manifest: &Json) -> String {
        let path = self.root.join("index.json");
        let mut index: Json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let mut entry = manifest.clone();
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        index["manifests"].as_array_mut().unwrap().push(entry);
        std::fs::write(path, index.to_string()).unwrap();
        manifest["digest"].as_str().unwrap().to_owned()
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Json {
        let digest = digest(bytes);
        std::fs::write(blob_path(&self.root, &digest), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// Changes the image's layer and keeps its length.
    pub(crate) fn corrupt(&self, image: &str) -> String {
        let layer = self.layer_of(image);
        corrupt(&blob_path(&self.root, &layer));
        layer
    }

    pub(crate) fn layer_of(&self, image: &str) -> String {
        let manifest = std::fs::read(blob_path(&self.root, image)).unwrap();
        let manifest: Json = serde_json::from_slice(&manifest).unwrap();
        manifest["layers"][0]["digest"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn blob_path(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

/// Flips the first bit of a file.
pub(crate) fn corrupt(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[0] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// All blobs of a layout, by name.
pub(crate) fn blobs(layout: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = layout.join("blobs/sha256").read_dir().unwrap().map(Result::unwrap);
    let blob =
        |entry: std::fs::DirEntry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
    entries.map(blob).collect()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
