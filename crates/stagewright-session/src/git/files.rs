//! Checks of files that libgit2 opens by name in a working tree or a git directory. If one is a pipe, libgit2 hangs.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use git2::Repository;
use stagewright_plugin_host::git_directories;

use crate::error::SessionError;

const READ_BY_GIT: [&str; 4] = [".gitattributes", ".gitignore", ".gitmodules", ".mailmap"];

/// Refuses a working tree in which one of these isn't a regular file: a stage can create a pipe of that name, and
/// reading it would block for ever. Must be called before libgit2 reads the working tree. It checks the folders that
/// libgit2 visits, and skips ignored ones, such as build folders.
pub(super) fn check(repository: &Repository, root: &Path) -> Result<(), SessionError> {
    let index = repository.index().ok();
    let is_passed_over = |below: &Path| {
        let has_tracked = |index: &git2::Index| index.find_prefix(below.join("").as_os_str().as_bytes()).is_ok();
        // libgit2 also reads the files in parent folders, which have been checked already.
        repository.is_path_ignored(below).unwrap_or(false) && !index.as_ref().is_some_and(has_tracked)
    };
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let within = check_entries(&folder, root)?;
        folders.extend(within.into_iter().filter(|path| {
            // Git doesn't visit `.git`, and stages can't write the state folder.
            let is_own = path.ends_with(".git") || path.strip_prefix(root) == Ok(Path::new(".stagewright"));
            !is_own && !path.strip_prefix(root).is_ok_and(&is_passed_over)
        }));
    }
    Ok(())
}

/// Checks the files in a folder, and returns its subfolders.
fn check_entries(folder: &Path, root: &Path) -> Result<Vec<PathBuf>, SessionError> {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound, PermissionDenied};
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // libgit2 gets the same error and reports it if it matters.
        Err(error) if matches!(error.kind(), PermissionDenied | InvalidFilename | NotFound | NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unreadable(folder, error)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(folder, error))?;
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name();
        if kind.is_dir() {
            folders.push(entry.path());
        } else if READ_BY_GIT.iter().any(|read| name == *read) && !is_readable(&entry.path(), kind) {
            let shown = entry.path();
            let shown = shown.strip_prefix(root).unwrap_or(&shown).display().to_string();
            return Err(SessionError::not_ready(format!(
                "`{shown}` is not a regular file of usual size, but git would read it"
            ))
            .hint(format!("remove it: rm {shown}")));
        }
    }
    Ok(folders)
}

/// Refuses a repository around `start` with a pipe or a device in its git directory or in the user's git configuration.
/// Must be called before libgit2 opens the repository.
pub(crate) fn check_directory(start: &Path) -> Result<(), SessionError> {
    let homes = [git2::Config::find_global(), git2::Config::find_xdg(), git2::Config::find_system()];
    for file in homes.into_iter().flatten() {
        if let Err(error) = stagewright_files::open(&file).map(drop)
            && error.kind() == io::ErrorKind::InvalidInput
        {
            return Err(SessionError::not_ready(format!("git can't read {}", file.display()))
                .caused_by(error)
                .hint(format!("remove it: rm {}", file.display())));
        }
    }
    let Some(pointer) = start.ancestors().map(|folder| folder.join(".git")).find(|git| git.symlink_metadata().is_ok())
    else {
        return Ok(());
    };
    for directory in git_directories(&pointer) {
        let mut folders = vec![directory.join("info"), directory.join("refs"), directory.join("objects/info")];
        // The other folders contain objects, named by their content, and files that only the `git` program reads.
        check_folder(&directory, &directory, &mut Vec::new())?;
        while let Some(folder) = folders.pop() {
            check_folder(&directory, &folder, &mut folders)?;
        }
    }
    Ok(())
}

/// Checks the files in a folder of the git directory, and adds its subfolders to `folders`.
fn check_folder(directory: &Path, folder: &Path, folders: &mut Vec<PathBuf>) -> Result<(), SessionError> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        // Opening a socket fails at once, so it can't block; git's file system monitor has one.
        let is_other = !kind.is_dir() && !kind.is_file() && !kind.is_symlink() && !kind.is_socket();
        let leads_elsewhere = kind.is_symlink() && !entry.path().is_dir() && !leads_to_file(&entry.path(), kind);
        if kind.is_dir() {
            folders.push(entry.path());
        } else if is_other || leads_elsewhere {
            let shown = entry.path();
            return Err(SessionError::not_ready(format!(
                "`{}` is not a regular file, but git would read it",
                shown.display()
            ))
            .hint(format!("remove it, and check the repository: git -C {} fsck", directory.display())));
        }
    }
    Ok(())
}

/// Whether the entry is a regular file or a link to one. A dangling link counts as missing.
fn leads_to_file(path: &Path, kind: fs::FileType) -> bool {
    match kind.is_symlink() {
        false => kind.is_file(),
        true => stagewright_files::open(path).map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |_| true),
    }
}

fn is_readable(path: &Path, kind: fs::FileType) -> bool {
    // Larger than any such file that people write.
    let is_bounded = || fs::metadata(path).map_or(true, |found| found.len() <= stagewright_files::CONFIGURATION);
    leads_to_file(path, kind) && is_bounded()
}

fn unreadable(folder: &Path, error: io::Error) -> SessionError {
    SessionError::not_ready(format!("can't list the folder {}", folder.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_in_a_git_directory_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("repo/a")).unwrap();
        for folder in ["main/refs/heads", "main/worktrees/one", "main/objects/pack"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        fs::write(path("repo/.git"), "gitdir: ../main/worktrees/one\n").unwrap();
        fs::write(path("main/worktrees/one/commondir"), "../..\n").unwrap();
        check_directory(&path("repo/a")).unwrap();
        for place in ["main/config", "main/refs/heads/x", "main/worktrees/one/HEAD"] {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path(place), rustix::fs::FileType::Fifo, mode, 0).unwrap();
            let refused = check_directory(&path("repo/a")).unwrap_err();
            assert!(refused.message.contains(place.rsplit('/').next().unwrap()), "{refused:?}");
            fs::remove_file(path(place)).unwrap();
        }
    }

    #[test]
    fn pipes_that_git_would_read_are_refused_and_links_to_files_are_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        let repository = Repository::init(folder.path()).unwrap();
        fs::write(path(".gitignore"), "target").unwrap();
        std::os::unix::fs::symlink("../.gitignore", path("a/.gitignore")).unwrap();
        std::os::unix::fs::symlink("nowhere", path("a/.gitattributes")).unwrap();
        check(&repository, folder.path()).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        fs::create_dir(path("a/.stagewright")).unwrap();
        for place in ["a/b/.gitignore", ".gitattributes", "a/.stagewright/.gitignore"] {
            std::os::unix::fs::symlink(path("pipe"), path(place)).unwrap();
            let refused = check(&repository, folder.path()).unwrap_err();
            assert!(refused.message.contains(place), "{refused:?}");
            fs::remove_file(path(place)).unwrap();
        }
        // Ignored folders may contain anything, until a file in them is tracked.
        fs::create_dir(path("target")).unwrap();
        fs::write(path("target/file"), "").unwrap();
        std::os::unix::fs::symlink(path("pipe"), path("target/.gitignore")).unwrap();
        check(&repository, folder.path()).unwrap();
        repository.index().unwrap().add_path(Path::new("target/file")).unwrap();
        assert!(check(&repository, folder.path()).unwrap_err().message.contains("target/.gitignore"));
        stagewright_files::remove_tree(&path("target")).unwrap();
        fs::rename(path("pipe"), path("a/b/.gitignore")).unwrap();
        assert!(check(&repository, folder.path()).unwrap_err().message.contains("a/b/.gitignore"));
    }
}
