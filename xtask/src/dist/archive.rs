//! A reproducible archive: its bytes depend only on its content and on the given time.

use std::io::Write as _;

use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

use crate::cargo::Result;

/// The content of an archive.
pub(super) struct Archive {
    /// The folder that all files are in.
    pub(super) folder: String,
    /// The time of modification of all files, in seconds since the Unix epoch.
    pub(super) time: u64,
    pub(super) files: Vec<ArchiveFile>,
}

#[derive(Clone)]
pub(super) struct ArchiveFile {
    path: String,
    mode: u32,
    content: Vec<u8>,
}

impl ArchiveFile {
    pub(super) fn new(path: impl Into<String>, content: Vec<u8>) -> ArchiveFile {
        ArchiveFile { path: path.into(), mode: 0o644, content }
    }

    pub(super) fn program(path: &str, content: Vec<u8>) -> ArchiveFile {
        ArchiveFile { mode: 0o755, ..ArchiveFile::new(path, content) }
    }
}

impl Archive {
    /// Packs the files in the order of their paths, as files of root.
    pub(super) fn pack(mut self) -> Result<Vec<u8>> {
        self.files.sort_by(|one, other| one.path.cmp(&other.path));
        let failed = |error: std::io::Error| format!("can't pack {}: {error}", self.folder);
        let mut tar = tar::Builder::new(Vec::new());
        for file in &self.files {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(file.mode);
            header.set_mtime(self.time);
            header.set_size(file.content.len() as u64);
            header.set_uid(0);
            header.set_gid(0);
            header.set_username("root").and_then(|()| header.set_groupname("root")).map_err(failed)?;
            tar.append_data(&mut header, format!("{}/{}", self.folder, file.path), file.content.as_slice())
                .map_err(failed)?;
        }
        let tar = tar.into_inner().map_err(failed)?;
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
        gzip.write_all(&tar).and_then(|()| gzip.finish()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn packed(files: Vec<ArchiveFile>) -> Vec<u8> {
        Archive { folder: "app-1".to_owned(), time: 1_700_000_000, files }.pack().expect("memory takes everything")
    }

    #[test]
    fn the_same_files_in_another_order_are_packed_to_the_same_bytes() {
        let files =
            || vec![ArchiveFile::program("bin/app", b"app".to_vec()), ArchiveFile::new("README", b"read".to_vec())];
        assert_eq!(packed(files()), packed(files().into_iter().rev().collect()));
        assert_ne!(packed(files()), packed(files().split_off(1)));
    }

    #[test]
    fn files_belong_to_root_and_have_the_time_of_the_commit() {
        let long = format!("share/{}", "long/".repeat(30));
        let files =
            vec![ArchiveFile::program("bin/app", b"app".to_vec()), ArchiveFile::new(format!("{long}x"), Vec::new())];
        let tar = packed(files);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(tar.as_slice()));
        let mut entries = archive.entries().expect("an archive").map(|entry| entry.expect("an entry"));
        let mut app = entries.next().expect("the program");
        assert_eq!(app.path().expect("a path").to_str(), Some("app-1/bin/app"));
        let header = app.header();
        let owner = (header.uid().expect("an id"), header.gid().expect("an id"));
        assert_eq!(
            (owner, header.mode().expect("a mode"), header.mtime().expect("a time")),
            ((0, 0), 0o755, 1_700_000_000)
        );
        let mut content = String::new();
        app.read_to_string(&mut content).expect("text");
        assert_eq!(content, "app");
        let other = entries.next().expect("the other file").path().expect("a path").display().to_string();
        assert_eq!(other, format!("app-1/{long}x"));
    }
}
