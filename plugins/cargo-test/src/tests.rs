//! Tests against recorded output of Cargo, libtest and nextest.

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, ProcessScript, Report};
use stagewright_sdk::test_reports::{FailedTest, TestOutcome};
use stagewright_sdk::{Permission, Position};

use super::*;
use crate::results::{Suite, Test, Verdict};

const OUT: &str = include_str!("../tests/fixtures/libtest.stdout");
const ERR: &str = include_str!("../tests/fixtures/libtest.stderr");
const NEXTEST: &str = include_str!("../tests/fixtures/nextest.stderr");
const FORGED: [&str; 2] = [
    include_str!("../tests/fixtures/forged-sequential.stdout"),
    include_str!("../tests/fixtures/forged-parallel.stdout"),
];
const FORGED_ERR: &str = include_str!("../tests/fixtures/forged.stderr");
const COMPILE_ERROR: &str = include_str!("../tests/fixtures/compile-error.stderr");
const GOOD: &str = "\nrunning 1 test\ntest a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; \
                    0 filtered out; finished in 1.25s\n";

fn cargo_test() -> ProcessScript {
    ProcessScript::new("cargo", ["test"])
}

fn run(with: Json, script: ProcessScript) -> Report<Result<Outcome>> {
    FakeHost::new().config(with).file("src/lib.rs", "").file("app/Cargo.toml", "").process(script).run::<CargoTest>()
}

fn libtest(out: &str, err: &str) -> Vec<Suite> {
    let mut parser = libtest::Parser::default();
    out.lines().for_each(|line| parser.stdout(line));
    err.lines().for_each(|line| parser.stderr(line));
    parser.finish(false).suites
}

fn verdicts(suite: &Suite) -> Vec<(&str, Verdict)> {
    suite.tests.iter().map(|test: &Test| (test.name.as_str(), test.verdict)).collect()
}

#[test]
fn suites_are_named_by_executable_and_tests_have_verdicts() {
    use Verdict::{Failed, Ignored, Passed};
    let suites = libtest(OUT, ERR);
    let names: Vec<_> = suites.iter().map(|suite| suite.name.as_str()).collect();
    assert_eq!(
        names,
        ["app (unittests src/lib.rs)", "crash (tests/crash.rs)", "fine (tests/fine.rs)", "app (doc-tests)"]
    );
    let unit = [
        ("tests::good", Passed),
        ("tests::later", Ignored),
        ("tests::panics - should panic", Passed),
        ("tests::bad", Failed),
    ];
    assert_eq!(verdicts(&suites[0]), unit);
    assert_eq!(verdicts(&suites[3]), [("src/lib.rs - one (line 1)", Passed)]);
    assert!(suites[1].is_broken() && !suites[2].is_broken());
}

#[test]
fn the_relative_order_of_the_streams_does_not_matter() {
    let late_names = libtest(OUT, ERR);
    let mut parser = libtest::Parser::default();
    ERR.lines().for_each(|line| parser.stderr(line));
    OUT.lines().for_each(|line| parser.stdout(line));
    assert_eq!(parser.finish(false).suites, late_names);
}

#[test]
fn each_failure_is_reported_with_its_output() {
    let report = run(json!({}), cargo_test().stderr(ERR).stdout(OUT).exit(101));
    let error = report.result.as_ref().unwrap_err();
    assert_eq!(error.message, "2 of 7 tests failed");
    assert_eq!(error.causes, ["tests::bad"]);
    let counts = ["passed", "failed", "ignored"].map(|name| report.outputs[name].as_u64().unwrap());
    assert_eq!(counts, [5, 2, 1]);

    let [bad, crashed] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    assert_eq!((bad.rule.as_str(), bad.file.as_deref()), ("test-failed", Some("src/lib.rs")));
    assert_eq!(bad.range, Some((Position::at(8, 51), None)));
    let expected = "test `tests::bad` of app (unittests src/lib.rs) failed: assertion `left == right` failed: sums are \
                    hard; left: 2; right: 3";
    assert_eq!(bad.message, expected);
    assert_eq!(crashed.rule, "test-crashed");
    assert!(crashed.message.contains("crash (tests/crash.rs)"));
}

#[test]
fn a_run_without_tests_has_no_negative_duration() {
    let report = run(json!({}), cargo_test().stderr("error: no default toolchain\n").exit(1));
    assert!(report.result.is_err());
    assert!(report.metrics["test-duration"].value.is_sign_positive());
}

fn failed_before(with: Json, script: ProcessScript) -> Report<Result<Outcome>> {
    let failed = FailedTest { suite: "app".to_owned(), name: "tests::bad".to_owned(), file: None };
    FakeHost::new().config(with).process(script).failed_before([failed]).run::<CargoTest>()
}

#[test]
fn only_the_tests_that_failed_before_are_run() {
    let args = |with: Json| failed_before(with, cargo_test().stdout(GOOD)).spawned[0].args.join(" ");
    assert!(args(json!({})).ends_with("--no-fail-fast -- --exact tests::bad"));
    assert!(args(json!({ "test-args": ["--nocapture"] })).ends_with("-- --nocapture --exact tests::bad"));
    assert!(args(json!({ "args": ["--lib", "--", "-q"] })).ends_with("--lib -- -q --exact tests::bad"));
}

#[test]
fn tests_that_failed_before_and_are_gone_fail_the_stage() {
    let none = "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in \
                0.00s\n";
    let report = failed_before(json!({ "allow-empty": true }), cargo_test().stdout(none));
    assert_eq!(report.result.unwrap_err().message, "none of the tests that failed before was found");
}

#[test]
fn output_between_name_and_verdict_belongs_to_the_test() {
    let out = "running 2 tests\ntest a ... about to fail\nmore\nFAILED\ntest b ... ok <0.1s>\n\nfailures:\n\nfailures:\n    \
               a\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.50s\n";
    let suites = libtest(out, "");
    assert_eq!(verdicts(&suites[0]), [("a", Verdict::Failed), ("b", Verdict::Passed)]);
    assert_eq!(suites[0].tests[0].output.lines(), ["more"]);
    assert_eq!(suites[0].seconds, 0.5);
}

#[test]
fn a_test_whose_executable_ended_is_unfinished() {
    let suites = libtest("running 2 tests\ntest a ... ok\ntest b ... going down", "");
    assert_eq!(verdicts(&suites[0]), [("a", Verdict::Passed), ("b", Verdict::Unfinished)]);
    assert!(suites[0].is_broken());
}

#[test]
fn forged_results_in_a_tests_output_are_ignored() {
    for out in FORGED {
        let report = run(json!({}), cargo_test().stdout(out).stderr(FORGED_ERR).exit(101));
        assert_eq!(report.result.as_ref().unwrap_err().message, "1 of 5 tests failed");
        let [finding] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
        assert!(finding.message.starts_with("test `fails` of bad (tests/bad.rs) failed"), "{}", finding.message);
        let bad = report.test_cases.iter().filter(|case| case.outcome != TestOutcome::Passed);
        assert_eq!(
            bad.map(|case| (case.outcome, case.name.as_str())).collect::<Vec<_>>(),
            [(TestOutcome::Failed, "fails")]
        );
    }
}

#[test]
fn an_executable_that_passed_for_cargo_has_no_failed_tests() {
    // Up to the end of the first executable, which passed.
    for out in FORGED {
        let first = out.split_inclusive("finished in").take(2).collect::<String>() + " 0.00s\n";
        let report = run(json!({}), cargo_test().stdout(first));
        assert_eq!((report.result, report.findings.len()), (Ok(Outcome::Succeeded), 0));
        assert_eq!((&report.outputs["passed"], &report.outputs["failed"]), (&json!(2), &json!(0)));
    }
    // Forged totals that would match if the executable had failed.
    let forged = GOOD.replace("test a ... ok", "test result: FAILED. 0 passed; 1 failed; 0 ignored\ntest a ... ok");
    let report = run(json!({}), cargo_test().stdout(forged));
    assert_eq!((report.result, report.findings.len()), (Ok(Outcome::Succeeded), 0));
}

#[test]
fn a_compile_error_in_a_tests_output_is_ignored() {
    let err = format!("{FORGED_ERR}error: could not compile `forged` (lib)\n");
    let report = run(json!({}), cargo_test().stdout(FORGED[0]).stderr(err).exit(101));
    assert_eq!(report.result.unwrap_err().message, "1 of 5 tests failed");
}

#[test]
fn an_executable_that_exits_early_fails_the_stage() {
    let out = format!("\nrunning 3 tests\ntest a ... ok\n{GOOD}");
    let report = run(json!({}), cargo_test().stdout(out));
    assert!(report.result.unwrap_err().message.contains("1 of"));
    assert_eq!(report.findings[0].rule, "test-crashed");
    assert_eq!(report.outputs["passed"], 2, "the next executable's output is still parsed");
}

#[test]
fn an_executable_with_its_own_harness_hides_no_failure() {
    let err = "     Running own.rs (target/debug/deps/own-1)\n     Running b.rs (target/debug/deps/b-1)\n\
               error: test failed, to rerun pass `--test b`\n";
    let out = "running 1 test\ntest a ... FAILED\n\nfailures:\n\n---- a stdout ----\nwhy\n\n\nfailures:\n    a\n\n\
               test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n";
    let report = run(json!({}), cargo_test().stdout(out).stderr(err).exit(101));
    assert_eq!(report.result.unwrap_err().message, "1 of 1 test failed");
    assert!(report.findings[0].message.ends_with("failed: why"), "{:?}", report.findings);
}

#[test]
fn forged_nextest_lines_are_ignored() {
    let nextest = |text: String, code| {
        let script = ProcessScript::new("cargo", ["nextest", "run"]).stderr(text).exit(code);
        run(json!({ "runner": "nextest" }), script)
    };
    let begin = "    Starting 2 tests across 1 binary\n       START [         ] (1/2) app a\n";
    let forged = "        FAIL [   0.1s] app x\n     Summary [   0.1s] 9 tests run: 0 passed, 9 failed, 0 skipped\n        \
                  FAIL [   0.1s] app y\n";
    let passed = "        PASS [   0.1s] (1/2) app a\n        PASS [   0.1s] (2/2) app b\n     Summary [   0.3s] 2 tests run: \
                  2 passed, 0 skipped\n";
    let report = nextest(format!("{begin}{forged}{passed}"), 0);
    assert_eq!((report.result, report.findings.len()), (Ok(Outcome::Succeeded), 0));
    assert_eq!((&report.outputs["passed"], &report.outputs["failed"]), (&json!(2), &json!(0)));

    let failed = "        PASS [   0.1s] (1/2) app a\n        FAIL [   0.1s] (2/2) app b\n     Summary [   0.3s] 2 tests run: \
                  1 passed, 1 failed, 0 skipped\n        FAIL [   0.1s] (2/2) app b\nerror: test run failed\n";
    let report = nextest(format!("{begin}{forged}{failed}"), 100);
    assert_eq!(report.result.unwrap_err().causes, ["b"]);
    assert_eq!(report.findings.len(), 1);
}

#[test]
fn nextest_output_is_parsed_from_standard_error() {
    let with = json!({ "runner": "nextest", "profile": "ci" });
    let script = ProcessScript::new("cargo", ["nextest", "run"]).stderr(NEXTEST).exit(100);
    let report = run(with, script);
    assert_eq!(report.result.as_ref().unwrap_err().message, "2 of 6 tests failed");
    assert_eq!(report.outputs["ignored"], 1);
    let [bad, dies] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    assert_eq!(bad.file.as_deref(), Some("src/lib.rs"));
    assert!(bad.message.starts_with("test `tests::bad` of app failed: assertion"), "{}", bad.message);
    assert!(dies.message.contains("(test aborted with signal 6: SIGABRT)"), "{}", dies.message);
    assert!(report.spawned[0].args.windows(2).any(|pair| pair == ["--cargo-profile", "ci"]));
    assert_eq!(report.test_cases.iter().filter(|case| case.suite == "app::crash").count(), 2);
}

#[test]
fn flaky_and_retried_tests_count_once() {
    let text = "    Starting 2 tests across 1 binary\n  TRY 1 FAIL [   0.1s] app a\n  stderr ───\n\n    boom\n\n  TRY 2 PASS \
                [   0.1s] app a\n        PASS [   0.2s] app b\n     Summary [   0.3s] 2 tests run: 2 passed (1 flaky, 1 \
                slow), 0 skipped\n   FLAKY 2/2 [   0.1s] app a\n";
    let mut parser = nextest::Parser::default();
    text.lines().for_each(|line| parser.line(line));
    let results = parser.finish(true);
    assert_eq!(verdicts(&results.suites[0]), [("a", Verdict::Passed), ("b", Verdict::Passed)]);
    assert_eq!((results.passed(), results.failed()), (2, 0));
}

#[test]
fn a_compile_error_is_reported_with_the_first_error() {
    let error = run(json!({}), cargo_test().stderr(COMPILE_ERROR).exit(101)).result.unwrap_err();
    assert_eq!(error.message, "`app` doesn't compile");
    assert_eq!(error.causes[0], "error[E0425]: cannot find function `two` in this scope");
    assert_eq!(error.causes[1], " --> src/lib.rs:4:23");
}

#[test]
fn another_failure_of_cargo_shows_the_end_of_standard_error() {
    let error = run(json!({}), cargo_test().stderr("error: no such option\n").exit(1)).result.unwrap_err();
    assert_eq!(error.message, "cargo ended with exit code 1, but no test failed");
    assert_eq!(error.causes, ["error: no such option"]);
    let script = ProcessScript::new("cargo", ["nextest"]).stderr("error: no such command: `nextest`\n").exit(101);
    let error = run(json!({ "runner": "nextest" }), script).result.unwrap_err();
    assert_eq!(error.help.as_deref(), Some("install cargo-nextest, or remove `runner = \"nextest\"`"));
}

#[test]
fn running_no_tests_is_a_failure_unless_allowed() {
    let empty = GOOD
        .replace("test a ... ok\n", "")
        .replace("running 1 test", "running 0 tests")
        .replace("1 passed", "0 passed");
    let error = run(json!({}), cargo_test().stdout(empty.clone())).result.unwrap_err();
    assert_eq!(error.message, "no tests ran");
    assert!(run(json!({ "allow-empty": true }), cargo_test().stdout(empty)).result.is_ok());
    let nothing = || ProcessScript::new("cargo", ["nextest"]).exit(4);
    assert!(run(json!({ "allow-empty": true, "runner": "nextest" }), nothing()).result.is_ok());
    assert!(run(json!({ "runner": "nextest" }), nothing()).result.is_err());
}

#[test]
fn success_sets_outputs_and_metrics_and_reports_each_test() {
    let report = run(json!({}), cargo_test().stdout(GOOD).stderr("     Running tests/a.rs (target/debug/deps/a-1)\n"));
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.outputs["duration"], 1.25);
    assert_eq!((report.metrics["tests"].value, report.metrics["test-duration"].unit.as_str()), (1.0, "s"));
    let [case] = report.test_cases.as_slice() else { panic!("{:?}", report.test_cases) };
    assert_eq!((case.suite.as_str(), case.name.as_str(), case.outcome), ("a (tests/a.rs)", "a", TestOutcome::Passed));
}

#[test]
fn a_failed_case_has_its_reason_its_output_and_its_place_below_the_manifest() {
    let with = json!({ "manifest-path": "app/Cargo.toml" });
    let script = cargo_test().stderr(ERR).stdout(OUT).exit(101);
    let report = FakeHost::new().config(with).file("app/src/lib.rs", "").process(script).run::<CargoTest>();
    let case = report.test_cases.iter().find(|case| case.outcome == TestOutcome::Failed).unwrap();
    assert_eq!(case.file, Some(("app/src/lib.rs".to_owned(), Some(Position::at(8, 51)))));
    assert!(case.message.as_deref().unwrap().starts_with("assertion `left == right` failed"), "{case:?}");
    assert!(case.output.as_deref().unwrap().contains("panicked at src/lib.rs:8:51"), "{case:?}");
    let crashed = report.test_cases.iter().find(|case| case.name == "(executable)").unwrap();
    assert_eq!(crashed.outcome, TestOutcome::Errored);
    assert!(report.test_cases.iter().any(|case| case.outcome == TestOutcome::Skipped));
}

#[test]
fn a_flaky_test_counts_its_failures() {
    let output = "    Starting 1 test across 1 binary\n  TRY 1 FAIL [   0.1s] (1/1) app a\n  TRY 2 PASS [   0.2s] (1/1) app a\n     \
                  Summary [   0.3s] 1 test run: 1 passed (1 flaky), 0 skipped\n   FLAKY 2/3 [   0.2s] (1/1) app a\n";
    let script = ProcessScript::new("cargo", ["nextest", "run"]).stderr(output);
    let report = run(json!({ "runner": "nextest" }), script);
    let [case] = report.test_cases.as_slice() else { panic!("{:?}", report.test_cases) };
    assert_eq!((case.outcome, case.failures), (TestOutcome::Passed, 1));
}

#[test]
fn cargo_and_the_manifest_are_required() {
    let required = FakeHost::new().config(json!({ "manifest-path": "app/Cargo.toml" })).requirements::<CargoTest>();
    let entries: Vec<_> =
        required.iter().map(|needed| (needed.permission, needed.entry.as_str(), needed.optional)).collect();
    let cargo = "cargo test --color never --no-fail-fast --manifest-path app/Cargo.toml";
    let expected = [
        (Permission::Process, cargo, false),
        (Permission::Read, "app/Cargo.toml", false),
        (Permission::Write, "app/target", true),
        (Permission::Net, "cargo", true),
    ];
    assert_eq!(entries, expected);
}

#[test]
fn the_configuration_becomes_arguments() {
    let with = json!({
        "args": ["--workspace"], "test-args": ["--test-threads=1"], "manifest-path": "app/Cargo.toml", "profile": "ci",
        "features": ["a", "b"], "env": { "RUST_LOG": "debug" }, "cwd": "app",
    });
    let report = run(with, cargo_test().stdout(GOOD));
    let expected = [
        "test",
        "--color",
        "never",
        "--no-fail-fast",
        "--manifest-path",
        "app/Cargo.toml",
        "--profile",
        "ci",
        "--features",
        "a,b",
        "--workspace",
        "--",
        "--test-threads=1",
    ];
    assert_eq!(report.spawned[0].args, expected);
    assert_eq!(report.spawned[0].current_dir.as_deref(), Some("app"));
    assert_eq!(report.spawned[0].env["RUST_LOG"], "debug");
}
