//! The stage's `with` table.

use std::collections::BTreeMap;

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Problem, Requirement, WorkspacePath, schemars};

/// What is packed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "wasm": "target/analyzer.wasm", "layout": "target/artifact", "tags": ["${{ inputs.version }}"] }))]
pub struct Config {
    /// A WASM module or component.
    pub(crate) wasm: Option<WorkspacePath>,
    /// Any files, instead of `wasm`.
    #[serde(default)]
    pub(crate) files: Vec<PackedFile>,
    /// With `files`: what the artifact is, as a media type.
    pub(crate) artifact_type: Option<String>,
    /// The folder of the layout, which is replaced.
    #[serde(default = "default_layout")]
    pub(crate) layout: WorkspacePath,
    /// The names in the layout, which `push-image` takes for tags unless it has others.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// Annotations of the manifest, as in `{ "org.opencontainers.image.source" = "https://…" }`.
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    /// When it was made, in RFC 3339. The same time for the same content gives the same digest.
    #[serde(default = "default_created")]
    pub(crate) created: String,
}

/// A file, and what it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PackedFile {
    /// The file.
    pub(crate) path: WorkspacePath,
    /// Its media type.
    #[serde(default = "default_media_type")]
    pub(crate) media_type: String,
    /// The name under which clients write it. Default: the file's name.
    pub(crate) title: Option<String>,
}

fn default_layout() -> WorkspacePath {
    WorkspacePath::fixed("target/artifact")
}

fn default_created() -> String {
    "1970-01-01T00:00:00Z".to_owned()
}

fn default_media_type() -> String {
    "application/octet-stream".to_owned()
}

/// As in `application/vnd.acme.policy.v1+json` (RFC 6838).
fn is_media_type(text: &str) -> bool {
    let fits = |name: &str| {
        !name.is_empty()
            && name.len() <= 127
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c))
    };
    text.split_once('/').is_some_and(|(kind, name)| fits(kind) && fits(name))
}

impl Config {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        match (&self.wasm, self.files.is_empty()) {
            (None, true) => found.push(Problem::at("files", "nothing is packed").help("set `wasm`, or name `files`")),
            (Some(_), false) => {
                found.push(Problem::at("files", "can't be packed together with `wasm`").help("make two stages"));
            }
            _ => {}
        }
        match &self.artifact_type {
            Some(_) if self.wasm.is_some() => {
                found.push(Problem::at("artifact-type", "is for `files`: that of WASM is given").help("remove it"));
            }
            None if !self.files.is_empty() && self.wasm.is_none() => {
                let help = "say what the files are, as in `application/vnd.acme.policy.v1`";
                found.push(Problem::at("artifact-type", "is missing for `files`").help(help));
            }
            _ => {}
        }
        let types =
            self.files.iter().enumerate().map(|(index, file)| (format!("files[{index}].media-type"), &file.media_type));
        let types = types.chain(self.artifact_type.iter().map(|kind| ("artifact-type".to_owned(), kind)));
        for (key, kind) in types.filter(|(_, kind)| !is_media_type(kind)) {
            found.push(Problem::at(key, format!("`{kind}` isn't a media type")));
        }
        found
    }

    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        let paths = self.wasm.iter().chain(self.files.iter().map(|file| &file.path));
        let read = paths.map(|path| Requirement::read(path.as_str()).because("is packed"));
        let layout = format!("{}/", self.layout.trim_end_matches('/'));
        read.chain([Requirement::write(layout).because("gets the layout")]).collect()
    }
}
