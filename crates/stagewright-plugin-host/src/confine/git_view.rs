//! The part of a git directory that programs may read: the history, and copies of the configuration.
//!
//! Everything else in it may contain a URL with a password: `FETCH_HEAD`, reflogs, `MERGE_MSG`, hooks, old remotes, the
//! files of extensions. So the visible entries are listed here, and everything else is hidden. The directories of linked
//! worktrees and of submodules get views of the same kind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use stagewright_files::CONFIGURATION;
use stagewright_process::sandbox::{Access, ConfigFormat, Place, Source};

use crate::client_config::without_secrets;

/// Entries that are visible unchanged, folders with everything in them.
const SHOWN: [&str; 14] = [
    "CHERRY_PICK_HEAD",
    "HEAD",
    "MERGE_HEAD",
    "ORIG_HEAD",
    "REVERT_HEAD",
    "commondir",
    "gitdir",
    "index",
    "lfs/objects",
    "objects",
    "packed-refs",
    "refs",
    "reftable",
    "shallow",
];
/// Visible entries of the folder `info`: those that git itself reads.
const SHOWN_INFO: [&str; 5] = ["attributes", "exclude", "grafts", "refs", "sparse-checkout"];
/// Configuration files, visible as copies with known keys only.
const CONFIGS: [&str; 2] = ["config", "config.worktree"];
/// The most views of submodules and worktrees together. Each takes some ten mounts.
const MOST_VIEWS: usize = 100;

/// The mounts that make up the view. `root`: the workspace. `git_dir`: relative to it. `copies`: a folder of the attempt,
/// where the copies are written.
pub(super) fn git_view(root: &Path, git_dir: &Path, copies: &Path) -> io::Result<Vec<Place>> {
    let mut view = GitView { root, copies, places: Vec::new(), views: 0 };
    view.add(git_dir)?;
    Ok(view.places)
}

struct GitView<'a> {
    root: &'a Path,
    copies: &'a Path,
    places: Vec<Place>,
    views: usize,
}

impl GitView<'_> {
    fn add(&mut self, git_dir: &Path) -> io::Result<()> {
        self.views += 1;
        if self.views > MOST_VIEWS {
            return Ok(());
        }
        self.places.push(Place { path: self.root.join(git_dir), source: Source::Nothing, access: None });
        let named = SHOWN.iter().map(PathBuf::from);
        let info = SHOWN_INFO.iter().map(|name| Path::new("info").join(name));
        for entry in named.chain(info).chain(self.shared_indexes(git_dir)) {
            self.show(git_dir.join(entry));
        }
        for name in CONFIGS {
            self.copy(&git_dir.join(name))?;
        }
        self.add_below(&git_dir.join("worktrees"))?;
        self.add_below(&git_dir.join("modules"))
    }

    /// Shows a file or folder. Links stay hidden: they can lead to files that weren't checked.
    fn show(&mut self, path: PathBuf) {
        let found = fs::symlink_metadata(self.root.join(&path)).map(|found| found.file_type());
        if found.is_ok_and(|kind| kind.is_file() || kind.is_dir()) {
            let source = Source::Held(self.root.to_owned(), path.clone());
            self.places.push(Place { path: self.root.join(path), source, access: Some(Access::Read) });
        }
    }

    /// The shared parts of a split index.
    fn shared_indexes(&self, git_dir: &Path) -> Vec<PathBuf> {
        let entries = self.root.join(git_dir).read_dir().into_iter().flatten().flatten();
        let names = entries.map(|entry| PathBuf::from(entry.file_name()));
        names.filter(|name| name.to_string_lossy().starts_with("sharedindex.")).take(MOST_VIEWS).collect()
    }

    fn copy(&mut self, path: &Path) -> io::Result<()> {
        let at = self.root.join(path);
        // What can't be read as a plain file is hidden, and git can do without it.
        let Ok(text) = stagewright_files::read_unlinked(&at, CONFIGURATION) else { return Ok(()) };
        let copy = self.copies.join(format!("git-{}", self.places.len()));
        fs::create_dir_all(self.copies)?;
        fs::write(&copy, without_secrets(ConfigFormat::Git, &String::from_utf8_lossy(&text)))?;
        self.places.push(Place { path: at, source: Source::Host(copy), access: Some(Access::Read) });
        Ok(())
    }

    /// Adds the git directories below a folder. They can be nested, since a submodule's name can contain slashes.
    fn add_below(&mut self, folder: &Path) -> io::Result<()> {
        let mut names = self.root.join(folder).read_dir().into_iter().flatten().flatten().collect::<Vec<_>>();
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names.iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let below = folder.join(entry.file_name());
            if entry.path().join("HEAD").is_file() {
                self.add(&below)?;
            } else if below.components().count() < MOST_VIEWS && self.views < MOST_VIEWS {
                self.add_below(&below)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_history_and_copies_of_the_configuration_are_visible() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let config = "[remote \"origin\"]\n\turl = https://u:CANARY@host/x\n[x]\n\ttoken = CANARY\n";
        for git in [".git", ".git/modules/a/b", ".git/worktrees/w"] {
            write(&format!("{git}/HEAD"), "ref: refs/heads/main\n");
            write(&format!("{git}/config"), config);
            write(&format!("{git}/config.worktree"), config);
            for hidden in ["FETCH_HEAD", "logs/HEAD", "hooks/pre-commit", "MERGE_MSG", "remotes/old", "info/token", "x"]
            {
                write(&format!("{git}/{hidden}"), "CANARY");
            }
            write(&format!("{git}/info/exclude"), "");
            fs::create_dir(root.path().join(git).join("objects")).unwrap();
        }
        std::os::unix::fs::symlink("/etc", root.path().join(".git/refs")).unwrap();
        let copies = root.path().join("copies");
        let places = git_view(root.path(), Path::new(".git"), &copies).unwrap();
        let shown: Vec<String> =
            places.iter().map(|place| place.path.strip_prefix(root.path()).unwrap().display().to_string()).collect();
        let of = |git: &str| {
            let entries = ["", "/HEAD", "/objects", "/info/exclude", "/config", "/config.worktree"];
            entries.map(|entry| format!("{git}{entry}"))
        };
        assert_eq!(shown, [of(".git"), of(".git/worktrees/w"), of(".git/modules/a/b")].concat());
        for place in &places {
            match &place.source {
                Source::Host(copy) => {
                    let text = stagewright_files::read_text(copy, CONFIGURATION).unwrap();
                    assert_eq!(text, "[remote \"origin\"]\n\turl = \"https://host/x\"\n", "{}", place.path.display());
                }
                Source::Held(..) => assert_eq!(place.access, Some(Access::Read)),
                source => assert_eq!(source, &Source::Nothing),
            }
        }
    }
}
