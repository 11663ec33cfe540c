//! `kill -9` at every write to the journal: a resume always brings the run to the result that it would have had, and
//! nothing is deployed twice.
//!
//! A tracer makes the kernel deliver SIGKILL when the engine begins its n-th write to the write-ahead log. A record takes
//! several writes, so the tests cover kills before, within and after each record.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value as Json;

use crate::environment::{Ended, TestEnvironment, binary, outcomes, text};
use crate::production::Production;
use crate::release::sample;

/// The distance between tested writes; 1 takes minutes. `STAGEWRIGHT_CRASH_STRIDE` overrides it.
pub(crate) fn stride(usual: usize) -> usize {
    std::env::var("STAGEWRIGHT_CRASH_STRIDE").ok().and_then(|stride| stride.parse().ok()).unwrap_or(usual)
}

/// Runs the binary and kills it at a write to the journal. None when it ended before that write.
pub(crate) fn killed(environment: &TestEnvironment, args: &[&str], write: usize) -> Option<()> {
    let journal = environment.root().join(".stagewright/stagewright.db-wal").display().to_string();
    let inject = format!("inject=pwrite64:signal=SIGKILL:when={write}");
    let tracer = ["-qq", "-o", "/dev/null", "-P", &journal, "-e", "trace=pwrite64", "-e", &inject];
    let binary = binary().display().to_string();
    let mut command = environment.program("strace");
    command.args(tracer).arg(binary).args(args).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().expect("strace starts: apt-get install strace");
    let ended = Ended::of(&output);
    assert!(!ended.stderr.contains("strace:"), "{}", ended.stderr);
    (ended.code == -1 || ended.code == 137).then_some(())
}

/// Resumes the run until it has ended, and answers its gates and unknown outcomes.
pub(crate) fn to_the_end(environment: &TestEnvironment, first: &[&str]) {
    let rows = environment.run(&["runs", "--json"]).exits(0);
    let rows: Vec<Json> = serde_json::from_str(&rows.stdout).expect("JSON");
    let alive = rows.first().filter(|row| matches!(text(&row["state"]).as_str(), "interrupted" | "waiting"));
    let mut ended = match alive {
        Some(row) if environment.run(&["show", &text(&row["run"])]).stdout.is_empty() => environment.run(first),
        Some(_) => environment.run(&["resume", "latest"]),
        // The run has ended, or was never recorded.
        None if rows.first().is_some_and(|row| row["state"] == "succeeded") => return,
        None => environment.run(first),
    };
    for _ in 0..3 {
        if ended.code == 5 {
            environment.run(&["approve", "latest"]).exits(0);
            ended = environment.run(&["resume", "latest"]);
        }
    }
    ended.exits(0);
}

/// The events of the latest run.
fn journal(environment: &TestEnvironment) -> Vec<Json> {
    let shown = environment.run(&["show", "latest", "--format", "json"]).exits(0);
    shown.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

/// Checks that no two attempts acted under one token, and that each one recorded its intent before.
fn check_tokens(events: &[Json]) {
    let mut seen = BTreeSet::new();
    for event in events.iter().filter(|event| event["type"] == "attempt-started") {
        if let Some(fence) = event["fence"].as_u64() {
            let stages = events[0]["stages"].as_array().expect("stages");
            let stage = stages.iter().find(|stage| stage["id"] == event["stage-id"]).expect("a stage");
            let environment = text(&stage["environment"]);
            assert!(seen.insert((environment, fence)), "token {fence} was used twice: {events:#?}");
        }
    }
    for release in events.iter().filter(|event| event["type"] == "release-recorded") {
        let (stage, attempt) = (&release["stage-id"], &release["attempt"]);
        let intended = events.iter().any(|event| {
            event["type"] == "effect-intended" && &event["stage-id"] == stage && &event["attempt"] == attempt
        });
        assert!(intended, "{release:#} has no intent: {events:#?}");
    }
}

/// The final state of a run: the outcomes of its stages, and the releases in the environments.
fn end_state(environment: &TestEnvironment) -> String {
    let events = journal(environment);
    check_tokens(&events);
    let environments = environment.run(&["env", "list", "--json"]).exits(0);
    let environments: Vec<Json> = serde_json::from_str(&environments.stdout).expect("JSON");
    let running = environments.iter().map(|row| {
        let current = &row["current"];
        format!("{} runs {} good {}", row["environment"], current["release"]["artifact"], current["good"])
    });
    let services = environment.run(&["service", "status", "--json"]).exits(0);
    let services: Vec<Json> = serde_json::from_str(&services.stdout).expect("JSON");
    let services =
        services.iter().map(|row| format!("{} {} {}", row["environment"], row["phase"], row["current"]["image"]));
    format!("{:#?}\n{:#?}\n{:#?}", outcomes(&events), running.collect::<Vec<_>>(), services.collect::<Vec<_>>())
}

/// The number of processes that are services of the repository: programs in it; and, of services in the root of their image,
/// whose programs have paths of their own, those that descend from a supervisor of a release and aren't the engine's.
fn services(environment: &TestEnvironment) -> usize {
    let root = environment.root().canonicalize().expect("a folder");
    let own = binary().canonicalize().expect("a file");
    let link = |pid: &str, name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let supervises = |pid: &str| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&str> = command.split('\0').collect();
        words.len() > 2 && words[1] == "__supervise" && words[2].starts_with(&root.display().to_string())
    };
    let parent = |pid: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().to_owned())
    };
    let is_in_image = |pid: &str| {
        let mounts = link(pid, "ns/mnt");
        mounts != link("self", "ns/mnt")
            && link(pid, "exe") != own
            && std::iter::successors(parent(pid), |pid| parent(pid)).any(|pid| supervises(&pid))
    };
    let processes = std::path::Path::new("/proc").read_dir().expect("/proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
    let pids = pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    pids.filter(|pid| link(pid, "exe").starts_with(&root) || is_in_image(pid)).count()
}

#[test]
fn a_deploy_survives_a_kill_at_any_write_to_the_journal() {
    let first = ["run", "--input", "version=1"];
    let undisturbed = Production::new();
    undisturbed.0.run(&first).exits(0);
    let expected = end_state(&undisturbed.0);
    let mut kills = 0;
    for write in (1..).step_by(stride(9)) {
        let production = Production::new();
        if killed(&production.0, &first, write).is_none() {
            break;
        }
        kills += 1;
        to_the_end(&production.0, &first);
        assert_eq!(end_state(&production.0), expected, "killed at write {write}");
        assert_eq!(production.serves(), "version 1", "killed at write {write}");
        assert_eq!(services(&production.0), 1, "killed at write {write}: a service too many, or none");
        let history = production.0.run(&["env", "history", "production", "--json"]).exits(0);
        let history: Vec<Json> = serde_json::from_str(&history.stdout).expect("JSON");
        assert_eq!(history.len(), 1, "killed at write {write}: deployed more than once: {history:#?}");
    }
    assert!(kills > 3, "the engine was killed {kills} times: is the journal still a write-ahead log?");
}

#[test]
fn a_resume_survives_a_kill_at_any_write_to_the_journal() {
    let resume = ["resume", "latest"];
    let gated = |kill: Option<usize>| {
        let production = Production::with_gate();
        production.0.run(&["run", "--input", "version=1"]).exits(5);
        production.0.run(&["approve", "latest"]).exits(0);
        let killed = kill.map(|write| killed(&production.0, &resume, write));
        (production, killed)
    };
    let (undisturbed, _) = gated(None);
    undisturbed.0.run(&resume).exits(0);
    let expected = end_state(&undisturbed.0);
    for write in (1..).step_by(stride(11)) {
        let (production, killed) = gated(Some(write));
        if killed.flatten().is_none() {
            break;
        }
        to_the_end(&production.0, &resume);
        assert_eq!(end_state(&production.0), expected, "killed at write {write}");
        assert_eq!(services(&production.0), 1, "killed at write {write}: a service too many, or none");
    }
}

/// Runs the whole sample, without rehearsal, up to its gate and after it. By default only a few writes are tested.
#[test]
fn the_sample_survives_a_kill_at_any_write_to_the_journal() {
    let environment = sample();
    let first = ["run", "release"];
    let stop = Stopping(&environment);
    environment.run(&first).exits(5);
    environment.run(&["approve", "latest"]).exits(0);
    environment.run(&["resume", "latest"]).exits(0);
    let expected = end_state(&environment);
    for write in (1..).step_by(stride(100)) {
        if killed(&environment, &first, write).is_none() {
            break;
        }
        to_the_end(&environment, &first);
        assert_eq!(end_state(&environment), expected, "killed at write {write}");
        assert_eq!(services(&environment), 2, "killed at write {write}: a service too many, or too few");
    }
    let resume = ["resume", "latest"];
    for write in (1..).step_by(stride(100)) {
        environment.run(&first).exits(5);
        environment.run(&["approve", "latest"]).exits(0);
        if killed(&environment, &resume, write).is_none() {
            break;
        }
        to_the_end(&environment, &resume);
        assert_eq!(end_state(&environment), expected, "killed at write {write} of the resume");
        assert_eq!(services(&environment), 2, "killed at write {write} of the resume: a service too many, or too few");
    }
    drop(stop);
}

/// Stops the sample's services.
struct Stopping<'a>(&'a TestEnvironment);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        for name in ["staging", "production"] {
            self.0.run(&["service", "stop", name, "greeter"]);
        }
    }
}
