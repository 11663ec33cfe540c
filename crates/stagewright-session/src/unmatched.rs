//! Grants that match nothing on this machine, mostly because a path or program is misspelt.

use std::path::Path;

use stagewright_cache::Globs;
use stagewright_model::{Grant, Mistake, MistakePlace, PermissionSet, Permissions, Plan, StageIndex, WorkspacePath};
use stagewright_process::which;

use crate::missing::StageLacks;
use crate::repository::Repository;

/// Entries of `read` and `process` that match no file in the repository, no program in `PATH`, and nothing that a stage
/// may write. The cells of a matrix have the same grants, which are reported once.
///
/// What stages lack counts as granted: a file that a stage can't write yet isn't misspelt.
pub(crate) fn grants(repository: &Repository, plan: &Plan, lacking: &[StageLacks]) -> Vec<Mistake> {
    let mut lacked = Permissions::default();
    for grant in lacking.iter().flat_map(|lacks| &lacks.grants).map(|lacked| &lacked.grant) {
        // Entries that don't parse match nothing.
        let _ = lacked.insert(grant.permission, &grant.entry);
    }
    let granted = plan.stages.iter().map(|stage| stage.permissions.as_ref()).chain([&lacked]);
    let written = granted.flat_map(Permissions::writable).collect::<Vec<_>>();
    // Globs that are too large to be compiled aren't checked.
    let Ok(written) = Globs::new(&written) else { return Vec::new() };
    let machine = AvailableFiles { repository, written };
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

struct AvailableFiles<'a> {
    repository: &'a Repository,
    /// The files that stages may create.
    written: Globs,
}

impl AvailableFiles<'_> {
    fn unmatched(&self, plan: &Plan, stage: StageIndex) -> Vec<Mistake> {
        let permissions = &plan.stage(stage).permissions;
        // Built-in sets contain what some projects of their kind have.
        let sets = plan.stage(stage).permission_sets.iter().filter(|set| set.is_built_in);
        let expected: Vec<Permissions> =
            sets.filter_map(|set| PermissionSet::named(&set.name)).map(PermissionSet::permissions).collect();
        let is_own = |grant: Grant<'_>| !expected.iter().any(|set| set.of(grant.permission()).contains(&grant));
        let mistake = |permission, entry: &str, message, help: &str| Mistake {
            stage,
            place: MistakePlace::Grant { permission, entry: entry.to_owned() },
            message,
            help: Some(help.to_owned()),
        };
        let read = permissions.read.iter().filter(|rule| is_own(Grant::Read(rule))).map(|rule| ("read", rule));
        let files = read.chain(permissions.exec.iter().map(|rule| ("exec", rule)));
        let files = files.filter(|(_, rule)| !self.has_file(rule.pattern().base())).map(|(key, rule)| {
            let message = format!("the repository has no `{rule}`, and no stage may write it");
            mistake(key, rule.as_str(), message, "correct the path, or remove it")
        });
        let programs = permissions.process.iter().filter(|rule| is_own(Grant::Process(rule))).filter_map(|rule| {
            let program = rule.program().filter(|program| !self.has_program(program))?;
            let (message, help) = match program.contains('/') {
                true => (format!("the program `{program}` does not exist"), "correct the path, or remove it"),
                false => (format!("`{program}` is not in PATH"), "install it, or correct the name"),
            };
            Some(mistake("process", rule.as_str(), message, help))
        });
        files.chain(programs).collect()
    }

    /// Whether the file exists; for a glob, the folder before its first wildcard.
    fn has_file(&self, path: &WorkspacePath) -> bool {
        self.repository.root.join(path.as_path()).symlink_metadata().is_ok() || self.written.reach_into(path.as_str())
    }

    fn has_program(&self, program: &str) -> bool {
        let path = self.repository.environment.get("PATH").map_or("", String::as_str);
        match program.contains('/') {
            // A sandbox provides a shell, even if this machine has none.
            _ if matches!(program, "sh" | "/bin/sh") => true,
            true if Path::new(program).is_absolute() => Path::new(program).exists(),
            true => WorkspacePath::parse(program).is_ok_and(|path| self.has_file(&path)),
            false => {
                which(program, path).is_some() || WorkspacePath::parse(program).is_ok_and(|path| self.has_file(&path))
            }
        }
    }
}
