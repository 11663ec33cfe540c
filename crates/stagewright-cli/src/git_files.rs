//! Files of a working tree that libgit2 opens by their name, and waits for when they are pipes.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::CommandError;

const READ_BY_GIT: [&str; 4] = [".gitattributes", ".gitignore", ".gitmodules", ".mailmap"];

/// What git and this engine have of their own, where no stage writes.
const PASSED_OVER: [&str; 2] = [".git", ".stagewright"];

/// Refuses a working tree in which one of them isn't a file: a stage can make a pipe of that name, and what reads it would
/// wait for ever. To be called before libgit2 looks at the working tree.
pub(crate) fn check(root: &Path) -> Result<(), CommandError> {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // libgit2 meets the same, and says so where it matters.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(unreadable(&folder, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&folder, error))?;
            let Ok(kind) = entry.file_type() else { continue };
            let name = entry.file_name();
            if kind.is_dir() {
                folders.extend((!PASSED_OVER.iter().any(|own| name == *own)).then(|| entry.path()));
            } else if READ_BY_GIT.iter().any(|read| name == *read) && !leads_to_file(&entry.path(), kind) {
                let shown = entry.path();
                let shown = shown.strip_prefix(root).unwrap_or(&shown).display().to_string();
                return Err(CommandError::not_ready(format!("`{shown}` is not a file, and git would read it"))
                    .hint(format!("remove it: rm {shown}")));
            }
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

fn unreadable(folder: &Path, error: io::Error) -> CommandError {
    CommandError::not_ready(format!("the folder {} can't be listed", folder.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_git_would_wait_for_is_refused_and_files_and_links_to_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        fs::write(path(".gitignore"), "target").unwrap();
        std::os::unix::fs::symlink("../.gitignore", path("a/.gitignore")).unwrap();
        std::os::unix::fs::symlink("nowhere", path("a/.gitattributes")).unwrap();
        check(folder.path()).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for place in ["a/b/.gitignore", ".gitattributes"] {
            std::os::unix::fs::symlink(path("pipe"), path(place)).unwrap();
            let refused = check(folder.path()).unwrap_err();
            assert!(refused.message.contains(place), "{refused:?}");
            fs::remove_file(path(place)).unwrap();
        }
        fs::rename(path("pipe"), path("a/b/.gitignore")).unwrap();
        assert!(check(folder.path()).unwrap_err().message.contains("a/b/.gitignore"));
    }
}
