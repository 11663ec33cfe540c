//! The stage's `with` table.

use std::collections::BTreeMap;
use std::time::Duration;

use rollout::{Deliverable, Image, Probe, ReleaseConfig, Strategy};
use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::{DurationText, JsonSchema, Problem, schemars};

use crate::variables;

/// The code to deploy as a version of a function, and how it gets the requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "function": "orders",
    "credential": "lambda",
    "zip": "${{ stages.package.outputs.artifacts.function }}",
    "readiness": { "payload": { "check": true }, "expect": { "statusCode": 200 } },
    "strategy": { "canary": { "steps": [{ "set-weight": 10 }, { "pause": { "duration": "5m" } }] } },
}))]
pub(crate) struct Config {
    /// The function's name.
    pub(crate) function: String,
    /// The alias that callers use. A deploy moves it, and creates it if it doesn't exist.
    #[serde(default = "default_alias")]
    pub(crate) alias: String,
    /// The name of the credential that signs requests to Lambda. Its only origin is where they go.
    pub(crate) credential: String,
    /// A zip archive that an earlier stage has published, by digest: `NAME@sha256:…`. At most 50 MB.
    pub(crate) zip: Option<Deliverable>,
    /// An image in ECR by digest, for a function whose package type is `Image`.
    pub(crate) image: Option<Image>,
    /// Environment variables of the function from secrets, by variable. The host writes the values into the request: each
    /// secret needs Lambda's host in its `hosts`. Other variables of the function stay as they are.
    #[serde(default)]
    pub(crate) secret_env: BTreeMap<String, String>,
    /// A folder of the workspace for the archive while it is sent.
    #[serde(default = "default_scratch")]
    pub(crate) scratch: String,
    /// What the function is created with if it doesn't exist. Without it, a missing function is an error.
    pub(crate) create: Option<Create>,
    /// The check that a version has to pass before it gets requests.
    #[serde(default)]
    pub(crate) readiness: Readiness,
    /// How the requests go from the old version to the new one. Default: all at once, when the new one is ready.
    pub(crate) strategy: Option<Strategy>,
}

fn default_alias() -> String {
    "live".to_owned()
}

fn default_scratch() -> String {
    ".deploy".to_owned()
}

/// The configuration of a new function.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Create {
    /// The ARN of the role that the function runs as.
    pub(crate) role: String,
    /// As in `provided.al2023` or `python3.13`; not for an image.
    pub(crate) runtime: Option<String>,
    /// As in `app.handler`; not for an image. Default: `bootstrap`, which custom runtimes ignore.
    pub(crate) handler: Option<String>,
    /// `x86_64` or `arm64`. Default: `x86_64`.
    pub(crate) architecture: Option<String>,
    /// Memory in MiB. Default: 128.
    pub(crate) memory: Option<u32>,
    /// How long a call may take. Default: 3 s.
    pub(crate) timeout: Option<DurationText>,
    /// Environment variables.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
}

/// The check of a version before it gets requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Readiness {
    /// What the version is called with. Without it, a version is ready as soon as it can be called.
    pub(crate) payload: Option<Json>,
    /// What its answer has to contain: of a table these keys with these values, anything else as a whole. Without it, any
    /// answer but an error passes.
    pub(crate) expect: Option<Json>,
    /// How long Lambda may take to load the code, and the version to pass the check.
    pub(crate) deadline: DurationText,
}

impl Default for Readiness {
    fn default() -> Readiness {
        Readiness { payload: None, expect: None, deadline: DurationText(Duration::from_secs(5 * 60)) }
    }
}

impl Config {
    /// What identifies the content of the release, by digest.
    pub(crate) fn artifact(&self) -> &str {
        let zip = self.zip.as_ref().map(Deliverable::as_str);
        zip.or(self.image.as_ref().map(Image::as_str)).unwrap_or_default()
    }
}

impl ReleaseConfig for Config {
    fn problems(&self) -> Vec<Problem> {
        problems(self)
    }

    fn service(&self) -> &str {
        &self.function
    }

    fn probes(&self) -> Vec<(&'static str, Probe)> {
        vec![("readiness", Probe::of_target(self.readiness.deadline.0))]
    }

    fn strategy(&self) -> Strategy {
        self.strategy.clone().unwrap_or_else(Strategy::switch)
    }
}

/// Mistakes that parsing doesn't catch.
fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    for (key, name) in [("function", &config.function), ("alias", &config.alias)] {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            let message = format!("invalid name `{name}`; use up to 64 letters, digits, `-` and `_`");
            found.push(Problem::at(key, message));
        }
    }
    if config.alias.bytes().all(|byte| byte.is_ascii_digit()) {
        found.push(Problem::at("alias", "a name of digits alone would be that of a version"));
    }
    match (&config.zip, &config.image) {
        (Some(zip), None) => found.extend(zip.problem("zip")),
        (None, Some(image)) => found.extend(image.problem("image")),
        _ => {
            let problem = Problem::at("zip", "a version is made of either `zip` or `image`");
            found.push(problem.help("set one of them: zip = \"${{ stages.package.outputs.artifacts.function }}\""));
        }
    }
    let is_custom = |create: &Create| create.runtime.is_some() || create.handler.is_some();
    match &config.create {
        Some(create) if config.zip.is_some() && create.runtime.is_none() => {
            let problem = Problem::at("create.runtime", "a function of a zip archive needs a runtime");
            found.push(problem.help("add it, as in runtime = \"provided.al2023\""));
        }
        Some(create) if config.image.is_some() && is_custom(create) => {
            found.push(Problem::at("create.runtime", "a function of an image has neither a runtime nor a handler"));
        }
        _ => {}
    }
    let none = BTreeMap::new();
    let created_with = config.create.as_ref().map_or(&none, |create| &create.env);
    found.extend(rollout::secret_env_problems(&config.secret_env, created_with, "create.env"));
    for (name, reason) in config.secret_env.keys().filter_map(|name| Some((name, variables::name_problem(name)?))) {
        found.push(Problem::at(format!("secret-env.{name}"), format!("the function can't have `{name}`: {reason}")));
    }
    if config.readiness.expect.is_some() && config.readiness.payload.is_none() {
        let problem = Problem::at("readiness.expect", "an answer can only be expected of a call");
        found.push(problem.help("add what the version is called with: payload = {}"));
    }
    found.extend(config.strategy.iter().flat_map(|strategy| strategy.problems("strategy")));
    let refused = match &config.strategy {
        Some(Strategy::Recreate(_)) => {
            "`recreate` stops the old version first, and a version of a function can't be stopped"
        }
        Some(Strategy::Rolling(_)) => "a function has no replicas that could be replaced a few at a time",
        _ => return found,
    };
    let problem = Problem::at("strategy", refused);
    found.push(problem.help("leave out `strategy` to give all requests to the new version at once"));
    found
}
