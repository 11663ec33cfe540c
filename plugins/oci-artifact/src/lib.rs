//! Packs a WASM module, a component, or any files as an OCI artifact: writes a layout, which `push-image` pushes like that of an
//! image.
//!
//! Input: the files. Output: the layout and its digest. Equal files and settings give an equal digest.
//!
//! WASM has the media types of the [CNCF's specification](https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/),
//! which `wkg` and other clients read. Other files have the form of the image specification's artifacts: an empty configuration,
//! and a title on each layer.

mod config;
mod layout;
#[cfg(test)]
mod tests;

use stagewright_sdk::{
    Error, Manifest, Outcome, Position, Problem, Requirement, Result, Stage, log, outputs, workspace,
};

use crate::config::Config;
use crate::layout::{Layer, Layout};

/// The plugin.
#[derive(Debug)]
pub struct OciArtifact;

impl Stage for OciArtifact {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<String>("layout", "The folder of the layout, for `layout` of `push-image`")
            .output::<String>("digest", "The digest of the artifact's manifest")
            .output::<u64>("size", "The bytes of all files")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config.problems()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        config.requirements()
    }

    fn run(config: Config) -> Result<Outcome> {
        let mut layout = Layout::create(&config.layout)?;
        let digest = match &config.wasm {
            Some(path) => {
                let layer = layout.add_file(path, "application/wasm", None)?;
                let settings = wasm_settings(&config, path, &layer)?;
                layout.finish(&config, "application/vnd.wasm.config.v0+json", settings.as_bytes(), &[layer])?
            }
            None => {
                let mut layers = Vec::new();
                for file in &config.files {
                    let title = file.title.clone().unwrap_or_else(|| name_of(&file.path).to_owned());
                    layers.push(layout.add_file(&file.path, &file.media_type, Some(title))?);
                }
                layout.finish(&config, "application/vnd.oci.empty.v1+json", b"{}", &layers)?
            }
        };
        outputs::set("layout", &config.layout)?;
        outputs::set("digest", &digest)?;
        outputs::set("size", &layout.size())?;
        log::info(format!("packed {digest}"));
        Ok(Outcome::Succeeded)
    }
}

stagewright_sdk::export_stage!(OciArtifact);

/// The configuration of a WASM artifact. What the first bytes are says which kind it is.
fn wasm_settings(config: &Config, path: &str, layer: &Layer) -> Result<String> {
    let os = match &workspace::read_at(path, 0, 8)?[..] {
        b"\0asm\x01\0\0\0" => "wasip1",
        b"\0asm\x0d\0\x01\0" => "wasip2",
        _ => {
            return Err(Error::failed(format!("`{path}` is neither a WASM module nor a component"))
                .file(path, None::<Position>)
                .help("check what the build wrote, or pack it with `files`"));
        }
    };
    let settings = serde_json::json!({
        "created": config.created, "architecture": "wasm", "os": os, "layerDigests": [layer.digest],
    });
    Ok(settings.to_string())
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
