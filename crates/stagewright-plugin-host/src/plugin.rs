//! What is known about a plugin before it runs: its manifest, its imports, and how far its effects can reach.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use stagewright_model::{ImportedFunctions, Permission, PluginCode};

/// The most bytes of a plugin's file. Interpreters compiled to WebAssembly have some tens of megabytes.
pub(crate) const PLUGIN_BYTES: u64 = 512 << 20;

/// Why a plugin can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PluginError {
    /// Names the plugin and the problem.
    pub message: String,
    /// From the nearest cause to the farthest.
    pub causes: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl PluginError {
    /// Without causes or help.
    pub(crate) fn new(message: impl Into<String>) -> PluginError {
        PluginError { message: message.into(), causes: Vec::new(), help: None }
    }

    /// Adds advice.
    #[must_use]
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> PluginError {
        self.help = Some(help.into());
        self
    }

    /// Adds causes.
    #[must_use]
    pub(crate) fn caused_by(mut self, causes: impl IntoIterator<Item = impl ToString>) -> PluginError {
        self.causes.extend(causes.into_iter().map(|cause| cause.to_string()));
        self
    }
}

/// What a plugin's `describe` returns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PluginManifest {
    /// The name by which `uses` refers to the plugin.
    pub name: String,
    /// The plugin's own version; empty if it gives none.
    #[serde(default)]
    pub version: String,
    /// What the plugin does, in one sentence.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of the `with` table; null if the plugin gives none.
    #[serde(default)]
    pub config: Json,
    /// The outputs that it sets.
    #[serde(default)]
    pub outputs: DeclaredOutputs,
}

/// The outputs that a plugin says it sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "OutputsForm")]
pub struct DeclaredOutputs {
    /// JSON Schema of each value, by the name in `stages.STAGE.outputs.NAME`.
    pub properties: BTreeMap<String, Json>,
    /// Whether it may set others as well.
    #[serde(rename = "additionalProperties")]
    pub open: bool,
}

impl Default for DeclaredOutputs {
    /// Nothing is known about them.
    fn default() -> DeclaredOutputs {
        DeclaredOutputs { properties: BTreeMap::new(), open: true }
    }
}

/// How manifests write outputs: as the JSON Schema of an object, or before version 0.2 of the contract as a list of names.
/// A list was no promise to set no others.
#[derive(Deserialize)]
#[serde(untagged)]
enum OutputsForm {
    List(Vec<ListedOutput>),
    Schema {
        #[serde(default)]
        properties: BTreeMap<String, Json>,
        #[serde(default, rename = "additionalProperties")]
        additional: Option<Json>,
    },
}

#[derive(Deserialize)]
struct ListedOutput {
    name: String,
    #[serde(default)]
    description: String,
}

impl From<OutputsForm> for DeclaredOutputs {
    fn from(form: OutputsForm) -> DeclaredOutputs {
        match form {
            OutputsForm::List(outputs) => {
                let schema = |output: ListedOutput| (output.name, json!({ "description": output.description }));
                DeclaredOutputs { properties: outputs.into_iter().map(schema).collect(), open: true }
            }
            // As JSON Schema has it: without the key, an object may have any others.
            OutputsForm::Schema { properties, additional } => {
                DeclaredOutputs { properties, open: additional != Some(Json::Bool(false)) }
            }
        }
    }
}

/// A grant that a plugin says a stage will use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Requirement {
    /// A key of `permissions`, as the plugin wrote it.
    pub permission: String,
    /// An entry of it.
    pub entry: String,
    /// What the stage uses it for.
    pub reason: Option<String>,
    /// Whether the stage also works without it.
    pub optional: bool,
}

/// All that can be known about a plugin without running a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// What it declares about itself; nothing here is trusted.
    pub manifest: PluginManifest,
    /// `sha256:…` of the component or library.
    pub digest: String,
    /// The host's functions that it imports: it can never use any other. Empty for a native library, which has all powers
    /// of the engine.
    pub imports: ImportedFunctions,
    /// The version of the contract that a component was built for, as in `0.1.0`.
    pub contract: Option<String>,
    /// Whether it is a native library.
    pub native: bool,
    /// Whether it exports `reconcile`, with which it observes the effects of an interrupted attempt and undoes them.
    pub reconciles: bool,
}

impl Description {
    /// The kind of code, and its imports, which bound what grants can open to it. Its manifest plays no part.
    pub fn code(&self) -> PluginCode<'_> {
        if self.native { PluginCode::Native } else { PluginCode::Component(&self.imports) }
    }

    /// The keys of `permissions` that could be of use to the plugin, by interface; for audits.
    pub fn permissions(&self) -> BTreeMap<&'static str, Vec<&'static str>> {
        let keys = |keys: Vec<Permission>| keys.into_iter().map(Permission::key).collect();
        self.imports.permissions().map(|(interface, needed)| (interface.name(), keys(needed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use stagewright_model::{EffectClass, Permissions, Reaches};

    use super::*;

    fn class_of(plugin: &Description, grants: &Permissions) -> EffectClass {
        Reaches::of(None, grants, plugin.code()).effect_class()
    }

    fn description(interfaces: &[&str]) -> Description {
        let mut imports = ImportedFunctions::default();
        interfaces.iter().for_each(|interface| imports.insert(interface, ["read".to_owned()]));
        Description {
            manifest: PluginManifest::default(),
            digest: String::new(),
            imports,
            contract: None,
            native: false,
            reconciles: false,
        }
    }

    #[test]
    fn the_effect_class_depends_on_both_imports_and_grants() {
        let all = description(&["context", "workspace", "process", "http", "registry", "service"]);
        let class = |change: fn(&mut Permissions)| {
            let mut grants = Permissions::default();
            change(&mut grants);
            class_of(&all, &grants)
        };
        assert_eq!(class(|_| {}), EffectClass::Pure);
        assert_eq!(class(|grants| grants.read.push(".".parse().unwrap())), EffectClass::Local);
        assert_eq!(class(|grants| grants.process.push("cargo".parse().unwrap())), EffectClass::Local);
        assert_eq!(class(|grants| grants.net.push("a.b".parse().unwrap())), EffectClass::External);
        assert_eq!(class(|grants| grants.registry.push("local/a".parse().unwrap())), EffectClass::External);
        assert_eq!(class(|grants| grants.service.push("a".parse().unwrap())), EffectClass::External);

        let runner = description(&["process"]);
        let with = |net: &[&str], secrets: &[&str]| {
            let net = net.iter().map(|entry| entry.parse().unwrap()).collect();
            let secrets = secrets.iter().map(|entry| entry.parse().unwrap()).collect();
            class_of(
                &runner,
                &Permissions { process: vec!["x".parse().unwrap()], net, secrets, ..Permissions::default() },
            )
        };
        assert_eq!(with(&["cargo"], &[]), EffectClass::Local, "fetching crates has no effect");
        assert_eq!(with(&["cargo", "a.b"], &[]), EffectClass::External);
        assert_eq!(with(&[], &["token"]), EffectClass::External, "a secret is granted to be used somewhere");

        let inherits = |name: &str| {
            let env = vec![name.parse().unwrap()];
            class_of(
                &runner,
                &Permissions {
                    process: vec!["npm".parse().unwrap()],
                    net: vec!["npm".parse().unwrap()],
                    env,
                    ..Permissions::default()
                },
            )
        };
        assert_eq!(inherits("NPM_TOKEN"), EffectClass::External, "it allows publishing a package");
        assert_eq!(inherits("NODE_ENV"), EffectClass::Local);
        let none = Permissions::default();
        assert_eq!(
            Reaches::of(Some("production"), &none, description(&["context"]).code()).effect_class(),
            EffectClass::External
        );

        let narrow = description(&["context", "workspace"]);
        let wide = Permissions {
            net: vec!["a.b".parse().unwrap()],
            read: vec![".".parse().unwrap()],
            ..Permissions::default()
        };
        assert_eq!(class_of(&narrow, &wide), EffectClass::Local, "what isn't imported can't be used");
        assert_eq!(narrow.permissions(), BTreeMap::from([("workspace", vec!["read", "exec"])]));
        let native = Description { native: true, ..description(&[]) };
        assert_eq!(class_of(&native, &Permissions::default()), EffectClass::External);
    }

    #[test]
    fn a_manifest_needs_only_a_name() {
        let manifest: PluginManifest = serde_json::from_str(r#"{ "name": "x" }"#).unwrap();
        assert_eq!((manifest.name.as_str(), manifest.outputs), ("x", DeclaredOutputs::default()));
    }

    #[test]
    fn outputs_are_a_schema_or_a_list() {
        let outputs = |text: &str| {
            let DeclaredOutputs { properties, open } = serde_json::from_str(text).unwrap();
            (properties.into_keys().collect::<Vec<_>>(), open)
        };
        let y = || vec!["y".to_owned()];
        assert_eq!(outputs(r#"[{ "name": "y", "description": "why" }]"#), (y(), true));
        assert_eq!(outputs(r#"{ "type": "object", "properties": { "y": {} } }"#), (y(), true));
        assert_eq!(outputs(r#"{ "properties": { "y": true }, "additionalProperties": false }"#), (y(), false));
        let declared: DeclaredOutputs = serde_json::from_str(r#"{ "additionalProperties": false }"#).unwrap();
        assert_eq!(outputs(&serde_json::to_string(&declared).unwrap()), (Vec::new(), false));
    }
}
