//! Ctrl-C: no processes are left.

use std::path::Path;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::environment::{Ended, TestEnvironment, eventually, text};

const CLINGING: &str = r#"
schema = 1
[pipeline]
name = "clinging"
[stages.cling]
uses = "misbehave"
with = { way = "cling", target = "pids" }
[stages.cling.permissions]
process = ["sh"]
write = ["."]
[finally.clean]
uses = "noop"
"#;

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("not 0")
}

/// Starts a run, and returns it once its stage's shell has started.
fn start(environment: &TestEnvironment) -> (Child, Vec<Pid>) {
    let child = environment.start(&["run", "--format", "json"]);
    (child, at_work(environment))
}

/// The processes of a stage, once its shell has reported that it runs. The process ids that they see are those of their
/// namespace, so they are found by their working folder.
fn at_work(environment: &TestEnvironment) -> Vec<Pid> {
    eventually("the shell has started", || {
        let text = std::fs::read_to_string(environment.root().join("pids")).ok()?;
        let processes = programs_in(&environment.root());
        (text.ends_with('\n') && !processes.is_empty()).then_some(processes)
    })
}

/// Shells, and processes that they started, with this working folder.
fn programs_in(folder: &Path) -> Vec<Pid> {
    let all = std::fs::read_dir("/proc").expect("the machine's processes").flatten().map(|entry| entry.path());
    let here = all.filter(|process| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == folder));
    let programs = here.filter(|process| {
        let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
        ["sh", "dash", "sleep"].contains(&name.trim())
    });
    programs.filter_map(|process| Pid::from_raw(process.file_name()?.to_str()?.parse().ok()?)).collect()
}

fn is_gone(pid: Pid) -> bool {
    test_kill_process(pid).is_err()
}

#[test]
fn a_second_interrupt_kills_stages_that_ignore_the_first() {
    let environment = TestEnvironment::with_pipeline(CLINGING);
    let (child, pids) = start(&environment);
    kill_process(pid_of(&child), Signal::INT).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    kill_process(pid_of(&child), Signal::INT).unwrap();
    let ended = Ended::of(&child.wait_with_output().unwrap()).exits(130);
    assert!(ended.stdout.contains(r#""conclusion":"cancelled""#), "{}", ended.stdout);
    for pid in pids {
        eventually("the stage's processes are gone", || is_gone(pid).then_some(()));
    }
}

#[test]
fn one_interrupt_cancels_gracefully_and_runs_finally_stages() {
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        [pipeline]
        name = "graceful"
        [stages.wait]
        uses = "command"
        with = { run = "trap 'echo bye; exit 3' TERM; echo $$ $$ > pids; while :; do sleep 0.1; done" }
        [stages.wait.permissions]
        process = ["sh"]
        write = ["."]
        [finally.clean]
        uses = "noop"
        "#,
    );
    let (child, _) = start(&environment);
    kill_process(pid_of(&child), Signal::INT).unwrap();
    let ended = Ended::of(&child.wait_with_output().unwrap()).exits(130);
    assert!(ended.stdout.contains("bye"), "{}", ended.stdout);
    let clean = ended.stdout.lines().find(|line| line.contains("stage-ended") && line.contains("clean")).unwrap();
    assert!(clean.contains("succeeded"), "{clean}");
}

/// The plugin would report that its program was killed by a signal, or that it failed.
#[test]
fn a_program_ended_by_the_stop_request_is_cancelled_and_not_failed() {
    for then in ["exec sleep 600", "trap 'exit 101' TERM; while :; do sleep 0.1; done"] {
        let environment = TestEnvironment::with_pipeline(&format!(
            r#"
            schema = 1
            [pipeline]
            name = "stopped"
            [stages.wait]
            uses = "command"
            with = {{ run = "echo $$ $$ > pids; {then}" }}
            [stages.wait.permissions]
            process = ["sh"]
            write = ["."]
            "#
        ));
        let (child, _) = start(&environment);
        kill_process(pid_of(&child), Signal::INT).unwrap();
        let ended = Ended::of(&child.wait_with_output().unwrap()).exits(130);
        let line = ended.stdout.lines().find(|line| line.contains(r#""type":"attempt-ended""#)).unwrap();
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["outcome"], "cancelled", "{line}");
        assert_eq!(event["failure"]["message"], "`sh` was stopped with its stage", "{line}");
    }
}

#[test]
fn a_killed_engines_children_end_and_its_run_can_be_resumed() {
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        [pipeline]
        name = "killed"
        [stages.first]
        uses = "noop"
        [stages.second]
        uses = "command"
        needs = ["first"]
        with = { run = "test -f marker && exit 0; echo $$ $$ > pids; sleep 1000" }
        [stages.second.permissions]
        process = ["sh"]
        write = ["."]
        "#,
    );
    let (mut child, pids) = start(&environment);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the stage's process is gone", || is_gone(pids[0]).then_some(()));
    let rows = environment.run(&["runs"]).exits(0);
    assert!(rows.stdout.contains("interrupted"), "{}", rows.stdout);

    environment.write("marker", "");
    let (code, events) = environment.events(&["resume", "latest"]);
    assert_eq!(code, 0, "{events:#?}");
    let starts = events.iter().filter(|event| event["type"] == "attempt-started");
    let starts = starts.map(|event| format!("{}#{}", text(&event["stage-id"]), event["attempt"])).collect::<Vec<_>>();
    assert_eq!(starts, ["first#1", "second#1", "second#2"]);
}

/// Stages that don't stop: one in the guest, one in a call of the host that waits for a response, one in a child process.
const STUBBORN: &str = r#"
schema = 1
[pipeline]
name = "stubborn"
[stages.compute]
uses = "misbehave"
with = { way = "loop" }
[stages.ask]
uses = "smoke-test"
with = { url = "http://SILENT", timeout = "1h", checks = [{ path = "/" }] }
[stages.ask.permissions]
net = ["http://SILENT"]
[stages.cling]
uses = "misbehave"
with = { way = "cling", target = "pids" }
[stages.cling.permissions]
process = ["sh"]
write = ["."]
[finally.clean]
uses = "noop"
"#;

#[test]
fn whatever_a_stage_does_a_run_that_is_cancelled_ends_within_the_bound() {
    // A server that accepts connections and never responds.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let environment = TestEnvironment::with_pipeline(&STUBBORN.replace("SILENT", &address));
    for (signals, bound) in [(1, 20), (2, 5)] {
        let _ = std::fs::remove_file(environment.root().join("pids"));
        let child = environment.start(&["run", "--jobs", "4", "--format", "json"]);
        let pids = at_work(&environment);
        let start = std::time::Instant::now();
        for _ in 0..signals {
            kill_process(pid_of(&child), Signal::INT).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        let ended = Ended::of(&child.wait_with_output().unwrap()).exits(130);
        // On a busy machine everything takes longer, so the test allows twice the bound.
        assert!(start.elapsed().as_secs() <= 2 * bound, "{:?} after {signals} times Ctrl-C", start.elapsed());
        for pid in pids {
            eventually("the stage's processes are gone", || is_gone(pid).then_some(()));
        }
        let clean = ended.stdout.lines().find(|line| line.contains("stage-ended") && line.contains("clean")).unwrap();
        assert!(clean.contains(if signals == 1 { "succeeded" } else { "cancelled" }), "{clean}");
    }
}
