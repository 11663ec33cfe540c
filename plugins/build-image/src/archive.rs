//! Docker's archive format, as `docker save` writes it and `docker load` reads it.
//!
//! It has no specification; Docker's loader is the reference. It is a tar with a `manifest.json`, which names the
//! configuration and the layers by their paths in the tar.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use stagewright_sdk::{Error, Result, workspace};

use crate::config::Compression;
use crate::document::{CONFIG, Descriptor, LAYER_GZIP, MANIFEST, Manifest, manifest};
use crate::layout::{Layout, descriptor};
use crate::stream::{FileReader, FileWriter, host_error};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Limit in bytes for `manifest.json` and the configuration; real ones have a few KB.
const MAX_DOCUMENT: u64 = 4 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Writes the image of a layout as an archive. The layers are copied unchanged, since Docker's loader detects compression
/// by itself.
pub(crate) fn export(layout: &Layout, image: &Manifest, tags: &[String], path: &str) -> Result<()> {
    let layer_name = |layer: &Descriptor| {
        let suffix = if layer.media_type == LAYER_GZIP { "tar.gz" } else { "tar" };
        format!("{}.{suffix}", hex(&layer.digest))
    };
    let config_name = format!("{}.json", hex(&image.config.digest));
    let described = Image {
        config: config_name.clone(),
        repo_tags: (!tags.is_empty()).then(|| tags.to_vec()),
        layers: image.layers.iter().map(layer_name).collect(),
    };
    let mut tar = tar::Builder::new(FileWriter::new(path.to_owned()));
    append_blob(&mut tar, &config_name, layout, &image.config)?;
    let mut written = std::collections::BTreeSet::new();
    for layer in &image.layers {
        if written.insert(layer.digest.as_str()) {
            append_blob(&mut tar, &layer_name(layer), layout, layer)?;
        }
    }
    let json = serde_json::to_vec(&[described])?;
    append(&mut tar, "manifest.json", json.len() as u64, json.as_slice()).map_err(host_error)?;
    tar.into_inner().map_err(host_error)?.finish()
}

fn append_blob<W: Write>(tar: &mut tar::Builder<W>, name: &str, layout: &Layout, blob: &Descriptor) -> Result<()> {
    let path = layout.blob_path(&blob.digest);
    append(tar, name, blob.size, FileReader::part(&path, 0, blob.size)).map_err(host_error)
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, size: u64, data: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, name, data)
}

fn hex(digest: &str) -> &str {
    digest.rsplit(':').next().unwrap_or(digest)
}

/// Reads the only image of an archive into a layout. The configuration is copied byte for byte, so that the image keeps
/// its id.
pub(crate) fn import(path: &str, layout: &Layout, compression: Compression) -> Result<Manifest> {
    let members = members(path)?;
    let images: Vec<Image> = serde_json::from_slice(&read_member(path, &members, "manifest.json")?)
        .map_err(|error| Error::failed(format!("`manifest.json` in `{path}` can't be read: {error}")))?;
    let [image] = images.as_slice() else {
        return Err(Error::failed(format!("`{path}` has {} images, expected 1", images.len())));
    };
    let config = read_member(path, &members, &image.config)?;
    let diff_ids = diff_ids(&config)?;
    let mut layers = Vec::new();
    for (index, name) in image.layers.iter().enumerate() {
        let member = find(path, &members, name)?;
        layers.push(import_layer(path, member, layout, compression, diff_ids.get(index))?);
    }
    let config = layout.add_bytes(CONFIG, &config)?;
    Ok(manifest(config, layers))
}

/// Adds the image's manifest to its layout.
pub(crate) fn add_manifest(layout: &Layout, image: &Manifest) -> Result<Descriptor> {
    layout.add_json(MANIFEST, image)
}

fn import_layer(
    path: &str,
    member: (u64, u64),
    layout: &Layout,
    compression: Compression,
    diff_id: Option<&String>,
) -> Result<Descriptor> {
    let (offset, size) = member;
    let magic = workspace::read_at(path, offset, 2)?;
    if magic == GZIP_MAGIC {
        let digest = copy_part(path, offset, size, layout)?;
        return Ok(descriptor(LAYER_GZIP, digest, size));
    }
    let layer = layout.add_layer(compression, |into| {
        io::copy(&mut FileReader::part(path, offset, size), into)?;
        Ok(())
    })?;
    if diff_id.is_some_and(|expected| *expected != layer.diff_id) {
        return Err(Error::failed(format!(
            "a layer in `{path}` has the digest {}, which its image doesn't list",
            layer.diff_id
        )));
    }
    Ok(layer.descriptor)
}

/// Copies a layer that is compressed already.
fn copy_part(path: &str, offset: u64, size: u64, layout: &Layout) -> Result<String> {
    let blob = layout.add_layer(Compression::None, |into| {
        io::copy(&mut FileReader::part(path, offset, size), into)?;
        Ok(())
    })?;
    Ok(blob.descriptor.digest)
}

fn diff_ids(config: &[u8]) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: Root,
    }
    #[derive(Deserialize)]
    struct Root {
        diff_ids: Vec<String>,
    }
    let config: Config = serde_json::from_slice(config)
        .map_err(|error| Error::failed(format!("the image's configuration can't be read: {error}")))?;
    Ok(config.rootfs.diff_ids)
}

/// A member of the archive. Docker writes equal layers once, and the others as links.
enum Member {
    /// Offset and size of the content.
    Content(u64, u64),
    /// The path of the member that it links to.
    Link(String),
}

fn members(path: &str) -> Result<BTreeMap<String, Member>> {
    let size = workspace::glob(path)?.first().map_or(0, |entry| entry.size);
    let mut archive = tar::Archive::new(FileReader::part(path, 0, size));
    let mut members = BTreeMap::new();
    let unreadable = |error: io::Error| host_error(error).context(format!("`{path}` isn't an image archive"));
    for entry in archive.entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let member = match entry.link_name_bytes() {
            Some(target) => Member::Link(resolve(&name, &String::from_utf8_lossy(&target))),
            None => Member::Content(entry.raw_file_position(), entry.size()),
        };
        members.insert(name, member);
    }
    Ok(members)
}

/// Resolves a link's target, which is relative to the link's folder.
fn resolve(name: &str, target: &str) -> String {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "" | "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn find(path: &str, members: &BTreeMap<String, Member>, name: &str) -> Result<(u64, u64)> {
    let followed = match members.get(name) {
        Some(Member::Link(target)) => members.get(target),
        other => other,
    };
    match followed {
        Some(Member::Content(offset, size)) => Ok((*offset, *size)),
        _ => Err(Error::failed(format!("`{path}` refers to `{name}`, which it doesn't contain"))),
    }
}

fn read_member(path: &str, members: &BTreeMap<String, Member>, name: &str) -> Result<Vec<u8>> {
    let (offset, size) = find(path, members, name)?;
    let length = u32::try_from(size).ok().filter(|_| size <= MAX_DOCUMENT);
    let length = length.ok_or_else(|| {
        Error::failed(format!("`{name}` in `{path}` has {size} bytes, at most {MAX_DOCUMENT} are allowed"))
    })?;
    workspace::read_at(path, offset, length)
}
