//! Names and labels an image by its commit, branch, pull request or version, as docker/metadata-action does.
//!
//! Input: what the run is for, and the rules. Output: tags, labels and a time for `build-image` and `push-image`. It builds and
//! pushes nothing.

mod config;
mod labels;
mod pattern;
mod tag;
mod tags;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use stagewright_sdk::{Error, Finding, Manifest, Outcome, Problem, Requirement, Result, Stage, log, outputs, source};

use crate::config::Config;
use crate::labels::Facts;
use crate::tags::Subject;

/// The plugin.
#[derive(Debug)]
pub struct ImageMeta;

impl Stage for ImageMeta {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<Option<String>>("version", "The first tag; null without any")
            .output::<Vec<String>>("tags", "The tags, for `tags` of `push-image` and `build-image`")
            .output::<Vec<String>>("references", "REPOSITORY:TAG for each of `images` and each tag")
            .output::<BTreeMap<String, String>>("labels", "The labels, for `labels` of `build-image`")
            .output::<String>("created", "The time of the commit, for `created` of `build-image`")
            .output::<String>("revision", "The full id of the commit")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config::problems(config)
    }

    fn requirements(_config: &Config) -> Vec<Requirement> {
        Vec::new()
    }

    fn run(config: Config) -> Result<Outcome> {
        let history = source::commits(None, 1)?;
        let commit = history.commits.first().ok_or_else(|| Error::internal("the run's commit has no history"))?;
        if source::dirty() {
            log::warn("files differ from the commit: the tags and labels name a commit that the image isn't made of");
        }
        let tags = tags::tags(&config, &Subject::of_run(commit.id.clone()))?;
        // The commit's time and not that of the run: the same commit has the same labels, so the same image.
        let created = jiff::Timestamp::from_millisecond(commit.time_ms.try_into().unwrap_or(i64::MAX))
            .map_err(|error| Error::failed(format!("the commit has an invalid time: {error}")))?
            .to_string();
        let repository = source::repository()?;
        let facts = Facts {
            created: &created,
            commit: &commit.id,
            version: tags.first().map(String::as_str),
            repository: repository.as_deref(),
        };
        let labels = labels::labels(&config, &facts);
        publish(&config, &tags, &labels)?;
        outputs::set("created", &created)?;
        outputs::set("revision", &commit.id)?;
        Ok(Outcome::Succeeded)
    }
}

stagewright_sdk::export_stage!(ImageMeta);

fn publish(config: &Config, tags: &[String], labels: &BTreeMap<String, String>) -> Result<()> {
    if tags.is_empty() {
        let reference = source::reference().unwrap_or_else(|| "a commit without a branch".to_owned());
        Finding::warning("no-tags", format!("no rule gives a tag for {reference}"))
            .help("add a rule, as in { type = \"sha\" }")
            .report();
    }
    let images = config.images.iter().map(|image| image.to_lowercase());
    let references: Vec<String> =
        images.flat_map(|image| tags.iter().map(move |tag| format!("{image}:{tag}"))).collect();
    outputs::set("version", &tags.first())?;
    outputs::set("tags", &tags)?;
    outputs::set("references", &references)?;
    outputs::set("labels", labels)?;
    let tags: Vec<String> = tags.iter().map(|tag| format!("`{tag}`")).collect();
    outputs::summary(match tags.is_empty() {
        true => "The image has no tags.\n".to_owned(),
        false => format!("Tags: {}\n", tags.join(", ")),
    });
    Ok(())
}
