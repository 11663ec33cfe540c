//! What proxies have in common that run in a container of the Docker engine, and read a file there.

use std::time::Duration;

use stagewright_sdk::{Problem, Result, clock};

/// Looks every `interval` whether something has happened, for at most `limit`. Returns whether it has.
///
/// A stage that is asked to stop can't sleep any more. It still has to know what gets the requests before it removes a
/// release, so it looks as often without pauses.
pub(super) fn wait_until(
    interval: Duration,
    limit: Duration,
    mut has_happened: impl FnMut() -> Result<bool>,
) -> Result<bool> {
    let looks = limit.as_millis() / interval.as_millis().max(1);
    for _ in 0..looks {
        if has_happened()? {
            return Ok(true);
        }
        match clock::sleep(interval) {
            Err(error) if error.is_cancelled() => {}
            result => result?,
        }
    }
    has_happened()
}

/// The socket of an engine that isn't configured otherwise.
pub(super) fn default_socket() -> String {
    "/run/docker.sock".to_owned()
}

/// Why it can't be the name of a container.
pub(super) fn name_problem(key: String, name: &str) -> Option<Problem> {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let message = format!("invalid container name `{name}`; use letters, digits, `-`, `_` and `.`");
    (!is_name).then(|| Problem::at(key, message))
}

/// Why it can't be the absolute path of a file in a folder.
pub(super) fn file_problem(key: String, path: &str, example: &str) -> Option<Problem> {
    // A longer name has no room in the header of an archive, where `.new` may be added to it.
    let is_part = |part: &str| {
        let is_plain = part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        is_plain && (1..=96).contains(&part.len()) && !matches!(part, "." | "..")
    };
    let parts = path.strip_prefix('/').map(|path| path.split('/').collect::<Vec<_>>());
    let is_file = parts.is_some_and(|parts| parts.len() > 1 && parts.into_iter().all(is_part));
    let message = format!("`{path}` isn't the absolute path of a file in a folder of the container");
    let help = format!("write it as in {example:?}, with letters, digits, `-`, `_` and `.`");
    (!is_file).then(|| Problem::at(key, message).help(help))
}

/// Why it can't be the path of a socket.
pub(super) fn socket_problem(key: String, path: &str) -> Option<Problem> {
    (!path.starts_with('/')).then(|| Problem::at(key, format!("`{path}` isn't an absolute path")))
}

/// The folder and the name of a file.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_a_folder_and_its_name_needs_no_quotes() {
        for path in ["servers", "/servers", "/etc//servers", "/etc/../servers", "/etc/a;b", "/etc/", "/etc/a b"] {
            assert!(file_problem(String::new(), path, "").is_some(), "{path}");
        }
        assert!(file_problem(String::new(), &format!("/etc/{}", "a".repeat(97)), "").is_some());
        assert_eq!(file_problem(String::new(), "/etc/nginx/traffic/app.servers", ""), None);
        assert_eq!(split("/etc/nginx/app.servers"), ("/etc/nginx", "app.servers"));
    }

    #[test]
    fn names_of_containers_are_plain() {
        for name in ["", "a/b", "-a", "a b", "a?b", ".."] {
            assert!(name_problem(String::new(), name).is_some(), "{name}");
        }
        assert_eq!(name_problem(String::new(), "edge-1.a_b"), None);
    }
}
