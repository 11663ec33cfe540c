//! Supervised services. The supervisor is this test binary again: `__supervise DIR` makes the test harness run the one
//! test whose name holds the subcommand.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use stagewright_process::supervisor::{
    Listening, Phase, SUBCOMMAND, ServiceSpec, Status, SupervisorError, listening, log_tail, running_environment,
    start, status, stop, supervise,
};
use tempfile::TempDir;

use crate::{PATIENCE, alive, until};

#[test]
fn __supervise() {
    let mut args = std::env::args().skip_while(|arg| arg != SUBCOMMAND).skip(1);
    if let Some(dir) = args.next() {
        assert_eq!(supervise(Path::new(&dir)), 0);
    }
}

/// The processes above a service with the root of an image.
#[test]
#[expect(clippy::exit, reason = "a process that was forked doesn't have the harness's other threads")]
fn __sandbox() {
    if std::env::args().any(|arg| arg == stagewright_process::sandbox::SUBCOMMAND) {
        let done = stagewright_process::sandbox::run() == std::process::ExitCode::SUCCESS;
        std::process::exit(i32::from(!done));
    }
}

/// Listens until it is killed. A descendant of the service that left its group and its session, as some servers make.
#[test]
fn __listen() {
    if let Ok(address) = std::env::var("LISTEN") {
        let _ = rustix::process::setsid();
        let _listener = TcpListener::bind(address.parse::<SocketAddr>().unwrap()).unwrap();
        std::thread::park();
    }
}

/// Accepts connections on its standard input, and answers each with a line.
#[test]
fn __accept() {
    if std::env::var_os("ACCEPT").is_some() {
        let listener = TcpListener::from(rustix::stdio::stdin().try_clone_to_owned().unwrap());
        for connection in listener.incoming() {
            connection.unwrap().write_all(b"accepted\n").unwrap();
        }
    }
}

/// A script that listens on an address, in a process below the service's own.
fn listen_on(address: &str) -> String {
    let binary = std::env::current_exe().unwrap();
    format!("LISTEN={address} {} --exact supervisor::__listen & wait", binary.display())
}

#[test]
fn the_program_that_listens_at_a_port_is_the_service_or_it_is_not() {
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = foreign.local_addr().unwrap().port();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (service, _) = Service::start(&listen_on(&format!("0.0.0.0:{free}")), Duration::from_millis(100));
    let said = |port| listening(service.dir(), port).unwrap();
    until("the service listens", || said(free) == Listening::Service);
    match said(taken) {
        Listening::Other(Some(holder)) => assert_eq!(holder.pid, std::process::id()),
        other => panic!("{other:?}"),
    }
    drop(foreign);
    assert_eq!(said(taken), Listening::Nothing { elsewhere: vec![format!("0.0.0.0:{free}").parse().unwrap()] });
    stop(service.dir()).unwrap();
    assert_eq!(said(free), Listening::Nothing { elsewhere: Vec::new() });
}

#[test]
fn a_port_stays_open_while_the_program_that_accepts_connections_is_started_again() {
    let service = Service(tempfile::tempdir().unwrap());
    let binary = std::env::current_exe().unwrap();
    let script = format!("ACCEPT=1 exec {} --exact supervisor::__accept", binary.display());
    let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let status = service.start_with(&script, PATIENCE, listen).unwrap();
    let port = status.port.unwrap();
    let answer = || {
        let mut answer = String::new();
        TcpStream::connect(("127.0.0.1", port)).unwrap().read_to_string(&mut answer).map(|_| answer)
    };
    assert_eq!(answer().unwrap(), "accepted\n");
    let killed = crate::sh(&format!("kill -9 {}", status.child.unwrap().pid));
    assert!(stagewright_process::run_to_end(killed, PATIENCE).unwrap().status.success());
    until("the program is gone", || !status.child.unwrap().is_alive());
    // A thread of it that is still ending can take a connection along. None is refused, or `answer` would panic.
    until("the next program answers", || answer().is_ok_and(|answer| answer == "accepted\n"));
    assert_eq!(service.status().port, Some(port));

    let other = Service(tempfile::tempdir().unwrap());
    let taken = other.start_with(&script, PATIENCE, Some(SocketAddr::from(([127, 0, 0, 1], port)))).unwrap_err();
    assert!(taken.to_string().contains(&format!("can't listen on 127.0.0.1:{port}")), "{taken}");
    stop(service.dir()).unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_service_that_listens_on_ipv6_alone_is_not_at_its_address() {
    let Ok(probe) = TcpListener::bind("[::1]:0") else { return };
    let port = probe.local_addr().unwrap().port();
    drop(probe);
    let (service, _) = Service::start(&listen_on(&format!("[::1]:{port}")), Duration::from_millis(100));
    let six = Listening::Nothing { elsewhere: vec![format!("[::1]:{port}").parse().unwrap()] };
    until("the service listens", || listening(service.dir(), port).unwrap() == six);
}

/// Stops the service when a test ends, however it ends.
struct Service(TempDir);

impl Service {
    fn start(script: &str, grace: Duration) -> (Service, Status) {
        let service = Service(tempfile::tempdir().unwrap());
        let status = service.start_again(script, grace).unwrap();
        (service, status)
    }

    fn start_again(&self, script: &str, grace: Duration) -> Result<Status, SupervisorError> {
        self.start_with(script, grace, None)
    }

    fn start_with(&self, script: &str, grace: Duration, listen: Option<SocketAddr>) -> Result<Status, SupervisorError> {
        let spec = ServiceSpec {
            program: PathBuf::from("/bin/sh"),
            args: vec!["-c".to_owned(), script.to_owned()],
            current_dir: self.dir().to_owned(),
            own_network: None,
            listen,
            root: None,
            grace_ms: grace.as_millis().try_into().unwrap(),
        };
        let env = [("PATH", "/usr/bin:/bin"), ("TOKEN", "hunter2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        start(&std::env::current_exe().unwrap(), self.dir(), &spec, &env)
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn status(&self) -> Status {
        status(self.dir()).unwrap().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = stop(self.dir());
    }
}

/// The engine disables core dumps for itself, but not for deployed services.
#[test]
fn a_service_keeps_the_limit_on_cores_that_the_engine_was_started_with() {
    let limit = rustix::process::getrlimit(Resource::Core);
    let half = limit.maximum.unwrap_or(1 << 30) / 2;
    setrlimit(Resource::Core, Rlimit { current: Some(half), ..limit }).unwrap();
    stagewright_process::protect().unwrap();
    let (service, _) = Service::start("cat /proc/self/limits; exec sleep 600", PATIENCE);
    let said = || log_tail(service.dir(), 100).unwrap();
    until("it has logged", || said().contains("Max core file size"));
    let said = said();
    let line = said.lines().find(|line| line.contains("Max core file size")).unwrap();
    assert!(line.contains(&half.to_string()), "{line}");
}

#[test]
fn a_service_runs_logs_and_stops() {
    let (service, begun) = Service::start("echo hello; echo $TOKEN >&2; exec sleep 600", PATIENCE);
    assert_eq!(begun.phase, Phase::Running);
    until("it has logged", || log_tail(service.dir(), 9).unwrap().lines().count() == 2);
    let env = running_environment(service.dir()).unwrap().unwrap();
    assert!(env.contains(&("TOKEN".to_owned(), "hunter2".to_owned())), "{env:?}");

    stop(service.dir()).unwrap();
    let ended = service.status();
    assert_eq!((ended.phase, ended.last_exit.unwrap().signal), (Phase::Exited, Some(15)));
    assert!(!begun.supervisor.is_alive() && !begun.child.unwrap().is_alive());
    assert_eq!(running_environment(service.dir()).unwrap(), None);
    stop(service.dir()).unwrap();
}

#[test]
fn the_environment_is_never_written_to_disk() {
    let (service, _) = Service::start("exec sleep 600", PATIENCE);
    for entry in std::fs::read_dir(service.dir()).unwrap() {
        let path = entry.unwrap().path();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("hunter2"), "{}", path.display());
    }
}

#[test]
fn a_service_that_ignores_sigterm_is_killed_after_the_grace() {
    let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
    let (service, _) = Service::start(script, Duration::from_millis(200));
    until("it ignores SIGTERM", || log_tail(service.dir(), 1).unwrap() == "ready\n");
    stop(service.dir()).unwrap();
    assert_eq!(service.status().last_exit.unwrap().signal, Some(9));
}

#[test]
fn a_service_that_exits_is_started_again() {
    let script = "echo started; test -e again && exec sleep 600; touch again";
    let (service, _) = Service::start(script, PATIENCE);
    until("it runs for the second time", || {
        let status = service.status();
        status.restarts == 1 && status.phase == Phase::Running
    });
    let status = service.status();
    assert_eq!(status.last_exit.unwrap().code, Some(0));
    until("both starts are in the log", || log_tail(service.dir(), 9).unwrap() == "started\nstarted\n");
}

#[test]
fn the_supervisor_gives_up_on_a_service_that_keeps_exiting() {
    let (service, begun) = Service::start("echo no >&2; exit 7", PATIENCE);
    until("it is given up", || service.status().phase == Phase::Exited);
    let status = service.status();
    assert_eq!((status.restarts, status.last_exit.unwrap().code), (4, Some(7)));
    assert_eq!(status.failure.unwrap(), "gave up after 5 exits within 60 s; last: exit code 7");
    until("the supervisor is gone", || !begun.supervisor.is_alive());
    assert_eq!(log_tail(service.dir(), 9).unwrap().lines().count(), 5);
}

#[test]
fn stop_also_ends_a_supervisor_that_waits_to_restart() {
    let (service, begun) = Service::start("exit 1", PATIENCE);
    until("it has exited twice", || service.status().restarts >= 1);
    stop(service.dir()).unwrap();
    assert!(!begun.supervisor.is_alive());
    assert_eq!(service.status().phase, Phase::Exited);
}

#[test]
fn a_missing_program_is_reported_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let spec = ServiceSpec {
        program: PathBuf::from("/nonexistent/server"),
        args: Vec::new(),
        current_dir: dir.path().to_owned(),
        own_network: None,
        listen: None,
        root: None,
        grace_ms: 0,
    };
    let status = start(&std::env::current_exe().unwrap(), dir.path(), &spec, &[]).unwrap();
    assert_eq!((status.phase, status.restarts), (Phase::Exited, 0));
    let failure = status.failure.unwrap();
    assert!(failure.starts_with("program `/nonexistent/server` does not exist; "), "{failure}");
}

#[test]
fn a_killed_supervisor_takes_the_service_with_it() {
    let (service, begun) = Service::start("sleep 600 & echo $! > pid; exec sleep 600", PATIENCE);
    let (child, grandchild) = (begun.child.unwrap(), crate::pid_in(&service.dir().join("pid")));
    let killed = stagewright_process::run_to_end(crate::sh(&format!("kill -9 {}", begun.supervisor.pid)), PATIENCE);
    assert!(killed.unwrap().status.success());
    until("the program is gone", || !alive(&child.pid.to_string()) && !alive(&grandchild));
    until("the status knows", || service.status().phase == Phase::Exited);
    assert_eq!(
        service.status().failure.unwrap(),
        "the supervisor is gone: it was killed, or the machine was restarted"
    );
    assert!(service.start_again("exec sleep 600", PATIENCE).is_ok());
}

#[test]
fn a_folder_has_one_supervisor_at_a_time() {
    let (service, _) = Service::start("exec sleep 600", PATIENCE);
    let error = service.start_again("exec sleep 600", PATIENCE).unwrap_err();
    assert!(matches!(error, SupervisorError::Busy { .. }), "{error}");
}

#[test]
fn a_reused_process_number_is_not_stopped() {
    let bystander = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = bystander.enter();
    let innocent = crate::sh("exec sleep 600").spawn().unwrap();
    let (service, _) = Service::start("exec sleep 600", PATIENCE);
    stop(service.dir()).unwrap();

    let path = service.dir().join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    state["phase"] = "running".into();
    state["supervisor"]["pid"] = innocent.id().unwrap().into();
    // If both started within the same clock tick, they could not be distinguished.
    state["supervisor"]["start-time"] = 1.into();
    std::fs::write(&path, state.to_string()).unwrap();

    assert_eq!(service.status().phase, Phase::Exited);
    stop(service.dir()).unwrap();
    assert!(alive(&innocent.id().unwrap().to_string()));
}

#[test]
fn a_supervisor_that_cannot_begin_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let spec = ServiceSpec {
        program: PathBuf::from("/bin/sh"),
        args: Vec::new(),
        current_dir: dir.path().to_owned(),
        own_network: None,
        listen: None,
        root: None,
        grace_ms: 0,
    };
    let error = start(Path::new("/bin/false"), dir.path(), &spec, &[]).unwrap_err();
    assert!(matches!(error, SupervisorError::EndedEarly { .. }), "{error}");
}
