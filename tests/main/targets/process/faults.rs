//! Faults of deploys to processes of this machine.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Processes;
use crate::environment::eventually;
use crate::targets::engine::{REGISTRY, start_registry};
use crate::targets::faults::{
    build, check_registry_down, deploy_two_at_once, fake_clock, gate_deploy, go, require_login, set_clock,
};

/// Whose images come from a registry.
fn from_registry() -> Processes {
    let processes = Processes::with("");
    start_registry(&processes.machine, "");
    let pipeline = processes.repository.read("stagewright.toml");
    let pipeline = pipeline.replace("local/versioned", &format!("{REGISTRY}/versioned"));
    processes.repository.write("stagewright.toml", &pipeline);
    processes
}

#[test]
fn a_registry_that_is_down_stops_a_deploy_and_no_rollback() {
    let processes = from_registry();
    check_registry_down(
        &processes.repository,
        &processes.machine,
        "can't start 127.0.0.1:5000/versioned@",
        |version| {
            assert_eq!((processes.serves(), processes.programs()), (Some(format!("version {version}")), 1));
        },
    );
}

const CONFIGURATION: &str = r#"{ "auths": { "127.0.0.1:5000": { "auth": "LOGIN" } } }"#;

#[test]
fn a_login_that_expires_between_the_build_and_the_deploy_is_named_and_can_be_renewed() {
    let processes = from_registry();
    processes.deploy("1", &[], 0);
    gate_deploy(&processes.repository);
    let run = build(&processes.repository, "2");
    require_login(&processes.machine);
    let log_in = |password: &str| {
        let home = processes.repository.root().parent().expect("a folder").join("home/.docker");
        std::fs::create_dir_all(&home).expect("a folder");
        let login = STANDARD.encode(format!("deploy:{password}"));
        std::fs::write(home.join("config.json"), CONFIGURATION.replace("LOGIN", &login)).expect("a file");
    };
    log_in("of-yesterday");
    let failed = go(&processes.repository, &run).exits(1).stdout;
    for words in ["the registry requires other credentials", "those for `127.0.0.1:5000` were not accepted"] {
        assert!(failed.contains(words), "{words}: {failed}");
    }
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 1"), 1));
    log_in("of-today");
    processes.repository.run(&["resume", &run]).exits(0);
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 2"), 1));
}

#[test]
fn a_release_that_was_ended_by_hand_after_the_build_is_replaced() {
    let processes = Processes::with("");
    processes.deploy("1", &[], 0);
    gate_deploy(&processes.repository);
    let run = build(&processes.repository, "2");
    processes.repository.run(&["service", "stop", "production", "versioned"]).exits(0);
    assert_eq!((processes.serves(), processes.programs()), (None, 0));
    go(&processes.repository, &run).exits(0);
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 2"), 1));
}

#[test]
fn of_two_deploys_at_once_the_newer_one_serves_at_the_end() {
    let processes = Processes::with("");
    processes.deploy("0", &[], 0);
    gate_deploy(&processes.repository);
    deploy_two_at_once(&processes.repository, "1", "2");
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 2"), 1));
}

/// A pause of a canary that is longer than the test.
const PAUSED: &str = r#"strategy = { canary = { steps = [{ set-weight = 30 }, { pause = { duration = "2h" } }, { set-weight = 60 }] } }"#;

#[test]
fn a_clock_put_ahead_ends_a_pause_and_one_put_back_leaves_it_to_a_person() {
    let mut processes = Processes::with("");
    processes.deploy("0", &[], 0);
    processes.configure(PAUSED);
    fake_clock(&mut processes.repository);
    let paused = |version: &str| {
        let run = processes.repository.start(&["run", "--input", &format!("version={version}")]);
        eventually("the canary is paused", || (processes.rollout()["phase"] == "paused").then_some(()));
        run
    };
    let check = |version: &str| {
        let serves = (processes.serves(), processes.programs());
        assert_eq!(serves, (Some(format!("version {version}")), 1));
        assert_eq!(processes.rollout()["weight"], 100);
    };
    let mut ahead = paused("1");
    set_clock(&processes.repository, "+1d");
    // A run that goes on looks at the clock each minute, and one that is resumed at once.
    ahead.kill().expect("the engine runs");
    ahead.wait().expect("an end");
    processes.repository.run(&["resume", "latest"]).exits(0);
    check("1");

    let mut back = paused("2");
    set_clock(&processes.repository, "-1d");
    processes.repository.run(&["rollout", "promote", "production"]).exits(0);
    assert!(back.wait().expect("an end").success());
    check("2");
    let mut aborted = paused("3");
    set_clock(&processes.repository, "-400d");
    processes.repository.run(&["rollout", "abort", "production"]).exits(0);
    assert_eq!(aborted.wait().expect("an end").code(), Some(1));
    assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 2"), 1));
    let fences = releases_of(&processes);
    assert!(fences.len() == 3 && fences.is_sorted_by(|newer, older| newer > older), "{fences:?}");
}

/// The process that drives the run may carry out a decision and end before the command has looked whether one drives it.
#[test]
fn an_aborted_release_is_not_deployed_again_however_fast_its_run_ends() {
    let processes = Processes::with("");
    processes.deploy("0", &[], 0);
    processes.configure(PAUSED);
    for attempt in 1..=3 {
        let mut run = processes.repository.start(&["run", "--input", "version=1"]);
        eventually("the canary is paused", || (processes.rollout()["phase"] == "paused").then_some(()));
        processes.repository.run(&["rollout", "abort", "production"]).exits(0);
        assert_eq!(run.wait().expect("an end").code(), Some(1));
        let shown = processes.repository.run(&["show", "latest"]).exits(0).stdout;
        assert!(!shown.contains("resumed: "), "abort {attempt}: {shown}");
        assert_eq!((processes.serves().as_deref(), processes.programs()), (Some("version 0"), 1));
    }
}

/// The tokens of the releases in the ledger, the newest first.
fn releases_of(processes: &Processes) -> Vec<u64> {
    let history = processes.repository.run(&["env", "history", "production", "--json"]).exits(0).stdout;
    let history: Vec<serde_json::Value> = serde_json::from_str(&history).expect("JSON");
    history.iter().map(|row| row["release"]["fence"].as_u64().expect("a token")).collect()
}
