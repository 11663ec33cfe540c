//! Named volumes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;
use stagewright_sdk::Result;

use crate::{Engine, encoded, unless_missing};

/// A named volume.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// Its name, of which the engine has one.
    pub name: String,
    /// Its labels, which can't change; null for none.
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volumes {
    /// Null for none.
    volumes: Option<Vec<Volume>>,
}

impl Volume {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name).map(String::as_str)
    }

    /// Its labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.labels.clone().unwrap_or_default()
    }
}

impl Engine {
    /// The volumes with a label that has this value.
    ///
    /// # Errors
    /// If the engine can't be asked.
    pub fn volumes(&self, label: &str, value: &str) -> Result<Vec<Volume>> {
        let filters = json!({ "label": [format!("{label}={value}")] });
        let found: Volumes = self.get(&format!("/volumes?filters={}", encoded(&filters.to_string())))?;
        Ok(found.volumes.unwrap_or_default())
    }

    /// Creates a volume. If there is one of this name, it stays as it is, and is returned instead.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<Volume> {
        self.send("POST", "/volumes/create", Some(&json!({ "Name": name, "Labels": labels })))?.json()
    }

    /// Removes a volume that no container uses. One that doesn't exist is removed already.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        unless_missing(self.send("DELETE", &format!("/volumes/{name}"), None))
    }
}
