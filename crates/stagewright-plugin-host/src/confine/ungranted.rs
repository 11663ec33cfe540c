//! Refuses programs that a sandbox lacks, where programs would find another one of the same name.
//!
//! A shell searches the folders of `PATH` until it finds a file that it can start. It passes over a folder that isn't
//! mounted, such as `~/.cargo/bin`, and goes on to the next one, so that `cargo` would silently be `/usr/bin/cargo`. In place
//! of the program that the user has, there is therefore a script that fails and names the missing grant. It is only made
//! for names that a later folder has as well, and it takes the place of the program that isn't granted, not of the other
//! one: that is still started by its absolute path, as in the first lines of scripts.
//!
//! Folders of the workspace are left out: whether they have a program is for the stage's inputs to say.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use stagewright_files::without_dots;
use stagewright_process::sandbox::{Access, Place, Source};
use stagewright_process::which;

use super::SandboxView;

/// What is started instead. The first line is in the words of a shell, which the search for refusals knows.
const REFUSAL: &str = "#!/bin/sh
printf '%s: not found\\n' \"${0##*/}\" >&2
printf 'stagewright: the stage is not granted %s: add its name to process in the permissions\\n' \"$0\" >&2
exit 127
";
/// The most links that are followed, as in the kernel.
const LINKS: usize = 40;

/// The paths of programs that a sandbox refuses, each with the first program of its name in `folders`. `folders`: those of
/// `PATH`, in its order. `view`: what is mounted outside of the workspace.
pub(super) fn ungranted(folders: &[PathBuf], view: &SandboxView, workspace: &Path) -> BTreeSet<PathBuf> {
    let reals: Vec<Option<PathBuf>> = folders.iter().map(|folder| folder.canonicalize().ok()).collect();
    let mut paths = BTreeSet::new();
    for (at, folder) in folders.iter().enumerate() {
        let Some(real) = &reals[at] else { continue };
        let is_seen = view.access(folder) >= Some(Access::Execute);
        // `/bin` is often a link to `/usr/bin`. What is in a folder for the second time is the first program of its name.
        let is_new = |later: &usize| reals[*later].is_some() && !reals[..=at].contains(&reals[*later]);
        let later: Vec<&PathBuf> = (at + 1..folders.len()).filter(is_new).map(|later| &folders[later]).collect();
        if real.starts_with(workspace) || later.is_empty() || (is_seen && reals[..at].contains(&reals[at])) {
            continue;
        }
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            // In a folder that programs see, only a link can lead to something that they don't see.
            if is_seen && !entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                continue;
            }
            let (name, program) = (entry.file_name(), entry.path());
            // Few names are in a later folder as well, and whether a program is seen takes longer to find out.
            let mut others = later.iter().filter_map(|folder| which(&name, folder)).peekable();
            if others.peek().is_none() || view.starts(&program) {
                continue;
            }
            let Some(other) = others.find(|other| view.starts(other)) else { continue };
            let is_first = folders[..at].iter().all(|folder| which(&name, folder).is_none());
            let Ok(real) = program.canonicalize() else { continue };
            let is_other = other.canonicalize().is_ok_and(|other| other != real);
            if is_first && is_other && !real.starts_with(workspace) && which(&program, "").is_some() {
                paths.extend(first_unseen(program, view).filter(|path| !path.starts_with(workspace)));
            }
        }
    }
    paths
}

/// The first path on the way from a program to its file that isn't in the sandbox.
fn first_unseen(program: PathBuf, view: &SandboxView) -> Option<PathBuf> {
    let mut path = program;
    for _ in 0..LINKS {
        if !view.has(&path) {
            return Some(path);
        }
        let target = fs::read_link(&path).ok()?;
        path = without_dots(&path.parent()?.join(target));
    }
    None
}

/// Puts the refusals in place: in the attempt's own folders, if these are mounted there, and otherwise as mounts. A path
/// within a mount of the machine stays as it is, because nothing can be created there. Returns the mounts, and the paths
/// that were refused.
pub(super) fn refuse(
    paths: BTreeSet<PathBuf>,
    view: &SandboxView,
    scratch: &Path,
) -> io::Result<(Vec<Place>, BTreeSet<PathBuf>)> {
    let script = scratch.join("ungranted");
    let (mut places, mut refused) = (Vec::new(), BTreeSet::new());
    for path in paths {
        match view.around(&path) {
            None => {
                if places.is_empty() {
                    write_script(&script)?;
                }
                let source = Source::Host(script.clone());
                places.push(Place { path: path.clone(), source, access: Some(Access::Execute) });
            }
            Some(Place { path: at, source: Source::Host(own), .. }) if own.starts_with(scratch) => {
                let Ok(below) = path.strip_prefix(at) else { continue };
                write_script(&own.join(below))?;
            }
            Some(_) => continue,
        }
        refused.insert(path);
    }
    Ok((places, refused))
}

fn write_script(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(path, REFUSAL)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn program(path: &Path) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, path.display().to_string()).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_owned()
    }

    #[test]
    fn only_programs_that_would_be_replaced_by_others_are_refused() {
        let machine = tempfile::tempdir().unwrap();
        let machine = machine.path().canonicalize().unwrap();
        let at = |path: &str| machine.join(path);
        for path in ["usr/bin/both", "usr/bin/only-system", "usr/bin/same", "usr/bin/granted", "usr/bin/linked"] {
            program(&at(path));
        }
        for path in ["home/bin/both", "home/bin/only-home", "home/bin/granted", "work/bin/both", "opt/v1/linked"] {
            program(&at(path));
        }
        fs::write(at("home/bin/only-system"), "not executable").unwrap();
        symlink(at("usr/bin/same"), at("home/bin/same")).unwrap();
        fs::create_dir_all(at("usr/local/bin")).unwrap();
        symlink("v1", at("opt/current")).unwrap();
        symlink("../../../opt/current/linked", at("usr/local/bin/linked")).unwrap();
        let host = |path: &str| Place { path: at(path), source: Source::Host(at(path)), access: Some(Access::Execute) };
        let view = SandboxView::new(vec![host("usr"), host("home/bin/granted")]);
        let refused = |folders: &[&str]| {
            let folders = folders.iter().map(|folder| at(folder)).collect::<Vec<_>>();
            let refused = ungranted(&folders, &view, &at("work")).into_iter();
            refused.map(|path| path.strip_prefix(&machine).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            refused(&["work/bin", "usr/local/bin", "home/bin", "usr/bin", "usr/bin"]),
            ["opt/current/linked"],
            "the workspace's program is the first one, and for its inputs to say"
        );
        assert_eq!(refused(&["home/bin", "usr/local/bin", "usr/bin"]), ["home/bin/both", "opt/current/linked"]);
        assert_eq!(refused(&["usr/local/bin", "home/bin"]), Vec::<String>::new(), "no later folder has one");
        assert_eq!(refused(&["usr/bin", "home/bin"]), Vec::<String>::new(), "the system's is the first one");
    }

    #[test]
    fn refusals_are_files_of_the_attempt_and_nothing_is_made_in_folders_of_the_machine() {
        let scratch = tempfile::tempdir().unwrap();
        let scratch = scratch.path();
        let place = |path: &str, source: PathBuf| Place {
            path: path.into(),
            source: Source::Host(source),
            access: Some(Access::Write),
        };
        let view = SandboxView::new(vec![place("/home/me", scratch.join("home")), place("/kept", "/nowhere".into())]);
        let paths = ["/home/me/bin/a", "/kept/bin/a", "/opt/bin/a"].map(PathBuf::from);
        let (places, refused) = refuse(BTreeSet::from(paths.clone()), &view, scratch).unwrap();
        assert_eq!(refused, BTreeSet::from([paths[0].clone(), paths[2].clone()]));
        assert_eq!(places.iter().map(|place| &place.path).collect::<Vec<_>>(), [&paths[2]]);
        assert!(which(scratch.join("home/bin/a"), "").is_some() && which(scratch.join("ungranted"), "").is_some());
    }
}
