//! The base image of a build.

use serde_json::Value as Json;
use stagewright_sdk::{Error, Result, log, registry};

use crate::config::Platform;
use crate::document::Manifest;
use crate::layout::{Layout, descriptor};

/// A base image, pulled into a layout of the workspace.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) layout: Layout,
    pub(crate) manifest: Manifest,
    /// The image's configuration document.
    pub(crate) config: Json,
    pub(crate) platform: Platform,
}

/// Pulls an image into the folder `into`, which must not exist, and picks the one for `platform`.
pub(crate) fn pull(reference: &str, into: &str, platform: Option<&Platform>) -> Result<Base> {
    if !reference.contains("@sha256:") {
        log::warn(format!(
            "the base {reference} has a tag instead of a digest: builds differ once the tag moves; use a digest"
        ));
    }
    let pulled =
        registry::pull(reference, into).map_err(|error| error.context(format!("can't pull the base {reference}")))?;
    let layout = Layout::at(into);
    let default = Platform::default();
    let pulled = descriptor(&pulled.media_type, pulled.digest, pulled.size);
    let (_, manifest) = layout.image(pulled, Some(platform.unwrap_or(&default)))?;
    let config: Json = layout.json(&manifest.config)?;
    let text = |key: &str| config[key].as_str().map(str::to_owned);
    let (Some(os), Some(architecture)) = (text("os"), text("architecture")) else {
        return Err(Error::failed(format!("the configuration of {reference} has no platform")));
    };
    let found = Platform { os, architecture, variant: text("variant") };
    if let Some(requested) = platform.filter(|it| it.os != found.os || it.architecture != found.architecture) {
        return Err(Error::failed(format!("the base {reference} is for {found}, but `platform` is {requested}"))
            .help("remove `platform`, or use a base for that platform"));
    }
    Ok(Base { layout, manifest, config, platform: found })
}
