//! Failures of the machine: a full disk, a store that is read-only or damaged, concurrent engines, a clock that jumps. The
//! run stops with a clear error or isn't affected, and nothing else is damaged.

use std::os::unix::fs::FileExt as _;

use serde_json::Value as Json;

use crate::environment::{Ended, TestEnvironment, binary, eventually, text};
use crate::production::Production;

const CHATTY: &str = r#"
schema = 1
[pipeline]
name = "chatty"
[stages.small]
uses = "noop"
[stages.talk]
uses = "command"
needs = ["small"]
with = { run = "if ! test -f quiet; then yes talk | head -c 4000000; fi; echo done" }
[stages.talk.permissions]
process = ["sh"]
read = ["."]
[stages.after]
uses = "noop"
needs = ["talk"]
"#;

/// Runs a script in its own mount namespace, where `S` is the binary. Returns its output.
fn with_own_mounts(environment: &TestEnvironment, script: &str) -> String {
    let script = format!("set -eu; S={}; STATE=$PWD/.stagewright; {script}", binary().display());
    let root = rustix::process::geteuid().is_root();
    let mut command = environment.program("unshare");
    command.args(if root { &["--mount"][..] } else { &["--mount", "--map-root-user"] }).args(["sh", "-c", &script]);
    let ended = Ended::of(&command.output().expect("unshare starts")).exits(0);
    ended.stdout + &ended.stderr
}

#[test]
fn a_full_disk_stops_the_run_which_can_be_resumed_with_free_space() {
    let environment = TestEnvironment::with_pipeline(CHATTY);
    let said = with_own_mounts(
        &environment,
        "mkdir $STATE; mount -t tmpfs -o size=1m tmpfs $STATE
         $S run && exit 1 || echo run ended with $?
         touch quiet; mount -o remount,size=50m $STATE
         $S runs; $S resume latest; $S show latest --format json",
    );
    assert!(said.contains("run ended with 7"), "{said}");
    assert!(said.contains("free some disk space") && said.contains("stagewright resume"), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    let events = said.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok()).collect::<Vec<_>>();
    let starts = events.iter().filter(|event| event["type"] == "attempt-started");
    let starts = starts.map(|event| format!("{}#{}", text(&event["stage-id"]), event["attempt"])).collect::<Vec<_>>();
    assert_eq!(starts, ["small#1", "talk#1", "talk#2", "after#1"]);
}

#[test]
fn a_read_only_store_can_be_read_but_refuses_runs() {
    let environment = TestEnvironment::with_pipeline(CHATTY);
    environment.write("quiet", "");
    environment.run(&["run"]).exits(0);
    let said = with_own_mounts(
        &environment,
        "mount --bind $STATE $STATE; mount -o remount,bind,ro $STATE
         $S runs; $S logs latest talk; $S show latest
         $S run && exit 1 || echo run ended with $?",
    );
    assert!(said.contains("succeeded") && said.contains("done"), "{said}");
    assert!(said.contains("run ended with 7") && said.contains("write access"), "{said}");
}

#[test]
fn a_damaged_page_is_reported_and_damages_nothing_else() {
    let environment = TestEnvironment::with_pipeline(CHATTY);
    environment.write("quiet", "");
    environment.run(&["run"]).exits(0);
    environment.run(&["run"]).exits(0);
    // The data may still be in the write-ahead log. This writes it back to the database.
    environment.run(&["gc"]).exits(0);
    let database = environment.root().join(".stagewright/stagewright.db");
    let size = std::fs::metadata(&database).unwrap().len();
    let page = 4096;
    assert!(size > 8 * page, "the database wasn't written back: {size} bytes");
    let files = ["db", "db-wal", "db-shm"].map(|extension| database.with_extension(extension));
    let before = files.each_ref().map(std::fs::read);
    for number in 0..size / page {
        let file = std::fs::OpenOptions::new().write(true).open(&database).unwrap();
        file.write_all_at(&vec![0xa5; 4096], number * page).unwrap();
        for command in [&["runs"][..], &["show", "latest"], &["run"]] {
            let ended = environment.run(command);
            let reported = ended.code == 7 && ended.stderr.contains("error: ") && ended.stderr.contains("help: ");
            assert!(ended.code == 0 || reported, "page {number}: {ended:#?}");
            assert!(!ended.stderr.contains("panicked"), "page {number}: {ended:#?}");
        }
        for (file, content) in files.iter().zip(&before) {
            let _ = std::fs::remove_file(file);
            content.iter().for_each(|content| std::fs::write(file, content).unwrap());
        }
    }
    environment.run(&["runs"]).exits(0);
}

#[test]
fn concurrent_engines_share_a_store_without_driving_each_others_runs() {
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        [pipeline]
        name = "shared"
        [stages.wait]
        uses = "command"
        with = { run = "while ! test -f go; do sleep 0.05; done" }
        [stages.wait.permissions]
        process = ["sh"]
        read = ["."]
        [stages.many]
        uses = "noop"
        needs = ["wait"]
        matrix = { n = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] }
        "#,
    );
    let children = (0..4).map(|_| environment.start(&["run"])).collect::<Vec<_>>();
    eventually("all of them run", || {
        (environment.run(&["runs"]).stdout.matches(" running ").count() == 4).then_some(())
    });
    let refused = environment.run(&["resume", "latest"]).exits(4);
    assert!(refused.stderr.contains("is being driven by process"), "{}", refused.stderr);
    environment.write("go", "");
    for child in children {
        Ended::of(&child.wait_with_output().unwrap()).exits(0);
    }
    assert_eq!(environment.run(&["runs"]).stdout.matches(" succeeded ").count(), 4);
}

#[test]
fn clock_jumps_change_neither_order_nor_outcomes() {
    let mut production = Production::new();
    let library = eventually("libfaketime is there: apt-get install faketime", || {
        let folders = std::path::Path::new("/usr/lib").read_dir().ok()?.flatten();
        folders.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.is_file())
    });
    production.0.write("clock", "+0\n");
    production.0.set("LD_PRELOAD", &library.display().to_string());
    production.0.set("FAKETIME_TIMESTAMP_FILE", &production.0.root().join("clock").display().to_string());
    production.0.set("FAKETIME_NO_CACHE", "1");
    production.0.set("DONT_FAKE_MONOTONIC", "1");
    for (version, clock) in [("1", "+0\n"), ("2", "-400d\n"), ("3", "+400d\n"), ("4", "-1d\n")] {
        let marker = production.0.root().join(format!("ready-{version}")).display().to_string();
        let inputs = [format!("version={version}"), format!("wait-for={marker}")];
        let child = production.0.start(&["run", "--input", &inputs[0], "--input", &inputs[1]]);
        eventually("the deploy holds production", || {
            production.0.run(&["env", "list"]).stdout.contains("is deploying").then_some(())
        });
        // Let the clock jump during the deploy, while others query the environment.
        production.0.write("clock", clock);
        production.0.run(&["env", "list"]).exits(0);
        production.0.write(&format!("ready-{version}"), "");
        Ended::of(&child.wait_with_output().unwrap()).exits(0);
        assert_eq!(production.serves(), format!("version {version}"));
    }
    let history = production.0.run(&["env", "history", "production", "--json"]).exits(0);
    let history: Vec<Json> = serde_json::from_str(&history.stdout).expect("JSON");
    let fences = history.iter().map(|row| row["release"]["fence"].as_u64().unwrap()).collect::<Vec<_>>();
    assert!(fences.len() == 4 && fences.is_sorted_by(|newer, older| newer > older), "{fences:?}");
}
