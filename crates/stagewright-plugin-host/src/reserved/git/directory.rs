//! What lies in a git directory: directories of submodules and linked working trees, and links out of it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Purpose;

/// Submodules or working trees of one repository.
const DIRECTORIES: usize = 1024;
/// Names that are looked at in one git directory.
const ENTRIES: usize = 1_000_000;
/// What git keeps by content, or for people to read: folders of which only the names are looked at.
const SHALLOW: [&str; 4] = ["annex", "lfs", "logs", "objects"];

/// Git directories below a folder; a submodule's name can have slashes.
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
                let many = format!("`{}` holds more than {DIRECTORIES} git directories", folder.display());
                return Err(io::Error::other(many));
            }
            let is_git = ["HEAD", "gitdir"].iter().any(|name| path.join(name).is_file());
            if is_git { found.push(path) } else { ahead.push(path) }
        }
    }
    Ok(found)
}

/// Links in a git directory to something in the workspace that isn't in that directory: what they lead to is what git
/// finds there.
pub(super) fn links(directory: &Path, workspace: &Path, claims: &mut BTreeSet<(Purpose, PathBuf)>) -> io::Result<()> {
    let real = stagewright_files::follow(directory)?.real;
    let (mut ahead, mut seen) = (vec![real.clone()], 0);
    while let Some(folder) = ahead.pop() {
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            seen += 1;
            if seen > ENTRIES {
                return Err(io::Error::other(format!("`{}` holds more than {ENTRIES} files", directory.display())));
            }
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            let below = path.strip_prefix(&real).unwrap_or(&path);
            if kind.is_symlink() {
                // What leads nowhere leads git nowhere either.
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

/// `below`: where the link lies in the git directory.
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
    // Also in a submodule's directory.
    match names.iter().position(|name| is_shallow(name)) {
        None => true,
        Some(at) => names[at + 1..].iter().all(|name| names[at] == "objects" && *name == "info"),
    }
}
