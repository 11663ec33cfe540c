//! A plugin's description of itself.

use std::collections::BTreeSet;

use serde::Serialize;

/// Name, version, outputs and requested capabilities of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    name: String,
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    outputs: Vec<Output>,
    capabilities: BTreeSet<Capability>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Output {
    name: String,
    description: String,
}

/// An interface of the host that the plugin calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named as the interfaces of the WIT, where they are explained")]
pub enum Capability {
    Artifacts,
    Gate,
    Http,
    Process,
    Registry,
    Secrets,
    Service,
    Workspace,
}

impl Manifest {
    /// `version` is that of the plugin: `env!("CARGO_PKG_VERSION")`.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Manifest {
        Manifest {
            name: name.into(),
            version: version.into(),
            description: String::new(),
            outputs: Vec::new(),
            capabilities: BTreeSet::new(),
        }
    }

    /// Sets the description, one sentence.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Manifest {
        self.description = description.into();
        self
    }

    /// Adds an output that the stage sets.
    #[must_use]
    pub fn output(mut self, name: impl Into<String>, description: impl Into<String>) -> Manifest {
        self.outputs.push(Output { name: name.into(), description: description.into() });
        self
    }

    /// Adds an interface that the stage calls.
    #[must_use]
    pub fn capability(mut self, capability: Capability) -> Manifest {
        self.capabilities.insert(capability);
        self
    }

    /// `{ name, version, description?, outputs: [{ name, description }], capabilities: [name], config: schema }`.
    pub(crate) fn to_json(&self, config: schemars::Schema) -> String {
        #[derive(Serialize)]
        struct WithConfig<'a> {
            #[serde(flatten)]
            manifest: &'a Manifest,
            config: schemars::Schema,
        }
        serde_json::to_string(&WithConfig { manifest: self, config }).expect("strings and lists can be serialized")
    }
}
