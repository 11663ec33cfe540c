//! `process`: native programs, as far as they are granted.
//!
//! A child gets a cleared environment, a process group of its own, and a task here that carries its output to the log
//! and to the guest. No child outlives its attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stagewright_engine::Stream;
use stagewright_model::{Interface, PROXY_VARIABLES, VariableName};
use stagewright_process::{Child, Command, ExitStatus, Group, Source, which};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::effects::Effects;
use super::secrets::SecretHandle;
use super::workspace::Workspace;
use crate::attempt::AttemptContext;
use crate::confine::{Blueprint, Confined};
use crate::error::{CapabilityError, ErrorCode};
use crate::limits::Bytes;
use crate::log::{AttemptLog, LineWriter};
use crate::mask::{MaskStream, Reader};
use crate::policy::Policy;
use crate::rehearsal::Rehearsal;

/// Children of one attempt at a time.
const CHILDREN: usize = 256;
/// How long the tasks of killed children may take to hand over what was in the pipes.
const COLLECT: Duration = Duration::from_secs(1);

/// A command to be.
#[derive(Clone, Debug, Default)]
pub struct CommandBuilder {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    env: BTreeMap<String, String>,
    /// Names in `env` whose values are the guest's own, and no secret's.
    own: BTreeSet<String>,
    pub(crate) current_dir: Option<String>,
    pub(crate) stdin: Option<Vec<u8>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) capture: Option<u32>,
    pub(crate) quiet: bool,
    /// What a builder method could not answer itself.
    refused: Option<CapabilityError>,
}

impl CommandBuilder {
    pub(crate) fn new(program: String) -> CommandBuilder {
        CommandBuilder { program, ..CommandBuilder::default() }
    }

    pub(crate) fn env(&mut self, name: String, value: String) {
        self.own.insert(name.clone());
        self.env.insert(name, value);
    }

    pub(crate) fn secret_env(&mut self, name: String, secret: &SecretHandle) {
        match secret.for_program(&self.program) {
            Ok(value) => {
                self.env.insert(name, value.to_owned());
            }
            Err(error) => {
                self.refused.get_or_insert(error);
            }
        }
    }
}

/// Captured bytes of a child that may wait for the guest.
const UNREAD: u32 = 1 << 20;

/// A piece of captured output.
type Chunk = (Source, Vec<u8>);

/// How a child ended, for all who wait for it.
#[derive(Clone, Debug)]
enum End {
    Exited(ExitStatus),
    TimedOut(Duration),
    Lost(String),
}

/// A running child, as its guest knows it.
#[derive(Debug)]
pub struct ChildHandle {
    program: String,
    group: Group,
    end: watch::Receiver<Option<End>>,
    captured: Option<mpsc::UnboundedReceiver<Chunk>>,
    room: Room,
    /// Bytes that the guest asked for, when there were more.
    overflow: watch::Receiver<Option<u32>>,
}

/// What may still wait for the guest of [`UNREAD`] bytes. Once it is closed, all captured output may: the guest reads no
/// more of it.
type Room = Arc<Semaphore>;

impl Drop for ChildHandle {
    fn drop(&mut self) {
        self.room.close();
    }
}

impl ChildHandle {
    /// Resolves when it has ended. Until then all that it prints is captured, though the guest takes none of it.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.room.close();
        let mut end = self.end.clone();
        // An error means that the child's task is gone, and the child with it: an end as well.
        async move { drop(end.wait_for(Option::is_some).await) }
    }

    pub(crate) fn kill(&self) {
        self.group.kill();
    }

    pub(crate) async fn wait(&mut self) -> Result<ExitStatus, CapabilityError> {
        self.room.close();
        let end = match self.end.wait_for(Option::is_some).await {
            Ok(end) => end.clone(),
            Err(_) => None,
        };
        let program = &self.program;
        match end {
            Some(End::Exited(status)) => Ok(status),
            Some(End::TimedOut(limit)) => Err(CapabilityError::new(
                ErrorCode::DeadlineExceeded,
                format!("`{program}` took longer than {limit:?} and was killed"),
            )),
            Some(End::Lost(why)) => {
                Err(CapabilityError::new(ErrorCode::Internal, format!("`{program}` was lost: {why}")))
            }
            None => Err(self.stopped()),
        }
    }

    /// The end of a child whose stage was asked to stop before it ended: one that didn't succeed was stopped.
    pub(crate) fn unless_stopped(
        &self,
        ended: Result<ExitStatus, CapabilityError>,
    ) -> Result<ExitStatus, CapabilityError> {
        match ended {
            Ok(ExitStatus { code: Some(0), signal: None }) => ended,
            _ => Err(self.stopped()),
        }
    }

    fn stopped(&self) -> CapabilityError {
        CapabilityError::new(ErrorCode::Cancelled, format!("`{}` was stopped with its stage", self.program))
    }

    pub(crate) async fn next_chunk(&mut self) -> Result<Option<Chunk>, CapabilityError> {
        let program = &self.program;
        let Some(captured) = &mut self.captured else {
            let message = format!("the output of `{program}` isn't captured");
            return Err(
                CapabilityError::new(ErrorCode::FailedPrecondition, message).with_help("call `capture` before `spawn`")
            );
        };
        if let Some(chunk) = captured.recv().await {
            self.room.add_permits(permits(&chunk.1) as usize);
            return Ok(Some(chunk));
        }
        match *self.overflow.borrow() {
            None => Ok(None),
            Some(limit) => {
                let limit = Bytes(limit.into());
                let message = format!("`{program}` wrote more than the {limit} that were to be captured");
                Err(CapabilityError::new(ErrorCode::ResourceExhausted, message))
            }
        }
    }
}

/// Starts children, and sees to it that none is left.
pub(crate) struct Processes {
    policy: Arc<Policy>,
    workspace: Workspace,
    /// Where programs start, and what their relative paths begin at.
    root: PathBuf,
    log: AttemptLog,
    /// See [`program_environment`]: before what a command sets itself.
    environment: BTreeMap<String, String>,
    effects: Effects,
    /// Whether a program can have effects beyond the stage: then the first is announced.
    reaches_out: bool,
    rehearsal: Rehearsal,
    /// None where programs run without a sandbox.
    blueprint: Option<Blueprint>,
    confined: Option<Confined>,
    groups: Groups,
    tasks: JoinSet<()>,
}

/// The process groups of an attempt's children: for those who have to stop them while the guest is busy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups(Arc<Mutex<Vec<(Group, Room)>>>);

impl Groups {
    fn add(&self, group: Group, room: Room) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((group, room));
    }

    /// SIGTERM to all.
    pub(crate) fn interrupt(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|(group, _)| group.interrupt());
    }

    /// SIGKILL to all. Their last output isn't held up by a guest that doesn't take it.
    pub(crate) fn kill(&self) {
        for (group, room) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            group.kill();
            room.close();
        }
    }
}

impl Processes {
    pub(crate) fn for_attempt(attempt: &AttemptContext<'_>) -> Processes {
        let config = attempt.config();
        let mut environment = program_environment(
            &config.environment,
            attempt.program_policy.inherited_variables(),
            &attempt.request.env,
        );
        if config.sandbox.is_some() {
            without_proxy_credentials(&mut environment);
        }
        Processes {
            policy: attempt.policy.clone(),
            workspace: attempt.workspace.clone(),
            // In a sandbox the files are where the workspace is, whatever folder they come from.
            root: if config.sandbox.is_some() { config.workspace.clone() } else { attempt.files.clone() },
            log: attempt.log.clone(),
            environment,
            effects: attempt.effects.clone(),
            reaches_out: attempt.programs_reach_out(),
            rehearsal: attempt.rehearsal.clone(),
            blueprint: Blueprint::for_attempt(attempt),
            confined: None,
            groups: Groups::default(),
            tasks: JoinSet::new(),
        }
    }

    pub(crate) fn groups(&self) -> Groups {
        self.groups.clone()
    }

    pub(crate) async fn spawn(&mut self, command: CommandBuilder) -> Result<ChildHandle, CapabilityError> {
        let CommandBuilder { program, args, env, own, current_dir, stdin, timeout, capture, quiet, refused } = command;
        self.policy.program(&program, &args, own.iter())?;
        if let Some(refused) = refused {
            return Err(refused);
        }
        if quiet && capture.is_none() {
            return Err(CapabilityError::new(
                ErrorCode::InvalidArgument,
                format!("the output of `{program}` would go nowhere: `quiet` needs `capture`"),
            ));
        }
        if let Some(what) = self.rehearsal.withholds_program(&program, &args, self.blueprint.is_some()) {
            return self.rehearsal.withhold(what).await;
        }
        while self.tasks.try_join_next().is_some() {}
        if self.tasks.len() >= CHILDREN {
            let message = format!("the stage runs {CHILDREN} processes already");
            return Err(CapabilityError::new(ErrorCode::ResourceExhausted, message).with_help("wait for some of them"));
        }
        let current_dir = match current_dir {
            Some(path) => {
                let folder = self.workspace.off_thread(move |files| files.folder(&path)).await?;
                self.root.join(folder.as_path())
            }
            None => self.root.clone(),
        };
        let mut environment = self.environment.clone();
        // By a `PATH` of the guest's, any file that it may write would be the program that was granted.
        let found = self.find(&program, environment.get("PATH").map_or("", String::as_str))?;
        environment.extend(env);
        self.confine().await?;
        if let Some(confined) = &self.confined {
            environment.extend(confined.network.variables.iter().cloned());
        }
        let command = Command { program: found, args, env: environment.into_iter().collect(), current_dir, stdin };
        if self.reaches_out {
            self.effects.announce(&format!("run {program}")).await?;
        }
        let spawned = match &self.confined {
            Some(confined) => confined.sandbox.spawn(command),
            None => command.spawn(),
        };
        let child = spawned.map_err(|error| {
            let code = if error.is_not_found() { ErrorCode::NotFound } else { ErrorCode::FailedPrecondition };
            CapabilityError::new(code, error.to_string()).with_help(error.help())
        })?;
        Ok(self.watch(program, child, timeout, capture, quiet))
    }

    /// Makes the sandbox, if there is to be one and there is none yet.
    async fn confine(&mut self) -> Result<(), CapabilityError> {
        if let (Some(blueprint), None) = (&self.blueprint, &self.confined) {
            self.confined = Some(blueprint.build(&self.environment).await?);
        }
        Ok(())
    }

    /// A name is looked up in `PATH`; a path is relative to the workspace.
    fn find(&self, program: &str, path_variable: &str) -> Result<PathBuf, CapabilityError> {
        if program.contains('/') && !Path::new(program).is_absolute() {
            return Ok(self.root.join(program));
        }
        which(program, path_variable).ok_or_else(|| {
            let message = format!("the program `{program}` is not there: looked in PATH ({path_variable})");
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
        timeout: Option<Duration>,
        capture: Option<u32>,
        quiet: bool,
    ) -> ChildHandle {
        let (group, room) = (child.group(), Room::new(Semaphore::new(UNREAD as usize)));
        self.groups.add(group.clone(), room.clone());
        let (end_sender, end) = watch::channel(None);
        let (overflow_sender, overflow) = watch::channel(None);
        let (capture, captured) =
            capture.map(|limit| Capture::new(limit, &self.log, room.clone(), overflow_sender)).unzip();
        let lines = (!quiet).then(|| (self.log.lines(Stream::Stdout), self.log.lines(Stream::Stderr)));
        let deadline = timeout.and_then(|timeout| Some((Instant::now().checked_add(timeout)?, timeout)));
        let bounds = self.confined.as_ref().map(|confined| confined.bounds.clone());
        self.tasks.spawn(async move {
            let end = carry(child, deadline, lines, capture).await;
            if let (End::Lost(_), Some(bounds)) = (&end, bounds) {
                bounds.judge();
            }
            end_sender.send_replace(Some(end));
        });
        ChildHandle { program, group, end, captured, room, overflow }
    }

    /// Kills what still runs, and waits until its last output has been written.
    pub(crate) async fn finish(&mut self) {
        self.groups.kill();
        let collected = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(COLLECT, collected).await.is_err() {
            // Dropping the children kills their groups once more, and collects them.
            self.tasks.shutdown().await;
        }
        if let Some(confined) = self.confined.take() {
            // What keeps on living after that is the kernel's to end; nothing of it can be reached any more.
            confined.end(COLLECT).await;
            if let Some(blueprint) = &self.blueprint {
                blueprint.report_repositories(&self.log).await;
            }
        }
    }
}

/// The environment of a stage's programs, before what the plugin adds: of the engine's own, `inherited`, what every
/// program has and what is granted, and the stage's `env` table.
pub(crate) fn program_environment(
    inherited: &BTreeMap<String, String>,
    granted: &[VariableName],
    stage: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let names = Interface::Process
        .inherited_variables()
        .iter()
        .map(|variable| variable.name)
        .chain(granted.iter().map(VariableName::as_str));
    let mut environment: BTreeMap<String, String> =
        names.filter_map(|name| Some((name.to_owned(), inherited.get(name)?.clone()))).collect();
    environment.extend(stage.iter().map(|(name, value)| (name.clone(), value.clone())));
    environment
}

/// What proxies the machine has, without who asks them: a confined program asks the engine's own.
pub(crate) fn without_proxy_credentials(environment: &mut BTreeMap<String, String>) {
    for (name, value) in environment {
        if PROXY_VARIABLES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy)) {
            let (scheme, rest) = value.split_once("://").map_or(("", value.as_str()), |(scheme, rest)| (scheme, rest));
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            *value = if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") };
        }
    }
}

/// Hands output to the guest, up to a number of bytes, without the secrets that it may not read.
struct Capture {
    sender: mpsc::UnboundedSender<Chunk>,
    unread: Room,
    masks: [MaskStream; 2],
    limit: u32,
    room: usize,
    overflow: watch::Sender<Option<u32>>,
}

impl Capture {
    /// The queue has no bound of its own: `unread` bounds what waits in it, and once that is closed, `limit`.
    fn new(
        limit: u32,
        log: &AttemptLog,
        unread: Room,
        overflow: watch::Sender<Option<u32>>,
    ) -> (Capture, mpsc::UnboundedReceiver<Chunk>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let masks = [(); 2].map(|()| MaskStream::new(log.masker().clone(), Reader::Guest));
        (Capture { sender, unread, masks, limit, room: limit as usize, overflow }, receiver)
    }

    async fn push(&mut self, source: Source, data: &[u8]) {
        let mut masked = Vec::new();
        self.masks[index(source)].push(data, &mut masked);
        self.send(source, masked).await;
    }

    async fn finish(&mut self) {
        for source in [Source::Stdout, Source::Stderr] {
            let mut rest = Vec::new();
            self.masks[index(source)].finish(&mut rest);
            self.send(source, rest).await;
        }
    }

    async fn send(&mut self, source: Source, mut data: Vec<u8>) {
        if data.len() > self.room {
            data.truncate(self.room);
            self.overflow.send_replace(Some(self.limit));
        }
        self.room -= data.len();
        if !data.is_empty() {
            if let Ok(room) = self.unread.acquire_many(permits(&data)).await {
                room.forget();
            }
            // A guest that dropped the child doesn't want it.
            let _ = self.sender.send((source, data));
        }
    }
}

/// How much of the room a piece takes.
fn permits(data: &[u8]) -> u32 {
    u32::try_from(data.len()).unwrap_or(UNREAD).min(UNREAD)
}

fn index(source: Source) -> usize {
    match source {
        Source::Stdout => 0,
        Source::Stderr => 1,
    }
}

/// Carries a child's output until it ends, and says how it ended.
async fn carry(
    mut child: Child,
    deadline: Option<(Instant, Duration)>,
    mut lines: Option<(LineWriter, LineWriter)>,
    mut capture: Option<Capture>,
) -> End {
    let group = child.group();
    let expiry = async {
        match deadline {
            Some((moment, _)) => sleep_until(moment).await,
            None => std::future::pending().await,
        }
    };
    let mut expiry = std::pin::pin!(expiry);
    let mut expired = false;
    let status = loop {
        let chunk = tokio::select! {
            chunk = child.next_chunk() => chunk,
            () = &mut expiry, if !expired => {
                expired = true;
                group.kill();
                continue;
            }
        };
        let Some((source, data)) = chunk else {
            // Both streams can end before the process does.
            tokio::select! {
                status = child.wait() => break status,
                () = &mut expiry, if !expired => {
                    expired = true;
                    group.kill();
                    break child.wait().await;
                }
            }
        };
        let mut taken = std::pin::pin!(async {
            match (&mut lines, source) {
                (Some((stdout, _)), Source::Stdout) => stdout.push(&data).await,
                (Some((_, stderr)), Source::Stderr) => stderr.push(&data).await,
                (None, _) => {}
            }
            if let Some(capture) = &mut capture {
                capture.push(source, &data).await;
            }
        });
        tokio::select! {
            biased;
            () = &mut taken => {}
            () = &mut expiry, if !expired => {
                expired = true;
                group.kill();
                taken.await;
            }
        }
    };
    if let Some(capture) = &mut capture {
        capture.finish().await;
    }
    if let Some((stdout, stderr)) = &mut lines {
        stdout.finish().await;
        stderr.finish().await;
    }
    match (status, deadline) {
        (Ok(_), Some((_, limit))) if expired => End::TimedOut(limit),
        (Ok(status), _) => End::Exited(status),
        (Err(error), _) => End::Lost(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
