//! Hard links in what stages may write: what a stage writes to one is written to its other names, wherever they are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use stagewright_files::hard_links;
use stagewright_model::{Permission, Plan};

use crate::repository::Repository;

/// Files and folders that are looked at for one stage: below half a second on a usual disk.
const ENTRIES: usize = 100_000;

/// What a reviewer should know, by what stages may write.
pub(crate) type Remarks = BTreeMap<Vec<String>, String>;

/// Looks once for each set of rules.
pub(crate) fn remarks(repository: &Repository, plan: &Plan) -> Remarks {
    let mut remarks = Remarks::new();
    for stage in &plan.stages {
        let rules = &stage.permissions.write;
        if !remarks.contains_key(rules)
            && let Some(remark) = remark(repository, rules)
        {
            remarks.insert(rules.clone(), remark);
        }
    }
    remarks
}

fn remark(repository: &Repository, rules: &[String]) -> Option<String> {
    let root = &repository.root;
    let mut roots = rules.iter().map(|rule| root.join(folder_of(rule))).collect::<Vec<_>>();
    roots.sort();
    roots.dedup_by(|below, above| below.starts_with(above));
    // Neither can be written.
    let except = [root.join(".git"), repository.state.clone()];
    let granted = |path: &std::path::Path| {
        let path = path.strip_prefix(root).ok().and_then(|path| path.to_str());
        path.is_some_and(|path| Permission::Write.is_within(path, rules))
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

/// The path before the first name with a wildcard.
fn folder_of(rule: &str) -> PathBuf {
    rule.split('/').take_while(|name| !name.contains(['*', '?', '[', '{', '\\'])).collect()
}
