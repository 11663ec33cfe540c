//! A plugin's description of itself.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value as Json, json};

/// Name, version and outputs of a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    name: String,
    version: String,
    description: String,
    /// The schema of each output.
    outputs: Map<String, Json>,
    open_outputs: bool,
}

impl Manifest {
    /// Without a description; [`manifest!`](crate::manifest!) takes all three from the plugin's `Cargo.toml`.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Manifest {
        Manifest {
            name: name.into(),
            version: version.into(),
            description: String::new(),
            outputs: Map::new(),
            open_outputs: false,
        }
    }

    /// Sets the description, one sentence.
    #[must_use]
    pub fn description(self, description: impl Into<String>) -> Manifest {
        Manifest { description: description.into(), ..self }
    }

    /// Adds an output that the stage sets, with the type of its value. An output that the stage doesn't always set is
    /// missing then, and not null.
    #[must_use]
    pub fn output<T: JsonSchema>(mut self, name: &str, description: &str) -> Manifest {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        });
        let mut schema = settings.into_generator().into_root_schema_for::<T>();
        schema.remove("title");
        schema.insert("description".to_owned(), description.into());
        self.outputs.insert(name.to_owned(), schema.to_value());
        self
    }

    /// Says that the stage also sets outputs whose names aren't known beforehand, such as those that a program writes.
    #[must_use]
    pub fn open_outputs(self) -> Manifest {
        Manifest { open_outputs: true, ..self }
    }

    /// `{ name, version, description, outputs: schema, config: schema }`.
    pub(crate) fn to_json(&self, config: &Schema) -> String {
        let Manifest { name, version, description, outputs, open_outputs } = self;
        let outputs = json!({ "type": "object", "properties": outputs, "additionalProperties": open_outputs });
        let manifest = json!({
            "name": name, "version": version, "description": description, "outputs": outputs, "config": config,
        });
        manifest.to_string()
    }
}
