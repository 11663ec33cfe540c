//! Files that libgit2 opens by their name, and waits for when they are pipes: of a working tree, and of a git directory.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use git2::Repository;
use stagewright_plugin_host::git_directories;

use crate::error::SessionError;

const READ_BY_GIT: [&str; 4] = [".gitattributes", ".gitignore", ".gitmodules", ".mailmap"];

/// Refuses a working tree in which one of them isn't a file: a stage can make a pipe of that name, and what reads it would
/// wait for ever. To be called before libgit2 looks at the working tree, and as far as it will look: folders that are
/// ignored, as those of builds, are passed over.
pub(super) fn check(repository: &Repository, root: &Path) -> Result<(), SessionError> {
    let index = repository.index().ok();
    let is_passed_over = |below: &Path| {
        let has_tracked = |index: &git2::Index| index.find_prefix(below.join("").as_os_str().as_bytes()).is_ok();
        // It reads what is in the folders above, and that was looked at.
        repository.is_path_ignored(below).unwrap_or(false) && !index.as_ref().is_some_and(has_tracked)
    };
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let within = check_entries(&folder, root)?;
        folders.extend(within.into_iter().filter(|path| {
            // Git doesn't look into the one, and no stage writes the other.
            let is_own = path.ends_with(".git") || path.strip_prefix(root) == Ok(Path::new(".stagewright"));
            !is_own && !path.strip_prefix(root).is_ok_and(&is_passed_over)
        }));
    }
    Ok(())
}

/// Gives the folders in a folder.
fn check_entries(folder: &Path, root: &Path) -> Result<Vec<PathBuf>, SessionError> {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound, PermissionDenied};
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // libgit2 meets the same, and says so where it matters. Nor does it go where no path leads.
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
                "`{shown}` is not a file of a usual size, and git would read it"
            ))
            .hint(format!("remove it: rm {shown}")));
        }
    }
    Ok(folders)
}

/// Refuses a repository around `start` whose git directory, or whose user's configuration of git, has a pipe or a device in
/// it. To be called before libgit2 opens the repository.
pub(crate) fn check_directory(start: &Path) -> Result<(), SessionError> {
    let homes = [git2::Config::find_global(), git2::Config::find_xdg(), git2::Config::find_system()];
    for file in homes.into_iter().flatten() {
        if let Err(error) = stagewright_files::open(&file).map(drop)
            && error.kind() == io::ErrorKind::InvalidInput
        {
            return Err(SessionError::not_ready(format!("{} can't be read by git", file.display()))
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
        // Its other folders hold what has a name by its content, and what git alone reads.
        check_folder(&directory, &directory, &mut Vec::new())?;
        while let Some(folder) = folders.pop() {
            check_folder(&directory, &folder, &mut folders)?;
        }
    }
    Ok(())
}

/// Adds the folders in it.
fn check_folder(directory: &Path, folder: &Path, folders: &mut Vec<PathBuf>) -> Result<(), SessionError> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        // A socket can't be opened, and git's own monitor has one.
        let is_other = !kind.is_dir() && !kind.is_file() && !kind.is_symlink() && !kind.is_socket();
        let leads_elsewhere = kind.is_symlink() && !entry.path().is_dir() && !leads_to_file(&entry.path(), kind);
        if kind.is_dir() {
            folders.push(entry.path());
        } else if is_other || leads_elsewhere {
            let shown = entry.path();
            return Err(SessionError::not_ready(format!("`{}` is not a file, and git would read it", shown.display()))
                .hint(format!("remove it, and look at the repository: git -C {} fsck", directory.display())));
        }
    }
    Ok(())
}

/// A link to nothing is as good as no file.
fn leads_to_file(path: &Path, kind: fs::FileType) -> bool {
    match kind.is_symlink() {
        false => kind.is_file(),
        true => stagewright_files::open(path).map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |_| true),
    }
}

fn is_readable(path: &Path, kind: fs::FileType) -> bool {
    // As large as any file that people write.
    let is_bounded = || fs::metadata(path).map_or(true, |found| found.len() <= stagewright_files::CONFIGURATION);
    leads_to_file(path, kind) && is_bounded()
}

fn unreadable(folder: &Path, error: io::Error) -> SessionError {
    SessionError::not_ready(format!("the folder {} can't be listed", folder.display())).caused_by(error)
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
    fn a_pipe_that_git_would_wait_for_is_refused_and_files_and_links_to_files_are_not() {
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
        // What git passes over may hold anything, until something in it is tracked.
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
