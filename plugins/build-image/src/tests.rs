//! Tests on the fake host: the content of the layout, and that builds are reproducible.

mod base;
mod docker;
mod files;

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, Report};
use stagewright_sdk::{Outcome, Result};

use crate::BuildImage;

type Files = BTreeMap<String, Vec<u8>>;

fn host(with: Json) -> FakeHost {
    FakeHost::new()
        .config(with)
        .executable("target/release/app", program("amd64", false))
        .file("static/index.html", "<h1>hello</h1>")
        .file("static/css/site.css", "h1 {}")
        .file("config/base.toml", "a = 1")
        .file("config/production.toml", "a = 2")
}

fn build(with: Json) -> Report<Result<Outcome>> {
    let report = host(with).run::<BuildImage>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    report
}

/// The beginning of an ELF file for an architecture, with or without a dynamic loader.
fn program(architecture: &str, dynamic: bool) -> Vec<u8> {
    const LOADER: &[u8] = b"/lib64/ld-linux-x86-64.so.2\0";
    let machine: u16 = if architecture == "amd64" { 62 } else { 183 };
    let kind: u32 = if dynamic { 3 } else { 1 };
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(2u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for word in [0u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(kind.to_le_bytes());
    file.extend(4u32.to_le_bytes());
    for word in [120u64, 0, 0, LOADER.len() as u64, LOADER.len() as u64, 1] {
        file.extend(word.to_le_bytes());
    }
    file.extend(LOADER);
    file
}

fn blob<'a>(files: &'a Files, layout: &str, digest: &str) -> &'a [u8] {
    let content = &files[&format!("{layout}/blobs/{}", digest.replace(':', "/"))];
    assert_eq!(crate::stream::digest(content), digest);
    content
}

fn document(files: &Files, layout: &str, at: &Json) -> Json {
    let content = blob(files, layout, at["digest"].as_str().unwrap());
    assert_eq!(at["size"], content.len());
    serde_json::from_slice(content).unwrap()
}

/// The manifest and the configuration of a layout's image.
fn image(files: &Files, layout: &str) -> (Json, Json) {
    let index: Json = serde_json::from_slice(&files[&format!("{layout}/index.json")]).unwrap();
    let manifest = document(files, layout, &index["manifests"][0]);
    let config = document(files, layout, &manifest["config"]);
    (manifest, config)
}

fn layer_tar(files: &Files, layout: &str, layer: &Json) -> Vec<u8> {
    let content = blob(files, layout, layer["digest"].as_str().unwrap());
    assert_eq!(layer["size"], content.len());
    if layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar" {
        return content.to_vec();
    }
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(content).read_to_end(&mut tar).unwrap();
    tar
}

/// Path, mode and content of a layer's entries, in order; folders have no content.
fn entries(tar: &[u8]) -> Vec<(String, u32, Option<String>)> {
    let mut archive = tar::Archive::new(tar);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let content = header.entry_type().is_file().then(|| String::from_utf8_lossy(&content).into_owned());
        (path, header.mode().unwrap(), content)
    };
    archive.entries().unwrap().map(read).collect()
}

fn paths(report: &Report<Result<Outcome>>) -> Vec<(String, u32)> {
    let (manifest, _) = image(&report.files, "target/image");
    let tar = layer_tar(&report.files, "target/image", &manifest["layers"][0]);
    entries(&tar).into_iter().map(|(path, mode, _)| (path, mode)).collect()
}

fn app(more: Json) -> Json {
    let mut with = json!({ "files": ["target/release/app"], "entrypoint": ["/app"] });
    if let (Json::Object(with), Json::Object(more)) = (&mut with, more) {
        with.extend(more);
    }
    with
}
