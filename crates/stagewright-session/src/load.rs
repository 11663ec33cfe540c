//! From a pipeline file to a plan, with its mistakes shown to the person who made them.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use stagewright_model::{Diagnostic, Plan};
use stagewright_model::{count, list};

use crate::args::Global;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::repository::{PipelineFile, Repository};
use crate::{diagnostics, packages, policy};

/// Parses; mistakes and warnings go to standard error. Code that the policy rules out is looked at by nobody after this.
pub(crate) fn plan(global: &Global, repository: &Repository, file: &PipelineFile) -> Result<Plan, CommandError> {
    let (plan, found) = parse(repository, file);
    diagnostics::show(global, &found);
    let policy = policy::read(global, repository)?;
    let mut plan = plan.ok_or_else(|| {
        let mistakes = found.iter().filter(|diagnostic| !diagnostic.is_warning()).count();
        let message = format!("{} has {}; nothing was run", file.name, count(mistakes, "mistake"));
        let error = CommandError::new(Exit::InvalidPipeline, message);
        if repository.builtin_names().is_empty() { error.hint(no_plugins(repository)) } else { error }
    })?;
    if let Some(policy) = &policy {
        let checked = policy.check_trust(&plan, &file.name, &file.text);
        checked.map_err(|beyond| policy::refused(global, policy, &file.name, &beyond))?;
    }
    packages::note_credentials(&repository.root, &mut plan);
    Ok(plan)
}

/// The plan, unless the file has mistakes; and what there is to say about the file.
pub(crate) fn parse(repository: &Repository, file: &PipelineFile) -> (Option<Plan>, Vec<Diagnostic>) {
    let known = repository.builtin_names().into_iter().collect();
    match Plan::parse(&file.name, &file.text, &known) {
        Ok((plan, warnings)) => (Some(plan), warnings),
        Err(mistakes) => (None, mistakes.into_iter().collect()),
    }
}

fn no_plugins(repository: &Repository) -> String {
    let folders = list(repository.plugins.iter().map(|folder| folder.display().to_string()));
    format!("no built-in plugins were found in {folders}: set STAGEWRIGHT_PLUGINS to the folder that holds them")
}

/// The values of `--input`, with the defaults of the rest.
pub(crate) fn inputs(plan: &Plan, given: &[String]) -> Result<BTreeMap<String, Json>, CommandError> {
    let mut values = BTreeMap::new();
    for pair in given {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(CommandError::usage(format!("`--input {pair}` isn't NAME=VALUE")));
        };
        values.insert(name.to_owned(), value.to_owned());
    }
    plan.resolve_inputs(&values).map_err(|errors| {
        let mut error = CommandError::not_ready("the pipeline's inputs aren't as it declares them");
        error.hints = errors.into_iter().map(|wrong| format!("{}: {}", wrong.message, wrong.help)).collect();
        error
    })
}
