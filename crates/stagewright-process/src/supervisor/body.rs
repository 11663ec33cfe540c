//! The supervisor process itself.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use super::log::Log;
use super::network;
use super::root::{Contained, RootMaker};
use super::state::{self, Phase, ProcessId, Status};
use super::{ServiceSpec, SupervisorError, read_spec};
use crate::child::Child;
use crate::command::Command;
use crate::exit_status::ExitStatus;
use crate::shield;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// A program that stayed up so long has started properly; exits are counted over the same time.
const SETTLED: Duration = Duration::from_secs(60);
const MOST_EXITS: usize = 5;

/// The body of the hidden subcommand: keeps the service in `dir` running until SIGTERM, or until it gives up. Returns
/// the exit code.
///
/// Reads the service's environment from standard input, and writes to standard error only when it can't begin; both
/// are where [`start`](super::start) put them. Must be called outside of any runtime.
pub fn supervise(dir: &Path) -> i32 {
    crate::command::name_this_process();
    let run = || {
        let spec = read_spec(dir).map_err(|error| error.to_string())?;
        // Before this process is hidden: of one that is, the files below `/proc` that set the users of a namespace are
        // root's.
        let forwarded = spec.own_network.map(network::enter).transpose().map_err(|error| error.to_string())?;
        let listener = spec.listen.map(listen).transpose()?;
        // What comes next may be secret.
        shield::hide().map_err(|error| format!("this process can't be kept from being dumped: {error}"))?;
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text).map_err(|error| format!("the environment can't be read: {error}"))?;
        let env = serde_json::from_slice(&text).map_err(|error| format!("the environment is malformed: {error}"))?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let forwarded_port = forwarded.as_ref().map(network::ForwardedPort::port);
            let port = forwarded_port.or(listener.as_ref().map(|(_, port)| *port));
            let _serving =
                forwarded.map(network::ForwardedPort::serve).transpose().map_err(|error| error.to_string())?;
            let listener = listener.map(|(listener, _)| listener);
            Supervisor::new(dir, spec, env, listener, port).map_err(|error| error.to_string())?.run().await
        })
    };
    match run() {
        Ok(()) => 0,
        Err(words) => {
            // The engine waits for a report, and reads this output if the supervisor ends without one.
            use io::Write as _;
            #[expect(clippy::disallowed_methods, reason = "it is a file, whose text is escaped where it is shown")]
            let _ = writeln!(io::stderr(), "{words}");
            1
        }
    }
}

/// How many connections may wait for a program that accepts them: as many as the kernel allows by default.
const BACKLOG: i32 = 4096;

/// Listens at an address, and returns the port.
fn listen(address: SocketAddr) -> Result<(OwnedFd, u16), String> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        // A second call changes the backlog, for which the standard library has a lower number.
        rustix::net::listen(&listener, BACKLOG)?;
        let port = listener.local_addr()?.port();
        Ok((OwnedFd::from(listener), port))
    };
    bind().map_err(|error: io::Error| format!("can't listen on {address}: {error}"))
}

struct Supervisor<'a> {
    dir: &'a Path,
    spec: ServiceSpec,
    env: Vec<(String, String)>,
    /// The standard input of the program, if it accepts connections.
    listener: Option<OwnedFd>,
    roots: RootMaker,
    status: Status,
    log: Log,
    term: Signal,
    interrupt: Signal,
}

/// The program of the service.
enum Supervised {
    Plain(Child),
    /// It has the root of an image.
    Contained(Contained),
}

impl Supervised {
    fn child(&mut self) -> &mut Child {
        match self {
            Supervised::Plain(child) => child,
            Supervised::Contained(contained) => &mut contained.child,
        }
    }

    /// Ends what is left of it.
    async fn end(self) {
        match self {
            Supervised::Plain(_) => {}
            Supervised::Contained(contained) => contained.end().await,
        }
    }
}

/// Why the program is not running any more.
enum End {
    Asked,
    ByItself(ExitStatus),
}

impl<'a> Supervisor<'a> {
    fn new(
        dir: &'a Path,
        spec: ServiceSpec,
        env: Vec<(String, String)>,
        listener: Option<OwnedFd>,
        port: Option<u16>,
    ) -> Result<Supervisor<'a>, SupervisorError> {
        let file = SupervisorError::file;
        // Before the first report, because the engine may send SIGTERM as soon as it has read it.
        let term = signal(SignalKind::terminate()).map_err(file(dir))?;
        let interrupt = signal(SignalKind::interrupt()).map_err(file(dir))?;
        let log = Log::open(dir).map_err(file(dir))?;
        let supervisor = ProcessId::of(std::process::id())
            .ok_or(io::ErrorKind::Unsupported.into())
            .map_err(file(Path::new("/proc")))?;
        let status = Status {
            phase: Phase::Starting,
            supervisor,
            child: None,
            restarts: 0,
            last_exit: None,
            failure: None,
            port,
        };
        let roots = RootMaker::new(dir);
        Ok(Supervisor { dir, spec, env, listener, roots, status, log, term, interrupt })
    }

    async fn run(mut self) -> Result<(), String> {
        let mut pace = Pace::default();
        loop {
            self.report(Phase::Starting, None)?;
            let mut program = match self.spawn() {
                Ok(program) => program,
                // Starting it again would fail too, because the release's files don't change.
                Err(words) => return self.give_up(words),
            };
            let since = Instant::now();
            self.report(Phase::Running, program.child().id().and_then(ProcessId::of))?;
            let end = self.follow(program.child()).await;
            program.end().await;
            let status = match end {
                End::Asked => return self.report(Phase::Exited, None),
                End::ByItself(status) => status,
            };
            self.status.last_exit = Some(status);
            let Some(delay) = pace.after_exit(Instant::now(), since) else {
                let words = format!("gave up after {MOST_EXITS} exits within {} s; last: {status}", SETTLED.as_secs());
                return self.give_up(words);
            };
            self.report(Phase::Starting, None)?;
            tokio::select! {
                () = sleep(delay) => self.status.restarts += 1,
                () = asked(&mut self.term, &mut self.interrupt) => return self.report(Phase::Exited, None),
            }
        }
    }

    /// The error is a sentence with its remedy.
    fn spawn(&mut self) -> Result<Supervised, String> {
        let command = Command {
            program: self.spec.program.clone(),
            args: self.spec.args.clone(),
            env: self.env.clone(),
            current_dir: self.spec.current_dir.clone(),
            stdin: None,
        };
        if let Some(root) = &self.spec.root {
            return self.roots.start(root, command).map(Supervised::Contained);
        }
        let child = match &self.listener {
            Some(listener) => command.spawn_listening(listener),
            None => command.spawn(),
        };
        child.map(Supervised::Plain).map_err(|error| format!("{error}; {}", error.help()))
    }

    /// Logs the program's output until it ends.
    async fn follow(&mut self, child: &mut Child) -> End {
        loop {
            tokio::select! {
                chunk = child.next_chunk() => match chunk {
                    // A full disk must not stop the service, so lines that can't be written are dropped.
                    Some((_, data)) => drop(self.log.append(&data)),
                    None => break,
                },
                () = asked(&mut self.term, &mut self.interrupt) => {
                    self.stop(child).await;
                    return End::Asked;
                }
            }
        }
        // A program may close both streams and continue to run.
        tokio::select! {
            status = child.wait() => End::ByItself(status.unwrap_or(ExitStatus { code: None, signal: None })),
            () = asked(&mut self.term, &mut self.interrupt) => {
                self.stop(child).await;
                End::Asked
            }
        }
    }

    async fn stop(&mut self, child: &mut Child) {
        child.interrupt();
        let ending = async {
            while let Some((_, data)) = child.next_chunk().await {
                drop(self.log.append(&data));
            }
            child.wait().await
        };
        let status = match timeout(Duration::from_millis(self.spec.grace_ms), ending).await {
            Ok(status) => status,
            Err(_) => {
                child.kill();
                child.wait().await
            }
        };
        self.status.last_exit = status.ok().or(self.status.last_exit);
    }

    fn report(&mut self, phase: Phase, child: Option<ProcessId>) -> Result<(), String> {
        self.status.phase = phase;
        self.status.child = child;
        state::write_json(&state::path(self.dir), &self.status).map_err(|error| error.to_string())
    }

    fn give_up(&mut self, words: String) -> Result<(), String> {
        self.status.failure = Some(words);
        self.report(Phase::Exited, None)
    }
}

async fn asked(term: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Decides when an exited program is restarted.
#[derive(Default)]
struct Pace {
    recent: VecDeque<Instant>,
    in_a_row: u32,
}

impl Pace {
    /// The delay before the restart; none if the supervisor should give up.
    fn after_exit(&mut self, now: Instant, started: Instant) -> Option<Duration> {
        if now.duration_since(started) >= SETTLED {
            self.in_a_row = 0;
        }
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|&exit| now.duration_since(exit) >= SETTLED) {
            self.recent.pop_front();
        }
        if self.recent.len() >= MOST_EXITS {
            return None;
        }
        let delay = FIRST_DELAY.saturating_mul(2_u32.saturating_pow(self.in_a_row)).min(LONGEST_DELAY);
        self.in_a_row += 1;
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_exits_within_a_minute_are_enough() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let delays: Vec<Option<u128>> = (0..5_u64)
            .map(|n| pace.after_exit(start + Duration::from_secs(n), start).map(|delay| delay.as_millis()))
            .collect();
        assert_eq!(delays, [Some(100), Some(200), Some(400), Some(800), None]);
    }

    #[test]
    fn slow_exits_reach_the_longest_delay_and_a_settled_program_starts_over() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut last = None;
        for n in 1..=9 {
            last = pace.after_exit(at(20 * n), at(20 * (n - 1)));
        }
        assert_eq!(last, Some(LONGEST_DELAY));
        assert_eq!(pace.after_exit(at(400), at(300)), Some(FIRST_DELAY));
    }
}
