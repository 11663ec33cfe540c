//! Reads the state folder and the lock file of an earlier version.
//!
//! `fixtures/state-of-0.1.tar.gz` is a repository in which version 0.1, at the commit before the crates were reorganised,
//! ran a pipeline twice: the first run failed at `check`, the second one waits at `approve`. It must stay readable. A
//! version that changes a format adds a fixture of its own.

use crate::environment::TestEnvironment;

fn left_by_0_1() -> TestEnvironment {
    let environment = TestEnvironment::new();
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/state-of-0.1.tar.gz");
    let root = environment.root().display().to_string();
    let unpacked = environment.program("tar").args(["-xzf", archive, "-C", &root]).output().expect("tar starts");
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    environment
}

/// The ids of the runs, the newest first.
fn runs(environment: &TestEnvironment) -> Vec<String> {
    let listed = environment.run(&["runs"]).exits(0).stdout;
    listed.lines().map(|line| line.split_whitespace().next().unwrap_or_default().to_owned()).collect()
}

/// Approves until the run ends: the plugins were rebuilt since, so the first approval lapses.
fn finish(environment: &TestEnvironment, run: &str) {
    let mut last = String::new();
    for _ in 0..3 {
        let resumed = environment.run(&["resume", run, "--accept-changes"]);
        last = resumed.stdout + &resumed.stderr;
        if last.contains("of deliver succeeded") {
            return;
        }
        environment.run(&["approve", run, "--by", "ada"]).exits(0);
    }
    panic!("{run} didn't succeed: {last}");
}

#[test]
fn runs_of_an_earlier_version_are_listed_shown_and_resumed() {
    let environment = left_by_0_1();
    let [waiting, failed] = runs(&environment).try_into().expect("two runs");
    let listed = environment.run(&["runs"]).exits(0).stdout;
    assert!(listed.contains("waits at approve") && listed.contains("at check"), "{listed}");
    let shown = environment.run(&["show", &failed]).exits(0).stdout;
    assert!(shown.contains("check") && shown.contains("failed"), "{shown}");
    assert_eq!(environment.run(&["logs", &failed, "build"]).exits(0).stdout.trim(), "built");
    let why = environment.run(&["explain", "build", "--run", &waiting]).exits(0).stdout;
    assert!(why.contains("nothing that it depends on has changed"), "{why}");
    // In order of their numbers, because after the newer run the older one would be superseded.
    finish(&environment, &failed);
    finish(&environment, &waiting);
    let listed = environment.run(&["runs"]).exits(0).stdout;
    assert_eq!(listed.matches("succeeded").count(), 2, "{listed}");
}

#[test]
fn a_lock_of_an_earlier_version_is_read_unchanged() {
    let environment = left_by_0_1();
    let ended = environment.run(&["lock", "--check"]);
    let said = ended.stdout + &ended.stderr;
    // The rebuilt plugins are the only change.
    let changes = said.lines().filter(|line| line.trim_start().starts_with(['+', '-']));
    let unexpected: Vec<&str> = changes.filter(|line| !line.contains("+ plugin `")).collect();
    assert!(said.contains("deliver  stagewright.toml") && unexpected.is_empty(), "{said}");
    environment.run(&["lock"]).exits(0);
    environment.run(&["lock", "--check"]).exits(0);
}
