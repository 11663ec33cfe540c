//! Creates folders that only their owner can access.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Creates a folder with mode 0700, and the folders above it. An existing folder loses the permissions of group and others.
/// Other users then can't access anything in it, whatever the modes of the files there.
///
/// # Errors
/// When the folder can't be created; when the path exists and isn't a folder, or belongs to another user; and when the
/// mode can't be changed.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let folder = std::fs::File::from(rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    let found = folder.metadata()?;
    let us = rustix::process::geteuid();
    if found.uid() != us.as_raw() {
        let words = format!("it belongs to user {}, but this process runs as user {us}", found.uid(), us = us.as_raw());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
    }
    if found.mode() & 0o077 != 0 {
        folder.set_permissions(Permissions::from_mode(found.mode() & 0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_existing_folder_becomes_inaccessible_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let (old, new) = (folder.path().join("old"), folder.path().join("new/below"));
        fs::create_dir(&old).unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o775)).unwrap();
        private_folder(&old).unwrap();
        private_folder(&new).unwrap();
        assert_eq!((mode(&old), mode(&new)), (0o700, 0o700));
        fs::write(folder.path().join("file"), "").unwrap();
        private_folder(&folder.path().join("file")).unwrap_err();
    }
}
