//! Generates the JSON Schema of pipeline files, which is in the repository so that editors can use it, and the reference of
//! their keys.

use crate::cargo::{Result, capture, cargo, root};

/// Writes what the model prints to `docs/stagewright.schema.json` and `docs/pipeline-file.md`.
pub(crate) fn write() -> Result<()> {
    let text = capture(cargo().args(["run", "--quiet", "--package", "stagewright-model", "--example", "schema"]))?;
    serde_json::from_slice::<serde_json::Value>(&text).map_err(|error| {
        format!("the model's example `schema` printed invalid JSON ({error}); the schema was not changed")
    })?;
    write_document("stagewright.schema.json", &text)?;
    let reference =
        capture(cargo().args(["run", "--quiet", "--package", "stagewright-model", "--example", "reference"]))?;
    write_document("pipeline-file.md", &reference)
}

fn write_document(name: &str, text: &[u8]) -> Result<()> {
    let path = root().join("docs").join(name);
    std::fs::write(&path, text).map_err(|error| format!("can't write {}: {error}", path.display()))
}
