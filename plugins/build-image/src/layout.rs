//! An OCI image layout in the workspace (image-spec 1.1, "Image Layout").

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use stagewright_sdk::{Error, Result, workspace};

use crate::config::{Compression, Platform};
use crate::document::{Descriptor, INDEX, Index, LAYER, LAYER_GZIP, Manifest, oci_layer_type};
use crate::stream::{CHUNK, FileReader, FileWriter, digest, host_error};

/// Limit in bytes for the JSON documents of an image; real ones have a few KB.
const MAX_DOCUMENT: u64 = 4 << 20;

/// A layout, by the path of its folder in the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: String,
}

/// A layer that was added to a layout.
#[derive(Debug)]
pub(crate) struct LayerBlob {
    pub(crate) descriptor: Descriptor,
    /// The digest of the layer's uncompressed tar.
    pub(crate) diff_id: String,
}

impl Layout {
    /// Refers to the layout at `root` without reading it.
    pub(crate) fn at(root: &str) -> Layout {
        Layout { root: root.trim_end_matches('/').to_owned() }
    }

    /// Creates an empty layout, and replaces an existing one. A folder with anything else in it is an error.
    pub(crate) fn create(root: &str) -> Result<Layout> {
        let layout = Layout::at(root);
        let existing = workspace::glob(&layout.path("*"))?;
        if !existing.is_empty() && !existing.iter().any(|entry| entry.path == layout.path("oci-layout")) {
            return Err(Error::failed(format!("`{root}` exists and isn't an image layout, so it isn't replaced"))
                .help("set `layout` to another folder, or remove this one"));
        }
        workspace::remove(&layout.root)?;
        workspace::write(&layout.path("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")?;
        Ok(layout)
    }

    /// A path below the layout's root.
    pub(crate) fn path(&self, below: &str) -> String {
        format!("{}/{below}", self.root)
    }

    /// The path of a blob.
    pub(crate) fn blob_path(&self, digest: &str) -> String {
        self.path(&format!("blobs/{}", digest.replacen(':', "/", 1)))
    }

    /// Adds a JSON document.
    pub(crate) fn add_json<T: Serialize>(&self, media_type: &str, document: &T) -> Result<Descriptor> {
        self.add_bytes(media_type, &serde_json::to_vec(document)?)
    }

    /// Adds a blob as it is.
    pub(crate) fn add_bytes(&self, media_type: &str, data: &[u8]) -> Result<Descriptor> {
        let digest = digest(data);
        workspace::write(&self.blob_path(&digest), data)?;
        Ok(descriptor(media_type, digest, data.len() as u64))
    }

    /// Adds a layer whose uncompressed tar `write` writes.
    pub(crate) fn add_layer(
        &self,
        compression: Compression,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<LayerBlob> {
        // A blob is named by its digest, which is known only once it is written. So write it under a temporary name, and
        // copy it to its final one: the `workspace` interface has no rename.
        let (tar, zipped) = (self.path("blobs/unnamed.tar"), self.path("blobs/unnamed.tar.gz"));
        let mut writer = FileWriter::new(tar.clone());
        write(&mut writer).map_err(host_error)?;
        writer.finish()?;
        let diff_id = workspace::digest(&tar)?;
        let (media_type, path, digest) = match compression {
            Compression::None => (LAYER, &tar, diff_id.clone()),
            Compression::Gzip => {
                workspace::gzip(&tar, &zipped)?;
                (LAYER_GZIP, &zipped, workspace::digest(&zipped)?)
            }
        };
        let size = workspace::glob(path)?.first().map_or(0, |file| file.size);
        copy_file(path, size, &self.blob_path(&digest))?;
        workspace::remove(&tar)?;
        workspace::remove(&zipped)?;
        Ok(LayerBlob { descriptor: descriptor(media_type, digest, size), diff_id })
    }

    /// Copies a layer from another layout, and gives its descriptor the OCI media type.
    pub(crate) fn copy_layer(&self, from: &Layout, layer: &Descriptor) -> Result<Descriptor> {
        copy_file(&from.blob_path(&layer.digest), layer.size, &self.blob_path(&layer.digest))?;
        Ok(descriptor(oci_layer_type(&layer.media_type), layer.digest.clone(), layer.size))
    }

    /// Writes `index.json`, which completes the layout.
    pub(crate) fn write_index(&self, index: &Index) -> Result<()> {
        workspace::write(&self.path("index.json"), serde_json::to_vec(index)?)
    }

    /// The first image that `index.json` lists.
    pub(crate) fn first(&self) -> Result<Descriptor> {
        let path = self.path("index.json");
        let index: Index = parse(&path, &workspace::read(&path)?)?;
        index.manifests.into_iter().next().ok_or_else(|| Error::failed(format!("`{path}` lists no images")))
    }

    /// An image's manifest and its descriptor. From an image for several platforms, picks the one for `platform`.
    pub(crate) fn image(&self, at: Descriptor, platform: Option<&Platform>) -> Result<(Descriptor, Manifest)> {
        let several = at.media_type == INDEX || at.media_type.ends_with("manifest.list.v2+json");
        let at = if several { self.choose(&self.json(&at)?, platform)? } else { at };
        let manifest = self.json(&at)?;
        Ok((at, manifest))
    }

    fn choose(&self, index: &Index, platform: Option<&Platform>) -> Result<Descriptor> {
        let fits = |candidate: &&Descriptor| match (&candidate.platform, platform) {
            (Some(has), Some(requested)) => {
                let variant = requested.variant.is_none() || has.variant == requested.variant;
                has.os == requested.os && has.architecture == requested.architecture && variant
            }
            (None, _) | (_, None) => true,
        };
        index.manifests.iter().find(fits).cloned().ok_or_else(|| {
            let requested = platform.map(|platform| format!(" for {platform}")).unwrap_or_default();
            let available: Vec<String> = index
                .manifests
                .iter()
                .filter_map(|manifest| manifest.platform.as_ref())
                .map(|platform| format!("{}/{}", platform.os, platform.architecture))
                .collect();
            Error::failed(format!("the layout `{}` has no image{requested}", self.root))
                .help(format!("set `platform` to one of: {}", available.join(", ")))
        })
    }

    /// Reads a JSON document by its descriptor.
    pub(crate) fn json<T: DeserializeOwned>(&self, at: &Descriptor) -> Result<T> {
        let path = self.blob_path(&at.digest);
        if at.size > MAX_DOCUMENT {
            return Err(Error::failed(format!("`{path}` has {} bytes, at most {MAX_DOCUMENT} are allowed", at.size)));
        }
        parse(&path, &workspace::read(&path)?)
    }
}

fn parse<T: DeserializeOwned>(path: &str, data: &[u8]) -> Result<T> {
    serde_json::from_slice(data).map_err(|error| Error::failed(format!("`{path}` is invalid: {error}")))
}

pub(crate) fn descriptor(media_type: &str, digest: String, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() }
}

/// Copies a file within the workspace, a chunk at a time.
pub(crate) fn copy_file(from: &str, size: u64, to: &str) -> Result<()> {
    let mut reader = FileReader::part(from, 0, size);
    let mut writer = FileWriter::new(to.to_owned());
    let mut chunk = vec![0; CHUNK as usize];
    loop {
        let count = reader.read(&mut chunk).map_err(host_error)?;
        if count == 0 {
            break;
        }
        writer.write_all(&chunk[..count]).map_err(host_error)?;
    }
    writer.finish()
}
