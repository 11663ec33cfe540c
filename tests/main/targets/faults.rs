//! Faults that every target can meet, and what the tests of the targets share for them: a person between the build and the
//! deploy, two deploys at once, changes by hand, and a clock that is wrong.
//!
//! `docs/faults.md` says what happens for each of them.

use std::path::Path;

use serde_json::Value as Json;

use super::aws::Aws;
use super::engine::{deploy, latest_run, releases, start_registry, stop_registry};
use super::machine::Machine;
use crate::environment::{Ended, TestEnvironment, eventually, text};

/// Lets a person decide between the build and the deploy: what happens meanwhile is what the deploy finds.
#[track_caller]
pub(super) fn gate_deploy(repository: &TestEnvironment) {
    const DEPLOY: &str = "[stages.deploy]\n";
    let pipeline = repository.read("stagewright.toml");
    let (before, stage) = pipeline.split_once(DEPLOY).expect("a deploy");
    let needed = stage.split("needs = [").nth(1).and_then(|rest| rest.split(']').next()).expect("what it needs");
    let gate = format!("[stages.go]\nuses = \"approve\"\nneeds = [{needed}]\nwith = {{ message = \"Go?\" }}\n\n");
    let stage = stage.replacen(&format!("needs = [{needed}]"), &format!("needs = [{needed}, \"go\"]"), 1);
    repository.write("stagewright.toml", &format!("{before}{gate}{DEPLOY}{stage}"));
}

/// Runs everything up to the gate before the deploy. Returns the run.
#[track_caller]
pub(super) fn build(repository: &TestEnvironment, version: &str) -> String {
    deploy(repository, version, &[]).exits(5);
    text(&latest_run(repository))
}

/// Opens the gate of a run, and carries out its deploy.
#[track_caller]
pub(super) fn go(repository: &TestEnvironment, run: &str) -> Ended {
    repository.run(&["approve", run, "go"]).exits(0);
    repository.run(&["resume", run])
}

/// Starts the deploys of two runs in two processes at the same moment. They don't overlap; the newer one is deployed at the
/// end, and the older one before it or not at all.
#[track_caller]
pub(super) fn deploy_two_at_once(repository: &TestEnvironment, older: &str, newer: &str) {
    let before = releases(repository);
    let runs = [older, newer].map(|version| build(repository, version));
    runs.iter().for_each(|run| drop(repository.run(&["approve", run, "go"]).exits(0)));
    let started = runs.each_ref().map(|run| repository.start(&["resume", run]));
    let [older, newer] = started.map(|run| Ended::of(&run.wait_with_output().expect("an end")));
    newer.exits(0);
    let is_refused = older.code == 1 && older.stdout.contains(&format!("run {} is newer", runs[1]));
    assert!(older.code == 0 || is_refused, "{older:#?}");
    assert_eq!(releases(repository) - before, if is_refused { 1 } else { 2 });
    let mut deploys = runs.iter().flat_map(|run| deploys_of(repository, run)).collect::<Vec<_>>();
    deploys.sort_unstable();
    assert!(!deploys.is_empty(), "no deploy has a token");
    for [(earlier, _, end), (later, begin, _)] in deploys.array_windows() {
        assert!(earlier < later && end <= begin, "deploys overlap: {deploys:?}");
    }
}

/// The attempts of a run's deploy that had a token: the token, the beginning and the end.
fn deploys_of(repository: &TestEnvironment, run: &str) -> Vec<(u64, u64, u64)> {
    let shown = repository.run(&["show", run, "--format", "json"]).exits(0).stdout;
    let events: Vec<Json> = shown.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let of_deploy =
        |kind: &'static str| events.iter().filter(move |event| event["type"] == kind && event["stage-id"] == "deploy");
    let begun = of_deploy("attempt-started").filter_map(|event| {
        let end = of_deploy("attempt-ended").find(|end| end["attempt"] == event["attempt"])?;
        Some((event["fence"].as_u64()?, event["at"].as_u64()?, end["at"].as_u64()?))
    });
    begun.collect()
}

/// Between the build and the deploy, `change` makes another release serve, and `change_again` does after that was approved to
/// be overwritten. Each time the deploy asks, and it overwrites exactly what was approved.
#[track_caller]
pub(super) fn check_changes_by_hand(
    repository: &TestEnvironment,
    version: &str,
    change: impl FnOnce(),
    change_again: impl FnOnce(),
) {
    let run = build(repository, version);
    change();
    let approve = |asked: Ended| {
        let asked = asked.exits(5).stdout;
        assert!(asked.contains("production has 1 change that no deploy has made"), "{asked}");
        // Resumed, a run also shows what was asked before.
        let last = asked.rsplit("--field overwrite=").next().expect("a mark");
        let mark: String = last.chars().take(8).collect();
        repository.run(&["approve", &run, "deploy", "--field", &format!("overwrite={mark}")]).exits(0);
        mark
    };
    let first = approve(go(repository, &run));
    change_again();
    let second = approve(repository.run(&["resume", &run]));
    assert_ne!(first, second, "an approval stands for exactly the changes that it names");
    repository.run(&["resume", &run]).exits(0);
}

/// Temporary keys expire in the middle of a deploy, at a request that has `at` in its line. What served goes on, and with new
/// keys the run is resumed.
#[track_caller]
pub(super) fn check_expired_keys(
    aws: &Aws,
    repository: &TestEnvironment,
    credential: &str,
    at: &str,
    check: impl Fn(&str),
) {
    deploy(repository, "1", &[]).exits(0);
    aws.check_requests(repository);
    aws.expire_keys(at);
    let failed = deploy(repository, "2", &[]).exits(1).stdout;
    let named =
        format!("the temporary keys of [credentials.{credential}] have expired: renew the values of its secrets");
    assert!(failed.contains(&named), "{failed}");
    check("1");
    aws.renew_keys();
    repository.run(&["resume", "latest"]).exits(0);
    check("2");
}

/// AWS refuses the signatures of a clock that is wrong, before anything is changed. The error says how far it is off.
#[track_caller]
pub(super) fn check_wrong_clock(aws: &Aws, repository: &mut TestEnvironment, check: impl Fn(&str)) {
    deploy(repository, "1", &[]).exits(0);
    aws.check_requests(repository);
    fake_clock(repository);
    for (offset, words) in
        [("-1h", "is 1 h behind that of the service"), ("+1d", "is 1 d ahead of that of the service")]
    {
        set_clock(repository, offset);
        let refused = deploy(repository, "2", &[]).exits(1).stdout;
        assert!(refused.contains(words) || refused.contains("59 min behind"), "{words}: {refused}");
        assert!(refused.contains("that of the service: set it"), "{refused}");
        check("1");
    }
    set_clock(repository, "+0");
    deploy(repository, "2", &[]).exits(0);
    check("2");
}

/// The registry goes down between the build and the deploy, which fails with `refused` and is continued once it is back; and
/// before a rollback, which doesn't need it. `check` waits until a version serves.
#[track_caller]
pub(super) fn check_registry_down(
    repository: &TestEnvironment,
    machine: &Machine,
    refused: &str,
    check: impl Fn(&str),
) {
    deploy(repository, "1", &[]).exits(0);
    gate_deploy(repository);
    let run = build(repository, "2");
    stop_registry(machine);
    let failed = go(repository, &run).exits(1).stdout;
    for words in [refused, "check that the registry"] {
        assert!(failed.contains(words), "{words}: {failed}");
    }
    check("1");
    start_registry(machine, "");
    repository.run(&["resume", &run]).exits(0);
    check("2");
    stop_registry(machine);
    repository.run(&["rollback", "production"]).exits(0);
    check("1");
}

/// From now on the registry wants a login: `deploy` with the password `of-today`, which `htpasswd -B` has hashed.
#[track_caller]
pub(super) fn require_login(machine: &Machine) {
    let hash = "$2b$05$abcdefghijklmnopqrstuuLcKzc.GqDvP4wytnc02VFSR1qYxd5XW";
    let file = machine.write("htpasswd", &format!("deploy:{hash}\n")).display().to_string();
    stop_registry(machine);
    start_registry(machine, &format!("auth: {{ htpasswd: {{ realm: test, path: {file} }} }}\n"));
}

/// Lets the binary have a clock of its own from now on, which [`set_clock`] changes while it runs.
pub(super) fn fake_clock(repository: &mut TestEnvironment) {
    let library = eventually("libfaketime is there: apt-get install faketime", || {
        let folders = Path::new("/usr/lib").read_dir().ok()?.flatten();
        folders.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.is_file())
    });
    set_clock(repository, "+0");
    repository.set("LD_PRELOAD", &library.display().to_string());
    repository.set("FAKETIME_TIMESTAMP_FILE", &repository.root().join(CLOCK).display().to_string());
    repository.set("FAKETIME_NO_CACHE", "1");
    repository.set("DONT_FAKE_MONOTONIC", "1");
}

/// Puts the clock ahead or back, as in `-1h`.
pub(super) fn set_clock(repository: &TestEnvironment, offset: &str) {
    repository.write(CLOCK, &format!("{offset}\n"));
}

const CLOCK: &str = ".stagewright-clock";
