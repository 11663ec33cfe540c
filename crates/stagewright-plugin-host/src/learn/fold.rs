//! Folds the files that a stage used into the few entries that a person would write.
//!
//! The measure is a new clone. What isn't in it was made by a stage, as a whole folder: `target` is granted, and not the
//! files in it. What is in it is granted by the smallest folders that contain what was used, because a folder of sources
//! changes more often than a pipeline.

use std::collections::{BTreeMap, BTreeSet};

use stagewright_model::{Permission, WorkspacePath};
use stagewright_process::sandbox::FileUse;

use crate::learner::Learning;

/// With this many entries in it, a folder other than the root is granted as a whole.
const FOLDED: usize = 3;
/// With more entries than this, the whole workspace is.
const MOST_ENTRIES: usize = 12;
/// A folder that Python writes if it can, and does without otherwise.
const DISPENSABLE: &str = "__pycache__";
/// The folder that pytest makes under another name, which starts like this, and renames. If the folder exists, as it does once
/// it is granted, pytest does neither.
const PYTEST_CACHE: (&str, &str) = (".pytest_cache", "pytest-cache-files-");

/// The files of a new clone.
pub(super) struct Checkout {
    files: BTreeSet<WorkspacePath>,
    folders: BTreeSet<WorkspacePath>,
}

impl Checkout {
    pub(super) fn new(learning: &Learning) -> Checkout {
        let files = learning.checkout.iter();
        Checkout::of(files.filter_map(|path| WorkspacePath::parse(path.to_str()?).ok()).collect())
    }

    fn of(files: BTreeSet<WorkspacePath>) -> Checkout {
        let above = |file: &WorkspacePath| std::iter::successors(file.parent(), WorkspacePath::parent);
        let folders = files.iter().flat_map(above).collect();
        Checkout { files, folders }
    }

    fn has_file(&self, path: &WorkspacePath) -> bool {
        self.files.contains(path)
    }

    fn has_folder(&self, path: &WorkspacePath) -> bool {
        path.is_root() || self.folders.contains(path)
    }

    /// The outermost folder around a path, or the path itself, that a new clone doesn't have; none if it has the path.
    fn absent(&self, path: &WorkspacePath) -> Option<WorkspacePath> {
        let upwards = std::iter::successors(Some(path.clone()), WorkspacePath::parent);
        upwards.take_while(|at| !self.has_folder(at) && !self.has_file(at)).last()
    }

    /// Whether all files in a folder with an extension are among these.
    fn are_all_with(&self, extension: &str, used: &BTreeSet<&WorkspacePath>) -> bool {
        let has_extension = |path: &&WorkspacePath| path.as_path().extension().is_some_and(|own| own == extension);
        let at_root = self.files.iter().filter(|path| path.parent().is_some_and(|parent| parent.is_root()));
        at_root.filter(has_extension).all(|path| used.contains(path))
    }
}

/// The paths that a stage used.
#[derive(Debug, Default)]
pub(super) struct FilesUsed {
    /// Files that were read or looked at, and links.
    files: BTreeSet<WorkspacePath>,
    /// The links among them that lead to a path of the workspace.
    targets: BTreeMap<WorkspacePath, WorkspacePath>,
    /// Folders that were looked at.
    folders: BTreeSet<WorkspacePath>,
    listed: BTreeSet<WorkspacePath>,
    started: BTreeSet<WorkspacePath>,
    /// Files that were changed or made in place.
    written: BTreeSet<WorkspacePath>,
    made_folders: BTreeSet<WorkspacePath>,
    /// Names that were made or removed, for which the folder is written.
    renamed: BTreeSet<WorkspacePath>,
}

impl FilesUsed {
    pub(super) fn add(&mut self, path: WorkspacePath, of: FileUse, is_folder: bool) {
        let is_written = !matches!(of, FileUse::Look | FileUse::Read | FileUse::List | FileUse::Start);
        if let Some(git) = git_directory(&path) {
            // Programs see its history if they may read it. Checking whether it exists doesn't use it.
            if !is_written && of != FileUse::Look && git != path {
                self.files.insert(git);
            }
            return;
        }
        let is_dispensable = |name: &str| name == DISPENSABLE || name.starts_with(PYTEST_CACHE.1);
        if is_written && path.names().any(is_dispensable) {
            return;
        }
        if is_written && path.split().1 == PYTEST_CACHE.0 {
            self.made_folders.insert(path);
            return;
        }
        let uses = match of {
            FileUse::List => &mut self.listed,
            FileUse::Look | FileUse::Read if is_folder => &mut self.folders,
            FileUse::Look | FileUse::Read => &mut self.files,
            FileUse::Start => &mut self.started,
            // A folder's own times or mode.
            FileUse::Write if is_folder => &mut self.made_folders,
            FileUse::Write | FileUse::Create => &mut self.written,
            FileUse::MakeFolder => &mut self.made_folders,
            FileUse::Name | FileUse::Remove => &mut self.renamed,
        };
        uses.insert(path);
    }

    /// Adds a link that was followed. `target`: none if it leaves the workspace.
    pub(super) fn add_link(&mut self, link: WorkspacePath, target: Option<WorkspacePath>) {
        self.targets.extend(target.map(|target| (link.clone(), target)));
        self.add(link, FileUse::Look, false);
    }

    /// Removes a program that is started by a grant of its own.
    pub(super) fn forget_start(&mut self, path: &WorkspacePath) {
        self.started.remove(path);
    }
}

/// The git directory that a path is in, or is.
fn git_directory(path: &WorkspacePath) -> Option<WorkspacePath> {
    let upwards = std::iter::successors(Some(path.clone()), WorkspacePath::parent);
    upwards.filter(|at| !at.is_root() && at.split().1.eq_ignore_ascii_case(".git")).last()
}

/// The entries of `read`, `write` and `exec`.
pub(super) fn fold(used: &FilesUsed, checkout: &Checkout) -> BTreeSet<(Permission, String)> {
    let write = written(used, checkout);
    let exec = started(used, checkout, &write);
    let read = read(used, checkout, &write, &exec);
    let of = |kind: Permission, paths: BTreeSet<WorkspacePath>| {
        paths.into_iter().map(move |path| (kind, escaped(path.shown())))
    };
    let as_written = |path: &WorkspacePath| {
        let is_file = used.written.contains(path) || checkout.has_file(path);
        // With an extension, only the slash makes it a folder.
        let slash = if has_extension(path) && !is_file { "/" } else { "" };
        (Permission::Write, format!("{}{slash}", escaped(path.shown())))
    };
    let mut entries: BTreeSet<(Permission, String)> = write.iter().map(as_written).collect();
    entries.extend(of(Permission::Exec, exec));
    entries.extend(read.into_iter().map(|entry| (Permission::Read, entry)));
    entries
}

/// What has to be writable. A path that doesn't exist is made before the stage starts: as a folder, unless its name has an
/// extension, and then as a file. For a file without one, the folder around it is granted.
fn written(used: &FilesUsed, checkout: &Checkout) -> BTreeSet<WorkspacePath> {
    let mut entries = BTreeSet::new();
    let all = used.written.iter().chain(&used.made_folders).chain(&used.renamed);
    for path in all {
        let is_renamed = used.renamed.contains(path);
        let is_folder = |at: &WorkspacePath| at != path || used.made_folders.contains(at);
        let entry = match checkout.absent(path) {
            Some(at) if is_folder(&at) || (has_extension(&at) && !is_renamed) => at,
            Some(at) => at.parent().unwrap_or_default(),
            None if is_renamed => path.parent().unwrap_or_default(),
            None => path.clone(),
        };
        entries.insert(entry);
    }
    folded(outermost(&entries))
}

fn has_extension(path: &WorkspacePath) -> bool {
    path.as_path().extension().is_some()
}

fn started(used: &FilesUsed, checkout: &Checkout, write: &BTreeSet<WorkspacePath>) -> BTreeSet<WorkspacePath> {
    let outside = used.started.iter().filter(|path| !is_in(path, write));
    folded(outermost(&outside.map(|path| checkout.absent(path).unwrap_or_else(|| path.clone())).collect()))
}

fn read(
    used: &FilesUsed,
    checkout: &Checkout,
    write: &BTreeSet<WorkspacePath>,
    exec: &BTreeSet<WorkspacePath>,
) -> BTreeSet<String> {
    let is_granted = |path: &WorkspacePath| is_in(path, write) || is_in(path, exec);
    if used.listed.contains(&WorkspacePath::default()) && !is_granted(&WorkspacePath::default()) {
        return BTreeSet::from([".".to_owned()]);
    }
    let mut entries: BTreeSet<WorkspacePath> = BTreeSet::new();
    for path in used.files.iter().chain(&used.listed).filter(|path| !is_granted(path)) {
        entries.insert(checkout.absent(path).unwrap_or_else(|| path.clone()));
    }
    // A link that is granted by its name can only be granted together with all that it leads to.
    let targets = used.targets.iter().filter(|(link, target)| entries.contains(link) && !is_granted(target));
    let targets: Vec<WorkspacePath> = targets.map(|(_, target)| target.clone()).collect();
    let entries_of_files = outermost(&entries.into_iter().chain(targets).collect());
    // A folder that was looked at is there anyway if anything in it is granted.
    let is_shown = |folder: &WorkspacePath| {
        let mut granted = entries_of_files.iter().chain(write).chain(exec);
        granted.any(|entry| entry.is_within(folder))
    };
    // The root is always there.
    let looked = used.folders.iter().filter(|path| !path.is_root() && !is_granted(path) && !is_shown(path));
    let looked = looked.map(|path| checkout.absent(path).unwrap_or_else(|| path.clone()));
    let entries = folded(outermost(&entries_of_files.iter().cloned().chain(looked).collect()));
    if entries.len() > MOST_ENTRIES || entries.contains(&WorkspacePath::default()) {
        return BTreeSet::from([".".to_owned()]);
    }
    with_patterns(&entries, checkout)
}

fn is_in(path: &WorkspacePath, entries: &BTreeSet<WorkspacePath>) -> bool {
    std::iter::successors(Some(path.clone()), WorkspacePath::parent).any(|at| entries.contains(&at))
}

/// The paths that lie in no other one.
fn outermost(paths: &BTreeSet<WorkspacePath>) -> BTreeSet<WorkspacePath> {
    let is_covered = |path: &WorkspacePath| path.parent().is_some_and(|parent| is_in(&parent, paths));
    paths.iter().filter(|path| !is_covered(path)).cloned().collect()
}

/// Replaces the entries in a folder by the folder if there are several, from the deepest folder to those at the root.
fn folded(mut entries: BTreeSet<WorkspacePath>) -> BTreeSet<WorkspacePath> {
    loop {
        let mut by_folder: BTreeMap<WorkspacePath, usize> = BTreeMap::new();
        for parent in entries.iter().filter_map(WorkspacePath::parent).filter(|parent| !parent.is_root()) {
            *by_folder.entry(parent).or_default() += 1;
        }
        let deepest = by_folder.into_iter().filter(|(_, count)| *count >= FOLDED);
        let Some((folder, _)) = deepest.max_by_key(|(folder, _)| folder.names().count()) else { return entries };
        entries.retain(|path| !path.is_within(&folder));
        entries.insert(folder);
    }
}

/// Replaces files at the root by a pattern of their extension, if that matches nothing else.
fn with_patterns(entries: &BTreeSet<WorkspacePath>, checkout: &Checkout) -> BTreeSet<String> {
    let mut by_extension: BTreeMap<&str, BTreeSet<&WorkspacePath>> = BTreeMap::new();
    for path in entries.iter().filter(|path| path.names().count() == 1 && checkout.has_file(path)) {
        if let Some(extension) = path.as_path().extension().and_then(|extension| extension.to_str()) {
            by_extension.entry(extension).or_default().insert(path);
        }
    }
    by_extension.retain(|extension, paths| paths.len() >= FOLDED && checkout.are_all_with(extension, paths));
    let matched: BTreeSet<&WorkspacePath> = by_extension.values().flatten().copied().collect();
    let single = entries.iter().filter(|path| !matched.contains(path)).map(|path| escaped(path.shown()));
    single.chain(by_extension.keys().map(|extension| format!("*.{extension}"))).collect()
}

/// The path as a pattern that matches it alone.
fn escaped(path: &str) -> String {
    let mut entry = String::with_capacity(path.len());
    for letter in path.chars() {
        match letter {
            '*' | '?' | '[' | '{' | '}' | '\\' => entry.extend(['\\', letter]),
            letter => entry.push(letter),
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clone with sources in two folders, and what a stage used: `r` reads, `l` lists, `x` starts, `w` writes in place,
    /// `m` makes a folder, `n` makes or removes a name, `?` looks at a folder.
    fn folded_uses(uses: &str) -> Vec<String> {
        let clone = "Cargo.toml a.md b.md c.md src/main.rs src/x/a.rs src/x/b.rs src/x/c.rs tests/t.rs run.sh";
        let path = |path: &str| WorkspacePath::parse(path).unwrap();
        let checkout = Checkout::of(clone.split(' ').map(path).collect());
        let mut used = FilesUsed::default();
        for (of, at) in uses.split(", ").filter_map(|used| used.split_once(' ')) {
            let (of, is_folder) = match of {
                "r" => (FileUse::Read, false),
                "l" => (FileUse::List, true),
                "x" => (FileUse::Start, false),
                "w" => (FileUse::Create, false),
                "m" => (FileUse::MakeFolder, true),
                "n" => (FileUse::Remove, false),
                "?" => (FileUse::Look, true),
                other => panic!("{other}"),
            };
            used.add(path(at), of, is_folder);
        }
        fold(&used, &checkout).into_iter().map(|(kind, entry)| format!("{} {entry}", kind.key())).collect()
    }

    #[test]
    fn reads_are_folded_to_folders_and_patterns() {
        assert_eq!(folded_uses("r Cargo.toml, r src/main.rs"), ["read Cargo.toml", "read src/main.rs"]);
        assert_eq!(folded_uses("r src/x/a.rs, r src/x/b.rs, r src/x/c.rs"), ["read src/x"]);
        assert_eq!(folded_uses("l src, r src/x/a.rs"), ["read src"]);
        assert_eq!(folded_uses("r a.md, r b.md, r c.md"), ["read *.md"]);
        assert_eq!(folded_uses("r a.md, r b.md"), ["read a.md", "read b.md"]);
        assert_eq!(folded_uses("l ., r src/main.rs"), ["read ."]);
        assert_eq!(folded_uses("? tests"), ["read tests"]);
        assert_eq!(folded_uses("? src, r src/main.rs"), ["read src/main.rs"], "it is there anyway");
        assert_eq!(folded_uses("? .git, ? ."), [] as [&str; 0]);
        assert_eq!(folded_uses("r .git/HEAD, r .git/index"), ["read .git"]);
    }

    #[test]
    fn what_a_clone_does_not_have_is_granted_as_the_folder_that_a_stage_made() {
        assert_eq!(folded_uses("m target, m target/debug, w target/debug/x, n target/debug/x"), ["write target"]);
        assert_eq!(folded_uses("m src/x/out, w src/x/out/a"), ["write src/x/out"]);
        assert_eq!(folded_uses("r dist/deep/app"), ["read dist"]);
        assert_eq!(folded_uses("x node_modules/a/cli.js, r node_modules/a/lib.js"), ["exec node_modules"]);
        assert_eq!(folded_uses("m node_modules, w node_modules/x, x node_modules/x"), ["write node_modules"]);
    }

    #[test]
    fn a_file_is_granted_unless_the_grant_would_make_something_else_of_it() {
        assert_eq!(folded_uses("w report.xml"), ["write report.xml"]);
        assert_eq!(folded_uses("w src/main.rs"), ["write src/main.rs"]);
        assert_eq!(folded_uses("w src/log"), ["write src"], "a name without an extension would be made as a folder");
        assert_eq!(
            folded_uses("m src/app.d, w src/app.d/x"),
            ["write src/app.d/"],
            "and one with an extension as a file"
        );
        assert_eq!(folded_uses("w src/x.tmp, n src/x.tmp, n src/x.txt"), ["write src"], "a mount can't be renamed");
        assert_eq!(folded_uses("n src/main.rs"), ["write src"]);
        assert_eq!(folded_uses("w src/__pycache__/a.pyc, m src/__pycache__"), [] as [&str; 0]);
        assert_eq!(
            folded_uses("m pytest-cache-files-x, n pytest-cache-files-x, n .pytest_cache"),
            ["write .pytest_cache"]
        );
    }

    #[test]
    fn programs_of_a_clone_are_granted_one_by_one() {
        assert_eq!(folded_uses("x run.sh, r run.sh"), ["exec run.sh"]);
        assert_eq!(folded_uses("x run.sh, l ., r src/main.rs"), ["read .", "exec run.sh"]);
    }

    #[test]
    fn a_link_is_granted_with_its_target_unless_a_folder_includes_it() {
        let path = |path: &str| WorkspacePath::parse(path).unwrap();
        let checkout = Checkout::of(["near", "src/link", "src/a", "lib/b"].map(path).into());
        let entries = |link: &str, target: &str, listed: &str| {
            let mut used = FilesUsed::default();
            used.add_link(path(link), Some(path(target)));
            used.add(path(listed), FileUse::List, true);
            fold(&used, &checkout).into_iter().map(|(_, entry)| entry).collect::<Vec<_>>()
        };
        assert_eq!(entries("near", "src", "lib"), ["lib", "near", "src"]);
        assert_eq!(entries("src/link", "lib/b", "src"), ["lib/b", "src"]);
        assert_eq!(entries("near", "src", "."), ["."]);
    }

    #[test]
    fn names_with_wildcards_are_granted_as_they_are() {
        let entry = escaped("pages/[id]/{a}*.js");
        let pattern: stagewright_model::PathPattern = stagewright_model::PathPattern::parse(&entry).unwrap();
        assert!(pattern.matches_within(&WorkspacePath::parse("pages/[id]/{a}*.js").unwrap()), "{entry}");
        assert!(!pattern.matches_within(&WorkspacePath::parse("pages/i/{a}x.js").unwrap()));
    }
}
