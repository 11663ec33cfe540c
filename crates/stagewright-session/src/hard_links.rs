//! Hard links among the files that stages may write: writing to one changes the file under its other names, wherever
//! they are.

use std::path::PathBuf;

use stagewright_files::hard_links;
use stagewright_model::{PathRule, Plan, WorkspacePath};

use crate::repository::Repository;

/// The most files and folders that are checked for one stage. This takes less than half a second on a usual disk.
const ENTRIES: usize = 100_000;

/// Remarks for reviewers, by the files that stages may write.
pub(crate) struct Remarks(Vec<(Vec<PathRule>, Option<String>)>);

impl Remarks {
    /// The remark for stages that may write these files.
    pub(crate) fn of(&self, rules: &[PathRule]) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == rules)?.1.as_deref()
    }
}

/// Checks each distinct set of rules once.
pub(crate) fn remarks(repository: &Repository, plan: &Plan) -> Remarks {
    let mut remarks: Vec<(Vec<PathRule>, Option<String>)> = Vec::new();
    for rules in plan.stages.iter().map(|stage| &stage.permissions.write) {
        if !remarks.iter().any(|(known, _)| known == rules) {
            remarks.push((rules.clone(), remark(repository, rules)));
        }
    }
    Remarks(remarks)
}

fn remark(repository: &Repository, rules: &[PathRule]) -> Option<String> {
    let root = &repository.root;
    let mut roots = rules.iter().map(|rule| root.join(rule.pattern().base().as_str())).collect::<Vec<_>>();
    roots.sort();
    roots.dedup_by(|below, above| below.starts_with(above));
    // Stages can't write these folders.
    let except = [root.join(".git"), repository.state.clone()];
    let granted = |path: &std::path::Path| {
        let path = path.strip_prefix(root).ok().and_then(|path| path.to_str());
        let path = path.and_then(|path| WorkspacePath::parse(path).ok());
        path.is_some_and(|path| rules.iter().any(|rule| rule.grants(&path)))
    };
    let found = hard_links(&roots, &except, granted, ENTRIES);
    if !found.complete {
        return Some(format!("hard links were not checked: the stage may write more than {ENTRIES} files"));
    }
    let shown = |path: &PathBuf| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let first = found.leading_outside.first().map(shown)?;
    let others = match found.leading_outside.len() - 1 {
        0 => "is a hard link to a file".to_owned(),
        1 => "and 1 more file are hard links to files".to_owned(),
        more => format!("and {more} more files are hard links to files"),
    };
    Some(format!("`{first}` {others} outside of what the stage may write: what is written to one changes the other"))
}
