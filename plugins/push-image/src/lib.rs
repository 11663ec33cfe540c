//! Pushes an OCI image layout, and says which digest the registry holds afterwards.
//!
//! In flow a layout of the workspace, repositories and tags; out goes the digest that each registry answers with when
//! it is asked again. A digest that isn't the layout's own is an error: deploys go by it.

mod layout;
mod tag;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Deserialize;
use stagewright_sdk::{
    Capability, Diagnostic, Error, JsonSchema, Manifest, Observation, Outcome, Reconcile, Result, Stage, WorkspacePath,
    context, log, outputs, registry,
};

use crate::layout::Layout;

/// The stage's `with` table.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The OCI image layout, a folder of the workspace.
    #[serde(default = "default_layout")]
    layout: WorkspacePath,
    /// The repository without a tag, as in `local/app` or `ghcr.io/acme/app`.
    image: Option<String>,
    /// Several repositories; the first is the one of the outputs.
    #[serde(default)]
    images: Vec<String>,
    /// Tags, or git refs and versions that become tags; empty ones are left out. Without any, the names in the layout.
    #[serde(default)]
    tags: Vec<String>,
}

fn default_layout() -> WorkspacePath {
    WorkspacePath::fixed("target/image")
}

/// The plugin.
#[derive(Debug)]
pub struct PushImage;

impl Stage for PushImage {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new("push-image", env!("CARGO_PKG_VERSION"))
            .description("Pushes an OCI image layout and says which digest the registry holds")
            .capability(Capability::Workspace)
            .capability(Capability::Registry)
            .output("image", "The first repository, without a tag")
            .output("digest", "The digest that every registry confirmed")
            .output("reference", "image@digest, which is what to deploy")
            .output("tags", "The tags pushed")
            .output("images", "Every repository@digest")
    }

    fn validate(config: &Config) -> Vec<Diagnostic> {
        mistakes(config).into_iter().map(|(key, message)| Diagnostic::error("config", message).at(key)).collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        let push = Push::plan(&config)?;
        for reference in push.references() {
            if context::cancelled() {
                return Err(Error::new(stagewright_sdk::ErrorCode::Cancelled, "cancelled between two pushes"));
            }
            log::info(format!("pushing {reference}"));
            registry::push(&config.layout, &reference)?;
            push.confirm(&reference)?;
        }
        push.publish()?;
        Ok(Outcome::Succeeded)
    }
}

impl Reconcile for PushImage {
    fn observe(config: Config) -> Result<Observation> {
        let push = Push::plan(&config)?;
        let mut held = 0;
        for reference in push.references() {
            match registry::resolve(&reference) {
                Ok(descriptor) if descriptor.digest == push.layout.digest => held += 1,
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        if held < push.references().count() {
            // Pushing is idempotent: what a broken attempt left behind is the beginning of the next one.
            return Ok(Observation::NotStarted);
        }
        push.publish()?;
        Ok(Observation::Applied(push.reference()))
    }

    /// A tag that moved can't be moved back: where it stood before isn't recorded.
    fn undo(_config: Config) -> Result<()> {
        Err(Error::failed("a push can't be undone: the registry doesn't say where its tags stood before")
            .help("push the earlier image under these tags; deploys go by digest and are not affected"))
    }
}

stagewright_sdk::export_effectful_stage!(PushImage);

/// What is to be pushed, and where.
#[derive(Debug)]
struct Push {
    layout: Layout,
    images: Vec<String>,
    tags: Vec<String>,
}

impl Push {
    fn plan(config: &Config) -> Result<Push> {
        let layout = Layout::read(&config.layout)?;
        let named = config.tags.iter().any(|tag| !tag.trim().is_empty());
        let tags = sanitised(if named { &config.tags } else { &layout.names }).map_err(Error::invalid)?;
        if tags.is_empty() {
            return Err(Error::invalid("`with.tags` names no tag, and neither does the layout")
                .help("name one, as in tags = [\"${{ inputs.version }}\"]"));
        }
        Ok(Push { layout, images: repositories(config).cloned().collect(), tags })
    }

    fn references(&self) -> impl Iterator<Item = String> {
        self.images.iter().flat_map(|image| self.tags.iter().map(move |tag| format!("{image}:{tag}")))
    }

    /// Asks the registry what the tag names now.
    fn confirm(&self, reference: &str) -> Result<()> {
        let held = registry::resolve(reference)?.digest;
        if held == self.layout.digest {
            return Ok(());
        }
        Err(Error::failed(format!("{reference} holds {held}, and not {}, which was pushed", self.layout.digest))
            .help("somebody else pushes to this tag, or the registry rewrites images; use a tag of this run alone"))
    }

    /// `image@digest` of the first repository.
    fn reference(&self) -> String {
        self.images.first().map(|image| format!("{image}@{}", self.layout.digest)).unwrap_or_default()
    }

    fn publish(&self) -> Result<()> {
        let digests: Vec<String> = self.images.iter().map(|image| format!("{image}@{}", self.layout.digest)).collect();
        outputs::set("image", &self.images[0])?;
        outputs::set("digest", &self.layout.digest)?;
        outputs::set("reference", &self.reference())?;
        outputs::set("tags", &self.tags)?;
        outputs::set("images", &digests)?;
        let list: Vec<String> = self.references().map(|reference| format!("`{reference}`")).collect();
        outputs::summary(format!("Pushed {}: `{}`\n", list.join(", "), self.layout.digest));
        Ok(())
    }
}

fn repositories(config: &Config) -> impl Iterator<Item = &String> {
    config.image.iter().chain(&config.images)
}

/// Sorted out and without those that say the same, in the order given.
fn sanitised(texts: &[String]) -> std::result::Result<Vec<String>, String> {
    let mut seen = BTreeSet::new();
    let mut tags = Vec::new();
    for text in texts.iter().filter(|text| !text.trim().is_empty()) {
        let tag = tag::sanitise(text)?;
        if seen.insert(tag.clone()) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// What parsing alone doesn't find: each mistake's key, and what is wrong with it.
fn mistakes(config: &Config) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if repositories(config).next().is_none() {
        found.push(("image".to_owned(), "is missing; name a repository, as in image = \"local/app\"".to_owned()));
    }
    let keyed = config.image.iter().map(|image| ("image".to_owned(), image));
    let listed = config.images.iter().enumerate().map(|(index, image)| (format!("images[{index}]"), image));
    for (key, image) in keyed.chain(listed) {
        found.extend(tag::repository_mistake(image).map(|message| (key, message)));
    }
    for (index, text) in config.tags.iter().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        found.extend(tag::sanitise(text).err().map(|message| (format!("tags[{index}]"), message)));
    }
    found
}
