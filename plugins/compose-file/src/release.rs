//! A release: what is deployed, and nothing that is decided later.

use std::collections::{BTreeMap, BTreeSet};

use rollout::Image;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};
use stagewright_sdk::{JsonSchema, Problem, schemars};

use crate::Runtime;

/// A resolved Compose file.
///
/// Any value can be read as one, so that a plugin can say which grants it needs before an expression has a value;
/// [`Release::problem`] says whether it is valid.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(from = "Json")]
#[schemars(with = "Json")]
pub struct Release {
    parts: Option<Parts>,
    /// As in `compose.yaml@sha256:…`.
    artifact: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Parts {
    /// The path of the file.
    file: String,
    /// What can carry it out.
    target: Runtime,
    /// The variables whose values are secrets.
    secrets: BTreeSet<String>,
    /// A Compose file in which each thing has one form. Its variables are the secrets.
    compose: Json,
}

impl Release {
    pub(crate) fn new(file: &str, target: Runtime, secrets: BTreeSet<String>, compose: Json) -> Release {
        Release::of(Some(Parts { file: file.to_owned(), target, secrets, compose }))
    }

    fn of(parts: Option<Parts>) -> Release {
        // On its way the order of keys can change, and with it all that is made of them.
        let parts = parts.map(|parts| Parts { compose: sorted(&parts.compose), ..parts });
        let artifact = parts.as_ref().map_or_else(String::new, |parts| {
            let text = json!(parts).to_string();
            let digest = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            format!("{}@sha256:{digest}", parts.file)
        });
        Release { parts, artifact }
    }

    /// As the value of an output, or of a key of `with`.
    pub fn to_json(&self) -> Json {
        json!(self.parts)
    }

    /// What identifies its content, as in `compose.yaml@sha256:…`.
    pub fn artifact(&self) -> &str {
        &self.artifact
    }

    /// Why it isn't a release that this can carry out, as a mistake at this key of `with`.
    pub fn problem(&self, key: &str, runtime: Runtime) -> Option<Problem> {
        let help =
            "pass on the output of a stage `compose-release`: release = \"${{ stages.release.outputs.release }}\"";
        let Some(parts) = &self.parts else {
            return Some(Problem::at(key, "not a release").help(help));
        };
        if parts.target != runtime {
            let target = json!(runtime);
            let message = format!("`{}` was checked for another target", parts.file);
            return Some(
                Problem::at(key, message).help(format!("set target = {target} in the stage `compose-release`")),
            );
        }
        let unpinned = self.images().into_iter().find(|image| !is_pinned(image))?;
        Some(Problem::at(key, format!("`{unpinned}` has no digest")).help(help))
    }

    /// The variables whose values are secrets.
    pub fn secrets(&self) -> Vec<&str> {
        self.parts.iter().flat_map(|parts| &parts.secrets).map(String::as_str).collect()
    }

    /// The file that Compose applies.
    pub fn compose(&self) -> &Json {
        self.parts.as_ref().map_or(&Json::Null, |parts| &parts.compose)
    }

    /// The services, by name.
    pub fn services(&self) -> BTreeMap<&str, &Json> {
        self.section("services")
    }

    /// What a section declares, by name.
    pub fn section(&self, name: &str) -> BTreeMap<&str, &Json> {
        let section: Option<&Map<String, Json>> = self.compose()[name].as_object();
        section.into_iter().flatten().map(|(name, value)| (name.as_str(), value)).collect()
    }

    /// The images of all services, each once.
    pub fn images(&self) -> BTreeSet<&str> {
        self.services().values().map(|service| service["image"].as_str().unwrap_or_default()).collect()
    }
}

impl From<Json> for Release {
    fn from(value: Json) -> Release {
        Release::of(serde_json::from_value(value).ok())
    }
}

/// Whether an image has a digest.
pub(crate) fn is_pinned(image: &str) -> bool {
    serde_json::from_value::<Image>(image.into()).is_ok_and(|image| image.problem("image").is_none())
}

fn sorted(value: &Json) -> Json {
    match value {
        Json::Array(items) => items.iter().map(sorted).collect(),
        Json::Object(map) => {
            let entries: BTreeMap<&String, Json> = map.iter().map(|(name, value)| (name, sorted(value))).collect();
            entries.into_iter().map(|(name, value)| (name.clone(), value)).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}
