//! The JSON documents of an OCI image: configuration, manifest, index (image-spec 1.1).
//!
//! They aren't written with a library, because their bytes are the identity of an image: the order of keys is fixed, and
//! maps are sorted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::config::{Config, Platform};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A reference to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<PlatformJson>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A platform as an index writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlatformJson {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// An image manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// An image index, which is also the format of a layout's `index.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) manifests: Vec<Descriptor>,
}

/// What the image's configuration records of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerRecord {
    /// The digest of the layer's uncompressed tar.
    pub(crate) diff_id: String,
    /// The line that `docker history` shows.
    pub(crate) created_by: String,
}

/// The configuration of an image with `layers` on top of `base`, the configuration of the base image.
///
/// As in a Dockerfile, variables, labels and ports are added to those of the base, and a new entrypoint resets the base's
/// command.
pub(crate) fn image_config(config: &Config, platform: &Platform, base: Option<&Json>, layers: &[LayerRecord]) -> Json {
    let created = config.created.0.to_string();
    let empty = Json::Null;
    let base = base.unwrap_or(&empty);

    let mut image = Map::new();
    image.insert("created".into(), json!(created));
    image.insert("architecture".into(), json!(platform.architecture));
    image.insert("os".into(), json!(platform.os));
    if let Some(variant) = &platform.variant {
        image.insert("variant".into(), json!(variant));
    }
    image.insert("config".into(), execution_config(config, &base["config"]));

    let from_base = |key: &str| base.pointer(key).and_then(Json::as_array).cloned().unwrap_or_default();
    let mut diff_ids = from_base("/rootfs/diff_ids");
    diff_ids.extend(layers.iter().map(|layer| json!(layer.diff_id)));
    image.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
    let mut history = from_base("/history");
    history.extend(layers.iter().map(|layer| json!({ "created": created, "created_by": layer.created_by })));
    image.insert("history".into(), Json::Array(history));
    Json::Object(image)
}

fn execution_config(config: &Config, base: &Json) -> Json {
    let mut result = base.as_object().cloned().unwrap_or_default();
    result.insert("User".into(), json!(config.user()));

    let mut ports = sorted(&base["ExposedPorts"]);
    ports.extend(config.expose.iter().map(|port| (port.0.clone(), json!({}))));
    let mut labels = sorted(&base["Labels"]);
    labels.extend(config.labels.iter().map(|(name, value)| (name.clone(), json!(value))));
    for (key, map) in [("ExposedPorts", ports), ("Labels", labels)] {
        if !map.is_empty() {
            result.insert(key.into(), json!(map));
        }
    }
    let environment = environment(config, &base["Env"]);
    if !environment.is_empty() {
        result.insert("Env".into(), json!(environment));
    }
    if !config.entrypoint.is_empty() {
        result.insert("Entrypoint".into(), json!(config.entrypoint));
        result.shift_remove("Cmd");
    }
    if !config.cmd.is_empty() {
        result.insert("Cmd".into(), json!(config.cmd));
    }
    if let Some(workdir) = &config.workdir {
        result.insert("WorkingDir".into(), json!(workdir));
    }
    Json::Object(result)
}

/// `NAME=value` lines: the base's in their order, then the new ones.
fn environment(config: &Config, base: &Json) -> Vec<String> {
    let base = base.as_array().into_iter().flatten().filter_map(Json::as_str);
    let (mut lines, mut rest) = (Vec::new(), config.env.clone());
    for line in base {
        let name = line.split('=').next().unwrap_or_default();
        lines.push(match rest.remove(name) {
            Some(value) => format!("{name}={value}"),
            None => line.to_owned(),
        });
    }
    lines.extend(rest.into_iter().map(|(name, value)| format!("{name}={value}")));
    lines
}

fn sorted(value: &Json) -> BTreeMap<String, Json> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The `index.json` of a layout with one image, listed once per name.
pub(crate) fn index(manifest: &Descriptor, names: &[String]) -> Index {
    let named = |name: &String| {
        let annotations = BTreeMap::from([(REF_NAME.to_owned(), name.clone())]);
        Descriptor { annotations, ..manifest.clone() }
    };
    let manifests = if names.is_empty() { vec![manifest.clone()] } else { names.iter().map(named).collect() };
    Index { schema_version: 2, media_type: Some(INDEX.to_owned()), manifests }
}

/// The manifest for a configuration and its layers.
pub(crate) fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
    Manifest { schema_version: 2, media_type: Some(MANIFEST.to_owned()), config, layers }
}

/// The OCI media type of a layer. Docker has types of its own for the same formats.
pub(crate) fn oci_layer_type(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => LAYER_GZIP,
        "application/vnd.docker.image.rootfs.diff.tar" => LAYER,
        other => other,
    }
}
