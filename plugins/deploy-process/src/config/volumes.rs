//! Checks the volumes of a release.

use stagewright_sdk::Problem;

use super::{Config, RootFolder};

/// Folders that the kernel provides in every root.
const TAKEN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Mistakes in `volumes`.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    if config.root == Some(RootFolder::Host) && !config.volumes.is_empty() {
        let problem = Problem::at("volumes", "a program with this machine's root has all folders of this machine");
        found.push(problem.help("remove `root`, or the volumes"));
    }
    for (name, path) in &config.volumes {
        let key = format!("volumes.{name}");
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(fits) {
            let message = "invalid name; use letters, digits, `-`, `_` and `.`, and begin with a letter or a digit";
            found.push(Problem::at(&key, message));
        }
        if let Some(message) = mistake(path) {
            found.push(Problem::at(&key, message));
            continue;
        }
        // The first of two isn't wrong by itself.
        let mut earlier = config.volumes.iter().take_while(|(other, _)| *other < name);
        if let Some((other, _)) = earlier.find(|(_, other)| overlap(path, other)) {
            let problem =
                Problem::at(&key, format!("the folder is that of `{other}`, or one of the two is in the other"));
            found.push(problem.help("give each volume a folder of its own"));
        }
    }
    found
}

fn mistake(path: &str) -> Option<String> {
    let names = || path.split('/').filter(|name| !name.is_empty() && *name != ".");
    if !path.starts_with('/') {
        return Some(format!("`{path}` isn't an absolute path; volumes have a folder in the image's root"));
    }
    if names().next().is_none() || names().any(|name| name == "..") {
        return Some(format!("`{path}` isn't the path of a folder below the root, without `..`"));
    }
    let taken = TAKEN.iter().find(|taken| contains(taken, path))?;
    Some(format!("{taken} is provided by the kernel"))
}

/// Whether two folders are the same, or one is in the other.
fn overlap(one: &str, other: &str) -> bool {
    contains(one, other) || contains(other, one)
}

/// Whether a folder is another one, or has it below.
fn contains(outer: &str, inner: &str) -> bool {
    let names = |path| str::split(path, '/').filter(|name| !name.is_empty() && *name != ".").collect::<Vec<_>>();
    names(inner).starts_with(&names(outer))
}
