//! Asks git whether it could restore files.

use std::path::Path;

use stagewright_plugin_build::tool::{Tool, in_path};
use stagewright_report::{Block, Printer};

use super::PluginCommandError;

/// The entries in `folder`, of those named, that differ from what is committed, ignored ones included. Their paths are
/// relative to the repository's root. git's own messages go to `progress`.
pub(super) fn uncommitted(
    folder: &Path,
    entries: &[&str],
    progress: &mut Printer,
) -> Result<Vec<String>, PluginCommandError> {
    let unknown = |reason| PluginCommandError::UnknownState { path: folder.to_owned(), reason };
    let git = in_path("git").ok_or_else(|| unknown("`git` isn't installed".to_owned()))?;
    let status = Tool::new(git, folder)
        .args(["status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", "--ignored", "--"])
        .args(entries.iter().copied());
    let (ended, listed) = status.run(&mut |lines| progress.block(&Block::of(lines)))?;
    if !ended.success() {
        return Err(unknown(format!("`git status` ended with {ended}")));
    }
    Ok(paths(&listed))
}

/// The paths of `git status --porcelain -z`: after two letters and a space, each ended by NUL.
fn paths(listed: &[u8]) -> Vec<String> {
    let entries = listed.split(|&byte| byte == 0).filter_map(|entry| entry.get(3..));
    entries.map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_whatever_their_state() {
        assert_eq!(
            paths(b" M sdk/src/lib.rs\0?? sdk/a b\0!! sdk/target/\0"),
            ["sdk/src/lib.rs", "sdk/a b", "sdk/target/"]
        );
        assert!(paths(b"").is_empty());
    }
}
