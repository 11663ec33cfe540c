//! Checks a Compose file, and turns it into a release that `deploy` carries out with Compose or on a Swarm.
//!
//! Input: the file, the images of this release by digest, and the values of variables. Output: `release`, which says all that
//! is deployed. It becomes a part of the deploy's configuration, and with that of the ledger: a rollback deploys exactly what
//! ran then, whatever the files of the workspace are by now.
//!
//! It reads files of the workspace, and has no effect.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use compose_file::{Inputs, Mistake, Power, Runtime};
use rollout::Image;
use serde::Deserialize;
use stagewright_sdk::text::count;
use stagewright_sdk::{
    Error, Finding, JsonSchema, Manifest, Outcome, Position, Problem, Requirement, Result, Stage, WorkspacePath, log,
    outputs, schemars, workspace,
};

/// The plugin.
#[derive(Debug)]
pub struct ComposeRelease;

/// The file, and what is filled in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "file": "compose.yaml",
    "images": { "web": "${{ stages.push.outputs.reference }}" },
    "secrets": ["OPENAI_API_KEY"],
}))]
pub struct Config {
    /// The Compose file. Default: `compose.yaml`.
    #[serde(default = "default_file")]
    file: WorkspacePath,
    /// What the release is for: `compose` or `swarm`. They support different keys.
    #[serde(default)]
    target: Runtime,
    /// The images of services by digest, `REPOSITORY@sha256:…`, in place of those of the file.
    #[serde(default)]
    images: BTreeMap<String, Image>,
    /// The values of variables. The environment isn't used, so that a release is the same wherever it is made.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// Variables that the deploy sets to secrets of the pipeline. The release has only their names.
    #[serde(default)]
    secrets: Vec<String>,
    /// What services may do beyond their containers. It is refused otherwise.
    #[serde(default)]
    allow: Vec<Power>,
}

fn default_file() -> WorkspacePath {
    WorkspacePath::fixed("compose.yaml")
}

impl Stage for ComposeRelease {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<serde_json::Value>("release", "The release, for `release` of a deploy")
            .output::<String>("artifact", "What identifies its content, as in `compose.yaml@sha256:…`")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        let images = config.images.iter();
        let mut found: Vec<Problem> =
            images.filter_map(|(service, image)| image.problem(&format!("images.{service}"))).collect();
        if config.target == Runtime::Swarm && !config.secrets.is_empty() {
            let problem = Problem::at("secrets", "a release for Swarm can't have secrets of the pipeline");
            found.push(
                problem.help("declare them in the file, as in secrets: { NAME: { external: true } }, and name secrets of the pipeline in \
                              the deploy: secrets = { NAME = \"…\" }"),
            );
        }
        found
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        vec![Requirement::read(config.file.as_str()).because("is deployed")]
    }

    fn run(config: Config) -> Result<Outcome> {
        let file = config.file.as_str();
        let text = workspace::read_text(file)?;
        let inputs = Inputs {
            runtime: config.target,
            images: config.images,
            variables: config.variables,
            secrets: config.secrets.into_iter().collect(),
            allow: config.allow.into_iter().collect(),
        };
        let read = |path: &str| workspace::read_text(&beside(file, path)).map_err(|error| error.to_string());
        let release =
            compose_file::resolve(file, &text, &inputs, &read).map_err(|mistakes| refusal(file, &mistakes))?;
        outputs::set("release", &release.to_json())?;
        outputs::set("artifact", release.artifact())?;
        let services = release.services();
        log::info(format!("{} has {}", release.artifact(), count(services.len() as u64, "service")));
        let images = services
            .iter()
            .map(|(name, service)| format!("- {name}: `{}`\n", service["image"].as_str().unwrap_or_default()));
        outputs::summary(format!("`{}`\n\n{}", release.artifact(), images.collect::<String>()));
        Ok(Outcome::Succeeded)
    }
}

/// A path that a file names, which begins at the file's folder.
fn beside(file: &str, path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    match file.rsplit_once('/') {
        Some((folder, _)) if !path.starts_with('/') => format!("{folder}/{path}"),
        _ => path.to_owned(),
    }
}

/// Reports all mistakes as findings, and says them in the error, too.
fn refusal(file: &str, mistakes: &[Mistake]) -> Error {
    let mut causes = Vec::new();
    for Mistake { line, column, key, message, help } in mistakes {
        let place = if key.is_empty() { String::new() } else { format!("{key}: ") };
        let position = Some(Position::at(*line, *column));
        Finding::error("compose-file", format!("{place}{message}")).file(file, position).help(help).report();
        causes.push(format!("{file}:{line}: {place}{message}; {help}"));
    }
    let total = count(mistakes.len() as u64, "mistake");
    Error::failed(format!("`{file}` can't be deployed: {total}"))
        .never_retry()
        .causes(causes)
        .help(format!("correct `{file}`, or the `with` table of this stage"))
}

stagewright_sdk::export_stage!(ComposeRelease);
