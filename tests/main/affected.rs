//! `run --affected`: runs the stages that a change affects, and no others.

use std::collections::BTreeMap;

use crate::environment::{TestEnvironment, outcomes};

const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "affected"
[stages.one]
uses = "noop"
inputs = ["one/**"]
[stages.two]
uses = "noop"
inputs = ["two/**"]
[stages.both]
uses = "noop"
needs = ["one", "two"]
[stages.docs]
uses = "command"
with = { run = "true" }
permissions = { process = ["sh"], read = ["docs"] }
[finally.report]
uses = "noop"
"#;

fn repository() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    for path in ["one/a", "two/a", "docs/a", "other"] {
        environment.write(path, "as it was");
    }
    environment.write(".gitignore", ".stagewright/\n*.log\n");
    environment.git(&["init", "--quiet", "--initial-branch", "main"]);
    environment.commit();
    environment
}

/// The main stages that ran, or would have, in the order of their names.
fn ran(environment: &TestEnvironment, args: &[&str]) -> Vec<String> {
    let (code, events) = environment.events(&[&["run", "--affected"], args].concat());
    assert_eq!(code, 0, "{events:#?}");
    let outcomes: BTreeMap<String, String> = outcomes(&events);
    assert_eq!(outcomes["report"], "succeeded");
    let ran = outcomes.into_iter().filter(|(stage, outcome)| outcome == "succeeded" && stage != "report");
    ran.map(|(stage, _)| stage).collect()
}

#[test]
fn affected_stages_run_with_their_needs() {
    let environment = repository();
    let nothing = environment.run(&["run", "--affected"]).exits(0);
    assert!(nothing.stderr.contains("stagewright.toml isn't run: no stage is affected"), "{}", nothing.stderr);
    environment.write("other", "not an input");
    environment.write("one/noise.log", "ignored");
    assert!(environment.run(&["run", "--affected"]).exits(0).stderr.contains("no stage"));

    // Not committed, committed on a branch, and new.
    environment.write("one/a", "changed");
    assert_eq!(ran(&environment, &[]), ["both", "one", "two"]);
    environment.git(&["checkout", "--quiet", "-b", "topic"]);
    environment.commit();
    assert_eq!(ran(&environment, &[]), ["both", "one", "two"]);
    environment.write("docs/new", "new");
    assert_eq!(ran(&environment, &[]), ["both", "docs", "one", "two"]);
    assert_eq!(ran(&environment, &["--base", "HEAD"]), ["docs"]);
    environment.commit();
    assert_eq!(ran(&environment, &["--base", "HEAD~1"]), ["docs"]);
    assert_eq!(ran(&environment, &["--base", "HEAD~1", "--skip", "docs"]), [""; 0]);

    // Commits on main since the branch was made aren't changes of the branch.
    environment.git(&["checkout", "--quiet", "main"]);
    environment.write("two/a", "changed on main");
    environment.commit();
    environment.git(&["checkout", "--quiet", "topic"]);
    assert_eq!(ran(&environment, &["--skip", "two,one"]), ["both", "docs"]);
}

#[test]
fn deleted_files_and_pipeline_changes_affect_stages() {
    let environment = repository();
    std::fs::remove_file(environment.root().join("two/a")).unwrap();
    assert_eq!(ran(&environment, &[]), ["both", "one", "two"]);
    environment.write("two/a", "as it was");
    environment.write("stagewright.toml", &format!("{PIPELINE}# a comment\n"));
    assert_eq!(ran(&environment, &[]), ["both", "docs", "one", "two"]);
}

#[test]
fn affected_needs_a_repository_and_a_known_base() {
    let environment = repository();
    let said = |args: &[&str], words: &str| {
        let refused = environment.run(args).exits(2);
        assert!(refused.stderr.contains(words), "{args:?}: {}", refused.stderr);
    };
    said(&["run", "--affected", "--base", "nowhere"], "names no commit");
    said(&["run", "--affected", "--only", "one"], "cannot be used with");
    said(&["run", "--base", "HEAD"], "--affected");
    environment.git(&["branch", "--move", "trunk"]);
    said(&["run", "--affected"], "no main branch");
    let bare = TestEnvironment::with_pipeline(PIPELINE);
    assert!(bare.run(&["run", "--affected"]).exits(2).stderr.contains("needs a git repository"));
}
