//! What the summary says about a failure, and that it says each thing once.

use stagewright_engine::{
    Event, EventKind, Failure, FailureKind, Level, Outcome, Problem, Stream, TestCase, TestOutcome,
};
use stagewright_model::{MissingGrant, Permission, StageIndex};
use stagewright_report::{Github, Plain};

use crate::script::{Script, stage};
use crate::shown;

/// A stage that prints two lines and fails with these causes, after `report`.
fn failed(kind: FailureKind, causes: &[&str], report: impl FnOnce(Script) -> Script) -> Vec<Event> {
    let script = Script::of(vec![stage("test", "command", &[])]).start(0, 1);
    let script = script.log(0, Stream::Stdout, "ok 59 - case").log(0, Stream::Stderr, "ok 60 - case");
    let causes = causes.iter().map(|&cause| cause.to_owned()).collect();
    let failure = Failure { causes, ..Failure::new(kind, "`npm` ended with exit code 1", true) };
    report(script)
        .end(0, 1, Outcome::Failed, Some(failure))
        .conclude(0, Outcome::Failed, None)
        .run_ended(Outcome::Failed)
}

/// The block about the failed stage, below the lines of the events.
fn summary(events: &[Event]) -> String {
    let text = shown(Plain::new, events);
    let start = text.find("\ntest failed\n").unwrap() + 1;
    text[start..].lines().take_while(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

fn finding(script: Script, level: Level, message: &str, path: Option<&str>) -> Script {
    let problem = Problem { path: path.map(str::to_owned), ..Problem::new(level, "rule", message) };
    script.then(EventKind::Problem { stage: StageIndex(0), problem })
}

#[test]
fn a_finding_that_a_cause_repeats_is_left_out_and_so_is_the_end_of_the_log() {
    let cause = "rule: 4 != 5 (lib/a.js:7)\n  - 4\n  + 5";
    let text = summary(&failed(FailureKind::Reported, &[cause], |script| {
        let script = finding(script, Level::Error, "4 != 5", Some("lib/a.js"));
        let script = finding(script, Level::Error, "4 != 5", Some("lib/b.js"));
        finding(script, Level::Warning, "unused", None)
    }));
    let expected = "test failed\n  `npm` ended with exit code 1\n  because: rule: 4 != 5 (lib/a.js:7)\n    - 4\n    + 5\n  \
                    error rule: 4 != 5 (lib/b.js)\n  warning rule: unused\n";
    assert_eq!(text, expected);
}

#[test]
fn a_summary_repeats_ten_findings_and_all_denials() {
    let text = summary(&failed(FailureKind::Reported, &[], |script| {
        let table = "stages.test.permissions".to_owned();
        let grant = MissingGrant { table, permission: Permission::Write, entry: "coverage".to_owned() };
        let denied = Problem {
            grant: Some(Box::new(grant)),
            ..Problem::new(Level::Error, "permission-denied", "may not write")
        };
        let script = script.then(EventKind::Problem { stage: StageIndex(0), problem: denied });
        (0..12).fold(script, |script, number| finding(script, Level::Error, &format!("finding {number}"), None))
    }));
    assert!(text.ends_with("finding 9\n  and 2 more\n  error permission-denied: may not write\n"), "{text}");
}

#[test]
fn a_finding_that_says_no_more_than_a_cause_is_left_out() {
    let text =
        summary(&failed(FailureKind::Reported, &["4 != 5"], |script| finding(script, Level::Error, "4 != 5", None)));
    assert_eq!(text, "test failed\n  `npm` ended with exit code 1\n  because: 4 != 5\n");
    let causes = ["ok 59 - case\nok 60 - case"];
    let text = summary(&failed(FailureKind::Reported, &causes, |script| script.log(0, Stream::Stdout, " ")));
    assert!(text.ends_with("  because: ok 59 - case\n  ok 60 - case\n"), "{text}");
}

#[test]
fn a_test_is_named_once_by_what_says_the_most() {
    let case = |name: &str| TestCase {
        suite: "app".to_owned(),
        name: name.to_owned(),
        outcome: TestOutcome::Failed,
        duration: None,
        message: Some("4 != 5".to_owned()),
        output: None,
        place: None,
        failures: 0,
    };
    let events = failed(FailureKind::Reported, &["tests::one", "tests::two"], |script| {
        let script = finding(script, Level::Error, "test `tests::one` of app failed: 4 != 5", Some("lib.rs"));
        script.then(EventKind::TestsReported {
            stage: StageIndex(0),
            attempt: 1,
            cases: vec![case("tests::one"), case("tests::two")],
        })
    });
    let text = summary(&events);
    let expected = "test failed\n  `npm` ended with exit code 1\n  test failed: app: tests::two: 4 != 5\n  error rule: test \
                    `tests::one` of app failed: 4 != 5 (lib.rs)\n";
    assert_eq!(text, expected);
    let steps =
        "Next steps:\n  stagewright logs r1 test\n  stagewright rerun r1 --failed-tests\n  stagewright resume r1\n";
    let whole = shown(Plain::new, &events);
    assert!(whole.ends_with(steps), "{whole}");

    let text = shown(Github::new, &events);
    let annotations: Vec<&str> = text.lines().filter(|line| line.starts_with("::error")).collect();
    assert_eq!(
        annotations,
        [
            "::error file=lib.rs,title=test%3A rule::test `tests::one` of app failed: 4 != 5",
            "::error title=test%3A app%3A tests%3A%3Atwo::4 != 5",
            "::error title=test failed::`npm` ended with exit code 1",
        ]
    );
}

#[test]
fn the_end_of_the_log_is_shown_unless_findings_explain_the_failure() {
    let is_shown = |kind, causes: &[&str], report: &dyn Fn(Script) -> Script| {
        summary(&failed(kind, causes, report)).matches("ok 60 - case").count()
    };
    let denial = |script: Script| {
        let grant = MissingGrant {
            table: "stages.test.permissions".to_owned(),
            permission: Permission::Process,
            entry: "git".to_owned(),
        };
        let problem = Problem {
            grant: Some(Box::new(grant)),
            ..Problem::new(Level::Error, "permission-denied", "may not run git")
        };
        script.then(EventKind::Problem { stage: StageIndex(0), problem })
    };
    let error = |script: Script| finding(script, Level::Error, "x", None);
    assert_eq!(is_shown(FailureKind::Reported, &[], &error), 0);
    assert_eq!(is_shown(FailureKind::Reported, &[], &|script| finding(script, Level::Warning, "x", None)), 1);
    assert_eq!(is_shown(FailureKind::Reported, &[], &denial), 1);
    assert_eq!(is_shown(FailureKind::Trapped, &[], &error), 1, "the plugin didn't say why");
    assert_eq!(is_shown(FailureKind::Reported, &["ok 60 - case"], &|script| script), 1);
}
