//! The commits that lead to a run's, and the web address of its repository.

use stagewright_plugin_host::{Commit, History, HistoryEnd};

use super::{GitReader, Unanswered, ask};
use crate::error::SessionError;
use crate::repository::Repository;

/// The most bytes of a commit's message.
const MOST_OF_MESSAGE: usize = 64 << 10;
/// The most bytes of all messages together.
const MOST_OF_MESSAGES: usize = 8 << 20;

/// The newest `most` commits that lead to `head` but not to `since`, newest first.
///
/// # Errors
/// Outside of a repository, and if it has no such commit.
pub(crate) fn history(
    repository: &Repository,
    head: &str,
    since: Option<&str>,
    most: usize,
) -> Result<History, SessionError> {
    let question = |reader: &dyn GitReader| {
        let head = commit(reader, head)?;
        let since = since.map(|since| commit(reader, since)).transpose()?;
        let commits = reader.log(&head, since.as_deref(), most.saturating_add(1))?;
        let diverged = match &since {
            Some(since) => reader.merge_base(&head, since)?.as_ref() != Some(since),
            None => false,
        };
        let (commits, is_cut) = bounded(commits, most);
        let end = match (is_cut, since) {
            (true, _) => HistoryEnd::Limit,
            // With an ancestor, nothing is missing: what leads to it is left out anyway.
            (false, Some(_)) if !diverged => HistoryEnd::Since,
            (false, _) if reader.is_shallow()? => HistoryEnd::Shallow,
            (false, Some(_)) => HistoryEnd::Since,
            (false, None) => HistoryEnd::Start,
        };
        Ok(History { commits, end, diverged })
    };
    ask(repository, question, |_| true)?
        .ok_or_else(|| SessionError::invalid_request("the workspace isn't a git repository"))
}

fn commit(reader: &dyn GitReader, name: &str) -> Result<String, Unanswered> {
    if let Some(commit) = reader.commit(name)? {
        return Ok(commit);
    }
    let what = match name.strip_prefix("refs/tags/") {
        Some(tag) => format!("tag `{tag}`"),
        None => format!("commit {name}"),
    };
    let missing = SessionError::invalid_request(format!("the repository has no {what}"));
    Err(Unanswered::Refused(missing.hint(match reader.is_shallow()? {
        true => "the clone is shallow: fetch the rest with `git fetch --unshallow --tags`",
        false => "fetch it with `git fetch --tags`; a commit of a branch that was overwritten or removed may be lost",
    })))
}

/// The first commits, within the limits, and whether that leaves any out. Longer messages are cut.
fn bounded(mut commits: Vec<Commit>, most: usize) -> (Vec<Commit>, bool) {
    let (all, mut size) = (commits.len(), 0);
    for commit in &mut commits {
        let end = commit.message.floor_char_boundary(MOST_OF_MESSAGE);
        commit.message.truncate(end);
    }
    let fits = commits.iter().take(most).take_while(|commit| {
        size += commit.message.len();
        size <= MOST_OF_MESSAGES
    });
    let kept = fits.count();
    commits.truncate(kept);
    (commits, kept < all)
}

/// The web address of the repository; none without a remote that has one, and outside of a repository.
///
/// # Errors
/// If the repository can't be read.
pub(crate) fn web_address(repository: &Repository) -> Result<Option<String>, SessionError> {
    let remote = ask(repository, |reader| reader.remote(), |_| true)?.flatten();
    Ok(remote.as_deref().and_then(address_of))
}

/// The web address that belongs to the URL of a remote: without user, password and `.git`. Hosting services answer there
/// whatever protocol git uses, but the port of SSH says nothing about that of the web server.
fn address_of(remote: &str) -> Option<String> {
    let (scheme, rest) = match remote.split_once("://") {
        Some((scheme @ ("https" | "http"), rest)) => (scheme, rest.to_owned()),
        Some(("ssh" | "git" | "git+ssh" | "ssh+git", rest)) => {
            let (authority, path) = rest.split_once('/')?;
            let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
            ("https", format!("{host}/{path}"))
        }
        Some(_) => return None,
        // `git@github.com:acme/app.git`, but not `./a:b`.
        None => {
            let (host, path) = remote.split_once(':').filter(|(host, _)| !host.contains('/'))?;
            ("https", format!("{host}/{}", path.trim_start_matches('/')))
        }
    };
    let (authority, path) = rest.split_once('/')?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    let is_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '~' | '+');
    let is_valid = !host.is_empty() && !path.is_empty() && host.chars().all(is_host) && path.chars().all(is_path);
    is_valid.then(|| format!("{scheme}://{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_has_a_web_address_without_credentials() {
        let cases = [
            ("git@github.com:acme/app.git", Some("https://github.com/acme/app")),
            ("https://ada:hunter2@github.com/acme/app.git", Some("https://github.com/acme/app")),
            ("https://token@gitlab.example:8443/group/sub/app/", Some("https://gitlab.example:8443/group/sub/app")),
            ("http://127.0.0.1:3000/acme/app", Some("http://127.0.0.1:3000/acme/app")),
            ("ssh://git@git.example:2222/acme/app.git", Some("https://git.example/acme/app")),
            ("git://git.example/acme/app", Some("https://git.example/acme/app")),
            ("git.example:/acme/app", Some("https://git.example/acme/app")),
            ("/srv/git/app.git", None),
            ("./a:b", None),
            ("../app", None),
            ("file:///srv/git/app.git", None),
            ("https://github.com/", None),
            ("https://github.com/acme/app](javascript:x)", None),
            ("https://github.com/acme/app?access_token=hunter2", None),
        ];
        for (remote, expected) in cases {
            assert_eq!(address_of(remote).as_deref(), expected, "{remote}");
        }
    }

    #[test]
    fn messages_are_bounded_one_by_one_and_together() {
        let of = |message: String| Commit {
            id: String::new(),
            parents: Vec::new(),
            author: String::new(),
            time_ms: 0,
            message,
        };
        let (kept, is_cut) = bounded(vec![of("é".repeat(MOST_OF_MESSAGE)), of("b".to_owned())], 2);
        assert_eq!((kept[0].message.len(), kept.len(), is_cut), (MOST_OF_MESSAGE, 2, false));
        let (kept, is_cut) = bounded(vec![of("a".to_owned()), of("b".to_owned())], 1);
        assert_eq!((kept.len(), is_cut), (1, true));
        let many = MOST_OF_MESSAGES / MOST_OF_MESSAGE + 1;
        let (kept, is_cut) = bounded(vec![of("x".repeat(MOST_OF_MESSAGE)); many], many);
        assert_eq!((kept.len(), is_cut), (many - 1, true));
    }
}
