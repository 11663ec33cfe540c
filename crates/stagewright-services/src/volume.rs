//! Volumes: named folders of a service that outlive its releases.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Component, Path, PathBuf};

use stagewright_files::{copy_tree, private_folder, remove_tree};
use stagewright_process::sandbox::ProgramUser;
use stagewright_process::supervisor::Volume;

use crate::error::{ServiceError, ServiceErrorKind};
use crate::image;
use crate::store::{ServiceFolder, is_name};

/// Folders that a root has of the kernel, or of this machine.
const TAKEN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Checks the names of volumes and the paths that they have in the release's root.
pub(crate) fn check(volumes: &BTreeMap<String, String>) -> Result<(), ServiceError> {
    let invalid = |message| Err(ServiceError::new(ServiceErrorKind::InvalidArgument, message));
    let mut paths: Vec<&Path> = Vec::new();
    for (name, path) in volumes {
        if !is_name(name) {
            return invalid(format!("{name:?} is not a valid volume name"));
        }
        let text = path;
        let path = Path::new(path);
        let names = path.components().skip(1);
        let is_plain = names.clone().count() > 0 && names.clone().all(|part| matches!(part, Component::Normal(_)));
        if !path.is_absolute() || !is_plain {
            return invalid(format!("the path {text:?} of the volume `{name}` isn't that of a folder from the root"));
        }
        if let Some(taken) = TAKEN.iter().find(|taken| path.starts_with(taken)) {
            return invalid(format!("the volume `{name}` can't be in {taken}, which the kernel provides"));
        }
        if let Some(other) = paths.iter().find(|other| path.starts_with(other) || other.starts_with(path)) {
            return invalid(format!("the volumes at `{}` and `{text}` are in one another", other.display()));
        }
        paths.push(path);
    }
    Ok(())
}

/// The folders of volumes, which are created where they don't exist yet. A new one has the files that the image has at its
/// path, or is empty and belongs to the user of the program. `gives_away` if this process may give files to other users.
/// The deploy lock must be held.
pub(crate) fn prepare(
    folder: &ServiceFolder,
    rootfs: &Path,
    volumes: &BTreeMap<String, String>,
    user: Option<&ProgramUser>,
    gives_away: bool,
) -> Result<Vec<Volume>, ServiceError> {
    let prepared = volumes.iter().map(|(name, path)| {
        let volume = folder.volume(name);
        let path = PathBuf::from(path);
        if !volume.is_dir() {
            let made = make(&volume, name, image::within(rootfs, &path).as_deref(), user.filter(|_| gives_away));
            made.map_err(|error| ServiceError::file(&volume, error))?;
        }
        Ok(Volume { folder: volume, path })
    });
    prepared.collect()
}

/// Makes a volume under another name first, so that one that exists is complete.
fn make(volume: &Path, name: &str, content: Option<&Path>, user: Option<&ProgramUser>) -> io::Result<()> {
    let parent = volume.parent().unwrap_or(volume);
    private_folder(parent)?;
    // The name of a volume begins with a letter or a digit.
    let draft = parent.join(format!(".{name}"));
    if draft.exists() {
        remove_tree(&draft)?;
    }
    match content.filter(|content| content.is_dir()) {
        Some(content) => {
            copy_tree(content, &draft, |_, _| false)?;
            fs::set_permissions(&draft, Permissions::from_mode(content.metadata()?.mode() & 0o7777))?;
            copy_owners(content, &draft)?;
        }
        None => {
            DirBuilder::new().mode(0o700).create(&draft)?;
            if let Some(user) = user {
                lchown(&draft, Some(user.uid), Some(user.gid))?;
            }
        }
    }
    fs::rename(&draft, volume)?;
    stagewright_files::sync_folder(parent)
}

/// Gives a copy, and all in it, to the owners of the original. Links are not followed.
fn copy_owners(original: &Path, copy: &Path) -> io::Result<()> {
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let (from, to) = (original.join(&path).symlink_metadata()?, copy.join(&path));
        let there = to.symlink_metadata()?;
        // Only root can give files away, and only for root the owners differ.
        if (from.uid(), from.gid()) != (there.uid(), there.gid()) {
            lchown(&to, Some(from.uid()), Some(from.gid()))?;
        }
        if there.is_dir() {
            for entry in to.read_dir()? {
                left.push(path.join(entry?.file_name()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]
mod tests {
    use super::*;

    fn volumes(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect()
    }

    #[test]
    fn names_and_paths_that_lead_elsewhere_are_refused() {
        check(&volumes(&[("data", "/data"), ("other-1", "/var/lib/app"), ("c", "/database")])).unwrap();
        for (name, path) in [
            ("..", "/data"),
            ("a/b", "/data"),
            (".data", "/data"),
            ("data", "data"),
            ("data", "/"),
            ("data", "/a/../etc"),
            ("data", ""),
            ("data", "/proc/x"),
            ("data", "/dev"),
        ] {
            let refused = check(&volumes(&[(name, path)])).unwrap_err();
            assert_eq!(refused.kind, ServiceErrorKind::InvalidArgument, "{name} {path}");
        }
        for (one, other) in [("/a", "/a"), ("/a", "/a/b"), ("/a/b", "/a"), ("/a/", "/a")] {
            assert!(check(&volumes(&[("x", one), ("y", other)])).is_err(), "{one} {other}");
        }
    }

    #[test]
    fn a_new_volume_has_the_files_of_the_image_and_an_old_one_its_own() {
        let root = tempfile::tempdir().unwrap();
        let folder = ServiceFolder::new(root.path(), "staging", "app").unwrap();
        let rootfs = root.path().join("rootfs");
        fs::create_dir_all(rootfs.join("srv/data/deep")).unwrap();
        fs::write(rootfs.join("srv/data/deep/seed"), "1").unwrap();
        std::os::unix::fs::symlink("srv", rootfs.join("link")).unwrap();
        std::os::unix::fs::symlink("../../../../../../../../etc", rootfs.join("out")).unwrap();
        let named = volumes(&[("data", "/link/data"), ("empty", "/empty"), ("out", "/out/apt")]);
        let made = prepare(&folder, &rootfs, &named, None, false).unwrap();
        let read = |path: &str| fs::read_to_string(made[0].folder.join(path)).ok();
        assert_eq!(read("deep/seed").as_deref(), Some("1"));
        for volume in &made[1..] {
            assert_eq!(volume.folder.read_dir().unwrap().count(), 0, "{volume:?}");
            assert_eq!(volume.folder.metadata().unwrap().mode() & 0o777, 0o700);
        }
        fs::write(made[0].folder.join("deep/seed"), "2").unwrap();
        fs::write(rootfs.join("srv/data/more"), "1").unwrap();
        assert_eq!(prepare(&folder, &rootfs, &named, None, false).unwrap(), made);
        assert_eq!((read("deep/seed").as_deref(), read("more")), (Some("2"), None));
    }
}
