//! The thread that all children are forked from.
//!
//! A parent-death signal is tied to the *thread* that forked, not to its process: a child forked from a worker that a
//! runtime retires would be killed with it. This thread never ends before the process does.
//!
//! The signal has to be set between fork and exec, which rules out `posix_spawn`. That costs the copy of the engine's
//! page tables for each child.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

struct Request {
    command: Command,
    answer: mpsc::SyncSender<io::Result<Child>>,
}

static REQUESTS: Mutex<Option<mpsc::Sender<Request>>> = Mutex::new(None);

/// Starts a child that the kernel kills when this process ends, however it ends.
pub(crate) fn spawn(mut command: Command) -> io::Result<Child> {
    die_with_parent(&mut command, getpid());
    let (answer, answered) = mpsc::sync_channel(1);
    let lost = || io::Error::other("the thread that starts processes is gone");
    requests()?.send(Request { command, answer }).map_err(|_| lost())?;
    answered.recv().map_err(|_| lost())?
}

/// Collects a child that was killed, so that it doesn't stay a zombie, without waiting for it here.
pub(crate) fn reap(mut child: Child) {
    if matches!(child.try_wait(), Ok(None)) {
        // Without a thread the zombie stays until this process ends; there is nobody to tell.
        let _ = thread::Builder::new().name("reaper".to_owned()).spawn(move || child.wait());
    }
}

fn requests() -> io::Result<mpsc::Sender<Request>> {
    let mut slot = REQUESTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = &*slot {
        return Ok(sender.clone());
    }
    let (sender, receiver) = mpsc::channel::<Request>();
    thread::Builder::new().name("spawner".to_owned()).spawn(move || {
        for mut request in receiver {
            // Nobody waits only when the caller's thread died; dropping the child's pipes is all that is left to do.
            let _ = request.answer.send(request.command.spawn());
        }
    })?;
    Ok(slot.insert(sender).clone())
}

fn die_with_parent(command: &mut Command, parent: Pid) {
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the line above took hold.
        if getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
    };
    // SAFETY: the closure makes two system calls and neither allocates nor locks.
    unsafe { command.pre_exec(prepare) };
}
