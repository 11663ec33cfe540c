//! `artifacts`: named files that stages of a run pass to each other. Content is stored once, by digest.
//!
//! On disk, `blobs/sha256/HEX` holds contents, and `runs/RUN/NAME.json` maps a name in a run to a content. Both are written
//! to a temporary file and renamed, so that a file with its final name is complete. `lock` prevents the removal of contents
//! while an artifact is being published.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use stagewright_engine::{Artifact as Published, RunId};
use stagewright_files::remove_tree;

use super::workspace::{FillError, WorkspaceFiles, copy_and_digest, failed_at};
use crate::attempt::AttemptContext;
use crate::error::{CapabilityError, ErrorCode};
use crate::limits::{ByteBudget, Metered};

mod folder;
mod save;

pub use save::SaveRequest;

/// The most bytes of a name.
const NAME: usize = 128;

/// The most artifacts that one attempt may publish. Each is an event of the run, and the limit on their bytes doesn't
/// bound the number of empty ones.
const MOST: usize = 10_000;

/// The media type of an artifact whose plugin gave none.
const ANY: &str = "application/octet-stream";

/// An artifact, and the stage that published it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedArtifact {
    /// The artifact.
    pub published: Published,
    /// Unique name of the stage.
    pub stage: String,
}

impl NamedArtifact {
    /// Whether it is a folder. The media type says so, since it is kept wherever artifacts are, caches included.
    pub fn is_folder(&self) -> bool {
        self.published.media_type == folder::MEDIA_TYPE
    }
}

/// An artifact that a guest is about to publish.
#[derive(Clone, Debug)]
pub struct Publication {
    pub(crate) name: String,
    /// A file or a folder of the workspace.
    pub(crate) path: String,
    pub(crate) media_type: Option<String>,
}

/// The artifacts of one run.
#[derive(Clone, Debug)]
pub(crate) struct Artifacts {
    root: PathBuf,
    run: String,
    stage: String,
    /// The bytes that the attempt may still publish.
    budget: ByteBudget,
    published: Arc<Mutex<BTreeMap<String, Published>>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Record {
    digest: String,
    media_type: String,
    size: u64,
    /// The stage that published it.
    stage: String,
}

impl Record {
    fn named(self, name: &str) -> NamedArtifact {
        let Record { digest, media_type, size, stage } = self;
        NamedArtifact { published: Published { name: name.to_owned(), digest, media_type, size }, stage }
    }
}

impl Artifacts {
    pub(crate) fn for_attempt(attempt: &AttemptContext<'_>) -> Artifacts {
        let request = &attempt.request;
        Artifacts::new(attempt.config().artifacts.clone(), request.run.0.clone(), request.stage_id.clone())
            .bounded(attempt.bounds.artifacts)
    }

    pub(crate) fn new(root: PathBuf, run: String, stage: String) -> Artifacts {
        Artifacts { root, run, stage, budget: ByteBudget::new("artifacts", u64::MAX), published: Arc::default() }
    }

    /// Limits the bytes that may be published.
    pub(crate) fn bounded(self, bytes: u64) -> Artifacts {
        Artifacts { budget: ByteBudget::new("artifacts", bytes), ..self }
    }

    /// Publishes a file or a folder of the workspace. A stage may replace its own artifacts, as it does when it is retried, but not
    /// those of another stage.
    pub(crate) fn publish(
        &self,
        files: &WorkspaceFiles,
        publication: &Publication,
    ) -> Result<NamedArtifact, CapabilityError> {
        let Publication { name, path, media_type } = publication;
        let place = self.place(name)?;
        if let Some(taken) = self.record(&place, name)?.filter(|record| record.stage != self.stage) {
            let message = format!("the stage `{}` has already published an artifact `{name}`", taken.stage);
            return Err(CapabilityError::new(ErrorCode::AlreadyExists, message).with_help("choose another name"));
        }
        self.require_room(name)?;
        let failed = |error: &io::Error| failed_at("publish", path, error);
        if files.is_folder(path)? {
            if media_type.as_deref().is_some_and(|media_type| media_type != folder::MEDIA_TYPE) {
                let message = format!("`{path}` is a folder, which has a media type of its own");
                return Err(CapabilityError::new(ErrorCode::InvalidArgument, message)
                    .with_help("publish it without a media type"));
            }
            let mut archive = tempfile::tempfile_in(draft_folder(&self.root).map_err(|error| failed(&error))?)
                .map_err(|error| failed(&error))?;
            folder::pack(files, path, &mut Metered { to: &mut archive, budget: &self.budget })?;
            io::Seek::rewind(&mut archive).map_err(|error| failed(&error))?;
            // The archive was counted while it was written.
            let unmetered = Artifacts { budget: ByteBudget::new("artifacts", u64::MAX), ..self.clone() };
            let record = unmetered.keep(&mut archive, &place, folder::MEDIA_TYPE).map_err(|error| failed(&error))?;
            return Ok(self.remember(name, record));
        }
        let mut file = files.open(path)?;
        let media_type = media_type.as_deref().unwrap_or(ANY);
        // The digest is computed from the bytes as they are copied, not from the file: a program of the stage may still be
        // writing to it, and an approval must refer to exactly the content that later stages fetch.
        let record = self.keep(&mut file, &place, media_type).map_err(|error| failed(&error))?;
        Ok(self.remember(name, record))
    }

    /// Adds an artifact to those that the attempt has published.
    fn remember(&self, name: &str, record: Record) -> NamedArtifact {
        let artifact = record.named(name);
        let published = artifact.published.clone();
        self.published.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), published);
        artifact
    }

    /// Refuses a new name once the attempt has published [`MOST`] artifacts.
    fn require_room(&self, name: &str) -> Result<(), CapabilityError> {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        if published.len() < MOST || published.contains_key(name) {
            return Ok(());
        }
        let message = format!("could not publish the artifact `{name}`: a stage may publish at most {MOST}");
        Err(CapabilityError::new(ErrorCode::ResourceExhausted, message)
            .with_help("pack files that belong together into one archive"))
    }

    /// The artifacts that the attempt has published, sorted by name.
    pub(crate) fn published(&self) -> Vec<Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The artifacts that these stages have published, sorted by name. `stages`: their unique names.
    pub(crate) fn of_stages(&self, stages: &BTreeSet<String>) -> Result<Vec<NamedArtifact>, CapabilityError> {
        let folder = ArtifactFolder { root: self.root.clone() };
        let found = folder.all(&RunId(self.run.clone())).map_err(|error| failed_at("list", "the artifacts", &error))?;
        let mut found = found.into_iter().filter(|artifact| stages.contains(&artifact.stage)).collect::<Vec<_>>();
        found.sort_by(|one, other| one.published.name.cmp(&other.published.name));
        Ok(found)
    }

    /// Copies an artifact into the workspace, which this stage or one of `before` has published. Its content is checked
    /// against its digest; a damaged one leaves no file.
    pub(crate) fn fetch(
        &self,
        files: &WorkspaceFiles,
        name: &str,
        path: &str,
        before: &BTreeSet<String>,
    ) -> Result<NamedArtifact, CapabilityError> {
        let record = self.find(name, before)?;
        let (expected, blob) = (record.digest.clone(), self.blob(&record.digest));
        let artifact = record.named(name);
        if artifact.is_folder() {
            folder::unpack(files, open_undamaged(name, &expected, &blob)?, path)?;
            return Ok(artifact);
        }
        files.replace(path, |target| {
            let mut blob = stagewright_files::open(&blob)?;
            let (digest, _) = copy_and_digest(&mut blob, target)?;
            require_undamaged(name, &expected, &digest).map_err(FillError::Other)
        })?;
        Ok(artifact)
    }

    /// Opens the content of an artifact that this stage or one of `before` has published; of a folder, the archive of its
    /// files. It is checked against its digest.
    pub(crate) fn open(&self, name: &str, before: &BTreeSet<String>) -> Result<fs::File, CapabilityError> {
        let record = self.find(name, before)?;
        open_undamaged(name, &record.digest, &self.blob(&record.digest))
    }

    /// The record of an artifact that this stage or one of `before` has published.
    fn find(&self, name: &str, before: &BTreeSet<String>) -> Result<Record, CapabilityError> {
        let place = self.place(name)?;
        let Some(record) = self.record(&place, name)? else {
            let message = format!("no stage of this run has published an artifact `{name}`");
            return Err(CapabilityError::new(ErrorCode::NotFound, message)
                .with_help("add the stage that publishes it to this stage's `needs`"));
        };
        // Of a stage that may run at the same time, this one would find what happens to be there.
        if record.stage != self.stage && !before.contains(&record.stage) {
            let message = format!("artifact `{name}` is of stage `{}`, which this stage doesn't need", record.stage);
            return Err(CapabilityError::new(ErrorCode::FailedPrecondition, message)
                .with_help("add the stage that publishes it to this stage's `needs`"));
        }
        Ok(record)
    }

    fn keep(&self, file: &mut impl io::Read, place: &Path, media_type: &str) -> io::Result<Record> {
        let _shared = locked(&self.root, fs::File::lock_shared)?;
        let (digest, size) = self.store(file)?;
        let record = Record { digest, media_type: media_type.to_owned(), size, stage: self.stage.clone() };
        Self::name(place, &record)?;
        Ok(record)
    }

    fn store(&self, file: &mut impl io::Read) -> io::Result<(String, u64)> {
        let mut draft = draft_beside(&self.blob("sha256:draft"))?;
        let (digest, size) = copy_and_digest(file, &mut Metered { to: &mut draft, budget: &self.budget })?;
        let blob = self.blob(&digest);
        if !blob.exists() {
            // The content must be on disk before a record refers to it: the journal names the artifact once the stage has
            // succeeded, and a resumed run doesn't run the stage again.
            draft.as_file().sync_all()?;
            draft.persist(blob)?;
        }
        Ok((digest, size))
    }

    fn name(place: &Path, record: &Record) -> io::Result<()> {
        let mut draft = draft_beside(place)?;
        serde_json::to_writer(&mut draft, record)?;
        draft.persist(place)?;
        Ok(())
    }

    fn blob(&self, digest: &str) -> PathBuf {
        blob(&self.root, digest)
    }

    fn place(&self, name: &str) -> Result<PathBuf, CapabilityError> {
        if name.len() > NAME || !can_name(name) {
            return Err(CapabilityError::new(ErrorCode::InvalidArgument, format!("invalid artifact name `{name}`"))
                .with_help(format!("use at most {NAME} letters, digits, `-`, `_` and `.`, not beginning with a dot")));
        }
        if !can_name(&self.run) {
            return Err(CapabilityError::new(ErrorCode::Internal, format!("invalid run name `{}`", self.run)));
        }
        Ok(self.root.join("runs").join(&self.run).join(format!("{name}.json")))
    }

    fn record(&self, place: &Path, name: &str) -> Result<Option<Record>, CapabilityError> {
        match stagewright_files::read(place, stagewright_files::RECORD) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
                CapabilityError::new(ErrorCode::Internal, format!("the record of artifact `{name}` is damaged"))
                    .caused_by(&error)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed_at("look up", name, &error)),
        }
    }
}

/// Opens a content that has the `expected` digest.
fn open_undamaged(name: &str, expected: &str, blob: &Path) -> Result<fs::File, CapabilityError> {
    let failed = |error: io::Error| failed_at("fetch", name, &error);
    let mut content = stagewright_files::open(blob).map_err(failed)?;
    let (digest, _) = copy_and_digest(&mut content, &mut io::sink()).map_err(failed)?;
    require_undamaged(name, expected, &digest)?;
    io::Seek::rewind(&mut content).map_err(failed)?;
    Ok(content)
}

fn require_undamaged(name: &str, expected: &str, digest: &str) -> Result<(), CapabilityError> {
    if digest == expected {
        return Ok(());
    }
    let message = format!("artifact `{name}` is damaged: its digest is {digest} instead of {expected}");
    Err(CapabilityError::new(ErrorCode::Internal, message).with_help("rerun the stage that publishes it"))
}

/// The path of a content.
fn blob(root: &Path, digest: &str) -> PathBuf {
    root.join("blobs").join(digest.replacen(':', "/", 1))
}

/// Whether the text can be used as a file name: it has no separators, and doesn't begin with a dot.
fn can_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !text.is_empty() && !text.starts_with('.') && text.chars().all(fits)
}

/// The folder for archives that aren't complete.
fn draft_folder(root: &Path) -> io::Result<&Path> {
    fs::create_dir_all(root)?;
    Ok(root)
}

/// A temporary file in the folder of `place`, which is created if it doesn't exist.
fn draft_beside(place: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = place.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    tempfile::NamedTempFile::new_in(folder)
}

/// The artifacts of all runs, for a cache that restores a stage's artifacts without running it.
#[derive(Clone, Debug)]
pub struct ArtifactFolder {
    /// The same folder as [`HostConfig::artifacts`](crate::HostConfig::artifacts).
    pub root: PathBuf,
}

impl ArtifactFolder {
    /// All artifacts that a run has published.
    ///
    /// # Errors
    /// When a record can't be read.
    pub fn published(&self, run: &RunId) -> io::Result<Vec<Published>> {
        Ok(self.all(run)?.into_iter().map(|artifact| artifact.published).collect())
    }

    /// The same with the stages that published them.
    ///
    /// # Errors
    /// When a record can't be read.
    pub fn all(&self, run: &RunId) -> io::Result<Vec<NamedArtifact>> {
        let mut found = Vec::new();
        for path in entries(&self.root.join("runs").join(&run.0))? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else { continue };
            let record: Record = serde_json::from_slice(&stagewright_files::read(&path, stagewright_files::RECORD)?)?;
            found.push(record.named(name));
        }
        Ok(found)
    }

    /// Gives a run the artifacts of another one, under their names and as those of the same stages.
    ///
    /// # Errors
    /// When a record can't be read or written.
    pub fn inherit(&self, from: &RunId, to: &RunId) -> io::Result<()> {
        let _shared = locked(&self.root, fs::File::lock_shared)?;
        for NamedArtifact { published, stage } in self.all(from)? {
            let Published { name, digest, media_type, size } = published;
            let place = Artifacts::new(self.root.clone(), to.0.clone(), stage.clone()).place(&name);
            Artifacts::name(&place.map_err(io::Error::other)?, &Record { digest, media_type, size, stage })?;
        }
        Ok(())
    }

    /// The path of the content with this digest.
    pub fn content(&self, digest: &str) -> PathBuf {
        blob(&self.root, digest)
    }

    /// Publishes the file `content`, whose digest must be that of the artifact.
    ///
    /// # Errors
    /// When the digest differs, the name is invalid, or reading or writing fails.
    pub fn publish(&self, run: &RunId, stage: &str, artifact: &Published, content: &Path) -> io::Result<()> {
        let artifacts = Artifacts::new(self.root.clone(), run.0.clone(), stage.to_owned());
        let place = artifacts.place(&artifact.name).map_err(io::Error::other)?;
        let record = artifacts.keep(&mut stagewright_files::open(content)?, &place, &artifact.media_type)?;
        if record.digest == artifact.digest {
            return Ok(());
        }
        // The content is damaged, so no stage may fetch it by this name.
        fs::remove_file(&place)?;
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("artifact `{}` is damaged", artifact.name)))
    }
}

/// What [`remove_runs`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovedArtifacts {
    /// Contents that no run refers to any more.
    pub blobs: u64,
    /// The size of these contents in bytes.
    pub bytes: u64,
}

/// Removes the artifacts of runs, and the contents that no other run refers to. `root` is [`HostConfig::artifacts`].
///
/// May be called while other runs publish; they wait until it returns.
///
/// # Errors
/// When something can't be read or removed. If a record can't be read, no content is removed, since it may be the one that
/// the record refers to.
///
/// [`HostConfig::artifacts`]: crate::HostConfig::artifacts
pub fn remove_runs(root: &Path, runs: &[RunId]) -> io::Result<RemovedArtifacts> {
    let _alone = locked(root, fs::File::lock)?;
    for run in runs {
        if !can_name(&run.0) {
            let message = format!("invalid run name `{run}`");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        match remove_tree(&root.join("runs").join(&run.0)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let mut named = BTreeSet::new();
    for run in entries(&root.join("runs"))? {
        for path in entries(&run)? {
            // A temporary file that a killed stage left.
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let record: Record = serde_json::from_slice(&stagewright_files::read(&path, stagewright_files::RECORD)?)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display())))?;
            named.insert(record.digest);
        }
    }
    let mut removed = RemovedArtifacts::default();
    for blob in entries(&root.join("blobs/sha256"))? {
        let name = blob.file_name().unwrap_or_default().to_string_lossy();
        if named.contains(&format!("sha256:{name}")) {
            continue;
        }
        let size = fs::metadata(&blob)?.len();
        fs::remove_file(&blob)?;
        removed.blobs += 1;
        removed.bytes += size;
    }
    Ok(removed)
}

/// Locks the folder until the returned file is dropped. Publishing takes the lock shared, removing contents takes it
/// exclusively: a content is stored before a record refers to it, and in between, a removal would take it for one that no
/// run needs.
fn locked(root: &Path, how: fn(&fs::File) -> io::Result<()>) -> io::Result<fs::File> {
    fs::create_dir_all(root)?;
    let file = fs::File::options().create(true).append(true).open(root.join("lock"))?;
    how(&file)?;
    Ok(file)
}

/// The entries of a folder; empty when it doesn't exist.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]
mod tests;
