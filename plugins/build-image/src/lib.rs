//! Builds an OCI image layout in the workspace, reproducibly.
//!
//! Input: files of the workspace or a Dockerfile, and optionally a base image. Output: a layout, its digest, and optionally
//! a tar for `docker load`. Two builds of the same files are equal byte for byte: entries are sorted, times and owners are
//! zero, and the order of JSON keys is fixed. Files are processed in chunks, so an image may be much larger than the
//! guest's memory.
//!
//! It doesn't push: `push-image` does.

mod archive;
mod base;
mod config;
mod dockerfile;
mod document;
mod elf;
mod layer;
mod layout;
mod stream;
#[cfg(test)]
mod tests;
mod tree;

use stagewright_sdk::text::count;
use stagewright_sdk::{
    Error, Finding, Manifest, Outcome, Problem, Requirement, Result, Severity, Stage, WorkspacePath, context, log,
    metrics, outputs, workspace,
};

use crate::base::Base;
use crate::config::{Config, Platform, is_root};
use crate::document::{CONFIG, Descriptor, LayerRecord, MANIFEST, Manifest as ImageManifest, image_config};
use crate::layout::Layout;

/// The plugin.
#[derive(Debug)]
pub struct BuildImage;

impl Stage for BuildImage {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<String>("digest", "The digest of the image's manifest, which is its digest in a registry")
            .output::<String>("image-id", "The digest of the image's configuration, which `docker images` shows")
            .output::<WorkspacePath>("layout", "The folder of the layout")
            .output::<u64>("size", "Total size in bytes of the manifest, the configuration and the layers")
            .output::<Vec<String>>("tags", "The image's names in the layout")
            .output::<Option<WorkspacePath>>("archive", "The path of the tar for `docker load`; null without `archive`")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        let root = root_user(config).map(|message| Problem::at("user", message).warning("root-user").help(ROOT_HELP));
        config::problems(config).into_iter().chain(root).collect()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let layers = config.all_layers();
        let files = layers.iter().flat_map(|layer| &layer.files).map(|file| {
            let from = if file.from.is_empty() { "." } else { &file.from };
            Requirement::read(from).because("goes into the image")
        });
        let written = std::iter::once(&config.layout).chain(&config.archive);
        let written = written.map(|path| Requirement::write(path.as_str()).because("receives the image"));
        let base = config.base_reference().map(|base| Requirement::image(base).because("is the base of the image"));
        let dockerfile = config.dockerfile.iter().flat_map(|dockerfile| {
            [dockerfile, &config.context].map(|path| Requirement::read(path.as_str()).because("is built"))
        });
        let builder = config.builder.iter().flat_map(|builder| builder.requirements());
        files.chain(written).chain(base).chain(dockerfile).chain(builder).collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        let root = root_user(&config).map(|message| Finding::warning("root-user", message).help(ROOT_HELP));
        report(root.into_iter().collect(), config.strict)?;
        let layout = Layout::create(&config.layout)?;
        let (manifest, image) = match (&config.dockerfile, config.builder) {
            (Some(dockerfile), Some(builder)) => dockerfile::build(&config, dockerfile, builder, &layout)?,
            _ => build(&config, &layout)?,
        };
        layout.write_index(&document::index(&manifest, &config.tags))?;
        if let Some(archive) = &config.archive {
            archive::export(&layout, &image, &load_names(&config), archive)?;
        }
        publish(&config, &manifest, &image)?;
        Ok(Outcome::Succeeded)
    }
}

stagewright_sdk::export_stage!(BuildImage);

const ROOT_HELP: &str = "remove `user` to run it as an unprivileged user, or set a user id";

/// The warning about an image whose program runs as root.
fn root_user(config: &Config) -> Option<String> {
    is_root(config.user()).then(|| format!("the image's program runs as root (`{}`)", config.user()))
}

/// Reports findings. With `strict`, the first one becomes the stage's error.
fn report(mut findings: Vec<Finding>, strict: bool) -> Result<()> {
    for finding in &mut findings {
        if strict {
            finding.severity = Severity::Error;
        }
        finding.report();
    }
    match findings.into_iter().next().filter(|_| strict) {
        None => Ok(()),
        Some(Finding { message, help, .. }) => {
            Err(Error::failed(message).help(help.unwrap_or_else(|| "or set `strict = false`".to_owned())))
        }
    }
}

/// Builds the image from `files` and `layers`.
fn build(config: &Config, layout: &Layout) -> Result<(Descriptor, ImageManifest)> {
    let pulled = layout.path("base");
    let base = match config.base_reference() {
        Some(reference) => Some(base::pull(reference, &pulled, config.platform.as_ref())?),
        None => None,
    };
    let base_platform = base.as_ref().map(|base| base.platform.clone());
    let platform = base_platform.or_else(|| config.platform.clone()).unwrap_or_default();

    let mut layers = Vec::new();
    if let Some(base) = &base {
        for layer in &base.manifest.layers {
            layers.push(layout.copy_layer(&base.layout, layer)?);
        }
    }
    let mut records = Vec::new();
    let (own, found) = add_layers(config, layout, &platform, base.is_some())?;
    for (blob, created_by) in own {
        records.push(LayerRecord { diff_id: blob.diff_id, created_by });
        layers.push(blob.descriptor);
    }
    report(found, config.strict)?;
    let document = image_config(config, &platform, base.as_ref().map(|base: &Base| &base.config), &records);
    let image = document::manifest(layout.add_json(CONFIG, &document)?, layers);
    if base.is_some() {
        workspace::remove(&pulled)?;
    }
    Ok((layout.add_json(MANIFEST, &image)?, image))
}

type NamedLayers = Vec<(layout::LayerBlob, String)>;

fn add_layers(
    config: &Config,
    layout: &Layout,
    platform: &Platform,
    on_base: bool,
) -> Result<(NamedLayers, Vec<Finding>)> {
    let specs = config.all_layers();
    let (mut blobs, mut findings) = (Vec::new(), Vec::new());
    for (done, spec) in (0..).zip(&specs) {
        if context::cancelled() {
            return Err(Error::cancelled("cancelled between two layers"));
        }
        log::progress("writing layers", done, Some(specs.len() as u64));
        let tree = layer::collect(spec, on_base)?;
        findings.extend(layer::inspect_programs(&tree, platform, on_base)?);
        findings.extend(layer::inspect_links(&tree, on_base || specs.len() > 1));
        let blob = layout.add_layer(config.compression, |into| layer::write_tar(&tree, into))?;
        log::info(format!(
            "layer {}: {}, {}, {} in the layout",
            done + 1,
            count(tree.entries.len(), "entry"),
            count(tree.size(), "byte"),
            blob.descriptor.size
        ));
        let names: Vec<&str> = spec.files.iter().map(|file| file.from.as_str()).collect();
        blobs.push((blob, format!("stagewright build-image {} -> {}", names.join(" "), spec.dest)));
    }
    Ok((blobs, findings))
}

/// The names that `docker load` gives the image. A tag that is a whole reference is used unchanged; others become tags of
/// `name`.
fn load_names(config: &Config) -> Vec<String> {
    let full = |tag: &String| match (&config.name, tag.contains(':')) {
        (_, true) => Some(tag.clone()),
        (Some(name), false) => Some(format!("{name}:{tag}")),
        (None, false) => None,
    };
    config.tags.iter().filter_map(full).collect()
}

fn publish(config: &Config, manifest: &Descriptor, image: &ImageManifest) -> Result<()> {
    let layers: u64 = image.layers.iter().map(|layer| layer.size).sum();
    let size = manifest.size + image.config.size + layers;
    outputs::set("digest", &manifest.digest)?;
    outputs::set("image-id", &image.config.digest)?;
    outputs::set("layout", &config.layout)?;
    outputs::set("size", &size)?;
    metrics::set("image-size", size as f64, "bytes")?;
    outputs::set("tags", &config.tags)?;
    outputs::set("archive", &config.archive)?;
    outputs::summary(format!(
        "Image `{}` in `{}`: {}, {size} bytes.\n",
        manifest.digest,
        config.layout,
        count(image.layers.len(), "layer")
    ));
    Ok(())
}
