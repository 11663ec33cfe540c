//! Hard links in what stages may write: what a stage writes to one is written to its other names, wherever they are.

use std::path::PathBuf;

use stagewright_files::hard_links;
use stagewright_model::{PathRule, Plan, WorkspacePath};

use crate::repository::Repository;

/// Files and folders that are looked at for one stage: below half a second on a usual disk.
const ENTRIES: usize = 100_000;

/// What a reviewer should know, by what stages may write.
pub(crate) struct Remarks(Vec<(Vec<PathRule>, Option<String>)>);

impl Remarks {
    /// On stages that may write these.
    pub(crate) fn of(&self, rules: &[PathRule]) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == rules)?.1.as_deref()
    }
}

/// Looks once for each set of rules.
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
    // Neither can be written.
    let except = [root.join(".git"), repository.state.clone()];
    let granted = |path: &std::path::Path| {
        let path = path.strip_prefix(root).ok().and_then(|path| path.to_str());
        let path = path.and_then(|path| WorkspacePath::parse(path).ok());
        path.is_some_and(|path| rules.iter().any(|rule| rule.grants(&path)))
    };
    let found = hard_links(&roots, &except, granted, ENTRIES);
    if !found.complete {
        return Some(format!("hard links were not looked for: over {ENTRIES} files lie in what the stage may write"));
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
