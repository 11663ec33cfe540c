//! Stores the result of an attempt: the files at its `outputs`, provided that nothing it could read has changed.

use std::io;
use std::os::unix::ffi::OsStrExt as _;

use stagewright_engine::{AttemptReport, AttemptRequest};

use crate::content;
use crate::digest::Digest;
use crate::inner::CacheRunner;
use crate::keying::{CacheKey, DeclaredPaths};
use crate::recorded_output::Recorder;
use crate::scan::{EntryKind, ScannedEntry};
use crate::store::{CachedResult, LastWork};
use crate::tree::{Tree, TreeNode};
use crate::witness::{AttemptWatch, is_unchanged_when_reread, open_for_writing};

impl CacheRunner {
    /// Stores the result of an attempt.
    ///
    /// # Errors
    /// With the reason why the result can't be stored.
    pub(crate) fn keep(
        &self,
        request: &AttemptRequest,
        keyed: &CacheKey,
        watched: &AttemptWatch,
        report: &AttemptReport,
        recorder: &Recorder,
    ) -> io::Result<()> {
        let _shared = self.store.lock(std::fs::File::lock_shared)?;
        self.refuse_changed(keyed, watched)?;
        let (found, files) = self.outputs(&keyed.named)?;
        for file in &found {
            self.add_output(file, files.0.get(&file.path))?;
        }
        self.refuse_others(keyed, watched)?;
        for artifact in &report.artifacts {
            let digest =
                Digest::parse(&artifact.digest).ok_or_else(|| io::Error::other("an artifact has no digest"))?;
            self.store.add_file(&digest, || stagewright_files::open(&self.config.machine.content(&artifact.digest)))?;
        }
        let said = match recorder.finish()? {
            Some((file, digest)) => {
                self.store.add_file(&digest, || stagewright_files::open(file.path()))?;
                Some(digest)
            }
            None => None,
        };
        let (_, key) = keyed.own();
        let entry = CachedResult {
            key: *key,
            run: request.run.clone(),
            outputs: report.outputs.clone(),
            files: files.0,
            artifacts: report.artifacts.clone(),
            said,
        };
        self.store.set_latest(&keyed.stage, key)?;
        self.store.keep(&entry)
    }

    /// Fails if the stage could have read anything that differs from what its key was computed from.
    fn refuse_changed(&self, keyed: &CacheKey, watched: &AttemptWatch) -> io::Result<()> {
        let changed = |path: &str| Err(io::Error::other(format!("its inputs changed while it ran: `{path}`")));
        let reserved = self.reserved(&keyed.named);
        let workspace = self.workspace(&reserved);
        let (found, files) = self.inputs(&keyed.named)?;
        if let Some(path) = files.differing(&keyed.files).first() {
            return changed(path);
        }
        if let Some(path) = watched.witness.first_changed(&found) {
            return changed(path);
        }
        let written = watched.written.as_deref().or_else(|| open_for_writing(&self.config.workspace, &found));
        if let Some(path) = written {
            let why = format!("another process has its input `{path}` open for writing, so changes may go undetected");
            return Err(io::Error::other(why));
        }
        match is_unchanged_when_reread(&workspace, &found, &keyed.files)? {
            true => Ok(()),
            false => Err(io::Error::other("its inputs were changed in place while it ran")),
        }
    }

    /// Fails if the files in the paths that the stage may write could be another's work. Must be called after the outputs
    /// have been added to the store: another run of the stage registers its key before it changes any file, so a run
    /// whose changes could have been read as outputs is registered by then.
    fn refuse_others(&self, keyed: &CacheKey, watched: &AttemptWatch) -> io::Result<()> {
        if let Some(path) = keyed.foreign.first_changed(&self.config.workspace) {
            return Err(io::Error::other(format!(
                "a file that it could read and write changed while it ran: `{path}`"
            )));
        }
        // The missing claim tells of a run that started before this one, the missing key of one that started later.
        let is_alone = keyed.named.writes.bases().is_empty()
            || watched.claim.is_some() && self.store.worked(&keyed.stage) == LastWork::WithKey(keyed.base_key);
        if is_alone { Ok(()) } else { Err(io::Error::other("another run of it wrote to the same paths meanwhile")) }
    }

    /// The files at the stage's `outputs`, and the folders there that it names and may create.
    pub(crate) fn outputs(&self, named: &DeclaredPaths) -> io::Result<(Vec<ScannedEntry>, Tree)> {
        let workspace = self.workspace(&self.config.reserved);
        let mut found = workspace.find(&named.outputs)?;
        found.retain(|file| named.outputs.name(&file.path));
        found.retain(|file| file.kind != EntryKind::Folder || named.writes.matches(&file.path));
        if let Some(file) = found.iter().find(|file| !named.writes.matches(&file.path)) {
            let why = format!("`{}` is one of its outputs, but its permissions don't let it write there", file.path);
            return Err(io::Error::other(why));
        }
        let files = workspace.read(&found)?;
        Ok((found, files))
    }

    fn add_output(&self, file: &ScannedEntry, node: Option<&TreeNode>) -> io::Result<()> {
        let path = self.config.workspace.join(&file.path);
        match node {
            // The content is checked against the digest while it is copied, so a file that another stage replaces
            // meanwhile isn't stored as this one's.
            Some(TreeNode::File { digest, .. }) => self.store.add_file(digest, || content::open(&path, &file.stamp)),
            Some(TreeNode::Link { .. }) => {
                self.store.add_bytes(content::target(&path, &file.stamp)?.as_bytes()).map(drop)
            }
            Some(TreeNode::Folder { .. }) | None => Ok(()),
        }
    }
}
