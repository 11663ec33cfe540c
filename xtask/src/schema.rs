//! Generates the JSON Schema of pipeline files, which is in the repository so that editors can use it.

use crate::cargo::{Result, capture, cargo, root};

/// Writes the schema that the model prints to `docs/stagewright.schema.json`.
pub(crate) fn write() -> Result<()> {
    let text = capture(cargo().args(["run", "--quiet", "--package", "stagewright-model", "--example", "schema"]))?;
    serde_json::from_slice::<serde_json::Value>(&text).map_err(|error| {
        format!("the model's example `schema` printed invalid JSON ({error}); the schema was not changed")
    })?;
    let path = root().join("docs/stagewright.schema.json");
    std::fs::write(&path, text).map_err(|error| format!("can't write {}: {error}", path.display()))
}
