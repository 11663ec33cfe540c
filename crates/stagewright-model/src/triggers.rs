//! `[on]`: which events start a pipeline.

use globset::GlobBuilder;

use crate::pattern::PathPattern;

/// `[on]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Triggers {
    /// `push`; none if pushes don't start the pipeline.
    pub push: Option<PushTrigger>,
    /// `pull-request`; none if pull requests don't start the pipeline.
    pub pull_request: Option<PullRequestTrigger>,
    /// `schedule`: cron lines, in UTC.
    pub schedule: Vec<String>,
    /// `manual`: whether users may start the pipeline. The default is true.
    pub manual: bool,
}

/// `on.push`. Without `branches` and `tags`, all pushes start the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushTrigger {
    /// `branches`, globs.
    pub branches: Vec<String>,
    /// `tags`, globs.
    pub tags: Vec<String>,
    /// `paths` and `paths-ignore`. They don't apply to pushes of tags.
    pub paths: PathFilter,
}

/// `on.pull-request`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullRequestTrigger {
    /// `branches`, globs of target branches. Empty for all.
    pub branches: Vec<String>,
    /// `paths` and `paths-ignore`.
    pub paths: PathFilter,
}

/// The files whose changes count: those that `paths` matches, or all without `paths`, except for those that
/// `paths-ignore` matches. A pattern that matches a folder matches everything in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathFilter {
    /// `paths`. Empty for all files.
    pub paths: Vec<PathPattern>,
    /// `paths-ignore`.
    pub ignored: Vec<PathPattern>,
}

/// Something that happens to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerEvent<'a> {
    /// Commits are pushed to this branch.
    BranchPush(&'a str),
    /// This tag is pushed.
    TagPush(&'a str),
    /// A pull request into this branch is opened or updated.
    PullRequest(&'a str),
}

impl Triggers {
    /// The files of which at least one must have changed for the event to start the pipeline. The filter is empty if
    /// any event of this kind starts it.
    ///
    /// # Errors
    /// Why the event doesn't start the pipeline, whatever has changed; as in "`on` has no `push`".
    pub fn filter(&self, event: TriggerEvent<'_>) -> Result<PathFilter, String> {
        match (event, &self.push, &self.pull_request) {
            (TriggerEvent::BranchPush(_) | TriggerEvent::TagPush(_), None, _) => Err("`on` has no `push`".to_owned()),
            (TriggerEvent::PullRequest(_), _, None) => Err("`on` has no `pull-request`".to_owned()),
            (TriggerEvent::BranchPush(branch), Some(push), _) => {
                let is_any = push.branches.is_empty() && push.tags.is_empty();
                expect(is_any || any(&push.branches, branch), "on.push.branches", "branch", branch)?;
                Ok(push.paths.clone())
            }
            (TriggerEvent::TagPush(tag), Some(push), _) => {
                let is_any = push.branches.is_empty() && push.tags.is_empty();
                expect(is_any || any(&push.tags, tag), "on.push.tags", "tag", tag)?;
                Ok(PathFilter::default())
            }
            (TriggerEvent::PullRequest(target), _, Some(pull_request)) => {
                let branches = &pull_request.branches;
                let is_any = branches.is_empty();
                expect(is_any || any(branches, target), "on.pull-request.branches", "target branch", target)?;
                Ok(pull_request.paths.clone())
            }
        }
    }
}

impl PathFilter {
    /// Whether the filter lets every change count.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.ignored.is_empty()
    }
}

fn expect(holds: bool, key: &str, kind: &str, name: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("`{key}` doesn't match the {kind} `{name}`")) }
}

/// Whether one of the globs matches the name. `*` doesn't match `/`, `**` does.
fn any(globs: &[String], name: &str) -> bool {
    globs.iter().any(|glob| {
        let glob = GlobBuilder::new(glob).literal_separator(true).build();
        // The syntax was checked when the file was read.
        glob.is_ok_and(|glob| glob.compile_matcher().is_match(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn push(branches: &[&str], tags: &[&str]) -> Triggers {
        let paths = PathFilter { paths: vec![PathPattern::parse("src").unwrap()], ignored: Vec::new() };
        let push = PushTrigger { branches: texts(branches), tags: texts(tags), paths };
        Triggers { push: Some(push), ..Triggers::default() }
    }

    #[test]
    fn a_push_needs_a_branch_or_tag_that_is_named_if_any_is() {
        let all = push(&[], &[]);
        assert!(!all.filter(TriggerEvent::BranchPush("topic/x")).unwrap().is_empty());
        assert!(all.filter(TriggerEvent::TagPush("v1")).unwrap().is_empty(), "tags have no paths");
        let branches = push(&["main", "release/*"], &[]);
        assert!(branches.filter(TriggerEvent::BranchPush("release/1")).is_ok());
        assert_eq!(
            branches.filter(TriggerEvent::BranchPush("release/1/x")).unwrap_err(),
            "`on.push.branches` doesn't match the branch `release/1/x`"
        );
        assert_eq!(
            branches.filter(TriggerEvent::TagPush("main")).unwrap_err(),
            "`on.push.tags` doesn't match the tag `main`"
        );
        assert!(push(&[], &["v*"]).filter(TriggerEvent::BranchPush("v1")).is_err());
        assert!(push(&["**"], &[]).filter(TriggerEvent::BranchPush("a/b/c")).is_ok());
        assert_eq!(all.filter(TriggerEvent::PullRequest("main")).unwrap_err(), "`on` has no `pull-request`");
    }

    #[test]
    fn a_pull_request_is_told_by_its_target() {
        let pull_request = PullRequestTrigger { branches: texts(&["main"]), paths: PathFilter::default() };
        let triggers = Triggers { pull_request: Some(pull_request), ..Triggers::default() };
        assert!(triggers.filter(TriggerEvent::PullRequest("main")).unwrap().is_empty());
        assert_eq!(
            triggers.filter(TriggerEvent::PullRequest("next")).unwrap_err(),
            "`on.pull-request.branches` doesn't match the target branch `next`"
        );
        assert_eq!(triggers.filter(TriggerEvent::BranchPush("main")).unwrap_err(), "`on` has no `push`");
    }
}
