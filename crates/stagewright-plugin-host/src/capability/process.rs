//! `process`: native programs that are granted.
//!
//! A child gets a cleared environment, a process group of its own, and a task here that forwards its output to the log and
//! to the guest. No child outlives its attempt.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stagewright_engine::{Level, Problem, Stream};
use stagewright_process::sandbox::FileObservation;
use stagewright_process::{Child, Command, Group, which};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::effects::Effects;
use super::workspace::WorkspaceFiles;
use crate::attempt::AttemptContext;
use crate::confine::{Blueprint, Confined};
use crate::denial::{FailedProgram, FailureEvidence, OutputTail, RefusalSearch};
use crate::error::{CapabilityError, ErrorCode};
use crate::learner::Evidence;
use crate::log::AttemptLog;
use crate::policy::Policy;
use crate::rehearsal::Rehearsal;

mod child;
mod command;
mod environment;
mod output;

pub use child::ChildHandle;
pub use command::CommandBuilder;
pub(crate) use environment::program_environment;
use environment::without_proxy_credentials;
use output::{ChildEnd, OutputCapture, Room, UNREAD, carry};

/// The most children of one attempt at a time.
const CHILDREN: usize = 256;
/// The most failed programs whose failures are explained: the last ones.
const FAILED: usize = 8;
/// How long the tasks of killed children may take to forward the rest of their output.
const COLLECT: Duration = Duration::from_secs(1);

/// Starts children, and kills those that still run when the attempt ends.
pub(crate) struct Processes {
    policy: Arc<Policy>,
    workspace: WorkspaceFiles,
    /// The working directory of programs, and the base of their relative paths.
    root: PathBuf,
    log: AttemptLog,
    /// The environment of all commands (see [`program_environment`]), to which each adds its own variables.
    environment: BTreeMap<String, String>,
    effects: Effects,
    /// Whether a program can have effects beyond the stage, so that each start must be announced first.
    reaches_out: bool,
    rehearsal: Rehearsal,
    /// None when programs run without a sandbox.
    blueprint: Option<Blueprint>,
    confined: Option<Confined>,
    /// Whether programs run without a sandbox because of the stage, which isn't in the log yet.
    warns_of_missing_sandbox: bool,
    groups: Groups,
    tasks: JoinSet<()>,
    failed: FailedPrograms,
    refusals: RefusalSearch,
    /// What was observed of the programs, once they have ended.
    observations: Vec<FileObservation>,
}

/// The programs of an attempt that failed within its sandbox; clones share them.
#[derive(Clone, Debug, Default)]
struct FailedPrograms(Arc<Mutex<VecDeque<FailedProgram>>>);

impl FailedPrograms {
    fn add(&self, failed: FailedProgram) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back(failed);
        let surplus = known.len().saturating_sub(FAILED);
        known.drain(..surplus);
    }

    fn outputs(&self) -> Vec<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|failed| failed.output.clone()).collect()
    }

    fn take(&self) -> Vec<FailedProgram> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

/// The process groups of an attempt's children, to stop them while the guest is busy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups(Arc<Mutex<Vec<(Group, Room)>>>);

impl Groups {
    fn add(&self, group: Group, room: Room) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((group, room));
    }

    /// Sends SIGTERM to all groups.
    pub(crate) fn interrupt(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|(group, _)| group.interrupt());
    }

    /// Sends SIGKILL to all groups. From then on a guest that doesn't read can't hold up their last output.
    pub(crate) fn kill(&self) {
        for (group, room) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            group.kill();
            room.close();
        }
    }
}

fn unsandboxed() -> Problem {
    let message = "the programs of this stage run without a sandbox (`sandbox = \"off\"`): they can use all files and the \
                   network of the user who runs the pipeline";
    Problem::new(Level::Warning, "unsandboxed", message.to_owned())
}

impl Processes {
    pub(crate) fn for_attempt(attempt: &AttemptContext<'_>) -> Processes {
        let config = attempt.config();
        let mut environment = program_environment(
            &config.environment,
            attempt.program_policy.inherited_variables(),
            &attempt.request.env,
        );
        let is_sandboxed = attempt.sandbox().is_some();
        if is_sandboxed {
            without_proxy_credentials(&mut environment);
        }
        let refusals = RefusalSearch::new(
            attempt.program_policy.clone(),
            config.workspace.clone(),
            &environment,
            &config.environment,
        );
        Processes {
            policy: attempt.policy.clone(),
            workspace: attempt.workspace.clone(),
            // In a sandbox, the files are always mounted at the workspace's path, even if they are a capture.
            root: if is_sandboxed { config.workspace.clone() } else { attempt.files.clone() },
            log: attempt.log.clone(),
            environment,
            effects: attempt.effects.clone(),
            reaches_out: attempt.programs_reach_out(),
            rehearsal: attempt.rehearsal.clone(),
            blueprint: Blueprint::for_attempt(attempt),
            confined: None,
            warns_of_missing_sandbox: attempt.request.permissions.unsandboxed && !is_sandboxed,
            groups: Groups::default(),
            tasks: JoinSet::new(),
            failed: FailedPrograms::default(),
            refusals,
            observations: Vec::new(),
        }
    }

    pub(crate) fn groups(&self) -> Groups {
        self.groups.clone()
    }

    pub(crate) async fn spawn(&mut self, command: CommandBuilder) -> Result<ChildHandle, CapabilityError> {
        let CommandBuilder { program, args, env, own, current_dir, stdin, timeout, capture, quiet, read_only, refused } =
            command;
        self.policy.program(&program, &args, own.iter())?;
        if let Some(refused) = refused {
            return Err(refused);
        }
        if quiet && capture.is_none() {
            return Err(CapabilityError::new(
                ErrorCode::InvalidArgument,
                format!("the output of `{program}` would be lost: `quiet` requires `capture`"),
            ));
        }
        if let Some(what) = self.rehearsal.withholds_program(&program, &args, self.blueprint.is_some()) {
            return self.rehearsal.withhold(what).await;
        }
        while self.tasks.try_join_next().is_some() {}
        if self.tasks.len() >= CHILDREN {
            let message = format!("could not start `{program}`: the stage already runs {CHILDREN} programs");
            return Err(CapabilityError::new(ErrorCode::ResourceExhausted, message).with_help("wait for some to end"));
        }
        let current_dir = match current_dir {
            Some(path) => {
                let folder = self.workspace.off_thread(move |files| files.folder(&path)).await?;
                self.root.join(folder.as_path())
            }
            None => self.root.clone(),
        };
        let mut environment = self.environment.clone();
        // The program is looked up before the command's own variables are added. If its `PATH` counted, a guest could put a
        // file of its own under the name of a granted program into a folder that it may write, and start that.
        let found = self.find(&program, environment.get("PATH").map_or("", String::as_str))?;
        let set = env.keys().cloned().collect::<BTreeSet<_>>();
        environment.extend(env);
        // The sandbox is created before the effect is announced. Creating it can fail, and an attempt that announced an
        // effect which it then couldn't have would have to be observed after a crash for no reason.
        self.confine().await?;
        if let Some(confined) = &self.confined {
            environment.extend(confined.network.variables.iter().cloned());
            environment.extend(confined.network.trust.iter().filter(|(name, _)| !set.contains(name)).cloned());
        }
        if std::mem::take(&mut self.warns_of_missing_sandbox) {
            self.log.output().problem(unsandboxed()).await;
        }
        let folder = current_dir.clone();
        let command = Command { program: found, args, env: environment.into_iter().collect(), current_dir, stdin };
        // The promise counts for `observe` alone, where it allows nothing but to ask the target. In `run`, an intent that
        // a plugin could leave out would be worth nothing.
        let only_asks = read_only && self.effects.is_observing();
        if self.reaches_out && !only_asks {
            self.effects.announce(&format!("run {program}")).await?;
        }
        let spawned = match &self.confined {
            Some(confined) => confined.sandbox.spawn(command),
            None => command.spawn(),
        };
        let child = spawned.map_err(|error| {
            let code = if error.is_not_found() { ErrorCode::NotFound } else { ErrorCode::FailedPrecondition };
            let complaint = if error.is_not_executable() { "Permission denied" } else { "No such file or directory" };
            // The working directory can be what is missing in the sandbox.
            let folder_missing = format!("'{}': No such file or directory", folder.display());
            self.failed(&folder, format!("'{program}': {complaint}\n{folder_missing}"));
            CapabilityError::new(code, error.to_string()).with_help(error.help())
        })?;
        Ok(self.watch(program, child, folder, timeout, capture, quiet))
    }

    /// Creates the sandbox, if programs run in one and it doesn't exist yet.
    async fn confine(&mut self) -> Result<(), CapabilityError> {
        if let (Some(blueprint), None) = (&self.blueprint, &self.confined) {
            self.confined = Some(blueprint.build(&self.environment).await?);
        }
        Ok(())
    }

    /// The file of a program: a name is looked up in `PATH`, a path is relative to the workspace.
    fn find(&self, program: &str, path_variable: &str) -> Result<PathBuf, CapabilityError> {
        if program.contains('/') && !Path::new(program).is_absolute() {
            return Ok(self.root.join(program));
        }
        which(program, path_variable).ok_or_else(|| {
            let message = format!("program `{program}` not found in PATH ({path_variable})");
            // A bare name never means a file of the workspace, which a stage may have written.
            let help = match self.root.join(program).is_file() {
                true => format!("to start the workspace's file, write `./{program}`, in `process` as well"),
                false => format!("install `{program}`, or set PATH in the stage's `env`"),
            };
            CapabilityError::new(ErrorCode::NotFound, message).with_help(help)
        })
    }

    fn watch(
        &mut self,
        program: String,
        child: Child,
        folder: PathBuf,
        timeout: Option<Duration>,
        capture: Option<u64>,
        quiet: bool,
    ) -> ChildHandle {
        let (group, room) = (child.group(), Room::new(Semaphore::new(UNREAD as usize)));
        self.groups.add(group.clone(), room.clone());
        let (end_sender, end) = watch::channel(None);
        let (overflow_sender, overflow) = watch::channel(None);
        let (capture, captured) =
            capture.map(|limit| OutputCapture::new(limit, &self.log, room.clone(), overflow_sender)).unzip();
        let lines = (!quiet).then(|| (self.log.lines(Stream::Stdout), self.log.lines(Stream::Stderr)));
        let deadline = timeout.and_then(|timeout| Some((Instant::now().checked_add(timeout)?, timeout)));
        let limits = self.confined.as_ref().map(|confined| confined.limit_watcher.clone());
        let (failed, view) = (self.failed.clone(), self.confined.as_ref().map(|confined| confined.view.clone()));
        self.tasks.spawn(async move {
            let mut tails = <[OutputTail; 2]>::default();
            let end = carry(child, deadline, lines, capture, &mut tails).await;
            if let (ChildEnd::Exited(status), Some(view)) = (&end, view)
                && status.code != Some(0)
            {
                failed.add(FailedProgram { output: tails.map(|tail| tail.text()).join("\n"), folder, view });
            }
            // A child is lost when its sandbox dies with it, which also happens when the sandbox exceeded a limit. The
            // attempt must be aborted with that limit before the guest learns of the loss: a guest that got an error first
            // could return it as its own.
            if let (ChildEnd::Lost(_), Some(limits)) = (&end, limits) {
                limits.judge();
            }
            end_sender.send_replace(Some(end));
        });
        ChildHandle { program, group, end, captured, room, overflow }
    }

    /// Takes what was observed of the programs.
    pub(crate) fn evidence(&mut self) -> Evidence {
        Evidence {
            observations: std::mem::take(&mut self.observations),
            root: self.root.clone(),
            environment: self.environment.clone(),
            machine: self.blueprint.as_ref().map(Blueprint::machine).unwrap_or_default(),
            complaints: self.failed.outputs(),
        }
    }

    /// What the stage's programs may do.
    pub(crate) fn policy(&self) -> &Policy {
        &self.refusals.policy
    }

    /// Remembers a program that could not be started in the sandbox. `complaint`: why, as the program itself would say.
    fn failed(&self, folder: &Path, complaint: String) {
        if let Some(confined) = &self.confined {
            let view = confined.view.clone();
            self.failed.add(FailedProgram { output: complaint, folder: folder.to_owned(), view });
        }
    }

    /// Why the programs of a failed attempt failed, as far as their output shows it.
    pub(crate) async fn refusals(&self) -> FailureEvidence {
        let (failed, search) = (self.failed.take(), self.refusals.clone());
        let found = self.workspace.off_thread(move |files| Ok(search.refusals(&failed, files)));
        // An explanation that can't be found isn't worth another failure.
        found.await.unwrap_or_default()
    }

    /// Kills the children that still run, and waits until their last output has been written.
    pub(crate) async fn finish(&mut self) {
        self.groups.kill();
        let collected = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(COLLECT, collected).await.is_err() {
            // Dropping the children kills their groups once more, and reaps them.
            self.tasks.shutdown().await;
        }
        if let Some(confined) = self.confined.take() {
            self.observations = confined.sandbox.observations();
            // A process that survives this is stuck in the kernel, and dies as soon as it leaves it; it can't have effects
            // any more.
            confined.end(COLLECT).await;
            if let Some(blueprint) = &self.blueprint {
                blueprint.report_repositories(&self.log).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
