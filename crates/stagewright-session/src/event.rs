//! `run --event`: whether `on` starts the pipeline for an event. The event is that of HEAD: a push of the branch or tag
//! that is checked out, or a pull request of this branch. Changes that aren't committed count as well, so that an event can
//! be tried before it happens.

use std::sync::Arc;

use stagewright_engine::GitState;
use stagewright_model::{TriggerEvent, Triggers};

use crate::blocking::blocking;
use crate::changed_files;
use crate::error::SessionError;
use crate::git::{self, ComparisonBase};
use crate::session::Session;

/// An event of a repository that can start a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryEvent {
    /// The branch or tag is pushed.
    Push,
    /// A pull request is opened or updated.
    PullRequest,
}

impl RepositoryEvent {
    /// Its key in `on`, and its name in expressions.
    pub fn as_str(self) -> &'static str {
        match self {
            RepositoryEvent::Push => "push",
            RepositoryEvent::PullRequest => "pull-request",
        }
    }
}

/// What `on` says about an event.
pub(crate) enum EventDecision {
    /// It starts the pipeline, for the branch, tag or pull request with this full name.
    Starts { reference: String },
    /// It doesn't, for this reason.
    Ignored(String),
}

/// Decides whether the event starts the pipeline. `base` names what a pull request is into, or the state before a push;
/// `pull_request` is the number of the pull request, if that is known.
pub(crate) async fn decide(
    session: &Session,
    triggers: &Triggers,
    event: RepositoryEvent,
    base: Option<&str>,
    pull_request: Option<u64>,
    git: &GitState,
) -> Result<EventDecision, SessionError> {
    if pull_request.is_some() && event != RepositoryEvent::PullRequest {
        let message = format!("`--pull-request` isn't about the event `{}`", event.as_str());
        return Err(SessionError::invalid_request(message).hint("use it with `--event pull-request`"));
    }
    if git.commit.is_empty() {
        let message = format!("`--event {}` needs a git repository with a commit", event.as_str());
        return Err(SessionError::invalid_request(message).hint("leave it out to run the pipeline for no event"));
    }
    let target = match event {
        RepositoryEvent::Push => None,
        RepositoryEvent::PullRequest => Some(target(session, base).await?),
    };
    let candidates = match &target {
        None => pushes(git),
        Some(target) => pull_requests(git, target, pull_request),
    };
    if candidates.is_empty() {
        let message = format!("`--event {}` needs a branch that is checked out", event.as_str());
        return Err(SessionError::invalid_request(message).hint(match event {
            RepositoryEvent::Push => "`git switch` checks out a branch",
            RepositoryEvent::PullRequest => "check out a branch, or name the pull request as in `--pull-request 7`",
        }));
    }
    let mut reasons = Vec::new();
    for (candidate, reference) in candidates {
        let ignored = match triggers.filter(candidate) {
            Ok(filter) if filter.is_empty() => None,
            Ok(filter) => {
                let is_upstream = event == RepositoryEvent::Push;
                let base = ComparisonBase { option: "--event", name: base.map(str::to_owned), is_upstream };
                changed_files::since(session, base).await?.ignored_by(event.as_str(), &filter)?
            }
            Err(reason) => Some(reason),
        };
        match ignored {
            None => return Ok(EventDecision::Starts { reference }),
            Some(reason) => reasons.push(reason),
        }
    }
    reasons.dedup();
    Ok(EventDecision::Ignored(reasons.join(", and ")))
}

/// The pushes that HEAD can be part of, each with the full name of what is pushed.
fn pushes(git: &GitState) -> Vec<(TriggerEvent<'_>, String)> {
    let tag = git.tag.iter().map(|tag| (TriggerEvent::TagPush(tag), format!("refs/tags/{tag}")));
    let branch = git.branch.iter().map(|branch| (TriggerEvent::BranchPush(branch), format!("refs/heads/{branch}")));
    tag.chain(branch).collect()
}

/// The pull request with its full name: by its number if that is known, otherwise by the branch that is checked out.
fn pull_requests<'a>(git: &GitState, target: &'a str, number: Option<u64>) -> Vec<(TriggerEvent<'a>, String)> {
    let of_branch = || Some(format!("refs/heads/{}", git.branch.as_ref()?));
    let reference = number.map(|number| format!("refs/pull/{number}/head")).or_else(of_branch);
    reference.into_iter().map(|reference| (TriggerEvent::PullRequest(target), reference)).collect()
}

/// The branch that a pull request is into.
async fn target(session: &Session, base: Option<&str>) -> Result<String, SessionError> {
    let (repository, name) = (Arc::clone(&session.repository), base.map(str::to_owned));
    let found = blocking(move || git::branch_name(&repository, name.as_deref())).await?;
    found.ok_or_else(|| {
        let message = match base {
            Some(base) => format!("`--base {base}` names no branch that a pull request could be into"),
            None => "`--event pull-request` finds no main branch that it could be into".to_owned(),
        };
        SessionError::invalid_request(message).hint("name the target branch with `--base`")
    })
}
