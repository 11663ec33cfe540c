//! The JSON of an OCI image: configuration, manifest, index (image-spec 1.1).
//!
//! Written here and not with a library because the bytes are the identity of an image: keys stand in one order, and
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

/// Points at a blob.
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

/// A platform as it stands in an index.
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

/// An image index, also the `index.json` of a layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) manifests: Vec<Descriptor>,
}

/// A layer as the image's configuration knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerRecord {
    /// The digest of the layer's tar, uncompressed.
    pub(crate) diff_id: String,
    /// Shown by `docker history`.
    pub(crate) created_by: String,
}

/// The configuration of an image that puts `layers` on top of `base`, which is a configuration too.
///
/// As with a Dockerfile's instructions, variables, labels and ports add to those of the base, and an entrypoint of its
/// own drops the base's command.
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

    let of_base = |key: &str| base.pointer(key).and_then(Json::as_array).cloned().unwrap_or_default();
    let mut diff_ids = of_base("/rootfs/diff_ids");
    diff_ids.extend(layers.iter().map(|layer| json!(layer.diff_id)));
    image.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
    let mut history = of_base("/history");
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

/// `NAME=value` lines: the base's in its order, then those that are new.
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

/// The `index.json` of a layout that holds one image under some names.
pub(crate) fn index(manifest: &Descriptor, names: &[String]) -> Index {
    let named = |name: &String| {
        let annotations = BTreeMap::from([(REF_NAME.to_owned(), name.clone())]);
        Descriptor { annotations, ..manifest.clone() }
    };
    let manifests = if names.is_empty() { vec![manifest.clone()] } else { names.iter().map(named).collect() };
    Index { schema_version: 2, media_type: Some(INDEX.to_owned()), manifests }
}

/// The manifest of an image.
pub(crate) fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
    Manifest { schema_version: 2, media_type: Some(MANIFEST.to_owned()), config, layers }
}

/// A layer's media type in OCI's words; Docker's own types name the same bytes.
pub(crate) fn oci_layer_type(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => LAYER_GZIP,
        "application/vnd.docker.image.rootfs.diff.tar" => LAYER,
        other => other,
    }
}
