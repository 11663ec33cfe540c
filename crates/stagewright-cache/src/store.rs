//! Results on disk, by key, and their content, by digest.
//!
//! ```text
//! <root>/entries/ab/<key>.json      a result: what it consists of
//! <root>/blobs/ab/<digest>          content of files, artifacts and what was said
//! <root>/manifests/ab/<key>.json    what a key was made of
//! <root>/latest/ab/<stage>          the key that a stage had last
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
use crate::manifest::Manifest;
use crate::tree::Node;

/// A result: all that is given back in place of running a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Entry {
    /// The run that did the work.
    pub(crate) run: RunId,
    /// JSON values by name.
    pub(crate) outputs: BTreeMap<String, Json>,
    /// Files that it made, by path.
    pub(crate) files: BTreeMap<String, Node>,
    pub(crate) artifacts: Vec<Artifact>,
    /// Log, findings and summaries; none when it said nothing.
    pub(crate) said: Option<Digest>,
}

impl Entry {
    /// All content that it is made of.
    pub(crate) fn content(&self) -> impl Iterator<Item = Digest> + '_ {
        let artifacts = self.artifacts.iter().filter_map(|artifact| Digest::parse(&artifact.digest));
        self.files.values().map(|node| node.digest).chain(artifacts).chain(self.said)
    }
}

/// A folder of results.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    pub(crate) fn new(root: &Path) -> Store {
        Store { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A result; a damaged one counts as none.
    pub(crate) fn find(&self, key: &Digest) -> Option<Entry> {
        read_json(&self.entry(key))
    }

    /// Notes that a result was of use, so that it stays.
    pub(crate) fn touch(&self, key: &Digest) {
        let now = SystemTime::now();
        // That it could not be noted is no reason to do the work again.
        let _ = File::options().append(true).open(self.entry(key)).and_then(|file| file.set_modified(now));
    }

    pub(crate) fn keep(&self, key: &Digest, entry: &Entry) -> io::Result<()> {
        write_json(&self.entry(key), entry)
    }

    pub(crate) fn forget(&self, key: &Digest) {
        // What isn't there needs no removing.
        let _ = fs::remove_file(self.entry(key));
    }

    pub(crate) fn manifest(&self, key: &Digest) -> Option<Manifest> {
        read_json(&self.place("manifests", key).with_extension("json"))
    }

    pub(crate) fn note(&self, key: &Digest, manifest: &Manifest) -> io::Result<()> {
        write_json(&self.place("manifests", key).with_extension("json"), manifest)
    }

    /// The key that a stage had last.
    pub(crate) fn latest(&self, pipeline: &str, stage: &str) -> Option<Digest> {
        Digest::parse(
            &stagewright_files::read_text(&self.latest_place(pipeline, stage), stagewright_files::CONFIGURATION)
                .ok()?,
        )
    }

    pub(crate) fn set_latest(&self, pipeline: &str, stage: &str, key: &Digest) -> io::Result<()> {
        write(&self.latest_place(pipeline, stage), |file| file.write_all(key.to_string().as_bytes()))
    }

    /// Where content is, or is to be.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.place("blobs", digest)
    }

    /// Takes in a file, which must have the digest; nothing is copied when its content is there, and sound.
    pub(crate) fn take_in(&self, digest: &Digest, source: &Path) -> io::Result<()> {
        if Digest::of_file(&self.blob(digest)).is_ok_and(|there| there == *digest) {
            return Ok(());
        }
        self.take_in_from(digest, &mut stagewright_files::open(source)?)
    }

    /// Takes in all that `source` gives, which must have the digest.
    pub(crate) fn take_in_from(&self, digest: &Digest, source: &mut impl io::Read) -> io::Result<()> {
        write(&self.blob(digest), |draft| match copy(source, draft)? {
            copied if copied == *digest => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "its content is not what its digest says")),
        })
    }

    /// The same, for content in memory.
    pub(crate) fn take_in_bytes(&self, content: &[u8]) -> io::Result<Digest> {
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

    fn latest_place(&self, pipeline: &str, stage: &str) -> PathBuf {
        let mut name = Hashing::default();
        [pipeline, stage].iter().for_each(|part| name.field(part.as_bytes()));
        self.place("latest", &name.finish())
    }

    fn place(&self, kind: &str, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join(kind).join(&hex[..2]).join(&hex[2..])
    }
}

fn write(place: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
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
