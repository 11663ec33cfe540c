//! `schema`: prints the JSON Schema of the repository's pipeline files.

use stagewright_report::{Printer, text};
use stagewright_session::Session;

use crate::args::SchemaArgs;
use crate::error::CommandError;
use crate::exit::Exit;

pub(crate) async fn schema(session: &Session, args: &SchemaArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let schema = session.schema().await?;

    let Some(file) = &args.output else {
        out.json_pretty(&schema)?;
        return Ok(Exit::Success);
    };
    let failed = |error| CommandError::internal(format!("can't write {}", file.display())).caused_by(error);
    stagewright_files::replace(&session.repository().root, file, format!("{schema:#}\n").as_bytes()).map_err(failed)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    out.line(text!("Wrote {}.", file.display()))?;
    out.line(text!("Editors use it for a pipeline file in the same folder that begins with `#:schema ./{name}`."))?;
    Ok(Exit::Success)
}
