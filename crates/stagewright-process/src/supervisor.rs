//! Services that outlive the engine: one detached supervisor process each.
//!
//! ```text
//! start ── service.json ──> DIR          supervise(DIR), in a session of its own
//!   └───── environment, by pipe ───────>   └── the program, in its own group
//! status, log_tail <── state.json, service.log ──┘
//! stop ── SIGTERM ─────────────────────>   SIGTERM to the group, after the grace SIGKILL
//! ```
//!
//! The supervisor is this binary again, with a hidden subcommand whose body is [`supervise`]. It restarts a program
//! that exits unasked: after 0.1 s, doubling to 10 s, until the program has stayed up for a minute; five exits within
//! a minute and it gives up.
//!
//! The environment may hold secrets, so it goes over a pipe and is never on disk. The price: after a reboot nothing can
//! start the service again but a new deploy.
//!
//! When the supervisor is killed the program's group is killed with it. Whether a process is still the one that was
//! recorded is decided by its start time and the machine's boot, never by its number alone.
//!
//! Every function here blocks for file access, [`stop`] for up to the grace.

mod body;
mod listen;
mod log;
mod network;
mod root;
mod state;

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use body::supervise;
pub use listen::{Holder, Listening, listening, port_holder};
pub use log::log_tail;
pub use root::{ServiceRoot, Volume};
pub use state::{Phase, ProcessId, Status};

use crate::command::{Command, SpawnError};
use crate::reap::reap;
use crate::shield;
use state::read_state;

/// The hidden subcommand, followed by the service's folder.
pub const SUBCOMMAND: &str = "__supervise";

/// How long a supervisor may take to report for the first time.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long a supervisor may take, beyond the grace, to end.
const STOP_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// What a supervisor keeps running: `service.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceSpec {
    /// Absolute.
    pub program: PathBuf,
    /// Without the program's name.
    pub args: Vec<String>,
    /// Must exist.
    pub current_dir: PathBuf,
    /// Between SIGTERM and SIGKILL.
    pub grace_ms: u64,
    /// For a program that is to reach nothing: it gets a network with a loopback and nothing else, and this port of it
    /// is reached at a free one of this machine's loopback, [`Status::port`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_network: Option<u16>,
    /// Where the supervisor listens for a program that accepts the connections: it gets the listening socket as its
    /// standard input. While the program is started again, connections wait in the socket's backlog. With port 0, a free
    /// one: [`Status::port`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// The files of an image as its root, in which the program and the current folder are then; none for the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<ServiceRoot>,
}

/// Why a supervisor could not be started, queried or stopped.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SupervisorError {
    #[error("`{}`: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("`{}` is not readable: {source}", path.display())]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("a supervisor is already at work in `{}`", dir.display())]
    Busy { dir: PathBuf },
    #[error("the supervisor in `{}` ended before it reported: {words}", dir.display())]
    EndedEarly { dir: PathBuf, words: String },
    #[error("the supervisor in `{}` did not report within {} s", dir.display(), START_LIMIT.as_secs())]
    Silent { dir: PathBuf },
    #[error("process {pid} of the service in `{}` could not be stopped", dir.display())]
    Unstoppable { dir: PathBuf, pid: u32 },
}

impl SupervisorError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> SupervisorError + use<> {
        let path = path.to_owned();
        |source| SupervisorError::File { path, source }
    }
}

/// Starts a supervisor for `spec` in the folder `dir`, which is made if need be, by running `exe __supervise DIR`.
///
/// Returns once the supervisor has reported: the program runs, or could not be started and the status says why.
pub fn start(exe: &Path, dir: &Path, spec: &ServiceSpec, env: &[(String, String)]) -> Result<Status, SupervisorError> {
    fs::create_dir_all(dir).map_err(SupervisorError::file(dir))?;
    if status(dir)?.is_some_and(|status| status.phase != Phase::Exited) {
        return Err(SupervisorError::Busy { dir: dir.to_owned() });
    }
    let stale = state::path(dir);
    match fs::remove_file(&stale) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(SupervisorError::file(&stale)(error)),
        _ => {}
    }
    state::write_json(&spec_path(dir), spec)?;
    let mut supervisor = launch(exe, dir)?;
    let id = supervisor.id();
    if let Some(mut pipe) = supervisor.stdin.take() {
        // If the write fails, the supervisor has ended. `await_report` then returns what it wrote to its log, which
        // explains more than a broken pipe.
        let _ = serde_json::to_vec(env).map_err(io::Error::from).and_then(|text| pipe.write_all(&text));
    }
    let reported = await_report(&mut supervisor, dir, id);
    if reported.is_err() {
        let _ = supervisor.kill();
    }
    reap(supervisor);
    reported
}

/// The status of the service in `dir`; none if none was ever started there. If the supervisor was killed before it
/// could report its end, the service counts as exited.
pub fn status(dir: &Path) -> Result<Option<Status>, SupervisorError> {
    let Some(mut status) = read_state(dir)? else { return Ok(None) };
    if status.phase != Phase::Exited && !status.supervisor.is_alive() {
        status.phase = Phase::Exited;
        status.failure = Some("the supervisor is gone: it was killed, or the machine was restarted".to_owned());
    }
    Ok(Some(status))
}

/// Whether the service in `dir` would run if its supervisor hadn't been killed, or the machine restarted.
pub fn is_lost(dir: &Path) -> Result<bool, SupervisorError> {
    Ok(read_state(dir)?.is_some_and(|status| status.phase != Phase::Exited && !status.supervisor.is_alive()))
}

/// Stops the service in `dir` and its supervisor: SIGTERM, and after the spec's grace SIGKILL. Succeeds if
/// nothing is running.
pub fn stop(dir: &Path) -> Result<(), SupervisorError> {
    let Some(status) = read_state(dir)? else { return Ok(()) };
    let spec = read_spec(dir)?;
    status.supervisor.terminate();
    if status.supervisor.wait_gone(Duration::from_millis(spec.grace_ms) + STOP_LIMIT) {
        return Ok(());
    }
    // The state is read again: the program may have been restarted since.
    let latest = read_state(dir)?.unwrap_or(status);
    latest.supervisor.kill();
    if let Some(child) = latest.child {
        child.kill_group();
    }
    let survivor = [Some(latest.supervisor), latest.child].into_iter().flatten().find(|id| !id.wait_gone(STOP_LIMIT));
    match survivor {
        Some(id) => Err(SupervisorError::Unstoppable { dir: dir.to_owned(), pid: id.pid }),
        None => Ok(()),
    }
}

/// The environment that the service's program was started with; none when it isn't running. Read from the kernel, the
/// only place that has it.
pub fn running_environment(dir: &Path) -> Result<Option<Vec<(String, String)>>, SupervisorError> {
    Ok(status(dir)?.filter(|status| status.phase != Phase::Exited).and_then(|status| status.child?.environment()))
}

/// The spec that the service in `dir` was last started with.
pub fn read_spec(dir: &Path) -> Result<ServiceSpec, SupervisorError> {
    let path = spec_path(dir);
    let text = stagewright_files::read(&path, stagewright_files::RECORD).map_err(SupervisorError::file(&path))?;
    serde_json::from_slice(&text).map_err(|source| SupervisorError::Malformed { path, source })
}

fn launch(exe: &Path, dir: &Path) -> Result<std::process::Child, SupervisorError> {
    let words_path = words_path(dir);
    let open = || OpenOptions::new().create(true).append(true).open(&words_path);
    let (stdout, stderr) =
        open().and_then(|out| Ok((out.try_clone()?, out))).map_err(SupervisorError::file(&words_path))?;
    let command = Command {
        program: exe.to_owned(),
        args: vec![SUBCOMMAND.to_owned(), dir.display().to_string()],
        current_dir: dir.to_owned(),
        ..Command::default()
    };
    let mut native = command.native()?;
    native.stdin(Stdio::piped()).stdout(stdout).stderr(stderr);
    let prepare = || {
        rustix::process::setsid()?;
        shield::restore_limits()
    };
    // SAFETY: the closure makes system calls and neither allocates nor locks.
    unsafe { native.pre_exec(prepare) };
    Ok(native.spawn().map_err(|error| command.explain(error))?)
}

fn await_report(supervisor: &mut std::process::Child, dir: &Path, id: u32) -> Result<Status, SupervisorError> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        // Checked before the state is read: a supervisor that gave up at once has written its state before it ended.
        // In the other order, it could write and end between the two, and its report would be missed.
        let ended = !matches!(supervisor.try_wait(), Ok(None));
        if let Some(status) = read_state(dir)?
            && status.supervisor.pid == id
            && status.phase != Phase::Starting
        {
            return Ok(status);
        }
        if ended {
            let words = stagewright_files::read_text(&words_path(dir), stagewright_files::RECORD).unwrap_or_default();
            return Err(SupervisorError::EndedEarly { dir: dir.to_owned(), words: words.trim().to_owned() });
        }
        if Instant::now() > deadline {
            return Err(SupervisorError::Silent { dir: dir.to_owned() });
        }
        thread::sleep(POLL);
    }
}

fn spec_path(dir: &Path) -> PathBuf {
    dir.join("service.json")
}

/// The supervisor's own output.
fn words_path(dir: &Path) -> PathBuf {
    dir.join("supervisor.log")
}
