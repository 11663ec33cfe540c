//! The files of the workspace that globs name, with their content.
//!
//! What a `.gitignore` of the workspace leaves out is not named by a wildcard. A glob that leads into an ignored folder
//! by name, as `node_modules/**` does, names what is there all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc;

use ignore::{WalkBuilder, WalkState};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hashing};
use crate::globs::{Globs, is_within, literally};
use crate::index::{FileIndex, Stamp};

/// Files that are hashed by one thread before others help.
const FEW: usize = 16;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A file.
    File,
    /// A file that may be executed.
    Program,
    /// A symbolic link; its content is where it leads.
    Link,
}

/// A file or a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) digest: Digest,
}

/// Files by path, relative to the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) BTreeMap<String, Node>);

impl Tree {
    /// Of all paths and contents.
    pub(crate) fn digest(&self) -> Digest {
        let mut hashing = Hashing::default();
        for (path, node) in &self.0 {
            hashing.field(path.as_bytes());
            hashing.update(&[node.kind as u8]);
            hashing.update(node.digest.bytes());
        }
        hashing.finish()
    }

    fn has_below(&self, folder: &str) -> bool {
        let first = format!("{folder}/");
        self.0.range(first.clone()..).next().is_some_and(|(path, _)| path.starts_with(&first))
    }
}

/// A workspace, as its files are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workspace<'a> {
    pub(crate) root: &'a Path,
    /// Paths that belong to nobody's inputs or outputs, as `.git`.
    pub(crate) reserved: &'a [String],
    pub(crate) index: &'a FileIndex,
}

/// A file that was found.
struct Found {
    path: String,
    kind: Kind,
    stamp: Stamp,
}

impl Workspace<'_> {
    /// What is named by `globs` and not by `without`.
    pub(crate) fn scan(&self, globs: &Globs, without: &Globs) -> io::Result<Tree> {
        let mut found = self.find(globs, without)?;
        found.sort_unstable_by(|left, right| left.path.cmp(&right.path));
        found.dedup_by(|left, right| left.path == right.path);
        let known = self.index.get_all(found.iter().map(|file| (file.path.as_str(), &file.stamp)));
        let unknown: Vec<usize> = (0..found.len()).filter(|&at| known[at].is_none()).collect();
        let read = self.read(&found, &unknown)?;
        let mut digests: Vec<Option<Digest>> = known;
        for (&at, digest) in unknown.iter().zip(read) {
            self.index.put(&found[at].path, found[at].stamp, digest);
            digests[at] = Some(digest);
        }
        let nodes = found.into_iter().zip(digests);
        let nodes = nodes.filter_map(|(file, digest)| Some((file.path, Node { kind: file.kind, digest: digest? })));
        Ok(Tree(nodes.collect()))
    }

    fn find(&self, globs: &Globs, without: &Globs) -> io::Result<Vec<Found>> {
        if globs.bases().is_empty() {
            return Ok(Vec::new());
        }
        let mut found = self.walk("", true, globs, without)?;
        let seen: BTreeSet<String> = found.1.into_iter().collect();
        for base in globs.bases().iter().filter(|base| !base.is_empty() && !seen.contains(*base)) {
            if self.is_reserved(base) || self.root.join(base).symlink_metadata().is_err() {
                continue;
            }
            found.0.extend(self.walk(base, false, globs, without)?.0);
        }
        Ok(found.0)
    }

    /// Files below `base` that match, and those bases of the globs that it came by.
    fn walk(
        &self,
        base: &str,
        ignoring: bool,
        globs: &Globs,
        without: &Globs,
    ) -> io::Result<(Vec<Found>, Vec<String>)> {
        let relative = |path: &Path| Some(path.strip_prefix(self.root).ok()?.to_string_lossy().into_owned());
        let (root, reserved) = (self.root.to_owned(), self.reserved.to_vec());
        let (leads, left_out) = (globs.clone(), without.clone());
        let walk = WalkBuilder::new(self.root.join(base))
            .standard_filters(false)
            .git_ignore(ignoring)
            .require_git(false)
            .filter_entry(move |entry| {
                let Ok(path) = entry.path().strip_prefix(&root) else { return false };
                let path = path.to_string_lossy();
                if path.is_empty() {
                    return true;
                }
                let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
                !reserved.iter().any(|reserved| *reserved == path)
                    && (!is_folder || (leads.reach_into(&path) && !left_out.matches(&path)))
            })
            .threads(std::thread::available_parallelism().map_or(1, |threads| threads.get().min(8)))
            .build_parallel();
        let (sender, receiver) = mpsc::channel();
        walk.run(|| {
            let sender = sender.clone();
            Box::new(move |entry| {
                let said = match entry {
                    Ok(entry) => look(&entry, &relative, globs, without),
                    Err(error) => Some(Err(error.into_io_error().unwrap_or_else(vanished))),
                };
                let is_heard = said.is_none_or(|said| sender.send(said).is_ok());
                if is_heard { WalkState::Continue } else { WalkState::Quit }
            })
        });
        drop(sender);
        let (mut found, mut bases) = (Vec::new(), Vec::new());
        for said in receiver {
            match said {
                Ok((file, base)) => {
                    found.extend(file);
                    bases.extend(base);
                }
                // What went away since the folder was read isn't there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok((found, bases))
    }

    fn is_reserved(&self, path: &str) -> bool {
        self.reserved.iter().any(|reserved| is_within(path, reserved))
    }

    /// The digests of some of the files, read by several threads.
    fn read(&self, found: &[Found], wanted: &[usize]) -> io::Result<Vec<Digest>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(wanted.len() / FEW + 1);
        let part = wanted.len().div_ceil(threads).max(1);
        let read = |some: &[usize]| some.iter().map(|&at| self.content(&found[at])).collect::<io::Result<Vec<_>>>();
        if threads == 1 {
            return read(wanted);
        }
        let parts = std::thread::scope(|scope| {
            let parts: Vec<_> = wanted.chunks(part).map(|some| scope.spawn(move || read(some))).collect();
            let broken_off = |_| Err(io::Error::other("reading files broke off"));
            parts.into_iter().map(|part| part.join().unwrap_or_else(broken_off)).collect::<io::Result<Vec<_>>>()
        });
        Ok(parts?.concat())
    }

    fn content(&self, file: &Found) -> io::Result<Digest> {
        let path = self.root.join(&file.path);
        let content = if file.kind == Kind::Link {
            std::fs::read_link(&path).map(|target| Digest::of(target.as_os_str().as_encoded_bytes()))
        } else {
            Digest::of_file(&path)
        };
        content.map_err(|error| io::Error::new(error.kind(), format!("`{}` can't be read: {error}", file.path)))
    }

    /// The fewest paths that hold all of `tree` and nothing else: a folder where all that is in it is in the tree. None
    /// when they are more than `limit`.
    pub(crate) fn cover(&self, tree: &Tree, limit: usize) -> io::Result<Option<Vec<String>>> {
        let mut cover = Vec::new();
        self.cover_folder("", tree, &mut cover, limit)?;
        let within = cover.len() <= limit;
        Ok(within.then(|| cover.iter().map(|path| literally(path)).collect()))
    }

    /// Whether all that is in the folder is in the tree; otherwise `cover` has the parts that are.
    fn cover_folder(&self, folder: &str, tree: &Tree, cover: &mut Vec<String>, limit: usize) -> io::Result<bool> {
        let (start, mut whole) = (cover.len(), true);
        for entry in std::fs::read_dir(self.root.join(folder))? {
            if cover.len() > limit {
                return Ok(false);
            }
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            let is_covered = match kind.is_dir() {
                true => {
                    !self.is_reserved(&path) && tree.has_below(&path) && self.cover_folder(&path, tree, cover, limit)?
                }
                false => tree.0.contains_key(&path),
            };
            // A link that is given by itself is given as what it leads to, which has to be declared, too.
            if is_covered && (!kind.is_symlink() || self.leads_into(&path, tree)) {
                cover.push(path);
            }
            whole &= is_covered;
        }
        // The root isn't named as a whole: what the engine keeps there is nobody's.
        if whole && !folder.is_empty() {
            cover.truncate(start);
        }
        Ok(whole && !folder.is_empty())
    }

    fn leads_into(&self, link: &str, tree: &Tree) -> bool {
        let real = self.root.canonicalize().and_then(|root| Ok((self.root.join(link).canonicalize()?, root)));
        let real = real.ok().and_then(|(real, root)| Some(real.strip_prefix(root).ok()?.to_str()?.to_owned()));
        real.is_some_and(|real| tree.0.contains_key(&real))
    }

    /// Whether the file at `path` has this content, read only if need be.
    pub(crate) fn holds(&self, path: &str, node: &Node) -> bool {
        let Ok(metadata) = self.root.join(path).symlink_metadata() else { return false };
        if !(metadata.is_file() || metadata.is_symlink()) || kind(&metadata) != node.kind {
            return false;
        }
        let file = Found { path: path.to_owned(), kind: node.kind, stamp: Stamp::of(&metadata) };
        if let Some(known) = self.index.get(path, &file.stamp) {
            return known == node.digest;
        }
        let Ok(digest) = self.content(&file) else { return false };
        self.index.put(path, file.stamp, digest);
        digest == node.digest
    }
}

type Said = io::Result<(Option<Found>, Option<String>)>;

/// What there is to say of an entry; none of what is passed over.
fn look(
    entry: &ignore::DirEntry,
    relative: &dyn Fn(&Path) -> Option<String>,
    globs: &Globs,
    without: &Globs,
) -> Option<Said> {
    let path = relative(entry.path())?;
    let base = globs.bases().contains(&path).then(|| path.clone());
    let kind = entry.file_type()?;
    let is_named = (kind.is_file() || kind.is_symlink()) && globs.matches(&path) && !without.matches(&path);
    if !is_named {
        return base.map(|base| Ok((None, Some(base))));
    }
    match entry.metadata() {
        Ok(metadata) => {
            Some(Ok((Some(Found { path, kind: self::kind(&metadata), stamp: Stamp::of(&metadata) }), base)))
        }
        Err(error) => Some(Err(error.into_io_error().unwrap_or_else(vanished))),
    }
}

fn vanished() -> io::Error {
    io::Error::other("a folder can't be read")
}

pub(crate) fn kind(metadata: &Metadata) -> Kind {
    if metadata.is_symlink() {
        Kind::Link
    } else if metadata.permissions().mode() & 0o111 != 0 {
        Kind::Program
    } else {
        Kind::File
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Fixture {
        folder: tempfile::TempDir,
        index: FileIndex,
    }

    impl Fixture {
        fn new(files: &[(&str, &str)]) -> Fixture {
            let folder = tempfile::tempdir().unwrap();
            let index = FileIndex::new(folder.path().join(".stagewright/files"));
            let fixture = Fixture { folder, index };
            files.iter().for_each(|(path, text)| fixture.write(path, text));
            fixture
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn workspace(&self) -> Workspace<'_> {
            const RESERVED: &[String] = &[];
            Workspace { root: self.folder.path(), reserved: RESERVED, index: &self.index }
        }

        fn scan(&self, named: &[&str], without: &[&str]) -> Tree {
            self.workspace().scan(&globs(named), &globs(without)).unwrap()
        }

        fn cover(&self, named: &[&str]) -> Vec<String> {
            let mut cover = self.workspace().cover(&self.scan(named, &[]), 100).unwrap().unwrap();
            cover.sort();
            cover
        }
    }

    fn globs(globs: &[&str]) -> Globs {
        Globs::new(&globs.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    fn paths(tree: &Tree) -> Vec<&str> {
        tree.0.keys().map(String::as_str).collect()
    }

    const FILES: [(&str, &str); 8] = [
        (".gitignore", "dist/\n*.log\n"),
        ("src/a.rs", "a"),
        ("src/deep/b.rs", "b"),
        ("src/deep/b.log", "noise"),
        ("src/deep/.gitignore", "made\n"),
        ("src/deep/made", "x"),
        ("dist/app", "app"),
        ("dist/old.log", "noise"),
    ];

    #[test]
    fn a_wildcard_leaves_out_what_git_ignores_and_a_name_does_not() {
        let fixture = Fixture::new(&FILES);
        let all = [".gitignore", "src/a.rs", "src/deep/.gitignore", "src/deep/b.rs"];
        assert_eq!(paths(&fixture.scan(&["**"], &[])), all);
        assert_eq!(paths(&fixture.scan(&["src"], &[])), all[1..]);
        assert_eq!(
            paths(&fixture.scan(&["**/*.rs", "dist/**"], &[])),
            ["dist/app", "dist/old.log", "src/a.rs", "src/deep/b.rs"]
        );
        assert_eq!(paths(&fixture.scan(&["dist/app", "nowhere/**", "**/*.log"], &[])), ["dist/app"]);
        assert_eq!(paths(&fixture.scan(&["src"], &["src/deep"])), ["src/a.rs"]);
        assert_eq!(paths(&fixture.scan(&[], &[])), [""; 0]);
    }

    #[test]
    fn content_names_modes_and_links_count_and_times_do_not() {
        let fixture = Fixture::new(&[("a", "1"), ("b", "2")]);
        let digest = || fixture.scan(&["**"], &[]).digest();
        let first = digest();
        fixture.write("a", "1");
        assert_eq!(digest(), first);
        fixture.write("a", "2");
        let changed = digest();
        assert_ne!(changed, first);
        let path = fixture.folder.path().join("a");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = digest();
        assert_ne!(program, changed);
        symlink("a", fixture.folder.path().join("link")).unwrap();
        let linked = digest();
        std::fs::remove_file(fixture.folder.path().join("link")).unwrap();
        symlink("b", fixture.folder.path().join("link")).unwrap();
        assert!(digest() != linked && linked != program);
    }

    #[test]
    fn many_files_are_read_by_several_threads_in_their_order() {
        let files: Vec<(String, String)> = (0..200).map(|n| (format!("f/{n:03}"), n.to_string())).collect();
        let fixture = Fixture::new(&files.iter().map(|(path, text)| (&**path, &**text)).collect::<Vec<_>>());
        let tree = fixture.scan(&["f"], &[]);
        assert_eq!(tree.0.len(), 200);
        assert!(files.iter().all(|(path, text)| tree.0[path].digest == Digest::of(text)));
    }

    #[test]
    fn a_cover_names_whole_folders_and_nothing_that_is_not_in_the_tree() {
        let fixture = Fixture::new(&FILES);
        assert_eq!(fixture.cover(&["**"]), [".gitignore", "src/a.rs", "src/deep/.gitignore", "src/deep/b.rs"]);
        std::fs::remove_file(fixture.folder.path().join("src/deep/b.log")).unwrap();
        std::fs::remove_file(fixture.folder.path().join("src/deep/made")).unwrap();
        assert_eq!(fixture.cover(&["src"]), ["src"]);
        assert_eq!(fixture.cover(&["src/**/*.rs"]), ["src/a.rs", "src/deep/b.rs"]);
        assert_eq!(fixture.cover(&["dist/app"]), ["dist/app"]);
        std::fs::create_dir(fixture.folder.path().join("src/empty")).unwrap();
        assert_eq!(fixture.cover(&["src"]), ["src/a.rs", "src/deep"]);
        assert_eq!(fixture.workspace().cover(&fixture.scan(&["src"], &[]), 1).unwrap(), None);
    }
}
