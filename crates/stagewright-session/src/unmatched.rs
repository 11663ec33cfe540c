//! Grants that match nothing on this machine: most often a misspelt path or program.

use std::path::Path;

use stagewright_cache::Globs;
use stagewright_model::{Mistake, MistakePlace, Plan, ProcessRule, StageIndex};
use stagewright_process::which;

use crate::repository::Repository;

/// Entries of `read` and `process` that match no file of the repository, no program in `PATH`, and nothing that a stage may
/// write. The cells of a matrix have the same grants, which are listed once.
pub(crate) fn grants(repository: &Repository, plan: &Plan) -> Vec<Mistake> {
    let written = plan.stages.iter().flat_map(|stage| stage.permissions.write.iter().cloned()).collect::<Vec<_>>();
    // What can't be read as globs was refused with the file.
    let Ok(written) = Globs::new(&written) else { return Vec::new() };
    let machine = Machine { repository, written };
    let mut found: Vec<Mistake> = Vec::new();
    for index in plan.indices() {
        for mistake in machine.unmatched(plan, index) {
            let name = &plan.stage(index).name;
            let is_known =
                found.iter().any(|known| known.place == mistake.place && plan.stage(known.stage).name == *name);
            if !is_known {
                found.push(mistake);
            }
        }
    }
    found
}

struct Machine<'a> {
    repository: &'a Repository,
    /// What stages may make.
    written: Globs,
}

impl Machine<'_> {
    fn unmatched(&self, plan: &Plan, stage: StageIndex) -> Vec<Mistake> {
        let permissions = &plan.stage(stage).permissions;
        let mistake = |permission, entry: &str, message, help: &str| Mistake {
            stage,
            place: MistakePlace::Grant { permission, entry: entry.to_owned() },
            message,
            help: Some(help.to_owned()),
        };
        let reads = permissions.read.iter().filter(|entry| !self.has_file(entry)).map(|entry| {
            let message = format!("the repository has no `{entry}`, and no stage may write it");
            mistake("read", entry, message, "correct the path, or remove it")
        });
        let programs = permissions.process.iter().filter_map(|entry| {
            let rule = ProcessRule::parse(entry).ok()?;
            let program = rule.program().filter(|program| !self.has_program(program))?;
            let (message, help) = match program.contains('/') {
                true => (format!("the program `{program}` does not exist"), "correct the path, or remove it"),
                false => (format!("`{program}` is not in PATH"), "install it, or correct the name"),
            };
            Some(mistake("process", entry, message, help))
        });
        reads.chain(programs).collect()
    }

    /// Of a glob, only the folder before its first wildcard is looked for.
    fn has_file(&self, entry: &str) -> bool {
        let literal = entry.split('/').take_while(|part| !part.contains(['*', '?', '[', '{']));
        let path = literal.collect::<Vec<_>>().join("/");
        self.repository.root.join(&path).symlink_metadata().is_ok() || self.written.reach_into(&path)
    }

    fn has_program(&self, program: &str) -> bool {
        let path = self.repository.environment.get("PATH").map_or("", String::as_str);
        match program.contains('/') {
            // The shell of a sandbox has these, whatever this machine has.
            _ if matches!(program, "sh" | "/bin/sh") => true,
            true if Path::new(program).is_absolute() => Path::new(program).exists(),
            true => self.has_file(program.trim_start_matches("./")),
            false => which(program, path).is_some() || self.has_file(program),
        }
    }
}
