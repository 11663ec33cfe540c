//! Prints the JSON Schema of pipeline files, the content of `docs/stagewright.schema.json`.

use std::io::Write;

#[expect(clippy::disallowed_methods, reason = "it prints what is ours")]
fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &stagewright_model::json_schema())?;
    writeln!(out)
}
