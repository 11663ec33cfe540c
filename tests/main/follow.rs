//! `logs --follow`: the logs of a run of another process.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use crate::environment::{Ended, TestEnvironment, eventually};

/// Two stages, of which the first waits for a file, prints many lines at its end, and ends with `code`.
fn environment(code: i32) -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(&format!(
        r#"
        schema = 1
        pipeline.name = "p"
        [stages.slow]
        uses = "command"
        with.run = "echo begins; while [ ! -f go/on ]; do sleep 0.05; done; seq 500; exit {code}"
        permissions = {{ process = ["sh", "seq", "sleep"], read = ["go"] }}
        [stages.next]
        uses = "command"
        with.run = "echo followed"
        needs = ["slow"]
        permissions = {{ process = ["sh"] }}
        "#
    ));
    environment.write("go/README", "");
    environment
}

/// Starts a run, and returns it once its first stage has printed something.
fn started(environment: &TestEnvironment) -> Child {
    let run = environment.start(&["run"]);
    eventually("the first line", || environment.run(&["logs"]).stdout.contains("begins").then_some(()));
    run
}

fn end(child: Child) -> Ended {
    Ended::of(&child.wait_with_output().expect("an end"))
}

#[test]
fn every_line_is_shown_until_the_end_of_the_run_and_of_the_stage() {
    let environment = environment(0);
    let run = started(&environment);
    let [all, stage] = [&["logs", "-f"][..], &["logs", "-f", "latest", "slow"]].map(|args| environment.start(args));
    environment.write("go/on", "");
    let (all, stage) = (end(all).exits(0), end(stage).exits(0));
    end(run).exits(0);

    let lines = stage.stdout.lines().collect::<Vec<_>>();
    assert_eq!((lines.len(), lines[0], lines[500]), (501, "begins", "500"));
    let lines = all.stdout.lines().collect::<Vec<_>>();
    assert_eq!(lines.len(), 502);
    assert!(lines[0].starts_with("slow #1") && lines[0].ends_with(" begins"), "{}", lines[0]);
    assert!(lines[501].starts_with("next #1") && lines[501].ends_with(" followed"), "{}", lines[501]);
    let again = environment.run(&["logs", "--follow"]).exits(0);
    assert_eq!(again.stdout, all.stdout, "a run that has ended");
}

#[test]
fn the_exit_code_is_that_of_the_run_only_if_asked_for() {
    let environment = environment(3);
    let run = started(&environment);
    let follow = ["logs", "-f", "--exit-status"];
    let [all, stage] =
        [&follow[..], &["logs", "-f", "--exit-status", "latest", "slow"]].map(|args| environment.start(args));
    let plain = environment.start(&["logs", "-f"]);
    environment.write("go/on", "");
    end(run).exits(1);
    end(all).exits(1);
    end(stage).exits(1);
    end(plain).exits(0);
    environment.run(&follow).exits(1);
}

#[test]
fn an_interrupt_ends_the_following_and_not_the_run() {
    let environment = environment(0);
    let run = started(&environment);
    let mut following = environment.start(&["logs", "-f"]);
    let pid = Pid::from_raw(i32::try_from(following.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(!following.wait().unwrap().success());
    environment.write("go/on", "");
    end(run).exits(0);
}

#[test]
fn following_ends_when_no_process_drives_the_run() {
    let environment = environment(0);
    let mut run = started(&environment);
    let following = environment.start(&["logs", "-f", "--exit-status"]);
    run.kill().unwrap();
    run.wait().unwrap();
    let ended = end(following).exits(1);
    assert!(ended.stderr.contains("to continue it: stagewright resume "), "{}", ended.stderr);

    let gate = TestEnvironment::with_pipeline(
        "schema = 1\npipeline.name = \"p\"\n[stages.ask]\nuses = \"approve\"\nwith.message = \"Go?\"\n",
    );
    gate.run(&["run"]).exits(5);
    let waits = gate.run(&["logs", "-f", "--exit-status"]).exits(5);
    assert!(waits.stderr.contains("waits at a gate"), "{}", waits.stderr);
}
