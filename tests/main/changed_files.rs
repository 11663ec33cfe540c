//! `source.changed-files`: what differs from another commit, as far as a stage may read it.

use serde_json::json;

use crate::environment::TestEnvironment;

/// A branch with changes of each kind: committed, uncommitted, untracked, removed, renamed, and outside of the grants.
fn repository() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline("");
    for path in ["src/same", "src/committed", "src/uncommitted", "src/removed", "src/old-name", "private/committed"] {
        environment.write(path, path);
    }
    environment.write(".gitignore", ".stagewright/\n*.log\n");
    environment.git(&["init", "--quiet", "--initial-branch", "main"]);
    environment.commit();
    environment.git(&["checkout", "--quiet", "-b", "topic"]);
    environment.write("src/committed", "changed");
    environment.write("private/committed", "changed");
    environment.git(&["mv", "src/old-name", "src/new-name"]);
    environment.commit();
    environment.write("src/uncommitted", "changed");
    environment.write("src/untracked", "new");
    environment.write("src/ignored.log", "new");
    std::fs::remove_file(environment.root().join("src/removed")).expect("a file");
    environment
}

/// Runs a stage that lists the changes since each of these commits. Returns its answers, and whether they come from the
/// cache.
fn listed(environment: &TestEnvironment, since: &[Option<&str>]) -> (Vec<String>, bool) {
    let action = |since: &Option<&str>| match since {
        Some(commit) => format!("{{ do = \"changes\", since = {} }}", json!(commit)),
        None => "{ do = \"changes\" }".to_owned(),
    };
    let actions = since.iter().map(action).collect::<Vec<_>>().join(", ");
    environment.write(
        "stagewright.toml",
        &format!(
            "schema = 1\npipeline.name = \"p\"\n[stages.s]\nuses = \"stranger\"\ninputs = [\"src\"]\n\
             permissions.read = [\"src\"]\nwith = {{ messages = true, actions = [{actions}] }}\n"
        ),
    );
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 0, "{events:#?}");
    let answers = events.iter().find_map(|event| event["outputs"]["answers"].as_array()).expect("answers");
    let answers = answers.iter().map(|answer| answer.as_str().expect("a text").to_owned()).collect();
    (answers, events.iter().any(|event| event["found"].is_string()))
}

#[test]
fn a_stage_learns_which_of_its_files_differ_from_a_commit() {
    let environment = repository();
    let head = environment.program("git").args(["rev-parse", "HEAD"]).output().expect("git starts").stdout;
    let head = String::from_utf8(head).expect("UTF-8").trim().to_owned();
    let unknown = "0123456789".repeat(4);
    let (answers, _) = listed(&environment, &[None, Some(&head), Some("main"), Some(&unknown)]);
    assert_eq!(answers[0], "src/committed src/new-name src/old-name src/removed src/uncommitted src/untracked");
    assert_eq!(answers[1], "src/removed src/uncommitted src/untracked");
    assert_eq!(answers[2], "ErrorCode::InvalidArgument: `main` is not the full id of a commit");
    let missing = format!("could not list the changed files: the repository has no commit {unknown}");
    assert_eq!(answers[3], format!("ErrorCode::FailedPrecondition: {missing}"));
}

#[test]
fn a_cached_result_is_of_the_same_base() {
    let environment = repository();
    let (first, is_cached) = listed(&environment, &[None]);
    assert!(!is_cached);
    assert_eq!(listed(&environment, &[None]), (first, true));
    environment.git(&["branch", "--quiet", "--force", "main", "HEAD"]);
    let moved = vec!["src/removed src/uncommitted src/untracked".to_owned()];
    assert_eq!(listed(&environment, &[None]), (moved, false));
}
