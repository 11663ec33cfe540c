//! The operator's policy: reading it, and refusing what it forbids.

use std::path::Path;

use stagewright_model::{Diagnostic, OperatorPolicy};

use crate::error::SessionError;
use crate::repository::document;
use crate::session::Session;

/// The policy for all pipelines of the machine, unless another one is configured.
const OF_THE_MACHINE: &str = "/etc/stagewright/policy.toml";

/// Reads the policy, if it exists. A policy that can't be read or is invalid is an error, because running without it
/// would lift its limits.
pub(crate) fn read(session: &Session) -> Result<Option<OperatorPolicy>, SessionError> {
    let named = session.repository.policy.as_ref();
    let (path, name) = match named {
        Some(named) => (named.path.as_path(), named.named.display().to_string()),
        None => (Path::new(OF_THE_MACHINE), OF_THE_MACHINE.to_owned()),
    };
    let text = match document(path) {
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| {
            SessionError::internal(format!("can't read the policy {name}; nothing was run"))
                .caused_by(error)
                .hint("correct --policy or STAGEWRIGHT_POLICY, or make the file readable")
        })?,
    };
    let policy = OperatorPolicy::parse(&name, &text).map_err(|mistakes| {
        session.notices.diagnostics(&mistakes.iter().collect::<Vec<_>>());
        SessionError::internal(format!("the policy {name} is invalid; nothing was run"))
    })?;
    Ok(Some(policy))
}

/// Reports what a pipeline requests beyond the policy.
pub(crate) fn refused<'a>(
    session: &Session,
    policy: &OperatorPolicy,
    pipeline: &str,
    beyond: impl IntoIterator<Item = &'a Diagnostic>,
) -> SessionError {
    session.notices.diagnostics(&beyond.into_iter().collect::<Vec<_>>());
    SessionError::not_ready(format!("{pipeline} asks for more than the policy {} allows; nothing was run", policy.file))
}
