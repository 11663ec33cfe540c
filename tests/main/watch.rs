//! `run --watch`.

use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

use crate::environment::{TestEnvironment, text};

/// A watching process, with the events that it prints.
struct Watching {
    child: Child,
    events: Receiver<Json>,
}

impl Watching {
    fn start(environment: &TestEnvironment) -> Watching {
        let mut child = environment.start(&["run", "--watch", "--format", "json"]);
        let (sender, events) = channel();
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).expect("a JSON line"));
            }
        });
        Watching { child, events }
    }

    /// Waits for an event.
    #[track_caller]
    fn wait_for(&self, kind: &str) -> Json {
        loop {
            let event = self.events.recv_timeout(Duration::from_secs(60));
            let event = event.unwrap_or_else(|error| panic!("no `{kind}`: {error}"));
            if event["type"] == kind {
                return event;
            }
        }
    }

    /// Waits for the end of a run, and returns its conclusion.
    #[track_caller]
    fn ended(&self) -> String {
        text(&self.wait_for("run-ended")["conclusion"])
    }

    /// Checks that no run starts. A second is long after any notification.
    #[track_caller]
    fn rests(&self) {
        let next = self.events.recv_timeout(Duration::from_secs(1));
        assert_eq!(next, Err(RecvTimeoutError::Timeout));
    }

    fn interrupt(mut self) -> i32 {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill_process(Pid::from_raw(pid).expect("not 0"), Signal::INT).expect("a process");
        self.child.wait().expect("an end").code().unwrap_or(-1)
    }
}

impl Drop for Watching {
    /// Ends the process also when a check has failed.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stage that writes what it reads, and another one that reads what the first writes.
fn environment(script: &str) -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(&format!(
        r#"
        schema = 1
        pipeline.name = "p"
        [stages.build]
        uses = "command"
        with.run = '{script}'
        permissions = {{ process = ["sh", "cat", "sleep"], read = ["src", "kept/cache"], write = ["out"] }}
        [stages.check]
        uses = "command"
        needs = ["build"]
        with.run = "cat out/all"
        permissions = {{ process = ["sh", "cat"], read = ["out"] }}
        "#
    ));
    for (path, content) in [("src/a", "1"), ("out/all", ""), ("other/a", ""), ("kept/cache/a", ""), ("kept/b", "")] {
        environment.write(path, content);
    }
    environment.write(".gitignore", "*.log\nkept\n");
    environment.git(&["init", "-q"]);
    environment
}

#[test]
fn only_changes_of_what_stages_read_start_a_run_and_not_what_they_write() {
    let environment = environment("cat src/* > out/all; echo >> out/log");
    let watching = Watching::start(&environment);
    assert_eq!(watching.ended(), "succeeded");
    watching.rests();
    for unread in ["other/a", "src/x.log", "kept/b", ".git/config.tmp", ".stagewright/x"] {
        environment.write(unread, "2");
    }
    watching.rests();
    // Ignored by git, but named by a grant.
    environment.write("kept/cache/a", "2");
    assert_eq!(watching.ended(), "succeeded");
    watching.rests();
    // A folder that is new, with a file that was there before the folder was watched.
    environment.write("src/new/b", "2");
    assert_eq!(watching.ended(), "failed", "`cat` can't read a folder");
    std::fs::remove_dir_all(environment.root().join("src/new")).unwrap();
    assert_eq!(watching.ended(), "succeeded");
    watching.rests();
    // What a stage may write counts while no run is under way.
    std::fs::remove_file(environment.root().join("out/all")).unwrap();
    assert_eq!(watching.ended(), "succeeded");
    watching.rests();
    assert_eq!(watching.interrupt(), 0);
}

#[test]
fn a_change_during_a_run_cancels_it_and_the_next_one_sees_the_change() {
    let environment = environment("cat src/* > out/all; [ -f src/quick ] || { echo asleep; sleep 60; }");
    let watching = Watching::start(&environment);
    watching.wait_for("log");
    environment.write("src/quick", "2");
    let cancelled = watching.wait_for("cancel-requested");
    assert_eq!(text(&cancelled["reason"]), "src/quick changed");
    assert_eq!(watching.ended(), "cancelled");
    assert_eq!(watching.ended(), "succeeded");
    assert_eq!(environment.read("out/all"), "12");
    watching.rests();
    assert_eq!(watching.interrupt(), 0);
}

#[test]
fn ctrl_c_during_a_run_cancels_it_and_ends_the_watching() {
    let environment = environment("sleep 60");
    let watching = Watching::start(&environment);
    watching.wait_for("attempt-started");
    assert_eq!(watching.interrupt(), 130);
}

#[test]
fn a_mistake_in_the_pipeline_is_shown_and_the_watching_goes_on() {
    let environment = environment("cat src/* > out/all");
    let watching = Watching::start(&environment);
    assert_eq!(watching.ended(), "succeeded");
    let valid = environment.read("stagewright.toml");
    environment.write("stagewright.toml", "schema = 1\n");
    watching.rests();
    environment.write("stagewright.toml", &valid);
    assert_eq!(watching.ended(), "succeeded");
    assert_eq!(watching.interrupt(), 0);
}

#[test]
fn stages_that_act_beyond_the_machine_are_not_watched() {
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        pipeline.name = "p"
        [environments.staging]
        target = "process"
        [stages.test]
        uses = "noop"
        [stages.deploy]
        uses = "noop"
        environment = "staging"
        "#,
    );
    let refused = environment.run(&["run", "--watch"]).exits(4).stderr;
    assert!(refused.contains("`--watch` runs only stages that stay on this machine, and `deploy` acts"), "{refused}");
    assert!(refused.contains("--only") && refused.contains("--rehearse"), "{refused}");
    assert!(environment.run(&["runs"]).exits(0).stdout.lines().count() < 2, "no run was started");
}
