//! Folders as artifacts: an archive of their files. Equal folders give equal archives.

use std::fs::File;
use std::io;

use stagewright_model::WorkspacePath;
use tar::{Archive, Builder, EntryType, Header};

use super::super::workspace::{NodeKind, WorkspaceFiles, failed_at};
use crate::error::{CapabilityError, ErrorCode};

/// The media type of such an archive.
pub(super) const MEDIA_TYPE: &str = "application/vnd.stagewright.folder.v1.tar";

/// The modes of files in the archive.
const FILE: u32 = 0o644;
const EXECUTABLE: u32 = 0o755;

/// Writes the archive of a folder's files. Empty folders are left out, as git does it.
pub(super) fn pack(files: &WorkspaceFiles, folder: &str, to: &mut impl io::Write) -> Result<(), CapabilityError> {
    let base = WorkspacePath::parse(folder)?;
    let failed = |error: io::Error| failed_at("pack", folder, &error);
    let mut archive = Builder::new(to);
    for located in files.below(&base)? {
        let path = WorkspacePath::parse(&located.path)?;
        let names = path.names().skip(base.names().count()).collect::<Vec<_>>();
        let name = names.join("/");
        let refuse = |what: &str| {
            let message = format!("the folder `{folder}` can't be published: `{path}` is {what}");
            Err(CapabilityError::new(ErrorCode::FailedPrecondition, message)
                .with_help("publish the files that it is needed for, or an archive"))
        };
        match located.node {
            NodeKind::Folder => {}
            NodeKind::Special(what) => return refuse(&what),
            // Where a link leads depends on where the folder is fetched to, and a link that a later stage follows could
            // lead out of what that stage is granted.
            NodeKind::Link(target) => return refuse(&format!("a link to `{target}`")),
            NodeKind::File => {
                let mut file = files.open(&located.path)?.into_std();
                let metadata = file.metadata().map_err(failed)?;
                let is_executable = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o111 != 0;
                let mode = if is_executable { EXECUTABLE } else { FILE };
                let size = metadata.len();
                // A file that a program is still writing to has the size that it had when it was opened.
                let mut content = Exactly { file: &mut file, left: size };
                archive
                    .append_data(&mut header(EntryType::Regular, size, mode), &name, &mut content)
                    .map_err(failed)?;
            }
        }
    }
    archive.into_inner().and_then(|to| to.flush()).map_err(failed)
}

/// A header without anything that differs between machines.
fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header
}

/// Reads as many bytes of a file as its header says, and fails if it has fewer.
struct Exactly<'a> {
    file: &'a mut File,
    left: u64,
}

impl io::Read for Exactly<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(to.len());
        let read = self.file.read(&mut to[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file was truncated while it was packed"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Writes the files of an archive into a folder.
pub(super) fn unpack(files: &WorkspaceFiles, archive: File, folder: &str) -> Result<(), CapabilityError> {
    let base = WorkspacePath::parse(folder)?;
    let failed = |error: io::Error| failed_at("unpack into", folder, &error);
    let mut archive = Archive::new(io::BufReader::new(archive));
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let name =
            String::from_utf8(entry.path_bytes().into_owned()).map_err(|error| failed(io::Error::other(error)))?;
        let path = WorkspacePath::parse(&name)?.names().fold(base.clone(), |path, name| path.join(name));
        match entry.header().entry_type() {
            EntryType::Regular => {
                let mode = entry.header().mode().map_err(failed)?;
                let mode = if mode & 0o111 != 0 { EXECUTABLE } else { FILE };
                files.replace_as(path.as_str(), Some(mode), |file| Ok(io::copy(&mut entry, file)?))?;
            }
            other => {
                let message = format!("the archive has an entry of the type {other:?}");
                return Err(failed(io::Error::new(io::ErrorKind::InvalidData, message)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::tests::files_in;
    use super::*;

    #[test]
    fn a_folder_is_unpacked_as_it_was_packed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("out/a [1]/b")).unwrap();
        fs::write(root.join("out/a [1]/b/data"), vec![7; 100_000]).unwrap();
        fs::write(root.join("out/run"), "x").unwrap();
        fs::set_permissions(root.join("out/run"), fs::Permissions::from_mode(0o700)).unwrap();
        let files = files_in(root);
        let packed = |name: &str| {
            let mut bytes = Vec::new();
            pack(&files, name, &mut bytes).map(|()| bytes)
        };
        let bytes = packed("./out/").unwrap();
        let mut archive = tempfile::tempfile().unwrap();
        archive.write_all(&bytes).unwrap();
        io::Seek::rewind(&mut archive).unwrap();
        // What is there stays, unless a file replaces it.
        fs::create_dir(root.join("in")).unwrap();
        fs::write(root.join("in/kept"), "y").unwrap();
        fs::write(root.join("in/run"), "old").unwrap();
        unpack(&files, archive, "in").unwrap();
        assert_eq!(fs::read(root.join("in/a [1]/b/data")).unwrap(), vec![7; 100_000]);
        assert_eq!(fs::read_to_string(root.join("in/run")).unwrap(), "x");
        assert_eq!(fs::metadata(root.join("in/run")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_to_string(root.join("in/kept")).unwrap(), "y");
        fs::remove_file(root.join("in/kept")).unwrap();
        assert_eq!(packed("in").unwrap(), bytes, "equal folders give equal archives");
        symlink("run", root.join("out/link")).unwrap();
        assert!(packed("out").unwrap_err().message.contains("`out/link` is a link to `run`"));
    }

    #[test]
    fn an_archive_that_leaves_its_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = files_in(folder.path());
        let archive = |write: &dyn Fn(&mut Builder<&mut File>)| {
            let mut file = tempfile::tempfile().unwrap();
            let mut builder = Builder::new(&mut file);
            write(&mut builder);
            builder.finish().unwrap();
            drop(builder);
            io::Seek::rewind(&mut file).unwrap();
            file
        };
        let outside = archive(&|builder| {
            let mut header = header(EntryType::Regular, 1, FILE);
            header.as_old_mut().name[..4].copy_from_slice(b"../a");
            header.set_cksum();
            builder.append(&header, &b"x"[..]).unwrap();
        });
        assert_eq!(unpack(&files, outside, "in").unwrap_err().code, ErrorCode::InvalidArgument);
        let link = archive(&|builder| {
            builder.append_link(&mut header(EntryType::Symlink, 0, FILE), "a", "/etc").unwrap();
        });
        assert!(unpack(&files, link, "in").unwrap_err().message.contains("an entry of the type"));
        assert!(!folder.path().join("a").exists() && !folder.path().join("in/a").exists());
    }
}
