//! Saves an artifact for a person, outside of any stage.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, Mode, RenameFlags, mkdirat, renameat, renameat_with, statat};
use rustix::io::Errno;
use stagewright_engine::RunId;
use stagewright_files::{folder_of, remove_tree_at};
use stagewright_model::Permissions;

use super::super::workspace::{WorkspaceFiles, failed_at};
use super::{ArtifactFolder, Artifacts, NamedArtifact};
use crate::error::{CapabilityError, ErrorCode};
use crate::policy::Policy;

/// The name of what is written in the folder of the draft.
const CONTENT: &str = "content";

/// An artifact to save.
#[derive(Clone, Debug)]
pub struct SaveRequest<'a> {
    /// The run that published it.
    pub run: &'a RunId,
    /// Its name.
    pub name: &'a str,
    /// The file or folder to make.
    pub to: &'a Path,
    /// Whether to replace what is at `to`: a file, a link or a folder as a whole.
    pub force: bool,
    /// The folder in which stages may have made links, which are not followed.
    pub workspace: &'a Path,
}

impl ArtifactFolder {
    /// Writes an artifact to a file, or the files of a folder into a new folder. Its content is checked against its digest,
    /// and appears at its path only when it is complete.
    ///
    /// # Errors
    /// When the run has no such artifact, it is damaged, or something is at its path already.
    pub fn save(&self, request: &SaveRequest<'_>) -> Result<NamedArtifact, CapabilityError> {
        let SaveRequest { run, name, to, force, workspace } = *request;
        let shown = to.display().to_string();
        let failed = |error: io::Error| failed_at("write", &shown, &error);
        let artifacts = Artifacts::new(self.root.clone(), run.0.clone(), String::new());
        let record = artifacts
            .record(&artifacts.place(name)?, name)?
            .ok_or_else(|| CapabilityError::new(ErrorCode::NotFound, format!("run {run} has no artifact `{name}`")))?;
        let (folder, file_name) = folder_of(workspace, to).map_err(failed)?;
        let draft = SaveDraft::beside(&folder, &file_name).map_err(failed)?;
        // A file is written as the stage that published it would.
        let own = Artifacts { stage: record.stage, ..artifacts };
        let artifact = own.fetch(&draft.files()?, name, CONTENT, &Default::default())?;
        // The archive of a folder without files makes no folder.
        if artifact.is_folder() && !draft.dir.exists(CONTENT) {
            draft.dir.create_dir(CONTENT).map_err(failed)?;
        }
        draft.put(&file_name, force).map_err(|error| match error {
            Errno::EXIST => CapabilityError::new(ErrorCode::AlreadyExists, format!("{shown} already exists"))
                .with_help("name another path with `--to`, or replace it with `--force`"),
            error => failed(error.into()),
        })?;
        Ok(artifact)
    }
}

/// A private folder beside the final path. It is removed with all that is in it.
struct SaveDraft<'a> {
    folder: &'a OwnedFd,
    name: PathBuf,
    dir: Dir,
}

impl SaveDraft<'_> {
    fn beside<'a>(folder: &'a OwnedFd, name: &OsStr) -> io::Result<SaveDraft<'a>> {
        let name = PathBuf::from(format!(".{}.{}.draft", name.display(), std::process::id()));
        // An earlier process with the same id may have been killed and left one.
        let _ = remove_tree_at(folder, name.as_os_str());
        mkdirat(folder, &name, Mode::RWXU)?;
        let dir = Dir::from_std_file(File::from(folder.try_clone()?)).open_dir(&name)?;
        Ok(SaveDraft { folder, name, dir })
    }

    fn files(&self) -> Result<WorkspaceFiles, CapabilityError> {
        let root = self.dir.try_clone().map_err(|error| failed_at("open", "the draft", &error))?;
        let permissions = Permissions { write: vec![all_files()], ..Permissions::default() };
        let policy = Policy::new("artifacts", &permissions, &Default::default(), Arc::default());
        Ok(WorkspaceFiles::new(Arc::new(root), Arc::new(policy), u64::MAX))
    }

    /// Gives the content its final name. With `force`, what has that name is removed with the draft.
    fn put(&self, name: &OsStr, force: bool) -> Result<(), Errno> {
        let moved = |flags| renameat_with(&self.dir, CONTENT, self.folder, name, flags);
        match moved(RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) if force => moved(RenameFlags::EXCHANGE),
            // File systems of a network or of another machine can only rename.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                match statat(self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) if !force => Err(Errno::EXIST),
                    _ => renameat(&self.dir, CONTENT, self.folder, name),
                }
            }
            moved => moved,
        }
    }
}

impl Drop for SaveDraft<'_> {
    fn drop(&mut self) {
        // It is empty, or has what was replaced. What can't be removed is found by its name.
        let _ = remove_tree_at(self.folder, self.name.as_os_str());
    }
}

fn all_files() -> stagewright_model::PathRule {
    ".".parse().unwrap_or_else(|error| unreachable!("`.` is a path: {error}"))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::Publication;
    use super::super::tests::files_in;
    use super::*;

    struct Fixture {
        store: ArtifactFolder,
        folder: tempfile::TempDir,
        run: RunId,
    }

    impl Fixture {
        /// A run with the artifacts `file` and `folder`, in a workspace with the folders `made` and `repo`.
        fn new() -> Fixture {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path();
            fs::create_dir_all(root.join("made/sub")).unwrap();
            fs::create_dir(root.join("repo")).unwrap();
            fs::write(root.join("made/run"), "run").unwrap();
            fs::set_permissions(root.join("made/run"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::write(root.join("made/sub/data"), "data").unwrap();
            let store = ArtifactFolder { root: root.join("store") };
            let artifacts = Artifacts::new(store.root.clone(), "r1".into(), "build".into());
            for (name, path) in [("file", "made/run"), ("folder", "made")] {
                let publication = Publication { name: name.into(), path: path.into(), media_type: None };
                artifacts.publish(&files_in(root), &publication).unwrap();
            }
            Fixture { store, folder, run: RunId("r1".into()) }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.folder.path().join("repo").join(path)
        }

        fn save(&self, name: &str, to: &str, force: bool) -> Result<NamedArtifact, CapabilityError> {
            let (to, workspace) = (self.path(to), self.folder.path().join("repo"));
            self.store.save(&SaveRequest { run: &self.run, name, to: &to, force, workspace: &workspace })
        }

        /// The entries of the repository, drafts included.
        fn entries(&self) -> Vec<String> {
            let entries = fs::read_dir(self.path("")).unwrap();
            let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
            names.sort();
            names
        }
    }

    #[test]
    fn files_and_folders_are_saved_and_leave_no_drafts() {
        let fixture = Fixture::new();
        assert_eq!(fixture.save("file", "new/deep/file", false).unwrap().stage, "build");
        assert_eq!(fs::read_to_string(fixture.path("new/deep/file")).unwrap(), "run");
        fixture.save("folder", "out", false).unwrap();
        assert_eq!(fs::read_to_string(fixture.path("out/sub/data")).unwrap(), "data");
        assert_eq!(fs::metadata(fixture.path("out/run")).unwrap().permissions().mode() & 0o111, 0o111);
        assert_eq!(fixture.entries(), ["new", "out"]);
        assert_eq!(fixture.save("other", "x", false).unwrap_err().message, "run r1 has no artifact `other`");
    }

    #[test]
    fn what_exists_is_replaced_only_if_asked_for() {
        let fixture = Fixture::new();
        fs::write(fixture.path("a"), "precious").unwrap();
        fs::create_dir(fixture.path("out")).unwrap();
        fs::write(fixture.path("out/old"), "old").unwrap();
        for (name, to) in [("file", "a"), ("folder", "out")] {
            assert_eq!(fixture.save(name, to, false).unwrap_err().code, ErrorCode::AlreadyExists);
        }
        assert_eq!(fs::read_to_string(fixture.path("a")).unwrap(), "precious");
        fixture.save("file", "a", true).unwrap();
        fixture.save("folder", "out", true).unwrap();
        assert_eq!(fs::read_to_string(fixture.path("a")).unwrap(), "run");
        assert!(fixture.path("out/run").exists() && !fixture.path("out/old").exists());
        assert_eq!(fixture.entries(), ["a", "out"]);
    }

    #[test]
    fn links_are_neither_followed_nor_written_through() {
        let fixture = Fixture::new();
        let outside = fixture.folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "precious").unwrap();
        symlink(outside.join("precious"), fixture.path("link")).unwrap();
        symlink(&outside, fixture.path("way")).unwrap();
        symlink("missing", fixture.path("dangling")).unwrap();
        assert_eq!(fixture.save("file", "dangling", false).unwrap_err().code, ErrorCode::AlreadyExists);
        assert!(fixture.save("file", "way/precious", true).unwrap_err().to_string().contains("way"));
        fixture.save("file", "link", true).unwrap();
        assert!(fs::symlink_metadata(fixture.path("link")).unwrap().is_file());
        assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "precious");
    }

    #[test]
    fn a_damaged_artifact_leaves_no_file() {
        let fixture = Fixture::new();
        let digest = fixture.store.all(&fixture.run).unwrap().into_iter().find(|one| one.published.name == "file");
        fs::write(fixture.store.content(&digest.unwrap().published.digest), "forged").unwrap();
        assert!(fixture.save("file", "a", false).unwrap_err().message.contains("is damaged"));
        assert_eq!(fixture.entries(), [""; 0]);
    }
}
