//! The digests of files that were read before, so that unchanged files aren't read again.
//!
//! A file counts as unchanged while its inode, size, modification time and `ctime` are the same. A file that was read so
//! soon after a change that a second change could leave the same times is read again the next time.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::content;
use crate::digest::Digest;
use crate::stamp::Stamp;

/// Incremented when the format changes. A file in another format is discarded and written again.
const FORMAT: u32 = 2;

/// Digests by path, stored in a file between runs.
#[derive(Debug)]
pub(crate) struct FileIndex {
    file: PathBuf,
    known: Mutex<IndexState>,
}

#[derive(Debug, Default)]
struct IndexState {
    files: Option<HashMap<String, Seen>>,
    changed: bool,
}

/// The stamp and the digest of a file when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    stamp: Stamp,
    digest: Digest,
}

impl FileIndex {
    /// The index stored in `file`, which is loaded on first use.
    pub(crate) fn new(file: PathBuf) -> FileIndex {
        FileIndex { file, known: Mutex::default() }
    }

    /// The digest of a file, if it was read before and still has the same stamp.
    pub(crate) fn get(&self, path: &str, stamp: &Stamp) -> Option<Digest> {
        self.with(|known| known.get(path).filter(|seen| seen.stamp == *stamp).map(|seen| seen.digest))
    }

    /// Like [`get`](Self::get), for many files.
    pub(crate) fn get_all<'a>(&self, files: impl Iterator<Item = (&'a str, &'a Stamp)>) -> Vec<Option<Digest>> {
        self.with(|known| {
            let digest = |(path, stamp): (&str, &Stamp)| {
                known.get(path).filter(|seen| seen.stamp == *stamp).map(|seen| seen.digest)
            };
            files.map(digest).collect()
        })
    }

    /// Records the digest of the content that the file has for as long as it has `stamp`.
    pub(crate) fn put(&self, path: &str, stamp: Stamp, digest: Digest) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let IndexState { files, changed } = &mut *known;
        let files = files.get_or_insert_with(|| load(&self.file));
        *changed |= files.insert(path.to_owned(), Seen { stamp, digest }) != Some(Seen { stamp, digest });
    }

    /// The digest of a file outside the workspace; links are followed. The file is read only if it isn't known.
    pub(crate) fn digest(&self, path: &Path) -> io::Result<Digest> {
        let path = path.canonicalize()?;
        let name = path.to_string_lossy();
        let stamp = Stamp::of(&path.symlink_metadata()?);
        if let Some(digest) = self.get(&name, &stamp) {
            return Ok(digest);
        }
        let read = content::read(&path, &stamp)?;
        if read.is_lasting {
            self.put(&name, stamp, read.digest);
        }
        Ok(read.digest)
    }

    /// Writes the index to its file if it changed. If two processes write it, the last one wins; the files that its index
    /// lacks are read again the next time.
    pub(crate) fn save(&self) -> io::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(files), true) = (&known.files, known.changed) else { return Ok(()) };
        let folder = self.file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut draft = tempfile::NamedTempFile::new_in(folder)?;
        let bytes = postcard::to_stdvec(&(FORMAT, files)).map_err(io::Error::other)?;
        io::Write::write_all(&mut draft, &bytes)?;
        draft.persist(&self.file)?;
        known.changed = false;
        Ok(())
    }

    fn with<T>(&self, ask: impl FnOnce(&HashMap<String, Seen>) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        ask(known.files.get_or_insert_with(|| load(&self.file)))
    }
}

/// Empty if the file does not exist or can't be read: the index only saves time.
fn load(file: &Path) -> HashMap<String, Seen> {
    let Ok(bytes) = stagewright_files::read(file, stagewright_files::RECORD) else { return HashMap::new() };
    match postcard::from_bytes(&bytes) {
        Ok((FORMAT, files)) => files,
        _ => HashMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn age(path: &Path) {
        // Longer than the coarsest tick, so that the next change of the file changes its stamp.
        std::thread::sleep(Duration::from_millis(30));
        assert!(path.exists());
    }

    #[test]
    fn an_unchanged_file_is_not_read_again_and_a_changed_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let (file, kept) = (folder.path().join("file"), folder.path().join("kept/index"));
        std::fs::write(&file, "one").unwrap();
        age(&file);
        let index = FileIndex::new(kept.clone());
        assert_eq!(index.digest(&file).unwrap(), Digest::of("one"));
        index.save().unwrap();

        let again = FileIndex::new(kept.clone());
        let name = file.to_string_lossy().into_owned();
        let stamp = || Stamp::of(&file.symlink_metadata().unwrap());
        assert_eq!(again.get(&name, &stamp()), Some(Digest::of("one")));
        // The change is detected although the size is the same and the modification time is set back.
        let modified = file.metadata().unwrap().modified().unwrap();
        std::fs::write(&file, "two").unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
        assert_eq!(again.get(&name, &stamp()), None);
        assert_eq!(again.digest(&file).unwrap(), Digest::of("two"));

        std::fs::write(&kept, "no index").unwrap();
        assert_eq!(FileIndex::new(kept).get(&name, &stamp()), None);
    }

    #[test]
    fn the_digest_of_a_file_changed_within_the_current_tick_is_not_stored() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let index = FileIndex::new(folder.path().join("index"));
        std::fs::write(&file, "one").unwrap();
        index.digest(&file).unwrap();
        assert_eq!(index.get(&file.to_string_lossy(), &Stamp::of(&file.symlink_metadata().unwrap())), None);
    }
}
