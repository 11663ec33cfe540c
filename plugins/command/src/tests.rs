use serde_json::{Value as Json, json};
use stagewright_sdk::Permission;
use stagewright_sdk::fake::{FakeHost, ProcessScript};

use super::*;

fn host(with: Json, script: ProcessScript) -> FakeHost {
    FakeHost::new().config(with).process(script)
}

fn tool() -> ProcessScript {
    ProcessScript::new("tool", [""; 0])
}

#[test]
fn a_program_gets_its_arguments_environment_folder_and_input() {
    let with = json!({
        "argv": ["tool", "-x"], "cwd": "sub", "env": { "A": "1" }, "stdin": "in", "secret-env": { "TOKEN": "deploy" },
    });
    let report = host(with, tool()).secret("deploy", "hush").file("sub/a", "").run::<Command>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    let spawned = &report.spawned[0];
    assert_eq!((spawned.program.as_str(), spawned.args.as_slice()), ("tool", ["-x".to_owned()].as_slice()));
    assert_eq!(spawned.current_dir.as_deref(), Some("sub"));
    assert_eq!(spawned.env["A"], "1");
    assert_eq!(spawned.secret_env["TOKEN"], "deploy");
    assert_eq!(spawned.stdin, b"in");
    assert_eq!(report.outputs["exit-code"], 0);
}

#[test]
fn a_script_is_passed_to_the_shell_which_stops_at_the_first_error() {
    let report = host(json!({ "run": "make" }), ProcessScript::new("sh", ["-eu", "-c", "make"])).run::<Command>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    let with = json!({ "run": "1 + 1", "shell": ["python3", "-c"] });
    let report = host(with, ProcessScript::new("python3", ["-c", "1 + 1"])).run::<Command>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
}

#[test]
fn a_failure_shows_the_exit_code_and_the_last_lines() {
    let script = tool().stdout("fine so far\n").stderr("warning\n\nno such file\n").exit(2);
    let error = host(json!({ "argv": ["tool"] }), script).run::<Command>().result.unwrap_err();
    assert_eq!(error.message, "`tool` ended with exit code 2");
    assert_eq!(error.causes, ["warning", "no such file"]);

    let script = tool().stdout("said on stdout\n").signal(9);
    let error = host(json!({ "argv": ["tool"] }), script).run::<Command>().result.unwrap_err();
    assert_eq!(error.message, "`tool` ended with signal 9");
    assert_eq!(error.causes, ["said on stdout"]);
}

#[test]
fn only_the_last_lines_are_kept() {
    let noise: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let error = host(json!({ "argv": ["tool"] }), tool().stderr(noise).exit(1)).run::<Command>().result.unwrap_err();
    assert_eq!(error.causes.len(), 20);
    assert_eq!(error.causes[19], "line 99");
}

#[test]
fn other_exit_codes_can_count_as_success() {
    let with = json!({ "argv": ["tool"], "exit-codes": [0, 3] });
    let report = host(with, tool().exit(3)).run::<Command>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.outputs["exit-code"], 3);
}

#[test]
fn captured_output_becomes_an_output() {
    let with = json!({ "argv": ["tool"], "capture": "version" });
    let report = host(with.clone(), tool().stdout("1.2\n").stderr("noise\n")).run::<Command>();
    assert_eq!(report.outputs["version"], "1.2");
    let error = host(with, tool().stdout("x".repeat(CAPTURE_LIMIT + 1))).run::<Command>().result.unwrap_err();
    assert!(error.message.contains("more than"), "{error}");
}

#[test]
fn an_old_outputs_file_is_removed_first() {
    let with = json!({ "argv": ["tool"], "outputs-file": "out" });
    let script = tool().writes("out", "name=a=b\n\n{\"count\": 3, \"name\": \"c\"}\n");
    let report = host(with.clone(), script).file("out", "stale=1").run::<Command>();
    assert_eq!(report.outputs["name"], "c");
    assert_eq!(report.outputs["count"], 3);
    assert!(!report.outputs.contains_key("stale"));

    let error = host(with.clone(), tool()).file("out", "stale=1").run::<Command>().result.unwrap_err();
    assert_eq!(error.message, "the program wrote no outputs to `out`");

    let error = host(with, tool().writes("out", "a=1\nnonsense\n")).run::<Command>().result.unwrap_err();
    assert!(error.message.starts_with("out:2: neither"), "{error}");
}

#[test]
fn contradictory_configurations_are_refused() {
    let message = |with: Json| FakeHost::new().config(with).validate::<Command>().remove(0).message;
    assert_eq!(message(json!({})), "neither `argv` nor `run` is set");
    assert_eq!(message(json!({ "argv": ["a"], "run": "b" })), "`argv` and `run` can't be combined");
    assert_eq!(message(json!({ "argv": [] })), "`argv` is empty");
    assert_eq!(message(json!({ "argv": ["a"], "shell": ["b"] })), "`shell` requires `run`");
    assert!(message(json!({ "run": "b", "cwd": "/tmp" })).starts_with("path `/tmp` is absolute; "));
    assert!(message(json!({ "run": "b", "outputs-file": "../out" })).starts_with("path `../out` leaves a folder"));
    let long = message(json!({ "run": "#".repeat(131_072) }));
    assert_eq!(long, "`run` has 131072 bytes, and an argument has at most 131071 on Linux");
    assert_eq!(FakeHost::new().config(json!({ "run": "b" })).validate::<Command>(), []);
}

#[test]
fn a_program_that_is_not_granted_is_denied() {
    let report = host(json!({ "argv": ["tool"] }), tool()).deny(Permission::Process, "tool").run::<Command>();
    assert!(report.result.unwrap_err().is_denied());
}

#[test]
fn the_command_line_its_secrets_and_its_outputs_are_required() {
    let with = json!({ "run": "make all", "secret-env": { "TOKEN": "deploy" }, "outputs-file": "out" });
    let required = FakeHost::new().config(with).requirements::<Command>();
    let entries: Vec<_> = required.iter().map(|needed| (needed.permission, needed.entry.as_str())).collect();
    let expected = [
        (Permission::Process, "sh -eu -c 'make all'"),
        (Permission::Secrets, "deploy:env"),
        (Permission::Write, "out"),
    ];
    assert_eq!(entries, expected);
    assert_eq!(FakeHost::new().config(json!({ "argv": [] })).requirements::<Command>(), []);
}
