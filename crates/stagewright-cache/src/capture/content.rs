//! Lists of folders, files and links by path, each with its mode and the digest of its content.
//!
//! The digest of a list covers what a stage can read, and leaves out times and inodes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use stagewright_model::PathPattern;

use crate::digest::{Digest, Hashing};
use crate::globs::Globs;

/// Incremented when the format of stored lists changes.
const FORMAT: u32 = 1;

/// The largest list that is read, in bytes: enough for some ten million files.
const LARGEST: u64 = 1 << 30;

/// A folder, file or link of a [`FileList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ListedItem {
    /// A folder with its permission bits.
    Folder(u32),
    /// A file with its permission bits, its size in bytes and the digest of its content.
    File { mode: u32, size: u64, digest: Digest },
    /// A symbolic link with the digest of its target's path.
    Link(Digest),
    /// An entry that this user can't read, and therefore stages can't either.
    Unreadable,
}

/// Items by path, relative to the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileList {
    pub(crate) items: BTreeMap<Vec<u8>, ListedItem>,
}

impl FileList {
    pub(crate) fn digest(&self) -> Digest {
        let mut hashing = Hashing::default();
        hashing.field(b"content 1");
        for (path, item) in &self.items {
            hashing.field(path);
            match item {
                ListedItem::Folder(mode) => {
                    hashing.update(b"d");
                    hashing.update(&mode.to_le_bytes());
                }
                ListedItem::File { mode, digest, .. } => {
                    hashing.update(b"f");
                    hashing.update(&mode.to_le_bytes());
                    hashing.update(digest.bytes());
                }
                ListedItem::Link(target) => {
                    hashing.update(b"l");
                    hashing.update(target.bytes());
                }
                ListedItem::Unreadable => hashing.update(b"u"),
            }
        }
        hashing.finish()
    }

    /// Number of files and links, and the bytes of the files.
    pub(crate) fn size(&self) -> (u64, u64) {
        let mut size = (0, 0);
        for item in self.items.values() {
            match item {
                ListedItem::File { size: bytes, .. } => size = (size.0 + 1, size.1 + bytes),
                ListedItem::Link(_) => size.0 += 1,
                ListedItem::Folder(_) | ListedItem::Unreadable => {}
            }
        }
        size
    }

    pub(crate) fn save(&self, file: &Path) -> io::Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut draft = tempfile::NamedTempFile::new_in(folder)?;
        draft.write_all(&postcard::to_stdvec(&(FORMAT, self)).map_err(io::Error::other)?)?;
        draft.persist(file)?;
        Ok(())
    }

    /// Loads the list, which must have this digest.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) when it does not exist, [`InvalidData`](io::ErrorKind::InvalidData) when it
    /// is damaged.
    pub(crate) fn load(file: &Path, digest: &Digest) -> io::Result<FileList> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "its list of files is damaged");
        match postcard::from_bytes::<(u32, FileList)>(&stagewright_files::read(file, LARGEST)?) {
            Ok((FORMAT, content)) if content.digest() == *digest => Ok(content),
            _ => Err(damaged()),
        }
    }
}

/// The bytes of a path as a [`Path`].
pub(crate) fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// The form of a path for messages.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Selects paths of a workspace.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    globs: Globs,
    /// If present, a path must match these as well.
    within: Option<Globs>,
    /// If present, a path must not match these.
    without: Option<Globs>,
    /// The engine's own paths, and git's folder.
    reserved: Vec<String>,
    /// Whether the repository's history is selected. Of `.git` that is everything except its objects, which never change,
    /// its hooks, its configuration, of which stages see a copy without credentials, and the histories of submodules.
    git: bool,
    /// Whether reserved paths and `.git` are selected like all others.
    all: bool,
}

/// Entries of git's folder that are never captured.
const NOT_CAPTURED: [&str; 6] = ["objects", "hooks", "config", "config.worktree", "modules", "worktrees"];

impl Chosen {
    pub(crate) fn new(globs: &[PathPattern], reserved: &[String]) -> io::Result<Chosen> {
        let globs = Globs::new(globs)?;
        Ok(Chosen { globs, within: None, without: None, reserved: reserved.to_vec(), git: false, all: false })
    }

    /// Selects all paths; for folders of the engine.
    pub(crate) fn everything() -> io::Result<Chosen> {
        Chosen::new(&[PathPattern::everything()], &[]).map(|chosen| Chosen { all: true, ..chosen })
    }

    pub(crate) fn with_git(self, git: bool) -> Chosen {
        Chosen { git, ..self }
    }

    pub(crate) fn within(self, globs: &[PathPattern]) -> io::Result<Chosen> {
        Ok(Chosen { within: Some(Globs::new(globs)?), ..self })
    }

    pub(crate) fn without(self, globs: &[PathPattern]) -> io::Result<Chosen> {
        Ok(Chosen { without: Some(Globs::new(globs)?), ..self })
    }

    /// Whether the path is selected.
    pub(crate) fn selects(&self, path: &[u8]) -> bool {
        let text = String::from_utf8_lossy(path);
        match self.place(&text) {
            PathClass::Git => self.git,
            PathClass::Reserved => false,
            PathClass::Workspace => {
                self.globs.matches(&text)
                    && self.within.as_ref().is_none_or(|within| within.matches(&text))
                    && self.without.as_ref().is_none_or(|without| !without.matches(&text))
            }
        }
    }

    /// Whether the folder can contain selected paths.
    pub(crate) fn enters(&self, folder: &[u8]) -> bool {
        let text = String::from_utf8_lossy(folder);
        match self.place(&text) {
            PathClass::Git => self.git,
            PathClass::Reserved => false,
            PathClass::Workspace => {
                self.globs.reach_into(&text)
                    && self.within.as_ref().is_none_or(|within| within.reach_into(&text))
                    && self.without.as_ref().is_none_or(|without| !without.matches(&text))
            }
        }
    }

    fn place(&self, path: &str) -> PathClass {
        if self.all {
            return PathClass::Workspace;
        }
        if let Some(rest) = path.strip_prefix(".git")
            && (rest.is_empty() || rest.starts_with('/'))
        {
            let first = rest.split('/').nth(1).unwrap_or_default();
            let left_out = NOT_CAPTURED.contains(&first);
            return if left_out { PathClass::Reserved } else { PathClass::Git };
        }
        match self.reserved.iter().any(|reserved| crate::globs::is_within(path, reserved)) {
            true => PathClass::Reserved,
            false => PathClass::Workspace,
        }
    }
}

enum PathClass {
    Workspace,
    Git,
    Reserved,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str, mode: u32) -> ListedItem {
        ListedItem::File { mode, size: text.len() as u64, digest: Digest::of(text) }
    }

    #[test]
    fn the_digest_covers_paths_kinds_modes_and_contents() {
        let content = |items: &[(&str, ListedItem)]| FileList {
            items: items.iter().map(|(path, item)| (path.as_bytes().to_vec(), *item)).collect(),
        };
        let whole = content(&[
            ("a", file("1", 0o644)),
            ("d", ListedItem::Folder(0o755)),
            ("l", ListedItem::Link(Digest::of("a"))),
        ]);
        for other in [
            content(&[
                ("a", file("2", 0o644)),
                ("d", ListedItem::Folder(0o755)),
                ("l", ListedItem::Link(Digest::of("a"))),
            ]),
            content(&[
                ("a", file("1", 0o755)),
                ("d", ListedItem::Folder(0o755)),
                ("l", ListedItem::Link(Digest::of("a"))),
            ]),
            content(&[
                ("a", file("1", 0o644)),
                ("d", ListedItem::Folder(0o700)),
                ("l", ListedItem::Link(Digest::of("a"))),
            ]),
            content(&[
                ("a", file("1", 0o644)),
                ("d", ListedItem::Folder(0o755)),
                ("l", ListedItem::Link(Digest::of("b"))),
            ]),
            content(&[("a", file("1", 0o644)), ("l", ListedItem::Link(Digest::of("a")))]),
            content(&[
                ("b", file("1", 0o644)),
                ("d", ListedItem::Folder(0o755)),
                ("l", ListedItem::Link(Digest::of("a"))),
            ]),
        ] {
            assert_ne!(whole.digest(), other.digest(), "{other:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let (path, digest) = (folder.path().join("x/content"), whole.digest());
        whole.save(&path).unwrap();
        assert_eq!(FileList::load(&path, &digest).unwrap(), whole);
        assert!(FileList::load(&path, &Digest::of("another")).is_err(), "a list with another digest is refused");
    }

    #[test]
    fn git_objects_hooks_and_configuration_are_not_selected() {
        let reserved = [".git".to_owned(), ".stagewright".to_owned()];
        let plain = Chosen::new(&[PathPattern::everything()], &reserved).unwrap();
        assert!(plain.selects(b"a/b") && !plain.selects(b".git/HEAD") && !plain.selects(b".stagewright/x"));
        let git = plain.with_git(true);
        for path in [".git/HEAD", ".git/refs/heads/main", ".git/index", ".git/packed-refs", ".gitignore"] {
            assert!(git.selects(path.as_bytes()), "{path}");
        }
        for path in [".git/config", ".git/objects/ab", ".git/hooks/x", ".git/modules/x/config", ".stagewright/x"] {
            assert!(!git.selects(path.as_bytes()), "{path}");
        }
    }
}
