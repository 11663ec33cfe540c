//! The operator's policy: where it is, and what it refuses.

use std::path::Path;

use stagewright_model::{Diagnostic, OperatorPolicy};

use crate::args::Global;
use crate::diagnostics;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::repository::{Repository, document};

/// Bounds every pipeline on the machine, unless another is named on the command line or in the environment.
const OF_THE_MACHINE: &str = "/etc/stagewright/policy.toml";

/// Reads the policy, if there is one. One that can't be read, or has mistakes, stops everything.
pub(crate) fn read(global: &Global, repository: &Repository) -> Result<Option<OperatorPolicy>, CommandError> {
    let path = match &repository.policy {
        Some(given) => given.as_path(),
        None => Path::new(OF_THE_MACHINE),
    };
    let name = path.display().to_string();
    let text = match document(path) {
        Err(error) if repository.policy.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| {
            CommandError::internal(format!("can't read the policy {name}, without which nothing is done"))
                .caused_by(error)
                .hint("it is named by --policy, else by STAGEWRIGHT_POLICY; correct that, or make the file readable")
        })?,
    };
    let policy = OperatorPolicy::parse(&name, &text).map_err(|mistakes| {
        diagnostics::show(global, &mistakes);
        CommandError::internal(format!("the policy {name} has mistakes, and nothing is done without it"))
    })?;
    Ok(Some(policy))
}

/// Shows what a pipeline has beyond the policy.
pub(crate) fn refused<'a>(
    global: &Global,
    policy: &OperatorPolicy,
    pipeline: &str,
    beyond: impl IntoIterator<Item = &'a Diagnostic>,
) -> CommandError {
    diagnostics::show(global, beyond);
    CommandError::new(
        Exit::NotReady,
        format!("{pipeline} asks for more than the policy {} allows; nothing was run", policy.file),
    )
}
