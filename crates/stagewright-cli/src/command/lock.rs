//! `lock`: writes down what pipelines may do, for review and for `--locked`.

use std::collections::BTreeMap;

use stagewright_model::Lock;
use stagewright_plugin_host::DEFAULT_BOUNDS;
use stagewright_report::{Printer, text};

use crate::args::{Global, LockArgs};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::host::Host;
use crate::repository::Repository;
use crate::{load, lock_file, packages};

pub(crate) fn lock(
    global: &Global,
    repository: &Repository,
    args: &LockArgs,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let all = args.pipelines.is_empty();
    let wanted: Vec<String> = match all {
        true => repository.pipelines().iter().map(|path| path.display().to_string()).collect(),
        false => args.pipelines.clone(),
    };
    if wanted.is_empty() {
        return Err(CommandError::not_ready(format!("{} has no pipeline", repository.root.display()))
            .hint("write a `stagewright.toml` at its root, or a file in `pipelines/`"));
    }
    // A lock that is written anew as a whole need not be whole before.
    let old = match lock_file::read(global, repository) {
        Err(_) if all && !args.check => None,
        read => read?,
    };
    let old = old.unwrap_or_default();
    let mut new = if all { Lock::default() } else { old.clone() };
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for name in wanted {
        let file = repository.pipeline(Some(&name))?;
        let plan = load::plan(global, repository, &file)?;
        if let Some(other) = files.insert(plan.name.clone(), file.name.clone()).filter(|other| *other != file.name) {
            let message = format!("{other} and {} are both called `{}`", file.name, plan.name);
            return Err(CommandError::not_ready(message).hint("give each pipeline a `name` of its own"));
        }
        let host = Host::inquiring(repository, &plan)?;
        packages::refuse_closed(&plan, host.packages())?;
        let locked = lock_file::of(&plan, &host.describe_all(&plan)?, host.packages());
        let before = old.pipelines.get(&plan.name).cloned().unwrap_or_default();
        let changes = before.changes(&locked, &DEFAULT_BOUNDS);
        let known = if old.pipelines.contains_key(&plan.name) { "" } else { ", not locked before" };
        out.line(text!("{}  {}{known}", plan.name, file.name))?;
        for change in &changes {
            out.line(text!("  {change}"))?;
        }
        new.pipelines.insert(plan.name, locked);
    }
    for gone in old.pipelines.keys().filter(|name| !new.pipelines.contains_key(*name)) {
        out.line(text!("{gone}"))?;
        out.line(text!("  - the pipeline is gone"))?;
    }
    if new == old && repository.root.join(lock_file::NAME).is_file() {
        out.line(text!("{} says so already.", lock_file::NAME))?;
        return Ok(Exit::Success);
    }
    if args.check {
        return Err(CommandError::not_ready(format!("{} is not up to date", lock_file::NAME))
            .hint("look at the changes, then write them down: `stagewright lock`"));
    }
    lock_file::write(repository, &new.render())?;
    out.line(text!("Wrote {}.", lock_file::NAME))?;
    Ok(Exit::Success)
}
