//! The stage's `with` table.

use std::collections::BTreeMap;
use std::time::Duration;

use rollout::{Image, Probe, ReleaseConfig, Strategy};
use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, WorkspacePath, schemars};

/// The image to update a service to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "service": "api",
    "cluster": "main",
    "credential": "ecs",
    "image": "${{ stages.push.outputs.reference }}",
}))]
pub(crate) struct Config {
    /// The service's name.
    pub(crate) service: String,
    /// The cluster's name.
    #[serde(default = "default_cluster")]
    pub(crate) cluster: String,
    /// The name of the credential that signs requests to ECS. Its only origin is where they go.
    pub(crate) credential: String,
    /// The image by digest: `REPOSITORY@sha256:…`.
    pub(crate) image: Image,
    /// The container that gets the image. Default: the only one.
    pub(crate) container: Option<String>,
    /// A file with the task definition, as the input of `RegisterTaskDefinition` in JSON; its image is replaced. Default: the
    /// task definition that the service has.
    pub(crate) task_definition: Option<WorkspacePath>,
    /// Environment variables of the container from secrets, by variable. The deploy writes the values to AWS Secrets Manager, from
    /// where ECS reads them. The host writes them into the requests: each secret needs Secrets Manager's host in its `hosts`.
    #[serde(default)]
    pub(crate) secret_env: BTreeMap<String, String>,
    /// The name of the credential that signs requests to Secrets Manager, for `secret-env`. Its only origin is where they go.
    pub(crate) secrets_credential: Option<String>,
    /// What the names of the secrets in Secrets Manager begin with, before `/VARIABLE`. Default: `CLUSTER/SERVICE`.
    pub(crate) secrets_prefix: Option<String>,
    /// How long ECS may take to replace the tasks.
    #[serde(default)]
    pub(crate) readiness: Readiness,
}

fn default_cluster() -> String {
    "default".to_owned()
}

/// The wait for the new tasks.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Readiness {
    /// How long ECS may take until all tasks are replaced, those that it drains included.
    pub(crate) deadline: DurationText,
}

impl Default for Readiness {
    fn default() -> Readiness {
        Readiness { deadline: DurationText(Duration::from_secs(15 * 60)) }
    }
}

impl Config {
    /// What identifies the content of the release, by digest.
    pub(crate) fn artifact(&self) -> &str {
        self.image.as_str()
    }
}

impl ReleaseConfig for Config {
    fn problems(&self) -> Vec<Problem> {
        problems(self)
    }

    fn service(&self) -> &str {
        &self.service
    }

    fn probes(&self) -> Vec<(&'static str, Probe)> {
        vec![("readiness", Probe::of_target(self.readiness.deadline.0))]
    }

    fn strategy(&self) -> Strategy {
        Strategy::switch()
    }
}

/// Mistakes that parsing doesn't catch.
fn problems(config: &Config) -> Vec<Problem> {
    let mut found: Vec<Problem> = config.image.problem("image").into_iter().collect();
    for (key, name) in [("service", &config.service), ("cluster", &config.cluster)] {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(fits) {
            let message = format!("invalid name `{name}`; use letters, digits, `-` and `_`, and no ARN");
            found.push(Problem::at(key, message));
        }
    }
    found.extend(secret_problems(config));
    found
}

/// Mistakes about secrets. The variables of the container are known only with its task definition.
fn secret_problems(config: &Config) -> Vec<Problem> {
    let mut found = rollout::secret_env_problems(&config.secret_env, &BTreeMap::new(), "env");
    let fits = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c));
    for variable in config.secret_env.keys().filter(|variable| !fits(variable)) {
        let message = format!("Secrets Manager takes no name with `{variable}`");
        let problem = Problem::at(format!("secret-env.{variable}"), message);
        found.push(problem.help("use letters, digits and `_`"));
    }
    if let Some(prefix) = config.secrets_prefix.as_ref().filter(|prefix| prefix.is_empty() || !fits(prefix)) {
        let message = format!("invalid prefix `{prefix}`; use letters, digits and `/_+=.@-`");
        found.push(Problem::at("secrets-prefix", message));
    }
    match &config.secrets_credential {
        None if !config.secret_env.is_empty() => {
            let problem = Problem::at("secrets-credential", "nothing signs the requests to Secrets Manager");
            found.push(problem.help("name a credential with service = \"secretsmanager\""));
        }
        Some(credential) if *credential == config.credential => {
            let problem =
                Problem::at("secrets-credential", "the credential of ECS signs no requests to Secrets Manager");
            found.push(problem.help("name another one, with service = \"secretsmanager\""));
        }
        _ => {}
    }
    found
}
