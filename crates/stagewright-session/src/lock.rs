//! Updates the lock file.

use std::collections::BTreeMap;

use stagewright_model::{Lock, LockChange};
use stagewright_plugin_host::DEFAULT_BOUNDS;

use crate::error::SessionError;
use crate::host::Host;
use crate::load::Pipeline;
use crate::lock_file;
use crate::packages;
use crate::repository::{LOCK_FILE, PipelineFile};
use crate::session::Session;

/// An update of the lock file.
pub struct LockUpdate {
    session: Session,
    old: Lock,
    new: Lock,
    /// The files of the pipelines added so far, by pipeline.
    files: BTreeMap<String, String>,
}

/// The differences between a pipeline and the lock file before the update.
#[derive(Clone, Debug)]
pub struct LockedChanges {
    /// The pipeline.
    pub pipeline: String,
    /// Its file.
    pub file: String,
    /// Whether the lock file didn't contain it.
    pub is_new: bool,
    /// The differences.
    pub changes: Vec<LockChange>,
}

impl Session {
    /// Starts an update of the lock file. With `all` it will contain only the pipelines that are added; otherwise other
    /// pipelines in it are kept. With `replace` a damaged file is replaced.
    ///
    /// # Errors
    /// If the lock file can't be read.
    pub fn update_lock(&self, all: bool, replace: bool) -> Result<LockUpdate, SessionError> {
        let old = match lock_file::read(self) {
            Err(_) if all && replace => None,
            read => read?,
        };
        let old = old.unwrap_or_default();
        let new = if all { Lock::default() } else { old.clone() };
        Ok(LockUpdate { session: self.clone(), old, new, files: BTreeMap::new() })
    }
}

impl LockUpdate {
    /// Adds the current grants and plugins of a pipeline.
    ///
    /// # Errors
    /// If the pipeline or a plugin can't be read, or another pipeline has the same name.
    pub async fn add(&mut self, file: PipelineFile) -> Result<LockedChanges, SessionError> {
        let Pipeline { file, plan } = self.session.load(file)?;
        let other = self.files.insert(plan.name.clone(), file.name.clone()).filter(|other| *other != file.name);
        if let Some(other) = other {
            let message = format!("{other} and {} are both called `{}`", file.name, plan.name);
            return Err(SessionError::not_ready(message).hint("give each pipeline a unique `name`"));
        }
        let host = Host::for_inspection(&self.session, &plan).await?;
        packages::refuse_closed(&plan, host.packages())?;
        let locked = lock_file::of(&plan, &host.describe_all(&plan).await?, host.packages());
        let before = self.old.pipelines.get(&plan.name);
        let is_new = before.is_none();
        let changes = before.cloned().unwrap_or_default().changes(&locked, &DEFAULT_BOUNDS);
        self.new.pipelines.insert(plan.name.clone(), locked);
        Ok(LockedChanges { pipeline: plan.name, file: file.name, is_new, changes })
    }

    /// Pipelines in the lock file that no longer exist.
    pub fn gone(&self) -> impl Iterator<Item = &String> {
        self.old.pipelines.keys().filter(|name| !self.new.pipelines.contains_key(*name))
    }

    /// Whether the lock file is already up to date.
    pub fn is_current(&self) -> bool {
        self.new == self.old && self.session.repository.root.join(LOCK_FILE).is_file()
    }

    /// Writes the lock file.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self) -> Result<(), SessionError> {
        lock_file::write(&self.session.repository, &self.new.render())
    }
}
