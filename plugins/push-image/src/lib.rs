//! Pushes an OCI image layout, and verifies the digest that the registry has afterwards.
//!
//! Input: a layout in the workspace, repositories and tags. Output: the digest, after each registry has confirmed it. A
//! digest other than the layout's is an error, because deploys rely on it.

mod layout;
mod tag;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Deserialize;
use stagewright_sdk::{
    Error, JsonSchema, Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage, WorkspacePath,
    context, log, outputs, registry, schemars,
};

use crate::layout::Layout;

/// The stage's `with` table.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "layout": "target/image", "image": "ghcr.io/acme/app", "tags": ["${{ inputs.version }}"] }))]
pub struct Config {
    /// The OCI image layout, a folder of the workspace.
    #[serde(default = "default_layout")]
    layout: WorkspacePath,
    /// The repository without a tag, as in `local/app` or `ghcr.io/acme/app`.
    image: Option<String>,
    /// Additional repositories. The outputs name the first one.
    #[serde(default)]
    images: Vec<String>,
    /// The tags. Git refs and versions are converted into tags, and empty ones are ignored. Default: the names in the
    /// layout.
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
        stagewright_sdk::manifest!()
            .output::<String>("image", "The first repository, without a tag")
            .output::<String>("digest", "The digest that every registry confirmed")
            .output::<String>("reference", "image@digest, for a deploy")
            .output::<Vec<String>>("tags", "The tags that were pushed")
            .output::<Vec<String>>("images", "repository@digest for each repository")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        problems(config)
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let layout = Requirement::read(config.layout.as_str()).because("contains the image");
        let repositories = repositories(config).map(|image| Requirement::registry(image).because("receives the image"));
        std::iter::once(layout).chain(repositories).collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        let push = Push::plan(&config)?;
        for reference in push.references() {
            if context::cancelled() {
                return Err(Error::cancelled("cancelled between two pushes"));
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
        let mut pushed = 0;
        for reference in push.references() {
            match registry::resolve(&reference) {
                Ok(descriptor) if descriptor.digest == push.layout.digest => pushed += 1,
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        if pushed < push.references().count() {
            // A push is idempotent, so the next attempt can start over what the interrupted one has pushed.
            return Ok(Observation::NotStarted);
        }
        push.publish()?;
        Ok(Observation::Applied(push.reference()))
    }

    /// Can't be undone: the digests that the tags had before aren't recorded.
    fn undo(_config: Config) -> Result<()> {
        Err(Error::failed("a push can't be undone: the previous digests of the tags are unknown")
            .help("push the earlier image with these tags; deploys use the digest and are not affected"))
    }
}

stagewright_sdk::export_effectful_stage!(PushImage);

/// A layout, and the repositories and tags to push it to.
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
            return Err(Error::invalid("neither `with.tags` nor the layout has a tag")
                .help("add one, as in tags = [\"${{ inputs.version }}\"]"));
        }
        Ok(Push { layout, images: repositories(config).cloned().collect(), tags })
    }

    fn references(&self) -> impl Iterator<Item = String> {
        self.images.iter().flat_map(|image| self.tags.iter().map(move |tag| format!("{image}:{tag}")))
    }

    /// Verifies the digest that the registry has for the reference.
    fn confirm(&self, reference: &str) -> Result<()> {
        let digest = registry::resolve(reference)?.digest;
        if digest == self.layout.digest {
            return Ok(());
        }
        Err(Error::failed(format!("{reference} has the digest {digest}, but {} was pushed", self.layout.digest)).help(
            "another client pushed to this tag, or the registry rewrites images; use a tag that is unique to this run",
        ))
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

/// Converts texts into tags, in order. Blank texts and duplicates are dropped.
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

fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    if repositories(config).next().is_none() {
        found.push(Problem::at("image", "is missing; add a repository, as in image = \"local/app\""));
    }
    let keyed = config.image.iter().map(|image| ("image".to_owned(), image));
    let listed = config.images.iter().enumerate().map(|(index, image)| (format!("images[{index}]"), image));
    for (key, image) in keyed.chain(listed) {
        found.extend(tag::repository_mistake(image).map(|message| Problem::at(key, message)));
    }
    for (index, text) in config.tags.iter().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        found.extend(tag::sanitise(text).err().map(|message| Problem::at(format!("tags[{index}]"), message)));
    }
    found
}
