//! Reads, compares and writes `stagewright.lock` at the repository's root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use stagewright_model::{Lock, LockChange, LockedPipeline, Origin, PackageManager, Plan, PluginPin};
use stagewright_plugin_host::{DEFAULT_BOUNDS, Description, PackageHosts};

use crate::error::SessionError;
use crate::repository::{LOCK_FILE, Repository, document};
use crate::session::Session;

/// The result of comparing a plan with the lock file.
#[derive(Clone, Debug)]
pub enum Compared {
    /// The lock file doesn't exist.
    NoLock,
    /// The lock file doesn't contain the pipeline.
    NotLocked,
    /// The differences; empty if there are none.
    Changes(Vec<LockChange>),
}

impl Compared {
    /// What the plan may do and the lock doesn't say.
    pub fn wider(&self) -> impl Iterator<Item = &LockChange> {
        let changes = match self {
            Compared::Changes(changes) => changes.as_slice(),
            Compared::NoLock | Compared::NotLocked => &[],
        };
        changes.iter().filter(|change| change.is_wider)
    }
}

/// Reads the lock file; none if it doesn't exist. A damaged one is an error, because its content was never reviewed.
pub(crate) fn read(session: &Session) -> Result<Option<Lock>, SessionError> {
    let path = session.repository.root.join(LOCK_FILE);
    let text = match document(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| SessionError::not_ready(format!("can't read {LOCK_FILE}")).caused_by(error))?,
    };
    let lock = Lock::parse(LOCK_FILE, &text).map_err(|mistakes| {
        session.notices.diagnostics(&mistakes.iter().collect::<Vec<_>>());
        let line = mistakes.iter().next().map_or(1, |first| first.position().0);
        SessionError::not_ready(format!("{LOCK_FILE}:{line}: the file was edited or damaged, so it can't be trusted"))
            .hint(
                "restore it from git, or review the pipelines' permissions and write it again with `stagewright lock`",
            )
    })?;
    Ok(Some(lock))
}

/// The origins of package hosts in a pipeline's lock; empty if it has no valid lock.
pub(crate) fn package_hosts(repository: &Repository, pipeline: &str) -> BTreeMap<PackageManager, BTreeSet<Origin>> {
    let text = document(&repository.root.join(LOCK_FILE));
    let lock = text.ok().and_then(|text| Lock::parse(LOCK_FILE, &text).ok());
    let locked = lock.and_then(|mut lock| lock.pipelines.remove(pipeline));
    locked.map(|locked| locked.package_hosts).unwrap_or_default()
}

/// The permissions and plugins of a plan. `plugins` is indexed by plan index.
pub(crate) fn of(plan: &Plan, plugins: &[Arc<Description>], packages: &PackageHosts) -> LockedPipeline {
    let pins = plugins.iter().map(|plugin| PluginPin {
        digest: plugin.digest.clone(),
        wit: plugin.contract.clone(),
        imports: plugin.imports.interfaces().map(str::to_owned).collect(),
    });
    LockedPipeline::of(plan, &pins.collect::<Vec<_>>(), packages.open())
}

pub(crate) fn compare(
    lock: Option<&Lock>,
    plan: &Plan,
    plugins: &[Arc<Description>],
    packages: &PackageHosts,
) -> Compared {
    match lock.map(|lock| lock.pipelines.get(&plan.name)) {
        None => Compared::NoLock,
        Some(None) => Compared::NotLocked,
        Some(Some(locked)) => Compared::Changes(locked.changes(&of(plan, plugins, packages), &DEFAULT_BOUNDS)),
    }
}

/// Replaces the lock file atomically: a concurrent reader sees either the old or the new content.
pub(crate) fn write(repository: &Repository, text: &str) -> Result<(), SessionError> {
    let failed = |error: std::io::Error| SessionError::internal(format!("can't write {LOCK_FILE}")).caused_by(error);
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix(".stagewright.lock-").permissions(Permissions::from_mode(0o666));
    let mut file = builder.tempfile_in(&repository.root).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(repository.root.join(LOCK_FILE)).map_err(|error| failed(error.error))?;
    Ok(())
}
