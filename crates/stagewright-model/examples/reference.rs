//! Prints the reference of pipeline files, the content of `docs/pipeline-file.md`.

use std::io::Write;

#[expect(clippy::disallowed_methods, reason = "it prints what is ours")]
fn main() -> std::io::Result<()> {
    std::io::stdout().lock().write_all(stagewright_model::file_reference().as_bytes())
}
