//! Stores results on disk by key, and their content by digest.
//!
//! ```text
//! <root>/entries/ab/<key>.json      a result and the digests of its content
//! <root>/blobs/ab/<digest>          content of files, artifacts and recorded output
//! <root>/manifests/ab/<key>.json    what a key was computed from
//! <root>/latest/ab/<stage>          the latest key of a stage's result
//! <root>/worked/ab/<stage>          the key under which the stage last worked in this workspace
//! <root>/running/ab/<stage>         locked while an attempt of the stage may change files
//! <root>/left/ab/<stage>            the files that the stage left in the paths that it may write
//! <root>/tiers                      digests of the tiers whose runs have used this workspace
//! <root>/lock                       locked shared while results are stored, exclusively while they are removed
//! <root>/files                      digests of files when they were last read
//! ```
//!
//! A result exists once its entry has been renamed to its final name, which happens after all of its content is stored.
//! Nothing is flushed to the disk: content is verified when it is used, so files that a crash damaged cause a cache miss.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_engine::{Artifact, RunId};

use crate::digest::{Digest, Hashing, copy};
use crate::manifest::KeyManifest;
use crate::tier::Tier;
use crate::tree::TreeNode;

/// A stored result: everything that is restored instead of running the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct CachedResult {
    /// The key under which it was stored. A file that was renamed doesn't match it, and is ignored.
    pub(crate) key: Digest,
    /// The run that did the work.
    pub(crate) run: RunId,
    /// JSON values by name.
    pub(crate) outputs: BTreeMap<String, Json>,
    /// The files at the stage's `outputs`, by path.
    pub(crate) files: BTreeMap<String, TreeNode>,
    pub(crate) artifacts: Vec<Artifact>,
    /// The recorded log, findings and summaries; none if there was no output.
    pub(crate) said: Option<Digest>,
}

impl CachedResult {
    /// The digests of all content that the result consists of.
    pub(crate) fn content(&self) -> impl Iterator<Item = Digest> + '_ {
        let artifacts = self.artifacts.iter().filter_map(|artifact| Digest::parse(&artifact.digest));
        self.files.values().filter_map(TreeNode::digest).chain(artifacts).chain(self.said)
    }
}

/// What is known about the files that a stage left in the workspace besides its `outputs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastWork {
    /// It has never worked here, so there are none.
    Never,
    /// They are determined by this key.
    WithKey(Digest),
    /// They can be anything: its last work had no key.
    WithoutKey,
}

/// A folder of results.
#[derive(Clone, Debug)]
pub(crate) struct ResultStore {
    root: PathBuf,
}

impl ResultStore {
    pub(crate) fn new(root: &Path) -> ResultStore {
        ResultStore { root: root.to_owned() }
    }

    #[cfg(feature = "shared")]
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The result stored under the key. None if it is damaged, or was stored under another key.
    pub(crate) fn find(&self, key: &Digest) -> Option<CachedResult> {
        read_json(&self.entry(key)).filter(|entry: &CachedResult| entry.key == *key)
    }

    /// Marks a result as used, so that garbage collection keeps it.
    pub(crate) fn touch(&self, key: &Digest) {
        let now = SystemTime::now();
        // If this fails, the result may be collected too early. That doesn't justify running the stage again now.
        let _ = File::options().append(true).open(self.entry(key)).and_then(|file| file.set_modified(now));
    }

    pub(crate) fn keep(&self, entry: &CachedResult) -> io::Result<()> {
        write_json(&self.entry(&entry.key), entry)
    }

    pub(crate) fn forget(&self, key: &Digest) {
        // The entry may be gone already.
        let _ = fs::remove_file(self.entry(key));
    }

    pub(crate) fn manifest(&self, key: &Digest) -> Option<KeyManifest> {
        read_json(&self.place("manifests", key).with_extension("json"))
    }

    pub(crate) fn save_manifest(&self, key: &Digest, manifest: &KeyManifest) -> io::Result<()> {
        write_json(&self.place("manifests", key).with_extension("json"), manifest)
    }

    /// The latest key of the result of a stage; see [`ResultStore::stage`].
    pub(crate) fn latest(&self, stage: &Digest) -> Option<Digest> {
        Digest::parse(
            &stagewright_files::read_text(&self.place("latest", stage), stagewright_files::CONFIGURATION).ok()?,
        )
    }

    pub(crate) fn set_latest(&self, stage: &Digest, key: &Digest) -> io::Result<()> {
        write(&self.place("latest", stage), |file| file.write_all(key.to_string().as_bytes()))
    }

    /// Under which key the stage last worked here.
    pub(crate) fn worked(&self, stage: &Digest) -> LastWork {
        match stagewright_files::read_text(&self.place("worked", stage), stagewright_files::CONFIGURATION) {
            Ok(text) => Digest::parse(&text).map_or(LastWork::WithoutKey, LastWork::WithKey),
            Err(error) if error.kind() == io::ErrorKind::NotFound => LastWork::Never,
            Err(_) => LastWork::WithoutKey,
        }
    }

    /// Locks the stage for an attempt that may change files; none if another run of it is under way. The lock ends with its
    /// process.
    pub(crate) fn claim(&self, stage: &Digest) -> io::Result<Option<File>> {
        let path = self.place("running", stage);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Must be called before the stage changes any file.
    pub(crate) fn set_worked(&self, stage: &Digest, worked: LastWork) -> io::Result<()> {
        if self.worked(stage) == worked {
            return Ok(());
        }
        let text = match worked {
            LastWork::WithKey(key) => key.to_string(),
            LastWork::WithoutKey | LastWork::Never => String::new(),
        };
        write(&self.place("worked", stage), |file| file.write_all(text.as_bytes()))
    }

    /// Must be called before a result of the stage is restored.
    ///
    /// Restoring replaces the outputs only. Other files that the stage left under an earlier key remain, so what it left
    /// depends on both keys: it is recorded under a key that combines them.
    pub(crate) fn set_restored(&self, stage: &Digest, key: &Digest) -> io::Result<()> {
        let worked = match self.worked(stage) {
            LastWork::Never => LastWork::WithKey(*key),
            LastWork::WithKey(last) if last == *key => return Ok(()),
            LastWork::WithKey(last) => {
                let mut both = Hashing::default();
                [last, *key].iter().for_each(|key| both.field(key.bytes()));
                LastWork::WithKey(both.finish())
            }
            LastWork::WithoutKey => return Ok(()),
        };
        self.set_worked(stage, worked)
    }

    /// The identity of a stage of a pipeline file, in a tier.
    pub(crate) fn stage(tier: &Tier, file: &str, stage_id: &str) -> Digest {
        let mut name = Hashing::default();
        [tier.name(), file, stage_id].iter().for_each(|part| name.field(part.as_bytes()));
        name.finish()
    }

    /// The file that records what a stage left.
    pub(crate) fn leftovers_file(&self, stage: &Digest) -> PathBuf {
        self.place("left", stage)
    }

    /// Records that a run of the tier uses this workspace. Returns whether runs of tiers that it doesn't trust have used
    /// it as well.
    ///
    /// # Errors
    /// When the record can't be written. Other runs would then not know about this one.
    pub(crate) fn record_tier(&self, tier: &Tier) -> io::Result<bool> {
        let file = self.root.join("tiers");
        let name = |tier: &Tier| Digest::of(tier.name()).hex();
        let (own, trusted) = (name(tier), tier.sources().iter().map(name).collect::<Vec<_>>());
        let known = stagewright_files::read_text(&file, stagewright_files::CONFIGURATION).unwrap_or_default();
        let others = known.lines().any(|line| !trusted.iter().any(|trusted| trusted == line));
        if !known.lines().any(|line| line == own) {
            fs::create_dir_all(&self.root)?;
            // Appending a single short line is atomic, so concurrent processes don't corrupt each other's.
            File::options().create(true).append(true).open(&file)?.write_all(format!("{own}\n").as_bytes())?;
        }
        Ok(others)
    }

    /// The file for the content with this digest, whether it exists or not.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.place("blobs", digest)
    }

    /// Adds a file, which must have the digest. Nothing is copied if its content is already stored intact.
    pub(crate) fn add_file(&self, digest: &Digest, source: impl FnOnce() -> io::Result<File>) -> io::Result<()> {
        if self.has(digest) {
            return Ok(());
        }
        self.add_from(digest, &mut source()?)
    }

    /// Whether the content is stored and intact. Reads all of it.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        Digest::of_file(&self.blob(digest)).is_ok_and(|there| there == *digest)
    }

    /// Adds everything that `source` returns, which must have the digest.
    pub(crate) fn add_from(&self, digest: &Digest, source: &mut impl io::Read) -> io::Result<()> {
        write(&self.blob(digest), |draft| match copy(source, draft)? {
            copied if copied == *digest => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "its content doesn't match its digest")),
        })
    }

    /// Adds content that is in memory.
    pub(crate) fn add_bytes(&self, content: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(content);
        write(&self.blob(&digest), |draft| draft.write_all(content))?;
        Ok(digest)
    }

    /// Locks the store until the file is dropped. Runs that store a result lock it shared, and garbage collection locks
    /// it exclusively. Without the lock, the collection could remove content that has been added but that no result
    /// names yet.
    pub(crate) fn lock(&self, how: fn(&File) -> io::Result<()>) -> io::Result<File> {
        fs::create_dir_all(&self.root)?;
        let file = File::options().create(true).append(true).open(self.root.join("lock"))?;
        how(&file)?;
        Ok(file)
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("files")
    }

    fn entry(&self, key: &Digest) -> PathBuf {
        self.place("entries", key).with_extension("json")
    }

    fn place(&self, kind: &str, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join(kind).join(&hex[..2]).join(&hex[2..])
    }
}

pub(crate) fn write(place: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = place.parent().unwrap_or(Path::new("."));
    let draft = tempfile::NamedTempFile::new_in(folder).or_else(|_| {
        fs::create_dir_all(folder)?;
        tempfile::NamedTempFile::new_in(folder)
    });
    let mut draft = draft?;
    fill(draft.as_file_mut())?;
    draft.persist(place)?;
    Ok(())
}

fn write_json(place: &Path, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(value)?;
    write(place, |file| file.write_all(&text))
}

fn read_json<T: DeserializeOwned>(place: &Path) -> Option<T> {
    serde_json::from_slice(&stagewright_files::read(place, stagewright_files::RECORD).ok()?).ok()
}
