//! The target `process` behind its proxy.

mod faults;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::engine::{SMOKE_STAGE, deploy, image_stages, latest_run, releases, rollout, to_the_end};
use super::load::Load;
use super::machine::Machine;
use crate::crash::{killed, stride};
use crate::environment::{Ended, TestEnvironment, eventually};

/// IMAGE_STAGES, DEPLOY and SMOKE_STAGE are replaced.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "process"

[inputs.version]
[inputs.exit]
default = ""
[inputs.wait-for]
default = ""
[inputs.smoke]
default = "version"

[environments.production]
target = "process"

IMAGE_STAGES

[stages.deploy]
uses = "deploy"
needs = ["push"]
environment = "production"
[stages.deploy.with]
service = "versioned"
image = "${{ stages.push.outputs.reference }}"
proxy = { port = 8000 }
env = { VERSION = "${{ inputs.version }}", EXIT = "${{ inputs.exit }}", WAIT_FOR = "${{ inputs.wait-for }}" }
health = { deadline = "20s" }
DEPLOY

SMOKE_STAGE
"#;

const CANARY: &str = r#"
strategy = { canary = { steps = [{ set-weight = 20 }, { pause = {} }, { set-weight = 60 }, { pause = { duration = "1s" } }] } }
"#;

/// A machine whose public port is 8000, and a repository that deploys to it.
struct Processes {
    repository: TestEnvironment,
    machine: Machine,
}

impl Processes {
    fn with(deploy: &str) -> Processes {
        let machine = Machine::start();
        let repository = machine.repository(&pipeline(deploy));
        std::fs::copy(env!("CARGO_BIN_EXE_versioned"), repository.root().join("versioned")).expect("a copy");
        let processes = Processes { repository, machine };
        processes.configure(deploy);
        processes
    }

    /// Changes the deploy.
    fn configure(&self, deploy: &str) {
        self.repository.write("stagewright.toml", &pipeline(deploy));
        self.repository.run(&["grant", "--yes"]).exits(0);
    }

    #[track_caller]
    fn deploy(&self, version: &str, more: &[&str], code: i32) -> Ended {
        deploy(&self.repository, version, more).exits(code)
    }

    fn serves(&self) -> Option<String> {
        self.machine.get("http://127.0.0.1:8000/")
    }

    fn rollout(&self) -> Json {
        rollout(&self.repository)
    }

    /// How many programs of releases run.
    fn programs(&self) -> usize {
        let root = self.repository.root().canonicalize().expect("a folder");
        let processes = std::path::Path::new("/proc").read_dir().expect("/proc").flatten();
        let programs = processes.filter_map(|entry| entry.path().join("exe").read_link().ok());
        programs.filter(|program| program.starts_with(&root)).count()
    }

    fn proxy_file(&self, name: &str) -> String {
        format!(".stagewright/environments/production/versioned/proxy/{name}")
    }

    /// The process id of the proxy.
    fn proxy(&self) -> Option<u64> {
        let state: Json = serde_json::from_str(&self.repository.read(&self.proxy_file("state.json"))).ok()?;
        state["child"]["pid"].as_u64()
    }

    /// A program on the machine that sends lines to the public port, and prints what comes back.
    fn connect(&self, first: &str) -> Child {
        let mut client = self.machine.command("python3");
        client.args(["-c", CLIENT, first]).stdin(Stdio::piped()).stdout(Stdio::piped());
        client.spawn().expect("these tests need python3")
    }
}

/// The longest time in which nothing answered with status 200, while `act` runs.
fn gap(machine: &Machine, act: impl FnOnce()) -> Duration {
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                if machine.get("http://127.0.0.1:8000/").is_some() {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
            }
            longest.max(last.elapsed())
        });
        act();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        watching.join().expect("it has watched")
    })
}

impl Drop for Processes {
    fn drop(&mut self) {
        for environment in ["production", "staging"] {
            self.repository.run(&["service", "stop", environment, "versioned"]);
        }
    }
}

/// Sends a head, and then each line of its standard input; prints what it gets.
const CLIENT: &str = r#"
import socket, sys, threading
connection = socket.create_connection(("127.0.0.1", 8000))
connection.sendall(sys.argv[1].encode())
def send():
    for line in sys.stdin:
        connection.sendall(line.encode())
threading.Thread(target=send, daemon=True).start()
while data := connection.recv(4096):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
"#;

fn pipeline(deploy: &str) -> String {
    PIPELINE
        .replace("IMAGE_STAGES", &image_stages("local", ""))
        .replace("DEPLOY", deploy)
        .replace("SMOKE_STAGE", SMOKE_STAGE)
}

/// Every request was answered by a release.
#[track_caller]
fn check_answers(answers: &BTreeMap<String, u64>) {
    assert!(answers.keys().all(|answer| answer.starts_with("version ")), "{answers:?}");
}

#[test]
fn no_request_fails_whatever_the_strategy_is() {
    let processes = Processes::with("");
    processes.deploy("1", &[], 0);
    assert_eq!(processes.serves().as_deref(), Some("version 1"));
    let mut load = Load::on(&processes.machine, 8000, "/");

    processes.configure(CANARY);
    processes.deploy("2", &[], 5);
    let rollout = processes.rollout();
    assert_eq!((rollout["phase"].as_str(), rollout["weight"].as_u64()), (Some("paused"), Some(20)));
    assert_eq!(processes.programs(), 2);
    load.check_share(Duration::from_secs(3), 20);
    processes.repository.run(&["rollout", "promote", "production"]).exits(0);
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 2"), 1));

    processes.deploy("3", &[], 5);
    processes.repository.run(&["rollout", "abort", "production", "--by", "ada"]).exits(1);
    let aborted = load.answers();
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 2"), 1));

    processes.configure("strategy = { blue-green = { scale-down-delay = \"1s\" } }");
    processes.deploy("4", &[], 0);
    processes.configure("replicas = 3\nstrategy = { rolling = {} }");
    processes.deploy("5", &[], 0);
    assert_eq!(processes.programs(), 3);
    let rolled = processes.deploy("6", &[], 0);
    assert!(rolled.stdout.contains("2 of 3 replicas are ready"), "{}", rolled.stdout);
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 6"), 3));
    // Its smoke test fails, so that the release before it is deployed again.
    processes.deploy("7", &["smoke=version 0"], 1);
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 6"), 3));
    processes.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 5"), 3));

    let answers = load.answers();
    check_answers(&answers);
    assert_eq!(answers.get("version 3"), aborted.get("version 3"), "nothing went to the aborted release");
}

const BY_HEADER: &str = r#"
[[stages.deploy.with.strategy.canary.steps]]
[stages.deploy.with.strategy.canary.steps.set-header-route]
name = "testers"
match = [
  { header-name = "X-Canary", header-value = { exact = "a.b" } },
  { header-name = "X-Canary", header-value = { prefix = "v2" } },
  { header-name = "Cookie", header-value = { regex = '(.*;\s*)?canary=(yes|\d+)(;.*)?' } },
]
[[stages.deploy.with.strategy.canary.steps]]
pause = {}
[[stages.deploy.with.strategy.canary.steps]]
set-header-route = { name = "testers" }
[[stages.deploy.with.strategy.canary.steps]]
pause = {}
"#;

#[test]
fn a_canary_gets_requests_by_their_headers() {
    let processes = Processes::with("");
    processes.deploy("1", &[], 0);
    processes.configure(BY_HEADER);
    let mut load = Load::on(&processes.machine, 8000, "/");
    processes.deploy("2", &[], 5);
    let answer = |header: &str| processes.machine.run("curl", &["-sf", "--header", header, "http://127.0.0.1:8000/"]);
    for header in ["x-canary: a.b", "X-Canary: v2-beta", "Cookie: a=1; canary=17", "Cookie: canary=yes; b=2"] {
        assert_eq!(answer(header), "version 2", "{header}");
    }
    for header in ["X-Canary: a.bc", "X-Canary: aXb", "X-Canary: xv2", "Cookie: canary=no", "Accept: v2"] {
        assert_eq!(answer(header), "version 1", "{header}");
    }
    // The proxy that is started again has the same routes.
    let proxy = processes.proxy().expect("a proxy");
    assert_eq!(load.answers().keys().collect::<Vec<_>>(), ["version 1"], "it has no weight");
    drop(load);
    processes.machine.run("kill", &["-9", &proxy.to_string()]);
    assert_eq!(answer("X-Canary: v2"), "version 2");
    let mut load = Load::on(&processes.machine, 8000, "/");
    processes.repository.run(&["rollout", "promote", "production"]).exits(5);
    assert_eq!(answer("X-Canary: v2-beta"), "version 1", "the route is removed");
    processes.repository.run(&["rollout", "promote", "production"]).exits(0);
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 2"), 1));
    check_answers(&load.answers());
}

#[test]
fn a_release_that_fails_gets_no_request() {
    let processes = Processes::with("replicas = 2\nstrategy = { rolling = {} }");
    processes.deploy("1", &[], 0);
    let mut load = Load::on(&processes.machine, 8000, "/");
    let exits = processes.deploy("2", &["exit=7"], 1);
    assert!(exits.stdout.contains("the release exited before its health check passed"), "{}", exits.stdout);
    processes.configure("strategy = { canary = { steps = [{ set-weight = 50 }] } }");
    let text = processes.repository.read("stagewright.toml").replace("deadline = \"20s\"", "deadline = \"2s\"");
    processes.repository.write("stagewright.toml", &text);
    let silent = processes.deploy("3", &["wait-for=/nowhere"], 1);
    assert!(silent.stdout.contains("the health check didn't pass within 2 s"), "{}", silent.stdout);
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 1"), 2));
    assert_eq!(load.answers().keys().collect::<Vec<_>>(), ["version 1"]);
}

#[test]
fn requests_in_flight_end_where_they_began() {
    let processes = Processes::with("drain = \"10s\"");
    processes.deploy("1", &[], 0);
    let head = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: app\r\nConnection: {more}\r\n\r\n");
    let mut echo = processes.connect(&head("/echo", "upgrade\r\nUpgrade: echo"));
    let mut lines = BufReader::new(echo.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        lines.read_line(&mut line).expect("a line");
    }
    let mut slow = processes.connect(&head("/slow", "close"));
    let deploy = processes.repository.start(&["run", "--input", "version=2"]);
    eventually("the new release serves", || (processes.serves()? == "version 2").then_some(()));
    writeln!(echo.stdin.as_mut().expect("a pipe"), "hi").expect("a line");
    line.clear();
    lines.read_line(&mut line).expect("a line");
    assert_eq!(line, "version 1: hi\n");
    drop(Killed(echo));
    let mut answer = String::new();
    slow.stdout.take().expect("a pipe").read_to_string(&mut answer).expect("text");
    assert_eq!(answer.matches("version 1;").count(), 10, "{answer}");
    drop(Killed(slow));
    assert!(deploy.wait_with_output().expect("an end").status.success());
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 2"), 1));
}

#[test]
fn a_killed_proxy_comes_back_with_the_same_shares() {
    let processes = Processes::with(CANARY);
    processes.deploy("1", &[], 5);
    processes.repository.run(&["rollout", "promote", "production", "--full"]).exits(0);
    processes.deploy("2", &[], 5);
    let mut load = Load::on(&processes.machine, 8000, "/");
    let first = processes.proxy().expect("a proxy");
    let start = Instant::now();
    processes.machine.run("kill", &["-9", &first.to_string()]);
    // The port stays open: a connection waits until it is accepted.
    assert!(processes.serves().is_some(), "no answer");
    let back = start.elapsed();
    assert!(back < Duration::from_secs(2), "{back:?}");
    assert_ne!(processes.proxy(), Some(first));
    let after = load.check_share(Duration::from_secs(2), 20);
    let failed: u64 = after.iter().filter(|(answer, _)| !answer.starts_with("version ")).map(|(_, n)| n).sum();
    assert!(failed <= 1, "more than the request that was in flight: {after:?}");

    // Without its supervisor as well, the next change starts it again.
    let state: Json =
        serde_json::from_str(&processes.repository.read(&processes.proxy_file("state.json"))).expect("JSON");
    processes.machine.run("kill", &["-9", &state["supervisor"]["pid"].to_string()]);
    eventually("the port is free", || processes.serves().is_none().then_some(()));
    processes.repository.run(&["rollout", "promote", "production"]).exits(0);
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 2"), 1));
}

const SHORT: &str = r#"
strategy = { canary = { steps = [{ set-weight = 30 }, { pause = { duration = "1s" } }, { set-weight = 60 }] } }
"#;

/// What a restart of the machine ends: all processes of services, without a chance to say so.
fn restart(processes: &Processes) {
    let folder = processes.repository.root().join(".stagewright/environments");
    let found = processes.machine.command("find").arg(&folder).args(["-name", "state.json"]).output().expect("find");
    for file in String::from_utf8_lossy(&found.stdout).lines() {
        let text = std::fs::read_to_string(file).expect("a state");
        let state: Json = serde_json::from_str(&text).expect("JSON");
        // It fails for one that an earlier restart has ended.
        if state["phase"] != "exited" {
            let pid = state["supervisor"]["pid"].to_string();
            processes.machine.command("kill").args(["-9", &pid]).output().expect("kill");
        }
    }
    eventually("the end of the programs", || (processes.programs() == 0).then_some(()));
}

#[test]
fn services_are_started_again_after_a_restart_of_the_machine() {
    let processes = Processes::with("");
    processes.deploy("1", &[], 0);
    let nothing = processes.repository.run(&["service", "restore"]).exits(0);
    assert!(nothing.stdout.contains("All services run that weren't stopped."), "{}", nothing.stdout);
    processes.deploy("2", &[], 0);
    let before = releases(&processes.repository);
    restart(&processes);
    assert_eq!(processes.serves(), None);
    let status = processes.repository.run(&["service", "status"]).exits(0);
    assert!(status.stdout.contains("the machine was restarted"), "{}", status.stdout);
    let restored = processes.repository.run(&["service", "restore"]).exits(0);
    assert!(restored.stdout.contains("Starting versioned in production again"), "{}", restored.stdout);
    assert_eq!(processes.serves().as_deref(), Some("version 2"));
    assert_eq!((processes.programs(), releases(&processes.repository)), (1, before + 1));

    // What a person has stopped stays so.
    processes.repository.run(&["service", "stop", "production", "versioned"]).exits(0);
    restart(&processes);
    processes.repository.run(&["service", "restore"]).exits(0);
    assert_eq!(processes.serves(), None);
}

#[test]
fn a_canary_survives_a_kill_at_any_write_to_the_journal() {
    let processes = Processes::with(SHORT);
    processes.deploy("0", &[], 0);
    let mut load = Load::on(&processes.machine, 8000, "/");
    let mut version = 0;
    for write in (1..).step_by(stride(13)) {
        version += 1;
        let input = format!("version={version}");
        let deploy = ["run", "--input", &input];
        let earlier = latest_run(&processes.repository);
        if killed(&processes.repository, &deploy, write).is_none() {
            break;
        }
        to_the_end(&processes.repository, &deploy, &earlier);
        let expected = format!("version {version}");
        let found = (processes.serves(), processes.programs());
        assert_eq!(found, (Some(expected), 1), "killed at {write}");
        let rollout = processes.rollout();
        assert_eq!((rollout["phase"].as_str(), rollout["weight"].as_u64()), (Some("completed"), Some(100)), "{write}");
        let deployed = releases(&processes.repository);
        assert_eq!(deployed, version + 1, "killed at write {write}: deployed more than once, or not at all");
    }
    assert!(version > 3, "the engine was killed {version} times: is the journal still a write-ahead log?");
    check_answers(&load.answers());
}

#[test]
fn the_proxy_refuses_a_deploy_with_an_older_token() {
    let processes = Processes::with("");
    processes.deploy("1", &[], 0);
    let path = processes.proxy_file("table.json");
    let mut table: Json = serde_json::from_str(&processes.repository.read(&path)).expect("JSON");
    table["fence"] = 1000.into();
    processes.repository.write(&path, &table.to_string());
    let stale = processes.deploy("2", &[], 1);
    assert!(
        stale.stdout.contains("by a deploy with the token 1000, but this deploy has the older token"),
        "{}",
        stale.stdout
    );
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 1"), 1));
}

#[test]
fn a_port_has_one_service() {
    let processes = Processes::with("");
    processes.deploy("1", &[], 0);
    let text = pipeline("").replace("environments.production", "environments.staging");
    let text = text.replace("environment = \"production\"", "environment = \"staging\"");
    processes.repository.write("stagewright.toml", &text);
    processes.repository.run(&["grant", "--yes"]).exits(0);
    let second = processes.deploy("2", &[], 1);
    assert!(
        second.stdout.contains("port 8000 is the public port of the service `versioned` in production"),
        "{}",
        second.stdout
    );
    processes.repository.write("stagewright.toml", &text.replace("port = 8000", "port = 8001"));
    processes.repository.run(&["grant", "--yes"]).exits(0);
    let mut other = processes.machine.command("python3").args(["-m", "http.server", "8001"]).spawn().expect("python3");
    eventually("another program has the port", || processes.machine.get("http://127.0.0.1:8001/"));
    let taken = processes.deploy("3", &[], 1);
    let holder = format!("is in use by `python3` (process {})", other.id());
    assert!(taken.stdout.contains(&holder), "{}", taken.stdout);
    let _ = other.kill();
    let _ = other.wait();
    processes.deploy("3", &[], 0);
    assert_eq!(processes.machine.get("http://127.0.0.1:8001/").as_deref(), Some("version 3"));
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 1"), 2));
}

#[test]
fn the_public_port_is_a_grant_and_a_rehearsal_leaves_it_alone() {
    let processes = Processes::with("");
    let plan = processes.repository.run(&["plan", "--input", "version=1"]).exits(0);
    assert!(plan.stdout.contains("service      versioned:8000\n"), "{}", plan.stdout);
    processes.repository.run(&["lock"]).exits(0);
    let moved = pipeline("")
        .replace("8000", "8001")
        .replace("needs = [\"push\"]", "needs = [\"push\"]\npermissions = { service = [\"versioned:8001\"] }");
    let granted = processes.repository.read("stagewright.toml");
    processes.repository.write("stagewright.toml", &moved);
    let plan = processes.repository.run(&["plan", "--input", "version=1"]).exits(0);
    let added = "+ `deploy` may now run the service `versioned`, and accept requests for it at 127.0.0.1:8001";
    assert!(plan.stdout.contains(added), "{}", plan.stdout);
    processes.repository.write("stagewright.toml", &granted);
    let rehearsed = processes.repository.run(&["run", "--rehearse", "--input", "version=1"]).exits(0);
    assert!(rehearsed.stdout.contains("release"), "{}", rehearsed.stdout);
    assert_eq!((processes.serves(), processes.programs()), (None, 0));

    let text = processes.repository.read("stagewright.toml");
    let narrower = text.replace("versioned:8000", "versioned");
    assert_ne!(text, narrower);
    processes.repository.write("stagewright.toml", &narrower);
    let refused = processes.repository.run(&["run", "--input", "version=1"]);
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("versioned:8000") || refused.stdout.contains("versioned:8000"),
        "{}",
        refused.stderr
    );
    assert_eq!((processes.serves(), processes.programs()), (None, 0));
}

/// A process that is killed when it goes out of scope.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where two versions can't run at once, nothing serves while the new one is tried.
#[test]
#[expect(clippy::print_stderr, reason = "it shows what it has measured")]
fn with_recreate_the_old_release_serves_again_after_one_that_never_gets_healthy() {
    let processes = Processes::with("strategy = { recreate = {} }");
    processes.deploy("1", &[], 0);
    let healthy = gap(&processes.machine, || drop(processes.deploy("2", &[], 0)));
    assert_eq!(processes.serves().as_deref(), Some("version 2"));
    let broken = gap(&processes.machine, || drop(processes.deploy("3", &["exit=1"], 1)));
    assert_eq!(processes.serves().as_deref(), Some("version 2"), "the earlier release is started again");
    eprintln!("nothing served for {healthy:.1?} with a healthy release, and for {broken:.1?} with one that exits");
}
