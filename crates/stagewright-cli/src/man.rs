//! `man`: writes the manual pages, which are made from the command line's own description.

use std::path::Path;

use clap::Command;
use stagewright_report::{Printer, text};

use crate::error::CommandError;
use crate::exit::Exit;

/// Writes `stagewright.1`, and a page for each command and subcommand.
pub(crate) fn write(program: Command, folder: &Path, out: &mut Printer) -> Result<Exit, CommandError> {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(program, folder));
    written.map_err(|error| CommandError::internal(format!("can't write to {}", folder.display())).caused_by(error))?;
    out.line(text!("Wrote the manual pages to {}.", folder.display()))?;
    Ok(Exit::Success)
}
