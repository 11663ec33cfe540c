//! What files held when they were last read: an unchanged file isn't read again.
//!
//! A file counts as unchanged while its size, its inode, and the times of its last change (of content and of anything)
//! are the same. What was changed so shortly before it was read that a second change could have left the same times is
//! read again the next time.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::content;
use crate::digest::Digest;
use crate::stamp::Stamp;

/// Raised when the format changes; a file of another one is made anew.
const FORMAT: u32 = 2;

/// Digests by path, kept in a file between runs.
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

/// A file as it was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    stamp: Stamp,
    digest: Digest,
}

impl FileIndex {
    /// Nothing is read before it is asked for.
    pub(crate) fn new(file: PathBuf) -> FileIndex {
        FileIndex { file, known: Mutex::default() }
    }

    /// The digest of a file that is as it was, if it was read before.
    pub(crate) fn get(&self, path: &str, stamp: &Stamp) -> Option<Digest> {
        self.with(|known| known.get(path).filter(|seen| seen.stamp == *stamp).map(|seen| seen.digest))
    }

    /// As [`get`](Self::get), for many at a time.
    pub(crate) fn get_all<'a>(&self, files: impl Iterator<Item = (&'a str, &'a Stamp)>) -> Vec<Option<Digest>> {
        self.with(|known| {
            let digest = |(path, stamp): (&str, &Stamp)| {
                known.get(path).filter(|seen| seen.stamp == *stamp).map(|seen| seen.digest)
            };
            files.map(digest).collect()
        })
    }

    /// `digest` is that of the content which the file has as long as it has `stamp`.
    pub(crate) fn put(&self, path: &str, stamp: Stamp, digest: Digest) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let IndexState { files, changed } = &mut *known;
        let files = files.get_or_insert_with(|| load(&self.file));
        *changed |= files.insert(path.to_owned(), Seen { stamp, digest }) != Some(Seen { stamp, digest });
    }

    /// The content's digest, read only if need be. For files of the machine: links are followed.
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

    /// Writes down what is new. Another process may do the same: the last one's is kept, and what it lacks is read
    /// again.
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

/// Nothing when it isn't there, or can't be read: it only saves time.
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
        // Long enough ago for a change to show, however coarse the clock of files is.
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
        // The same size, and the times of its content set back: that it was changed shows all the same.
        let modified = file.metadata().unwrap().modified().unwrap();
        std::fs::write(&file, "two").unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
        assert_eq!(again.get(&name, &stamp()), None);
        assert_eq!(again.digest(&file).unwrap(), Digest::of("two"));

        std::fs::write(&kept, "no index").unwrap();
        assert_eq!(FileIndex::new(kept).get(&name, &stamp()), None);
    }

    #[test]
    fn what_was_changed_just_now_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let index = FileIndex::new(folder.path().join("index"));
        std::fs::write(&file, "one").unwrap();
        index.digest(&file).unwrap();
        assert_eq!(index.get(&file.to_string_lossy(), &Stamp::of(&file.symlink_metadata().unwrap())), None);
    }
}
