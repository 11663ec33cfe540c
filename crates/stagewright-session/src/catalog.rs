//! The plugins that the pipelines of a repository can use: the built-in ones, and those that its pipelines name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value as Json, json};
use stagewright_model::{DEPLOY, DEPLOY_PREFIX, JsonTemplate, PluginRef, Trust, json_schema, list};
use stagewright_plugin_host::{ComponentOrigin, Description, PluginError, Requirement};

use crate::error::SessionError;
use crate::host::Host;
use crate::load;
use crate::session::Session;

/// A plugin, and what it says about itself.
#[derive(Clone, Debug)]
pub struct CatalogEntry {
    /// How `uses` refers to it.
    pub uses: PluginRef,
    /// Where its code is.
    pub origin: PluginOrigin,
    /// The names of the pipeline files that use it.
    pub pipelines: Vec<String>,
    /// Its description, or why there is none, as for a component that isn't built.
    pub described: Result<Description, PluginError>,
}

/// Where the code of a plugin is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginOrigin {
    /// In the program.
    Embedded,
    /// In this file of a folder of built-in plugins.
    Folder(PathBuf),
    /// In the repository.
    Repository,
    /// In an image registry, or on this machine since it was pulled.
    Registry,
}

/// A stage that uses a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct StageExample {
    /// Its `with` table, by the example in the plugin's schema, or else with the keys that are required.
    pub with: Map<String, Json>,
    /// The grants that the plugin requires for this table.
    pub requirements: Vec<Requirement>,
}

impl Session {
    /// The built-in plugins and those that the repository's pipelines use, in the order of `uses`. Pipelines with mistakes
    /// are left out, and so are native libraries, whose code would have to run. Nothing is pulled.
    ///
    /// # Errors
    /// If the repository can't be read.
    pub async fn plugins(&self) -> Result<Vec<CatalogEntry>, SessionError> {
        let host = Host::for_catalog(self).await?;
        let mut entries = Vec::new();
        for (uses, pipelines) in self.plugins_by_use() {
            entries.push(self.entry(&host, uses, pipelines).await);
        }
        host.save_answers();
        Ok(entries)
    }

    /// One plugin by its `uses`, and a stage that uses it.
    ///
    /// # Errors
    /// If the plugin does not exist or can't describe itself.
    pub async fn plugin(&self, uses: &str) -> Result<(CatalogEntry, StageExample), SessionError> {
        if uses == DEPLOY {
            let names = self.repository.plugins.names();
            let deploying = list(names.iter().filter(|name| name.starts_with(DEPLOY_PREFIX)));
            let message = "`deploy` stands for the plugin of the target of a stage's environment";
            return Err(SessionError::invalid_request(message).hint(format!("the plugins of targets are: {deploying}")));
        }
        let host = Host::for_catalog(self).await?;
        let uses = PluginRef::parse(uses);
        let pipelines = self.plugins_by_use().remove(&uses).unwrap_or_default();
        let entry = self.entry(&host, uses, pipelines).await;
        let described = entry.described.as_ref().map_err(|error| unusable(error.clone()))?;
        let with = example_of(&described.manifest.config);
        // A plugin may find fault with an example that was made up from its schema, and then has no requirements.
        let requirements = match JsonTemplate::parse(Json::Object(with.clone())) {
            Ok(template) => host.requirements_of(&entry.uses, &template).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        host.save_answers();
        Ok((entry, StageExample { with, requirements }))
    }

    /// The JSON Schema of the repository's pipeline files, with the `with` tables of all plugins that can describe theirs.
    ///
    /// # Errors
    /// As for [`plugins`](Self::plugins).
    pub async fn schema(&self) -> Result<Json, SessionError> {
        let entries = self.plugins().await?.into_iter();
        let configs = entries.filter_map(|entry| Some((entry.uses.to_string(), entry.described.ok()?.manifest.config)));
        Ok(json_schema(&configs.collect()))
    }

    fn plugins_by_use(&self) -> BTreeMap<PluginRef, Vec<String>> {
        let builtin = self.repository.plugins.names().into_iter();
        let mut plugins: BTreeMap<_, Vec<String>> =
            builtin.map(|name| (PluginRef::Builtin(name), Vec::new())).collect();
        for path in self.repository.pipelines() {
            let Ok(file) = self.repository.pipeline(path.to_str()) else { continue };
            let (Some(plan), _) = load::parse(&self.repository, &file) else { continue };
            for stage in plan.stages.iter().filter(|stage| stage.trust == Trust::Component) {
                let pipelines = plugins.entry(stage.uses.clone()).or_default();
                if pipelines.last() != Some(&file.name) {
                    pipelines.push(file.name.clone());
                }
            }
        }
        plugins
    }

    async fn entry(&self, host: &Host, uses: PluginRef, pipelines: Vec<String>) -> CatalogEntry {
        let origin = match &uses {
            PluginRef::Path(_) => PluginOrigin::Repository,
            PluginRef::Oci(_) => PluginOrigin::Registry,
            PluginRef::Builtin(name) => match self.repository.plugins.find(name) {
                Some(ComponentOrigin::File(file)) => PluginOrigin::Folder(file),
                Some(ComponentOrigin::Embedded(_)) | None => PluginOrigin::Embedded,
            },
        };
        let described = host.describe(&uses).await;
        CatalogEntry { uses, origin, pipelines, described }
    }
}

fn unusable(error: PluginError) -> SessionError {
    let mut failed = SessionError::not_ready(error.message);
    failed.causes = error.causes;
    failed.hints.extend(error.help);
    failed
}

/// The example in a JSON Schema, else its required keys with values of their types.
fn example_of(schema: &Json) -> Map<String, Json> {
    if let Some(example) = schema["examples"][0].as_object() {
        return example.clone();
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
    required.map(|key| (key.to_owned(), placeholder(&schema["properties"][key]))).collect()
}

fn placeholder(property: &Json) -> Json {
    let given = ["default", "const"].iter().find_map(|keyword| property.get(*keyword));
    let given = given.or_else(|| property["examples"].get(0)).or_else(|| property["enum"].get(0));
    given.cloned().unwrap_or_else(|| match property["type"].as_str() {
        Some("array") => json!([]),
        Some("boolean") => json!(false),
        Some("integer" | "number") => property.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        Some("object") => json!({}),
        _ => json!("…"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_has_the_schema_s_own_values_or_those_of_its_types() {
        let example = |schema: Json| Json::Object(example_of(&schema));
        assert_eq!(example(json!({ "examples": [{ "run": "make" }], "required": ["run"] })), json!({ "run": "make" }));
        let made_up = example(json!({
            "required": ["a", "b", "c", "d"],
            "properties": {
                "a": { "type": "string" },
                "b": { "type": "integer", "minimum": 3 },
                "c": { "enum": ["x", "y"] },
                "d": { "type": "array" },
                "e": { "type": "string" },
            },
        }));
        assert_eq!(made_up, json!({ "a": "…", "b": 3, "c": "x", "d": [] }));
        assert_eq!(example(Json::Null), json!({}));
    }
}
