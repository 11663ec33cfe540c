//! `rerun --failed-tests`.

use serde_json::Value as Json;

use crate::environment::{TestEnvironment, outcomes, text};

/// A suite of two tests, of which the second passes once there is a file `fixed`. It runs the tests that it is given, or
/// both, and reports them.
const SUITE: &str = r#"
tests=${*:-"a b"}
{
    echo '<testsuite name="suite">'
    for test in $tests; do
        echo "<testcase classname=\"suite\" name=\"$test\">"
        [ "$test" = a ] || [ -f fixed ] || echo '<failure message="not fixed"/>'
        echo '</testcase>'
    done
    echo '</testsuite>'
} > out/report.xml
"#;

/// A pipeline that tests what it builds, and then publishes it. `rerun` is the rest of the `with` table.
fn environment(rerun: &str) -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(&format!(
        r#"
        schema = 1
        pipeline.name = "p"
        [stages.build]
        uses = "noop"
        [stages.lint]
        uses = "noop"
        [stages.test]
        uses = "command"
        needs = ["build"]
        inputs = ["suite", "fixed"]
        outputs = ["out/report.xml"]
        with = {{ argv = ["sh", "suite"], junit = ["out/report.xml"]{rerun} }}
        permissions = {{ process = ["sh"], read = ["suite", "fixed"], write = ["out"] }}
        [stages.publish]
        uses = "noop"
        needs = ["test"]
        [finally.clean]
        uses = "noop"
        "#
    ));
    environment.write("suite", SUITE);
    environment.write("out/kept", "");
    environment
}

const RERUN: &str = r#", rerun = { argv = ["sh", "suite"] }"#;

/// The names of the tests that were reported, with their outcomes.
fn reported(events: &[Json]) -> Vec<(String, String)> {
    let cases = events.iter().filter(|event| event["type"] == "tests-reported");
    let cases = cases.flat_map(|event| event["cases"].as_array().into_iter().flatten());
    cases.map(|case| (text(&case["name"]), text(&case["outcome"]))).collect()
}

fn pair(name: &str, outcome: &str) -> (String, String) {
    (name.to_owned(), outcome.to_owned())
}

#[test]
fn only_the_failed_tests_run_again_with_what_their_stage_needs() {
    let environment = environment(RERUN);
    let (code, events) = environment.events(&["run", "--cache", "off"]);
    assert_eq!((code, reported(&events)), (1, vec![pair("a", "passed"), pair("b", "failed")]));

    let (code, events) = environment.events(&["rerun", "latest", "--failed-tests"]);
    assert_eq!((code, reported(&events)), (1, vec![pair("b", "failed")]));
    let selected = events.iter().find(|event| event["type"] == "tests-selected").unwrap();
    assert_eq!((&selected["stage-id"], &selected["tests"][0]["name"]), (&"test".into(), &"b".into()));

    environment.write("fixed", "");
    let (code, events) = environment.events(&["rerun", "latest", "--failed-tests"]);
    assert_eq!((code, reported(&events)), (0, vec![pair("b", "passed")]));
    let outcomes = outcomes(&events);
    let outcome = |stage: &str| outcomes[stage].as_str();
    assert_eq!(["build", "test", "clean"].map(outcome), ["succeeded"; 3]);
    assert_eq!(["lint", "publish"].map(outcome), ["skipped"; 2], "some tests are no reason to publish");
    let shown = environment.run(&["show", "latest"]).exits(0).stdout;
    assert!(shown.contains("* runs only the test that failed in run "), "{shown}");
    assert!(shown.contains("publish * skipped: not needed for the failed tests of run "), "{shown}");

    let refused = environment.run(&["rerun", "latest", "--failed-tests"]).exits(4).stderr;
    assert!(refused.contains("reported failed tests") && refused.contains("stagewright rerun "), "{refused}");
}

#[test]
fn a_run_of_some_tests_is_not_the_cached_result_of_all() {
    let environment = environment(RERUN);
    environment.run(&["run"]).exits(1);
    environment.write("fixed", "");
    environment.run(&["rerun", "latest", "--failed-tests"]).exits(0);
    let (code, events) = environment.events(&["run"]);
    assert_eq!((code, reported(&events)), (0, vec![pair("a", "passed"), pair("b", "passed")]));
    assert!(!events.iter().any(|event| event["type"] == "cache-asked" && event.get("found").is_some()));
}

#[test]
fn a_resumed_run_keeps_its_selection() {
    let environment = environment(RERUN);
    environment.run(&["run"]).exits(1);
    environment.run(&["rerun", "latest", "--failed-tests"]).exits(1);
    environment.write("fixed", "");
    let (code, events) = environment.events(&["resume", "latest", "--accept-changes"]);
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(reported(&events).last(), Some(&pair("b", "passed")));
    assert!(!reported(&events).contains(&pair("a", "passed")));
}

#[test]
fn all_tests_run_where_the_pipeline_does_not_say_how_to_select_them() {
    let environment = environment("");
    environment.run(&["run"]).exits(1);
    let (code, events) = environment.events(&["rerun", "latest", "--failed-tests"]);
    assert_eq!((code, reported(&events)), (1, vec![pair("a", "passed"), pair("b", "failed")]));
    let log = events.iter().filter(|event| event["type"] == "log").map(|event| text(&event["line"]));
    let said = "all tests run again: `with.rerun` doesn't say how to select some of them";
    assert!(log.collect::<Vec<_>>().iter().any(|line| line.contains(said)));
}

#[test]
fn a_plugin_asks_for_the_tests_that_failed() {
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        pipeline.name = "asks"
        [stages.test]
        uses = "stranger"
        with.actions = [{ do = "failed-before" }, { do = "say", place = "test-case", text = "x" }]
        "#,
    );
    let answer = |args: &[&str]| {
        let (code, events) = environment.events(args);
        let ended = events.iter().find(|event| event["type"] == "attempt-ended").unwrap();
        assert_eq!(code, 0, "{ended}");
        text(&ended["outputs"]["answers"][0])
    };
    assert_eq!(answer(&["run"]), "all");
    assert_eq!(answer(&["rerun", "latest", "--failed-tests"]), "x: x");
}

#[test]
fn a_plugin_that_cannot_select_tests_is_named() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/contract/0.2.1/stranger.wasm");
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        pipeline.name = "old"
        [stages.test]
        uses = "path:old.wasm"
        with.actions = [{ do = "say", place = "test-case", text = "fails" }]
        "#,
    );
    std::fs::copy(kept, environment.root().join("old.wasm")).unwrap();
    environment.run(&["run"]).exits(0);
    let again = environment.run(&["rerun", "latest", "--failed-tests"]).exits(0);
    let said = "`test` runs all of its tests: the plugin `path:old.wasm` can't select tests";
    assert!(again.stderr.contains(said), "{}", again.stderr);
}
