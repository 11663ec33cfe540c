//! Builds a Dockerfile with Docker or Buildah, and imports the result into the layout.

use stagewright_sdk::process::Command;
use stagewright_sdk::{Error, Result, context, log, workspace};

use crate::archive;
use crate::config::{Builder, Config};
use crate::document::{Descriptor, Manifest, oci_layer_type};
use crate::layout::Layout;

/// Builds the Dockerfile into the layout. Returns the image's manifest and its descriptor.
pub(crate) fn build(
    config: &Config,
    dockerfile: &str,
    builder: Builder,
    layout: &Layout,
) -> Result<(Descriptor, Manifest)> {
    // Unique to this stage of this run: other runs on the machine share the builder's images.
    let tag = format!("stagewright-build:{}", tag_of(&context::run_id(), &context::stage_id()));
    match builder {
        Builder::Docker => with_docker(config, dockerfile, &tag, layout),
        Builder::Buildah => with_buildah(config, dockerfile, &tag, layout),
    }
}

fn with_docker(config: &Config, dockerfile: &str, tag: &str, layout: &Layout) -> Result<(Descriptor, Manifest)> {
    run("docker", &build_args(config, &["build"], dockerfile, tag))?;
    let saved = layout.path("docker.tar");
    run("docker", &["save", "--output", &saved, tag].map(str::to_owned))?;
    let manifest = archive::import(&saved, layout, config.compression)?;
    workspace::remove(&saved)?;
    clean_up("docker", &["image", "rm", tag]);
    Ok((archive::add_manifest(layout, &manifest)?, manifest))
}

fn with_buildah(config: &Config, dockerfile: &str, tag: &str, layout: &Layout) -> Result<(Descriptor, Manifest)> {
    // Buildah can set all timestamps to a fixed time; Docker's legacy builder can't.
    run("buildah", &build_args(config, &["build", "--timestamp", "0"], dockerfile, tag))?;
    let pushed = layout.path("buildah");
    run("buildah", &["push".to_owned(), tag.to_owned(), format!("oci:{pushed}")])?;
    let from = Layout::at(&pushed);
    let (at, manifest) = from.image(from.first()?, None)?;
    for layer in &manifest.layers {
        layout.copy_layer(&from, layer)?;
    }
    for document in [&at, &manifest.config] {
        layout.add_bytes(&document.media_type, &workspace::read(&from.blob_path(&document.digest))?)?;
    }
    if let Some(layer) = manifest.layers.iter().find(|layer| oci_layer_type(&layer.media_type) != layer.media_type) {
        return Err(Error::failed(format!(
            "buildah wrote a layer of type {}, which isn't an OCI type",
            layer.media_type
        )));
    }
    workspace::remove(&pushed)?;
    clean_up("buildah", &["rmi", tag]);
    Ok((at, manifest))
}

fn build_args(config: &Config, command: &[&str], dockerfile: &str, tag: &str) -> Vec<String> {
    let mut args: Vec<String> = command.iter().map(ToString::to_string).collect();
    args.extend(["--file", dockerfile, "--tag", tag].map(str::to_owned));
    if let Some(platform) = &config.platform {
        args.extend(["--platform".to_owned(), platform.to_string()]);
    }
    for (name, value) in &config.build_args {
        args.extend(["--build-arg".to_owned(), format!("{name}={value}")]);
    }
    for (name, value) in &config.labels {
        args.extend(["--label".to_owned(), format!("{name}={value}")]);
    }
    args.push(config.context.to_string());
    args
}

fn run(program: &str, args: &[String]) -> Result<()> {
    let status = Command::new(program).args(args.iter().cloned()).status()?;
    if status.success() {
        return Ok(());
    }
    let command = args.first().map_or("", String::as_str);
    Err(Error::failed(format!("`{program} {command}` ended with {status}")).help("see its output in the stage's log"))
}

/// Removes the builder's own copy of the image. Failing to do so is only a warning.
fn clean_up(program: &str, args: &[&str]) {
    let removed = Command::new(program).args(args.iter().copied()).status();
    if !removed.is_ok_and(|status| status.success()) {
        log::warn(format!("`{program} {}` did not remove the builder's copy of the image", args.join(" ")));
    }
}

/// A valid tag for a run and a stage, whose names may have characters that a tag can't.
fn tag_of(run: &str, stage: &str) -> String {
    let text = format!("{run}-{stage}");
    let replace = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    text.chars().map(replace).take(120).collect()
}
