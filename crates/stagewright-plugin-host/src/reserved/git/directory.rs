//! The content of a git directory: directories of submodules and linked worktrees, and links out of it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Purpose;

/// The most submodules, or worktrees, of one repository.
const DIRECTORIES: usize = 1024;
/// The most entries that are examined in one git directory.
const ENTRIES: usize = 1_000_000;
/// Folders whose subfolders are not searched, because git finds their content by digest or only keeps it for people to read.
const SHALLOW: [&str; 4] = ["annex", "lfs", "logs", "objects"];

/// The git directories below a folder. They can be nested, since a submodule's name can contain slashes.
pub(super) fn directories_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut ahead, mut seen) = (Vec::new(), vec![folder.to_owned()], 0);
    while let Some(folder) = ahead.pop() {
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            let path = entry.path();
            if !path.is_dir() {
                continue;
            }
            seen += 1;
            if seen > DIRECTORIES {
                let many = format!("`{}` contains more than {DIRECTORIES} git directories", folder.display());
                return Err(io::Error::other(many));
            }
            let is_git = ["HEAD", "gitdir"].iter().any(|name| path.join(name).is_file());
            if is_git { found.push(path) } else { ahead.push(path) }
        }
    }
    Ok(found)
}

/// Claims the links of a git directory that lead elsewhere in the workspace: git uses their targets as if they were part of
/// the directory.
pub(super) fn links(directory: &Path, workspace: &Path, claims: &mut BTreeSet<(Purpose, PathBuf)>) -> io::Result<()> {
    let real = stagewright_files::follow(directory)?.real;
    let (mut ahead, mut seen) = (vec![real.clone()], 0);
    while let Some(folder) = ahead.pop() {
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            seen += 1;
            if seen > ENTRIES {
                return Err(io::Error::other(format!("`{}` contains more than {ENTRIES} files", directory.display())));
            }
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            let below = path.strip_prefix(&real).unwrap_or(&path);
            if kind.is_symlink() {
                // Git can't follow a broken link either.
                let Ok(led) = stagewright_files::follow(&path) else { continue };
                let is_out = |place: &PathBuf| place.starts_with(workspace) && !place.starts_with(&real);
                if is_out(&led.real) || led.steps.iter().any(is_out) {
                    claims.insert((purpose(below, &led.real), path));
                }
            } else if kind.is_dir() && is_looked_into(below) {
                ahead.push(path);
            }
        }
    }
    Ok(())
}

/// The purpose of a link's target. `below`: the path of the link in the git directory.
fn purpose(below: &Path, target: &Path) -> Purpose {
    let is_folder = || fs::metadata(target).is_ok_and(|found| found.is_dir());
    let is_hook = below.components().any(|name| name.as_os_str() == "hooks");
    match is_hook {
        true if below.file_name().is_some_and(|name| name == "hooks") || is_folder() => Purpose::Hooks,
        true => Purpose::Program,
        false => Purpose::Settings,
    }
}

fn is_looked_into(below: &Path) -> bool {
    let names: Vec<_> = below.components().map(|name| name.as_os_str()).collect();
    let is_shallow = |name: &std::ffi::OsStr| SHALLOW.iter().any(|known| name == *known);
    // At any depth, since submodules' directories have them too. `objects/info` is searched: it names other object folders.
    match names.iter().position(|name| is_shallow(name)) {
        None => true,
        Some(at) => names[at + 1..].iter().all(|name| names[at] == "objects" && *name == "info"),
    }
}
