//! Learning runs: stages get more than their grants on a copy of the workspace, and what they use is noted.
//!
//! A learning run is a rehearsal with a wider plan. Everything that keeps a rehearsal on this machine keeps it there, too:
//! secrets are stand-ins, sockets and ports of the machine are closed, and of the network there are package hosts. What is
//! wider is the workspace, of which the programs have a copy to read, write and start programs from, and the programs of
//! the machine. The plan is widened here and nowhere else, before the policy of the operator is compared with it.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stagewright_engine::{RunId, RunSource};
use stagewright_model::{
    Imports as _, Interface, NetRule, NetTarget, PackageManager, Permission, Permissions, Plan, Rehearse, Stage,
    StageIndex, Trust,
};
use stagewright_plugin_host::{Description, Learning, Requirement};

use crate::blocking::blocking;
use crate::error::SessionError;
use crate::git;
use crate::host::Host;
use crate::notice::Notice;
use crate::packages;
use crate::reserved::reserved;
use crate::secrets::DeclaredSecrets;
use crate::session::Session;

/// The name of the copy in the folder of a run's stand-ins.
const COPY: &str = "workspace";
/// What programs never see of a git directory, or see in the repository itself.
const NOT_COPIED_OF_GIT: [&str; 6] = ["FETCH_HEAD", "config", "config.worktree", "hooks", "logs", "objects"];

/// A learning run's copy of the workspace. Dropping it removes the copy.
pub(crate) struct WorkspaceCopy {
    folder: PathBuf,
    pub(crate) learning: Arc<Learning>,
}

impl Drop for WorkspaceCopy {
    fn drop(&mut self) {
        if let Err(error) = stagewright_files::remove_tree(&self.folder.join(COPY)) {
            tracing::warn!(%error, "could not remove the copy of the workspace");
        }
        // It holds stand-ins if the run had any.
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Refuses to continue or repeat a learning run: its stages would have the grants that it had, on the workspace itself.
pub(crate) fn refuse_again(run: &RunId, source: &RunSource) -> Result<(), SessionError> {
    if !source.learning {
        return Ok(());
    }
    Err(SessionError::invalid_request(format!(
        "run {run} learned what its stages use, and can't be continued or repeated"
    ))
    .hint("start another one: stagewright run --learn"))
}

/// The hosts that programs may reach beside package hosts.
///
/// # Errors
/// If one isn't an origin, or is one of this machine, whose services learning keeps closed.
pub(crate) fn allowed_hosts(named: &[String]) -> Result<Vec<NetRule>, SessionError> {
    let rule = |name: &String| {
        let rule: NetRule = name.parse().map_err(|error| {
            SessionError::invalid_request(format!("--allow-host {name}: {error}"))
                .hint("as in --allow-host example.org")
        })?;
        let is_own = match rule.target() {
            NetTarget::Packages(_) => false,
            NetTarget::Socket(_) => true,
            NetTarget::Origin(origin) => origin.on_loopback().is_some() || origin.is_any_loopback_port(),
        };
        if is_own {
            let message = format!("--allow-host {name}: services of this machine stay closed while stages learn");
            return Err(SessionError::invalid_request(message)
                .hint("grant it by hand in `net`, and let the other stages learn with --only"));
        }
        Ok(rule)
    };
    named.iter().map(rule).collect()
}

/// Gives the stages of a plan what they have while they learn. Returns the stages that are left out, each with the reason.
pub(crate) async fn widen(
    session: &Session,
    plan: &mut Plan,
    hosts: &[NetRule],
) -> Result<Vec<(StageIndex, String)>, SessionError> {
    let host = Host::for_inspection(session, plan).await?;
    let (described, required) = (host.describe_all(plan).await?, host.requirements(plan).await?);
    let indices: Vec<StageIndex> = plan.indices().collect();
    let mut left_out = Vec::new();
    for (stage, (plugin, required)) in plan.stages.iter_mut().zip(described.iter().zip(&required)) {
        stage.permissions = Arc::new(wide(stage, plugin, required, hosts)?);
        stage.rehearse = Some(Arc::new(rehearse(stage, hosts)));
    }
    for (index, stage) in indices.into_iter().zip(&plan.stages) {
        if let Some(environment) = &stage.environment {
            left_out.push((index, format!("it acts on `{}`, which a learning run never does", environment.name)));
        } else if stage.trust != Trust::Component {
            left_out.push((index, "its plugin is a native library, which can't be observed".to_owned()));
        }
    }
    packages::note_credentials(&session.repository.root, plan);
    Ok(left_out)
}

fn wide(
    stage: &Stage,
    plugin: &Description,
    required: &[Requirement],
    hosts: &[NetRule],
) -> Result<Permissions, SessionError> {
    let mut granted = stage.permissions.as_ref().clone();
    granted.socket.clear();
    granted.service.clear();
    for Requirement { permission, entry, .. } in required {
        let kind = Permission::ALL.into_iter().find(|kind| kind.key() == permission);
        let kind = kind.filter(|kind| !matches!(kind, Permission::Socket | Permission::Service | Permission::Net));
        // What isn't known before the run is denied when it happens, and learned from that.
        if let Some(kind) = kind.filter(|_| !entry.contains("${{")) {
            let _ = granted.insert(kind, entry);
        }
    }
    let mut all = Vec::new();
    if plugin.imports.has(Interface::Process) {
        all.extend([(Permission::Process, "*"), (Permission::Exec, ".")]);
        all.extend(PackageManager::ALL.map(|manager| (Permission::Net, manager.word())));
        all.extend(hosts.iter().map(|rule| (Permission::Net, rule.as_str())));
    }
    if plugin.imports.has(Interface::Process) || plugin.imports.has(Interface::Workspace) {
        all.extend([(Permission::Read, "."), (Permission::Write, ".")]);
    }
    for (kind, entry) in all {
        granted.insert(kind, entry).map_err(|error| SessionError::internal(format!("`{entry}`: {error}")))?;
    }
    Ok(granted)
}

/// The terms of the rehearsal: programs are started, with the allowed hosts as the only real way out.
fn rehearse(stage: &Stage, hosts: &[NetRule]) -> Rehearse {
    let outputs = stage.rehearse.as_ref().and_then(|own| own.outputs.clone());
    let granted = Permissions { net: hosts.to_vec(), ..Permissions::default() };
    Rehearse { with: None, outputs, permissions: Some(Arc::new(granted)) }
}

/// Copies the workspace, without what no stage may reach.
pub(crate) async fn copy(session: &Session, run: &RunId, plan: &Plan) -> Result<WorkspaceCopy, SessionError> {
    session.notices.notice(&Notice::CopyingWorkspace);
    let (session, run) = (session.clone(), run.clone());
    let secret_files = DeclaredSecrets::of(plan, &session.repository).files();
    blocking(move || {
        let repository = &session.repository;
        let checkout = git::files(repository)?;
        let folder = repository.rehearsals().join(&run.0);
        let failed = |error| {
            SessionError::not_ready("can't copy the workspace")
                .caused_by(error)
                .hint("make room for a copy below the state folder, or choose another one with --state FOLDER")
        };
        let skips = Skips::new(&session, &secret_files)?;
        stagewright_files::private_folder(&folder).map_err(failed)?;
        let files = folder.join(COPY);
        // If the copy fails, dropping this removes what was copied so far.
        let mut copy = WorkspaceCopy { folder, learning: Arc::default() };
        let copied = stagewright_files::copy_tree(&repository.root, &files, |path, identity| skips.has(path, identity))
            .map_err(failed)?;
        session.notices.notice(&Notice::CopiedWorkspace {
            files: copied.files.len(),
            bytes: copied.bytes,
            shares_blocks: copied.shares_blocks,
        });
        let checkout = checkout.unwrap_or_else(|| copied.files.into_iter().collect());
        copy.learning = Arc::new(Learning { files, checkout });
        Ok(copy)
    })
    .await
}

/// What isn't copied.
struct Skips {
    root: PathBuf,
    paths: BTreeSet<PathBuf>,
    /// Device and inode of the same, which may have more names.
    identities: BTreeSet<(u64, u64)>,
}

impl Skips {
    fn new(session: &Session, secret_files: &BTreeSet<PathBuf>) -> Result<Skips, SessionError> {
        let root = session.repository.root.clone();
        let closed = reserved(&session.repository, secret_files)?.closed_paths().map_err(|error| {
            SessionError::internal("can't determine the files that stages must not reach").caused_by(error)
        })?;
        // Of git directories, programs see the history.
        let paths = closed.into_iter().map(PathBuf::from).filter(|path| !is_of_git(&root.join(path)));
        let paths: BTreeSet<PathBuf> = paths.collect();
        let found = paths.iter().filter_map(|path| root.join(path).symlink_metadata().ok());
        Ok(Skips { identities: found.map(|file| (file.dev(), file.ino())).collect(), paths, root })
    }

    fn has(&self, path: &Path, identity: (u64, u64)) -> bool {
        let is_part_of_git = || {
            let names = path.file_name().and_then(|name| name.to_str());
            names.is_some_and(|name| NOT_COPIED_OF_GIT.contains(&name))
                && path.parent().is_some_and(|folder| is_git_directory(&self.root.join(folder)))
        };
        self.paths.contains(path) || self.identities.contains(&identity) || is_part_of_git()
    }
}

fn is_git_directory(folder: &Path) -> bool {
    folder.join("HEAD").is_file() && folder.join("objects").is_dir()
}

/// Whether it is a git directory or a file that leads to one.
fn is_of_git(path: &Path) -> bool {
    is_git_directory(path) || (path.ends_with(".git") && !path.is_dir())
}
