//! What has to hold before anything of a pipeline starts: no more than the policy allows, and, where it is asked for, no
//! more than the lock says.

use std::sync::Arc;

use stagewright_model::{Change, Diagnostic, OperatorPolicy, Plan};
use stagewright_plugin_host::{DEFAULT_BOUNDS, Description};
use stagewright_report::text;

use crate::args::Global;
use crate::console;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::host::Host;
use crate::lock_file::{self, Compared};
use crate::repository::{PipelineFile, Repository};
use crate::{diagnostics, packages, policy};

/// Refuses a run, or makes its plan what it is under the policy, which it gives back.
pub(crate) fn admit(
    global: &Global,
    repository: &Repository,
    host: &Host,
    file: &PipelineFile,
    plan: &mut Plan,
    locked: bool,
) -> Result<Option<OperatorPolicy>, CommandError> {
    let policy = policy::read(global, repository)?;
    let plugins = host.describe_all(plan)?;
    refuse_open_code(global, file, plan, &plugins)?;
    packages::refuse_closed(plan, host.packages())?;
    if let Some(policy) = &policy {
        let beyond = packages::beyond(policy, plan, file, &plugins, host.packages());
        if !beyond.is_empty() {
            return Err(policy::refused(global, policy, &file.name, &beyond));
        }
    }
    packages::tell_of_machine(plan, host.packages());
    let by_policy = policy.as_ref().filter(|policy| policy.requires_lock).map(|policy| policy.file.as_str());
    let lock = lock_file::read(global, repository)?;
    let compared = lock_file::compare(lock.as_ref(), plan, &plugins, host.packages());
    if locked || by_policy.is_some() {
        refuse_wider(file, plan, &compared).map_err(|error| match by_policy {
            Some(policy) => error.hint(format!("the policy {policy} wants an up-to-date lock of every run")),
            None => error,
        })?;
    } else if let Compared::Changes(changes) = &compared {
        tell_wider(file, changes);
    }
    if let Some(policy) = &policy {
        policy.impose(plan, &DEFAULT_BOUNDS);
    }
    Ok(policy)
}

/// Expressions in what stages execute, whose text may come from anybody. `plugins`: by plan index.
pub(crate) fn open_code(file: &PipelineFile, plan: &Plan, plugins: &[Arc<Description>]) -> Vec<Diagnostic> {
    let schemas = plugins.iter().map(|plugin| &plugin.manifest.config);
    plan.check_code(&file.name, &file.text, schemas).err().into_iter().flatten().collect()
}

/// Refuses a pipeline that has any.
pub(crate) fn refuse_open_code(
    global: &Global,
    file: &PipelineFile,
    plan: &Plan,
    plugins: &[Arc<Description>],
) -> Result<(), CommandError> {
    let found = open_code(file, plan, plugins);
    diagnostics::show(global, &found);
    match found.len() {
        0 => Ok(()),
        1 => Err(CommandError::new(
            Exit::InvalidPipeline,
            format!("{} has an expression inside code; nothing was run", file.name),
        )),
        count => Err(CommandError::new(
            Exit::InvalidPipeline,
            format!("{} has {count} expressions inside code; nothing was run", file.name),
        )),
    }
}

fn refuse_wider(file: &PipelineFile, plan: &Plan, compared: &Compared) -> Result<(), CommandError> {
    let lock = lock_file::NAME;
    let message = match compared {
        Compared::NoLock => format!("there is no {lock}, and the run is to keep to it; nothing was run"),
        Compared::NotLocked => format!("{lock} doesn't know the pipeline `{}`; nothing was run", plan.name),
        Compared::Changes(changes) if changes.iter().all(|change| !change.is_wider) => return Ok(()),
        Compared::Changes(_) => format!("{} may do more than {lock} says; nothing was run", file.name),
    };
    Err(CommandError::not_ready(message)
        .details(compared.wider().map(Change::to_string))
        .hint(format!("if that is wanted, write it down and have it reviewed: stagewright lock {}", file.name)))
}

fn tell_wider(file: &PipelineFile, changes: &[Change]) {
    let count = changes.iter().filter(|change| change.is_wider).count();
    if count > 0 {
        let (lock, things) = (lock_file::NAME, if count == 1 { "one thing" } else { "things" });
        let number = if count == 1 { String::new() } else { format!("{count} ") };
        console::say(text!(
            "note: {} may do {number}{things} that {lock} doesn't say: `stagewright plan {}` shows them",
            file.name,
            file.name
        ));
    }
}
