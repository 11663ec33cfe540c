//! Loads a pipeline file into a plan.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_model::{Diagnostic, Plan, count, list};

use crate::error::SessionError;
use crate::packages;
use crate::policy;
use crate::repository::{PipelineFile, Repository};
use crate::session::Session;

/// A valid pipeline file and its plan. It may request more than the policy allows, except native libraries that the
/// policy forbids, which must not be loaded even for inspection.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The file.
    pub file: PipelineFile,
    /// Its plan.
    pub plan: Plan,
}

impl Session {
    /// Parses a pipeline. Its errors and warnings are passed to the [`Notices`](crate::Notices).
    ///
    /// # Errors
    /// If it is invalid, if the policy forbids native code that it trusts, or if the policy can't be read.
    pub fn load(&self, file: PipelineFile) -> Result<Pipeline, SessionError> {
        let (plan, found) = parse(&self.repository, &file);
        self.notices.diagnostics(&found.iter().collect::<Vec<_>>());
        let policy = policy::read(self)?;
        let mut plan = plan.ok_or_else(|| {
            let mistakes = found.iter().filter(|diagnostic| !diagnostic.is_warning()).count();
            let message = format!("{} has {}; nothing was run", file.name, count(mistakes, "mistake"));
            let error = SessionError::invalid_pipeline(message);
            match no_plugins(&self.repository) {
                Some(missing) => error.hint(missing),
                None => error,
            }
        })?;
        if let Some(policy) = &policy {
            let checked = policy.check_trust(&plan, &file.name, &file.text);
            checked.map_err(|beyond| policy::refused(self, policy, &file.name, &beyond))?;
        }
        packages::note_credentials(&self.repository.root, &mut plan);
        Ok(Pipeline { file, plan })
    }
}

/// The plan, unless the file is invalid, and the file's diagnostics.
pub(crate) fn parse(repository: &Repository, file: &PipelineFile) -> (Option<Plan>, Vec<Diagnostic>) {
    let known = repository.plugins.names().into_iter().collect();
    match Plan::parse(&file.name, &file.text, &known) {
        Ok((plan, warnings)) => (Some(plan), warnings),
        Err(mistakes) => (None, mistakes.into_iter().collect()),
    }
}

/// Refuses a repository without built-in plugins, in which every pipeline that uses one would be invalid.
pub(crate) fn require_plugins(repository: &Repository) -> Result<(), SessionError> {
    no_plugins(repository).map_or(Ok(()), |missing| Err(SessionError::not_ready(missing)))
}

/// Says so if there are no built-in plugins.
fn no_plugins(repository: &Repository) -> Option<String> {
    let plugins = &repository.plugins;
    let folders = list(plugins.folders.iter().map(|folder| folder.display().to_string()));
    let missing = "set STAGEWRIGHT_PLUGINS to the folder that holds them";
    plugins.names().is_empty().then(|| format!("no built-in plugins were found in {folders}: {missing}"))
}

/// The values of a pipeline's inputs: the given ones, and defaults for the others.
pub(crate) fn inputs(plan: &Plan, given: &BTreeMap<String, String>) -> Result<BTreeMap<String, Json>, SessionError> {
    plan.resolve_inputs(given).map_err(|errors| {
        let mut error = SessionError::not_ready("invalid inputs");
        error.hints = errors.into_iter().map(|wrong| format!("{}: {}", wrong.message, wrong.help)).collect();
        error
    })
}
