//! Folds the files that a stage used into the few entries that a person would write.
//!
//! The measure is a new clone. What isn't in it was made by a stage, as a whole folder: `target` is granted, and not the
//! files in it. What is in it is granted by the smallest folders that contain what was used, because a folder of sources
//! changes more often than a pipeline.

use std::collections::{BTreeMap, BTreeSet};

use stagewright_model::{Permission, WorkspacePath};
use stagewright_process::sandbox::FileUse;

use super::Learning;

/// With this many entries in it, a folder other than the root is granted as a whole.
const FOLDED: usize = 3;
/// With more entries than this, the whole workspace is.
const MOST_ENTRIES: usize = 12;
/// Folders that programs write if they can, and do without otherwise.
const DISPENSABLE: [&str; 1] = ["__pycache__"];

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
            // Its history is shown to whoever may read it. Looking whether it is there is no use of it.
            if !is_written && of != FileUse::Look && git != path {
                self.files.insert(git);
            }
            return;
        }
        if is_written && path.names().any(|name| DISPENSABLE.contains(&name)) {
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
    let mut entries: BTreeSet<(Permission, String)> = of(Permission::Write, write).collect();
    entries.extend(of(Permission::Exec, exec));
    entries.extend(read.into_iter().map(|entry| (Permission::Read, entry)));
    entries
}

/// What has to be writable. A path that doesn't exist is made before the stage starts: a folder, unless its name has an
/// extension, and then a file. Where that would be wrong, the folder around it is granted.
fn written(used: &FilesUsed, checkout: &Checkout) -> BTreeSet<WorkspacePath> {
    let mut entries = BTreeSet::new();
    let all = used.written.iter().chain(&used.made_folders).chain(&used.renamed);
    for path in all {
        let is_renamed = used.renamed.contains(path);
        let is_folder = |at: &WorkspacePath| at != path || used.made_folders.contains(at);
        let entry = match checkout.absent(path) {
            Some(at) if is_folder(&at) != has_extension(&at) && (at != *path || !is_renamed || is_folder(&at)) => at,
            Some(at) => at.parent().unwrap_or_default(),
            None if is_renamed => path.parent().unwrap_or_default(),
            None => path.clone(),
        };
        entries.insert(entry);
    }
    folded(outermost(entries))
}

fn has_extension(path: &WorkspacePath) -> bool {
    path.as_path().extension().is_some()
}

fn started(used: &FilesUsed, checkout: &Checkout, write: &BTreeSet<WorkspacePath>) -> BTreeSet<WorkspacePath> {
    let outside = used.started.iter().filter(|path| !is_in(path, write));
    folded(outermost(outside.map(|path| checkout.absent(path).unwrap_or_else(|| path.clone())).collect()))
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
    let entries_of_files = outermost(entries);
    // A folder that was looked at is there anyway if anything in it is granted.
    let is_shown = |folder: &WorkspacePath| {
        let mut granted = entries_of_files.iter().chain(write).chain(exec);
        granted.any(|entry| entry.is_within(folder))
    };
    let looked = used.folders.iter().filter(|path| !is_granted(path) && !is_shown(path));
    let looked = looked.map(|path| checkout.absent(path).unwrap_or_else(|| path.clone()));
    let entries = folded(outermost(entries_of_files.iter().cloned().chain(looked).collect()));
    if entries.len() > MOST_ENTRIES || entries.contains(&WorkspacePath::default()) {
        return BTreeSet::from([".".to_owned()]);
    }
    with_patterns(&entries, checkout)
}

fn is_in(path: &WorkspacePath, entries: &BTreeSet<WorkspacePath>) -> bool {
    std::iter::successors(Some(path.clone()), WorkspacePath::parent).any(|at| entries.contains(&at))
}

/// The paths that lie in no other one.
fn outermost(paths: BTreeSet<WorkspacePath>) -> BTreeSet<WorkspacePath> {
    let is_covered = |path: &WorkspacePath| path.parent().is_some_and(|parent| is_in(&parent, &paths));
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
            '*' | '?' | '[' | '{' | '\\' => entry.extend(['\\', letter]),
            letter => entry.push(letter),
        }
    }
    entry
}
