//! All that a result depends on, part by part: what its key is made of, and what an explanation compares.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_engine::{AttemptRequest, RunId};
use stagewright_model::{Bounds, Permission};

use crate::digest::{Digest, Hashing};
use crate::tree::Tree;

/// Raised when results of before may not stand for those of now.
const FORMAT: &str = "3";

/// Longer values are shown by their digest.
const SHOWN: usize = 200;

/// Stands for the inputs, all together.
const INPUTS: &str = "inputs";
/// Stands for what is found where the stage may write.
const FOUND: &str = "found";

/// What a part is about; in the order in which differences are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPart {
    /// The format of results.
    Format,
    /// Whether programs are confined.
    Sandbox,
    /// The plugin, by digest.
    Plugin,
    /// The stage's unique name, and whether it is a rehearsal.
    Stage,
    /// A value of `with`.
    Config,
    /// A variable of `env`, or one that programs inherit.
    Variable,
    /// An entry of `permissions`.
    Permission,
    /// A limit.
    Limit,
    /// A glob of `inputs` or `outputs`.
    Glob,
    /// A program or toolchain of the machine.
    Tool,
    /// What a stage before it gave as outputs.
    Need,
    /// An artifact of a stage before it.
    Artifact,
    /// A file.
    File,
    /// A stage before it, by the key of its result: what it may have left where this one may write.
    Before,
}

/// Parts by kind and name, each with its value or the value's digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyManifest {
    parts: BTreeMap<KeyPart, BTreeMap<String, String>>,
    /// Which files they are that the part of them stands for.
    files: BTreeMap<String, String>,
    /// The key that the stage's result had the time before.
    pub(crate) previous: Option<Digest>,
    /// The run that asked.
    pub(crate) run: Option<RunId>,
}

/// What two manifests differ in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDifference {
    /// What it is about.
    pub part: KeyPart,
    /// Which of them.
    pub name: String,
    /// As it was; none when it wasn't there.
    pub then: Option<String>,
    /// As it is; none when it isn't there any more.
    pub now: Option<String>,
}

/// What is not in the request itself.
pub(crate) struct KeyContext<'a> {
    pub(crate) sandboxed: bool,
    /// Inherited by programs.
    pub(crate) variables: &'a BTreeMap<String, String>,
    pub(crate) tools: &'a [(String, String)],
    /// By name, of the stages before.
    pub(crate) artifacts: &'a BTreeMap<String, String>,
    /// The inputs.
    pub(crate) files: &'a Tree,
    /// What others left where it may write.
    pub(crate) found: &'a Tree,
    /// Keys of stages before it, by name.
    pub(crate) before: &'a BTreeMap<String, String>,
}

impl KeyManifest {
    pub(crate) fn of(request: &AttemptRequest, around: &KeyContext<'_>) -> KeyManifest {
        let mut manifest = KeyManifest { run: Some(request.run.clone()), ..KeyManifest::default() };
        manifest.put(KeyPart::Format, "results", FORMAT);
        manifest.put(KeyPart::Sandbox, "programs", if around.sandboxed { "confined" } else { "not confined" });
        manifest.put(KeyPart::Plugin, &request.uses.to_string(), request.plugin.as_deref().unwrap_or_default());
        manifest.put(KeyPart::Stage, "name", &request.stage_id);
        let rehearsal = match &request.rehearsal {
            None => "no",
            Some(terms) if terms.offline => "yes, offline",
            Some(_) => "yes",
        };
        manifest.put(KeyPart::Stage, "rehearsal", rehearsal);
        leaves("", &request.config, &mut |path, value| manifest.put(KeyPart::Config, path, &value.to_string()));
        // A variable may be confidential: only whether it changed is told. The stage's own takes the place of what is
        // inherited.
        for (name, value) in around.variables.iter().chain(&request.env) {
            manifest.put(KeyPart::Variable, name, &Digest::of(value).to_string());
        }
        for permission in Permission::ALL {
            for entry in request.permissions.of(permission) {
                manifest.put(KeyPart::Permission, &format!("{} = {}", permission.key(), entry.as_str()), "");
            }
        }
        manifest.limits(request);
        if let Some(cache) = &request.cache {
            for (key, globs) in [("inputs", &cache.inputs), ("outputs", &cache.outputs)] {
                globs.iter().for_each(|glob| manifest.put(KeyPart::Glob, &format!("{key} = {glob}"), ""));
            }
        }
        around.tools.iter().for_each(|(tool, digest)| manifest.put(KeyPart::Tool, tool, digest));
        for (need, outputs) in &request.needs {
            leaves(need, outputs, &mut |path, value| manifest.put(KeyPart::Need, path, &value.to_string()));
        }
        around.artifacts.iter().for_each(|(name, digest)| manifest.put(KeyPart::Artifact, name, digest));
        manifest.put(KeyPart::File, INPUTS, &around.files.digest().to_string());
        if !around.found.0.is_empty() {
            manifest.put(KeyPart::File, FOUND, &around.found.digest().to_string());
        }
        around.before.iter().for_each(|(name, key)| manifest.put(KeyPart::Before, name, key));
        manifest
    }

    /// Names the files one by one, for an explanation; the key is that of before.
    pub(crate) fn name_files(&mut self, files: &Tree, found: &Tree) {
        let all = files.0.iter().chain(&found.0);
        self.files = all.map(|(path, node)| (path.clone(), node.shown())).collect();
    }

    fn limits(&mut self, request: &AttemptRequest) {
        let AttemptRequest { timeout, memory, log_limit, limits, .. } = *request;
        let bounds = Bounds { timeout, memory, log_limit, limits };
        for (name, amount) in bounds.entries() {
            amount.into_iter().for_each(|amount| self.put(KeyPart::Limit, name, &amount.to_string()));
        }
    }

    fn put(&mut self, part: KeyPart, name: &str, value: &str) {
        let value = if value.len() > SHOWN { Digest::of(value).to_string() } else { value.to_owned() };
        self.parts.entry(part).or_default().insert(name.to_owned(), value);
    }

    /// Of all parts.
    pub(crate) fn key(&self) -> Digest {
        let mut hashing = Hashing::default();
        for (part, values) in &self.parts {
            hashing.update(&[*part as u8]);
            hashing.update(&(values.len() as u64).to_le_bytes());
            for (name, value) in values {
                hashing.field(name.as_bytes());
                hashing.field(value.as_bytes());
            }
        }
        hashing.finish()
    }

    /// What has changed since `then`.
    pub fn differences(&self, then: &KeyManifest) -> Vec<KeyDifference> {
        let kinds = self.parts.keys().chain(then.parts.keys()).filter(|part| **part != KeyPart::File);
        let mut differences = Vec::new();
        for part in kinds.copied().collect::<BTreeSet<KeyPart>>() {
            compare(part, then.parts.get(&part), self.parts.get(&part), &mut differences);
        }
        compare(KeyPart::File, Some(&then.files), Some(&self.files), &mut differences);
        differences
    }
}

fn compare(
    part: KeyPart,
    then: Option<&BTreeMap<String, String>>,
    now: Option<&BTreeMap<String, String>>,
    differences: &mut Vec<KeyDifference>,
) {
    let names =
        |values: Option<&BTreeMap<String, String>>| values.into_iter().flat_map(BTreeMap::keys).cloned().collect();
    let all: BTreeSet<String> = [names(then), names(now)].into_iter().flat_map(|names: Vec<String>| names).collect();
    for name in all {
        let [then, now] = [then, now].map(|values| values.and_then(|values| values.get(&name)).cloned());
        if then != now {
            differences.push(KeyDifference { part, name, then, now });
        }
    }
}

/// Every value that holds no others, with the path to it, as in `checks[0].path`.
fn leaves(path: &str, value: &Json, on: &mut dyn FnMut(&str, &Json)) {
    match value {
        Json::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                // Else `a.b` and the `b` of `a` would be one value, and one of the two not in the key.
                let plain =
                    !key.is_empty() && key.chars().all(|letter| letter.is_alphanumeric() || "-_".contains(letter));
                let key = if plain { key.clone() } else { Json::from(key.as_str()).to_string() };
                let below = if path.is_empty() { key } else { format!("{path}.{key}") };
                leaves(&below, value, on);
            }
        }
        Json::Array(items) if !items.is_empty() => {
            for (position, value) in items.iter().enumerate() {
                leaves(&format!("{path}[{position}]"), value, on);
            }
        }
        value => on(path, value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_has_a_path_of_its_own() {
        let paths = |value: Json| {
            let mut found = Vec::new();
            leaves("", &value, &mut |path, value| found.push(format!("{path} {value}")));
            found
        };
        assert_eq!(
            paths(json!({ "a": { "b": 1, "": 2 }, "a.b": 3, "c": [4, { "d": 5 }], "c[0]": 6, "e": {}, "f": [] })),
            ["a.b 1", "a.\"\" 2", "\"a.b\" 3", "c[0] 4", "c[1].d 5", "\"c[0]\" 6", "e {}", "f []"]
        );
    }
}
