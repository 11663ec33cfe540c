//! The operator's policy: where it is, and what it refuses.

use std::path::Path;

use stagewright_model::{Diagnostic, OperatorPolicy};

use crate::error::SessionError;
use crate::repository::document;
use crate::session::Session;

/// Bounds every pipeline on the machine, unless another is named on the command line or in the environment.
const OF_THE_MACHINE: &str = "/etc/stagewright/policy.toml";

/// Reads the policy, if there is one. One that can't be read, or has mistakes, stops everything.
pub(crate) fn read(session: &Session) -> Result<Option<OperatorPolicy>, SessionError> {
    let named = session.repository.policy.as_ref();
    let (path, name) = match named {
        Some(named) => (named.path.as_path(), named.named.display().to_string()),
        None => (Path::new(OF_THE_MACHINE), OF_THE_MACHINE.to_owned()),
    };
    let text = match document(path) {
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| {
            SessionError::internal(format!("can't read the policy {name}, without which nothing is done"))
                .caused_by(error)
                .hint("it is named by --policy, else by STAGEWRIGHT_POLICY; correct that, or make the file readable")
        })?,
    };
    let policy = OperatorPolicy::parse(&name, &text).map_err(|mistakes| {
        session.notices.diagnostics(&mistakes.iter().collect::<Vec<_>>());
        SessionError::internal(format!("the policy {name} has mistakes, and nothing is done without it"))
    })?;
    Ok(Some(policy))
}

/// Shows what a pipeline has beyond the policy.
pub(crate) fn refused<'a>(
    session: &Session,
    policy: &OperatorPolicy,
    pipeline: &str,
    beyond: impl IntoIterator<Item = &'a Diagnostic>,
) -> SessionError {
    session.notices.diagnostics(&beyond.into_iter().collect::<Vec<_>>());
    SessionError::not_ready(format!("{pipeline} asks for more than the policy {} allows; nothing was run", policy.file))
}
