//! Lists everything that a result depends on. The key is computed from the list, and explanations compare two lists.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_engine::{AttemptRequest, GitState, RunId, SourceView, Trigger};
use stagewright_model::{Bounds, Permission};

use crate::digest::{Digest, Hashing};
use crate::tree::Tree;

/// Incremented when results of earlier versions must not be reused any more.
const FORMAT: &str = "3";

/// Values with more bytes are replaced by their digest.
const SHOWN: usize = 200;

/// The name of the part with the digest of all inputs.
const INPUTS: &str = "inputs";
/// The name of the part with the digest of foreign files in the paths that the stage may write.
const FOUND: &str = "found";

/// The kind of a part, in the order in which explanations list the differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPart {
    /// The version of the format of results.
    Format,
    /// Whether programs run in a sandbox.
    Sandbox,
    /// The plugin's digest.
    Plugin,
    /// The stage's unique name, and whether it is a rehearsal.
    Stage,
    /// A value of `with`.
    Config,
    /// A variable of `env`, or one that programs inherit from the engine.
    Variable,
    /// An entry of `permissions`.
    Permission,
    /// A limit of time, memory or another resource.
    Limit,
    /// A glob of `inputs` or `outputs`.
    Glob,
    /// A program or toolchain of the machine.
    Tool,
    /// The outcome of a stage that this one needs, or one of its outputs.
    Need,
    /// The commit or the trigger of the run, for a stage that asks for them.
    Source,
    /// An artifact of an earlier stage.
    Artifact,
    /// An input file, or a file that others left in the paths that the stage may write.
    File,
    /// An earlier stage, by the key of its result. It represents the files that this stage may have left in the paths
    /// that both may write.
    Before,
}

/// Everything that a result depends on: parts by kind and name, each with its value or the value's digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyManifest {
    parts: BTreeMap<KeyPart, BTreeMap<String, String>>,
    /// The individual files, for explanations. The key contains their common digest only.
    files: BTreeMap<String, String>,
    /// The previous key of the stage's result.
    pub(crate) previous: Option<Digest>,
    /// The run that computed this key.
    pub(crate) run: Option<RunId>,
}

/// A part in which two manifests differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDifference {
    /// The kind of the part.
    pub part: KeyPart,
    /// Its name, such as a variable's name or a file's path.
    pub name: String,
    /// Its value in the earlier manifest; none if it was added since.
    pub then: Option<String>,
    /// Its value in the later manifest; none if it was removed.
    pub now: Option<String>,
}

/// What a key depends on besides the request.
pub(crate) struct KeyContext<'a> {
    pub(crate) sandboxed: bool,
    /// Variables that programs inherit from the engine.
    pub(crate) variables: &'a BTreeMap<String, String>,
    /// Digests of programs and toolchains, by path.
    pub(crate) tools: &'a [(String, String)],
    /// Digests of the artifacts of earlier stages, by name.
    pub(crate) artifacts: &'a BTreeMap<String, String>,
    /// The inputs.
    pub(crate) files: &'a Tree,
    /// Files of others in the paths that the stage may write.
    pub(crate) found: &'a Tree,
    /// Keys of earlier stages, by the stages' ids.
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
        // Variables may be confidential, so the manifest holds their digests: an explanation shows that a value changed
        // and not what it is. The stage's own `env` comes last, because it replaces inherited variables.
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
        for need in &request.needs {
            let conclusion = need.conclusion.as_str();
            manifest.put(KeyPart::Need, &need.id, &format!("{} ({conclusion})", need.outcome.as_str()));
            for (name, value) in &need.outputs {
                let within = format!("{}.{name}", need.id);
                leaves(&within, value, &mut |path, value| manifest.put(KeyPart::Need, path, &value.to_string()));
            }
        }
        if let Some(source) = &request.source {
            manifest.source(source);
        }
        around.artifacts.iter().for_each(|(name, digest)| manifest.put(KeyPart::Artifact, name, digest));
        manifest.put(KeyPart::File, INPUTS, &around.files.digest().to_string());
        if !around.found.0.is_empty() {
            manifest.put(KeyPart::File, FOUND, &around.found.digest().to_string());
        }
        around.before.iter().for_each(|(name, key)| manifest.put(KeyPart::Before, name, key));
        manifest
    }

    fn source(&mut self, source: &SourceView) {
        let SourceView { git, trigger, base } = source;
        let GitState { commit, short: _, branch, tag, dirty, changes } = git;
        let Trigger { name, reference, commit: _, actor } = trigger;
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        let facts = [
            ("commit", commit.clone()),
            ("base", optional(base)),
            ("branch", optional(branch)),
            ("tag", optional(tag)),
            ("dirty", dirty.to_string()),
            ("changes", changes.clone()),
            ("trigger", name.clone()),
            ("reference", reference.clone()),
            ("actor", actor.clone()),
        ];
        facts.iter().for_each(|(fact, value)| self.put(KeyPart::Source, fact, value));
    }

    /// Adds the individual files for explanations. The key does not change.
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

    /// The digest of all parts.
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

    /// The parts that changed since the earlier manifest `then`.
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

/// Calls `on` for every value that contains no others, with its path, such as `checks[0].path`.
fn leaves(path: &str, value: &Json, on: &mut dyn FnMut(&str, &Json)) {
    match value {
        Json::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                // Other keys are quoted. Otherwise `{"a.b": 1}` and `{"a": {"b": 1}}` would have the same path, and one
                // of two such values would be missing from the key.
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
    fn every_value_has_a_unique_path() {
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
