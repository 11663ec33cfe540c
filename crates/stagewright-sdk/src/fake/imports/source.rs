//! `source`.

use serde_json::json;

use crate::fake::imports::types;
use crate::fake::rules;
use crate::fake::state::on;
use crate::{Error, ErrorCode, Permission};

pub(crate) fn commit() -> Option<String> {
    on(|host| host.source.commit.clone())
}

pub(crate) fn reference() -> Option<String> {
    on(|host| host.source.reference.clone())
}

pub(crate) fn branch() -> Option<String> {
    on(|host| host.source.branch.clone())
}

pub(crate) fn tag() -> Option<String> {
    on(|host| host.source.tag.clone())
}

pub(crate) fn dirty() -> bool {
    on(|host| host.source.dirty)
}

pub(crate) fn trigger() -> String {
    on(|host| host.source.trigger.clone())
}

pub(crate) fn actor() -> Option<String> {
    on(|host| host.source.actor.clone())
}

pub(crate) fn changed_files(since: Option<&str>) -> std::result::Result<Vec<String>, types::Error> {
    let unknown =
        |why: &str| Error::new(ErrorCode::FailedPrecondition, format!("could not list the changed files: {why}"));
    on(|host| {
        let commit = match since {
            Some(commit) => rules::commit(commit)?.to_owned(),
            None => host.source.base.clone().ok_or_else(|| {
                unknown("there is no main branch to compare with").help("pass the full id of a commit")
            })?,
        };
        let changed = host.changes.get(&commit).ok_or_else(|| {
            unknown(&format!("the repository has no commit {commit}"))
                .help("a shallow clone lacks older commits: fetch them with `git fetch --unshallow`")
        })?;
        let may_read = |path: &&String| host.grant(Permission::Read, &rules::lineage(path), "list it").is_ok();
        Ok(changed.iter().filter(may_read).cloned().collect())
    })
}

pub(crate) fn commits(since: Option<&str>, most: u32) -> std::result::Result<String, types::Error> {
    if !(1..=10_000).contains(&most) {
        return Err(Error::invalid(format!("between 1 and 10000 commits can be listed, not {most}")).into());
    }
    let unknown = |why: String| Error::new(ErrorCode::FailedPrecondition, format!("could not list the commits: {why}"));
    on(|host| {
        if host.source.commit.is_none() {
            let help = "run it in a git repository that has a commit";
            return Err(unknown("the run is for no commit".to_owned()).help(help));
        }
        let since = since.map(|since| match since.strip_prefix("refs/tags/") {
            Some(tag) => host.history_tags.get(tag).cloned().ok_or_else(|| format!("tag `{tag}`")),
            None => Ok(since.to_owned()),
        });
        let found = since.map(|since| {
            let id = since?;
            let at = host.history.iter().position(|commit| commit.id == id);
            let is_known = at.is_some() || host.diverged.contains(&id);
            if is_known { Ok(at) } else { Err(format!("commit {id}")) }
        });
        let found = found.transpose().map_err(|what| {
            unknown(format!("the repository has no {what}")).help(match host.shallow {
                true => "the clone is shallow: fetch the rest with `git fetch --unshallow --tags`",
                false => {
                    "fetch it with `git fetch --tags`; a commit of a branch that was overwritten or removed may be \
                     lost"
                }
            })
        })?;
        let all = found.flatten().unwrap_or(host.history.len());
        let kept = all.min(usize::try_from(most).unwrap_or(usize::MAX));
        let end = match found {
            _ if kept < all => "limit",
            Some(Some(_)) => "since",
            _ if host.shallow => "shallow",
            Some(None) => "since",
            None => "start",
        };
        let commits = host.history[..kept].iter().enumerate().map(|(at, commit)| {
            let parent = host.history.get(at + 1).filter(|_| commit.parents.is_empty()).map(|parent| &parent.id);
            let parents = commit.parents.iter().chain(parent).collect::<Vec<_>>();
            let (author, message) = (&commit.author, &commit.message);
            json!({ "id": commit.id, "parents": parents, "author": author, "time-ms": commit.time_ms, "message": message })
        });
        let commits = commits.collect::<Vec<_>>();
        Ok(json!({ "commits": commits, "end": end, "diverged": found == Some(None) }).to_string())
    })
    .map_err(types::Error::from)
}

pub(crate) fn repository() -> std::result::Result<Option<String>, types::Error> {
    on(|host| Ok(host.repository.clone()))
}
