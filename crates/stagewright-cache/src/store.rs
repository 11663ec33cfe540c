//! Results on disk, by key, and their content, by digest.
//!
//! ```text
//! <root>/entries/ab/<key>.json      a result: what it consists of
//! <root>/blobs/ab/<digest>          content of files, artifacts and what was said
//! <root>/manifests/ab/<key>.json    what a key was made of
//! <root>/latest/ab/<stage>          the key that a stage had last
//! <root>/worked/ab/<stage>          the key under which it last worked here
//! <root>/left/ab/<stage>            what it left where it may write
//! <root>/tiers                      digests of the tiers whose runs worked here
//! <root>/lock                       held by those who keep results, or alone by who removes them
//! <root>/files                      what files held when they were last read
//! ```
//!
//! A result counts once its entry has its name, and that is after all of its content. Nothing is flushed to the disk:
//! content is checked when it is used, and what a crash left behind is a miss.

use std::collections::BTreeMap;
use std::fs::{self, File};
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

/// A result: all that is given back in place of running a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct CachedResult {
    /// Under which it was kept: a file that was renamed is no other result.
    pub(crate) key: Digest,
    /// The run that did the work.
    pub(crate) run: RunId,
    /// JSON values by name.
    pub(crate) outputs: BTreeMap<String, Json>,
    /// Files that it made, by path.
    pub(crate) files: BTreeMap<String, TreeNode>,
    pub(crate) artifacts: Vec<Artifact>,
    /// Log, findings and summaries; none when it said nothing.
    pub(crate) said: Option<Digest>,
}

impl CachedResult {
    /// All content that it is made of.
    pub(crate) fn content(&self) -> impl Iterator<Item = Digest> + '_ {
        let artifacts = self.artifacts.iter().filter_map(|artifact| Digest::parse(&artifact.digest));
        self.files.values().filter_map(TreeNode::digest).chain(artifacts).chain(self.said)
    }
}

/// What is known of what a stage left in the workspace beyond its `outputs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastWork {
    /// Nothing: it never did anything here.
    Never,
    /// It is what work under this key leaves.
    WithKey(Digest),
    /// Anything.
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

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A result; a damaged one counts as none, and so does one that was kept under another key.
    pub(crate) fn find(&self, key: &Digest) -> Option<CachedResult> {
        read_json(&self.entry(key)).filter(|entry: &CachedResult| entry.key == *key)
    }

    /// Notes that a result was of use, so that it stays.
    pub(crate) fn touch(&self, key: &Digest) {
        let now = SystemTime::now();
        // That it could not be noted is no reason to do the work again.
        let _ = File::options().append(true).open(self.entry(key)).and_then(|file| file.set_modified(now));
    }

    pub(crate) fn keep(&self, entry: &CachedResult) -> io::Result<()> {
        write_json(&self.entry(&entry.key), entry)
    }

    pub(crate) fn forget(&self, key: &Digest) {
        // What isn't there needs no removing.
        let _ = fs::remove_file(self.entry(key));
    }

    pub(crate) fn manifest(&self, key: &Digest) -> Option<KeyManifest> {
        read_json(&self.place("manifests", key).with_extension("json"))
    }

    pub(crate) fn save_manifest(&self, key: &Digest, manifest: &KeyManifest) -> io::Result<()> {
        write_json(&self.place("manifests", key).with_extension("json"), manifest)
    }

    /// The key that a stage had last; see [`ResultStore::stage`].
    pub(crate) fn latest(&self, stage: &Digest) -> Option<Digest> {
        Digest::parse(
            &stagewright_files::read_text(&self.place("latest", stage), stagewright_files::CONFIGURATION).ok()?,
        )
    }

    pub(crate) fn set_latest(&self, stage: &Digest, key: &Digest) -> io::Result<()> {
        write(&self.place("latest", stage), |file| file.write_all(key.to_string().as_bytes()))
    }

    /// What the stage last did here.
    pub(crate) fn worked(&self, stage: &Digest) -> LastWork {
        match stagewright_files::read_text(&self.place("worked", stage), stagewright_files::CONFIGURATION) {
            Ok(text) => Digest::parse(&text).map_or(LastWork::WithoutKey, LastWork::WithKey),
            Err(error) if error.kind() == io::ErrorKind::NotFound => LastWork::Never,
            Err(_) => LastWork::WithoutKey,
        }
    }

    /// Before the stage does anything.
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

    /// Before its result is given back. What isn't part of a result stays as work under another key left it.
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

    /// Names a stage of one pipeline file, in one tier.
    pub(crate) fn stage(tier: &Tier, file: &str, stage_id: &str) -> Digest {
        let mut name = Hashing::default();
        [tier.name(), file, stage_id].iter().for_each(|part| name.field(part.as_bytes()));
        name.finish()
    }

    /// Where it is noted what a stage left.
    pub(crate) fn leftovers_file(&self, stage: &Digest) -> PathBuf {
        self.place("left", stage)
    }

    /// Notes that a run of the tier works here. Whether runs of tiers did, too, that it doesn't trust.
    ///
    /// # Errors
    /// When it can't be written: then others would not know.
    pub(crate) fn record_tier(&self, tier: &Tier) -> io::Result<bool> {
        let file = self.root.join("tiers");
        let name = |tier: &Tier| Digest::of(tier.name()).hex();
        let (own, trusted) = (name(tier), tier.sources().iter().map(name).collect::<Vec<_>>());
        let known = stagewright_files::read_text(&file, stagewright_files::CONFIGURATION).unwrap_or_default();
        let others = known.lines().any(|line| !trusted.iter().any(|trusted| trusted == line));
        if !known.lines().any(|line| line == own) {
            fs::create_dir_all(&self.root)?;
            // One short line: two processes at a time don't mix theirs.
            File::options().create(true).append(true).open(&file)?.write_all(format!("{own}\n").as_bytes())?;
        }
        Ok(others)
    }

    /// Where content is, or is to be.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.place("blobs", digest)
    }

    /// Takes in a file, which must have the digest; nothing is copied when its content is there, and sound.
    pub(crate) fn add_file(&self, digest: &Digest, source: impl FnOnce() -> io::Result<File>) -> io::Result<()> {
        if self.has(digest) {
            return Ok(());
        }
        self.add_from(digest, &mut source()?)
    }

    /// Whether the content is there, and sound.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        Digest::of_file(&self.blob(digest)).is_ok_and(|there| there == *digest)
    }

    /// Takes in all that `source` gives, which must have the digest.
    pub(crate) fn add_from(&self, digest: &Digest, source: &mut impl io::Read) -> io::Result<()> {
        write(&self.blob(digest), |draft| match copy(source, draft)? {
            copied if copied == *digest => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "its content is not what its digest says")),
        })
    }

    /// The same, for content in memory.
    pub(crate) fn add_bytes(&self, content: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(content);
        write(&self.blob(&digest), |draft| draft.write_all(content))?;
        Ok(digest)
    }

    /// Until the file is dropped. Whoever keeps a result shares it, whoever removes content has it alone: else content
    /// could go after it was taken in and before its result names it.
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
