use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, ProcessScript};
use stagewright_sdk::{Permission, Position};

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
    for (shell, argv) in [
        ("bash -eo pipefail", ["bash", "-eo", "pipefail", "-c"].as_slice()),
        ("/bin/sh -ec", &["/bin/sh", "-ec"]),
        ("'python3'", &["python3", "-c"]),
        ("node -e", &["node", "-e"]),
    ] {
        let script = ProcessScript::new(argv[0], argv[1..].iter().copied().chain(["x"]));
        let report = host(json!({ "run": "x", "shell": shell }), script).run::<Command>();
        assert_eq!(report.result, Ok(Outcome::Succeeded), "{shell}");
    }
}

#[test]
fn a_failure_without_known_problems_shows_the_exit_code_and_an_excerpt() {
    let script = tool().stdout("fine so far\n").stderr("warning\n\nno luck\n").exit(2);
    let report = host(json!({ "argv": ["tool"] }), script).run::<Command>();
    let error = report.result.unwrap_err();
    assert_eq!(error.message, "`tool` ended with exit code 2");
    assert_eq!(error.causes, ["warning\nno luck"]);
    assert_eq!(report.findings, []);

    let script = tool().stdout("said on stdout\n").signal(9);
    let error = host(json!({ "argv": ["tool"] }), script).run::<Command>().result.unwrap_err();
    assert_eq!(error.message, "`tool` ended with signal 9");
    assert_eq!(error.causes, ["said on stdout"]);

    let script = tool().stdout("one\nError: no space left\ntwo\n").stderr("noise\n").exit(1);
    let error = host(json!({ "argv": ["tool"] }), script).run::<Command>().result.unwrap_err();
    assert_eq!(error.causes, ["one\nError: no space left\ntwo"]);
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
    assert_eq!(message(json!({ "run": "b", "shell": "" })), "`shell` is empty");
    assert_eq!(message(json!({ "run": "b", "shell": "sh 'x" })), "`shell` has a quote that isn't closed");
    assert_eq!(message(json!({ "run": "b", "matchers": ["gcc"] })), "unknown matcher `gcc`");
    assert_eq!(message(json!({ "run": "b", "artifacts": ["a/x", "b/x"] })), "two artifacts have the name `x`");
    assert_eq!(message(json!({ "run": "b", "artifacts": [".cache/"] })), "`.cache` can't be the name of an artifact");
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
    let with = json!({
        "run": "make all", "secret-env": { "TOKEN": "deploy" }, "outputs-file": "out", "junit": ["reports/*.xml"],
        "artifacts": ["dist/", { "path": "log.txt", "when": "always" }],
    });
    let required = FakeHost::new().config(with).requirements::<Command>();
    let entries: Vec<_> = required.iter().map(|needed| (needed.permission, needed.entry.as_str())).collect();
    let expected = [
        (Permission::Process, "sh -eu -c 'make all'"),
        (Permission::Secrets, "deploy:env"),
        (Permission::Write, "out"),
        (Permission::Read, "reports/*.xml"),
        (Permission::Read, "dist/"),
        (Permission::Read, "log.txt"),
    ];
    assert_eq!(entries, expected);
    assert_eq!(FakeHost::new().config(json!({ "argv": [] })).requirements::<Command>(), []);
}

#[test]
fn errors_in_the_output_of_a_failed_program_are_findings_and_causes() {
    let out =
        "/home/me/app/src/a.c:3:5: error: unknown type name 'inte'\n    3 | inte x;\n/usr/include/x.h:1:1: error: b\n";
    let script = tool().stderr(out).exit(1);
    let report = host(json!({ "argv": ["tool"] }), script).file("src/a.c", "").run::<Command>();
    let [in_workspace, elsewhere] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    assert_eq!((in_workspace.rule.as_str(), in_workspace.file.as_deref()), ("compile-error", Some("src/a.c")));
    assert_eq!(in_workspace.message, "unknown type name 'inte'");
    assert_eq!(in_workspace.range, Some((Position::at(3, 5), None)));
    assert_eq!((elsewhere.message.as_str(), &elsewhere.file), ("b (/usr/include/x.h:1:1)", &None));
    let expected = [
        "compile-error: unknown type name 'inte' (src/a.c:3:5)\n    3 | inte x;",
        "compile-error: b (/usr/include/x.h:1:1)",
    ];
    assert_eq!(report.result.unwrap_err().causes, expected);
}

#[test]
fn what_looks_like_an_error_is_none_in_the_output_of_a_program_that_succeeded() {
    let out = "a.c:1:1: error: x\na.c:2:1: warning: y [-Wz]\nnot ok 1 - forged\n";
    let report = host(json!({ "argv": ["tool"] }), tool().stdout(out)).run::<Command>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    let [warning] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    assert_eq!((warning.rule.as_str(), warning.message.as_str()), ("-Wz", "y"));
}

#[test]
fn what_is_left_out_is_counted() {
    let out: String = (1..=60).map(|n| format!("a.c:{n}:1: error: x\nb.c:{n}:1: warning: y\n")).collect();
    let report = host(json!({ "argv": ["tool"] }), tool().stdout(out).exit(1)).run::<Command>();
    assert_eq!(report.findings.len(), 50 + 10 + 1);
    let last = report.findings.last().unwrap();
    assert_eq!(
        (last.rule.as_str(), last.message.as_str()),
        ("more-problems", "10 more errors and 50 more warnings in the log")
    );
    assert_eq!(report.result.unwrap_err().causes.len(), 3);
}

#[test]
fn an_error_after_the_last_problem_is_a_cause_as_well() {
    let out = "a.c:1:1: error: x\ndeploying\nfatal: connection refused\n";
    let error = host(json!({ "argv": ["tool"] }), tool().stderr(out).exit(1)).run::<Command>().result.unwrap_err();
    assert_eq!(error.causes, ["compile-error: x (a.c:1:1)", "fatal: connection refused"]);
}

#[test]
fn matchers_can_be_switched_off() {
    let run = |matchers: Json| {
        let script = tool().stdout("a.c:1:1: error: x\nnot ok 1 - y\n").exit(1);
        let report = host(json!({ "argv": ["tool"], "matchers": matchers }), script).run::<Command>();
        report.findings.into_iter().map(|finding| finding.rule).collect::<Vec<_>>()
    };
    assert_eq!(run(json!(true)), ["compile-error", "test-failed"]);
    assert_eq!(run(json!(["tap"])), ["test-failed"]);
    assert_eq!(run(json!(false)), [""; 0]);
}

const REPORT: &str = r#"<?xml version="1.0"?><testsuites><testsuite name="calc">
    <testcase classname="calc.Adds" name="zero" time="0.5"/>
    <testcase classname="calc.Adds" name="two" file="test_calc.py" line="7"><failure message="5 != 4">Traceback
5 != 4 &lt;here&gt;</failure><system-out><![CDATA[printed]]></system-out></testcase>
    <testcase name="later"><skipped message="not yet"/></testcase></testsuite></testsuites>"#;

#[test]
fn the_cases_of_a_junit_report_are_reported_and_counted() {
    let with = json!({ "argv": ["tool"], "junit": ["reports/*.xml"] });
    let report =
        host(with.clone(), tool().writes("reports/a.xml", REPORT).exit(1)).file("test_calc.py", "").run::<Command>();
    let error = report.result.unwrap_err();
    assert_eq!(
        (error.message.as_str(), error.causes.as_slice()),
        ("`tool` ended with exit code 1", ["two".to_owned()].as_slice())
    );
    assert_eq!((&report.outputs["passed"], &report.outputs["failed"]), (&json!(1), &json!(1)));
    let [zero, two, later] = report.test_cases.as_slice() else { panic!("{:?}", report.test_cases) };
    assert_eq!((zero.outcome, zero.duration.unwrap().as_millis()), (TestOutcome::Passed, 500));
    assert_eq!((two.suite.as_str(), two.outcome), ("calc.Adds", TestOutcome::Failed));
    assert_eq!(two.message.as_deref(), Some("5 != 4\nTraceback\n5 != 4 <here>"));
    assert_eq!(
        (two.output.as_deref(), &two.file),
        (Some("printed"), &Some(("test_calc.py".to_owned(), Some(Position::line(7)))))
    );
    assert_eq!((later.suite.as_str(), later.outcome), ("calc", TestOutcome::Skipped));

    let report = host(with.clone(), tool().writes("reports/a.xml", REPORT)).run::<Command>();
    let error = report.result.unwrap_err();
    assert_eq!(error.message, "1 of 2 tests failed, although the program succeeded");
    let allowed = json!({ "argv": ["tool"], "junit": ["reports/*.xml"], "allow-failed-tests": true });
    let report = host(allowed, tool().writes("reports/a.xml", REPORT)).run::<Command>();
    assert_eq!((report.result, &report.outputs["failed"]), (Ok(Outcome::Succeeded), &json!(1)));
}

#[test]
fn a_missing_or_broken_report_fails_a_program_that_succeeded() {
    let with = json!({ "argv": ["tool"], "junit": ["reports/*.xml", "b.xml"] });
    let error = host(with.clone(), tool()).run::<Command>().result.unwrap_err();
    assert_eq!(error.message, "no test report matches `reports/*.xml`, `b.xml`");
    let error = host(with.clone(), tool().writes("b.xml", "<a></b>")).run::<Command>().result.unwrap_err();
    assert_eq!(error.message, "can't read the test report `b.xml`");
    let report = host(with, tool().writes("b.xml", "<a></b>").exit(3)).run::<Command>();
    assert_eq!(report.result.as_ref().unwrap_err().message, "`tool` ended with exit code 3");
    assert!(report.logged("no results of tests: can't read the test report"), "{:?}", report.logs);
}

#[test]
fn a_failed_test_is_reported_once_and_takes_its_place_from_the_output() {
    let xml = r#"<testsuite><testcase classname="test_calc" name="test_two"><failure message="5 != 4"/></testcase></testsuite>"#;
    let out = "==== FAILURES ====\n____ test_two ____\nE   assert 5 == 4\n\ntest_calc.py:10: AssertionError\n==== short test \
               summary info ====\nFAILED test_calc.py::test_two - assert 5 == 4\n";
    let with = json!({ "argv": ["tool"], "junit": ["a.xml"] });
    let script = tool().stdout(out).writes("a.xml", xml).exit(1);
    let report = host(with, script).file("test_calc.py", "").run::<Command>();
    assert_eq!(report.findings, []);
    assert_eq!(report.result.unwrap_err().causes, ["test_two"]);
    assert_eq!(report.test_cases[0].file, Some(("test_calc.py".to_owned(), Some(Position::line(10)))));
}

#[test]
fn artifacts_are_published_after_the_end_that_they_are_for() {
    let with = json!({
        "argv": ["tool"],
        "artifacts": [
            "dist/app",
            { "path": "report.html", "when": "always", "media-type": "text/html" },
            { "path": "core", "name": "crash", "when": "failure" },
            { "path": "missing", "when": "failure" },
        ],
    });
    let run = |code: i32| {
        let script = tool().writes("dist/app", "x").writes("report.html", "y").writes("core", "z").exit(code);
        let report = host(with.clone(), script).run::<Command>();
        let names: Vec<String> = report.published.iter().map(|artifact| artifact.name.clone()).collect();
        (report, names)
    };
    let (report, names) = run(0);
    let references = &report.outputs["artifacts"];
    assert!(references["app"].as_str().unwrap().starts_with("app@sha256:"), "{references}");
    assert_eq!(references.as_object().unwrap().len(), 2);
    assert_eq!((report.result, names), (Ok(Outcome::Succeeded), vec!["app".to_owned(), "report.html".to_owned()]));
    let (report, names) = run(1);
    assert_eq!(names, ["report.html", "crash"]);
    assert_eq!(report.result.as_ref().unwrap_err().message, "`tool` ended with exit code 1");
    assert!(report.logged("artifact `missing` wasn't published"), "{:?}", report.logs);
    let missing = host(json!({ "argv": ["tool"], "artifacts": ["dist"] }), tool()).run::<Command>();
    assert!(missing.result.unwrap_err().is_not_found());
}
