//! What plugins learn of the history: `source.commits`, `source.repository` and `environment.good-release`.

use serde_json::{Value as Json, json};

use crate::environment::TestEnvironment;
use crate::production::Production;

/// Runs a stage with these actions. Returns its answers, and whether they come from the cache.
#[track_caller]
fn answers(environment: &TestEnvironment, actions: &[Json]) -> (Vec<String>, bool) {
    let actions = actions.iter().map(|action| {
        let fields = action.as_object().expect("a table").iter().map(|(key, value)| format!("{key} = {value}"));
        format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
    });
    environment.write(
        "pipelines/history.toml",
        &format!(
            "schema = 1\npipeline.name = \"history\"\n[environments.production]\ntarget = \"process\"\n[stages.s]\n\
             uses = \"stranger\"\ninputs = [\"one\"]\npermissions.read = [\"one\"]\n\
             with = {{ messages = true, actions = [{}] }}\n",
            actions.collect::<Vec<_>>().join(", ")
        ),
    );
    let (code, events) = environment.events(&["run", "history"]);
    assert_eq!(code, 0, "{events:#?}");
    let answers = events.iter().find_map(|event| event["outputs"]["answers"].as_array()).expect("answers");
    let answers = answers.iter().map(|answer| answer.as_str().expect("a text").to_owned()).collect();
    (answers, events.iter().any(|event| event["found"].is_string()))
}

#[track_caller]
fn commits(environment: &TestEnvironment, since: Option<&str>, most: u32) -> String {
    let action = match since {
        Some(since) => json!({ "do": "commits", "since": since, "most": most }),
        None => json!({ "do": "commits", "most": most }),
    };
    answers(environment, &[action]).0.remove(0)
}

fn id(environment: &TestEnvironment, revision: &str) -> String {
    let output = environment.program("git").args(["rev-parse", revision]).output().expect("git starts");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// Commits at the times 1 to 4: `first`, `second` on `main`; `side` on a branch; and the merge of both.
fn repository(format: &str) -> TestEnvironment {
    let mut environment = TestEnvironment::new();
    environment.write(".gitignore", ".stagewright/\npipelines/\n");
    environment.write("one", "1");
    environment.git(&["init", "--quiet", "--initial-branch", "main", "--object-format", format]);
    let mut commit = |seconds: u32, args: &[&str]| {
        environment.set("GIT_COMMITTER_DATE", &format!("{} +0000", 1_700_000_000 + seconds));
        environment.git(args);
    };
    commit(1, &["add", "--all"]);
    commit(1, &["commit", "--quiet", "--message", "first"]);
    commit(1, &["tag", "v1"]);
    commit(2, &["commit", "--quiet", "--allow-empty", "--message", "second\n\nWith a body\n"]);
    commit(3, &["switch", "--quiet", "--create", "side", "v1"]);
    commit(3, &["commit", "--quiet", "--allow-empty", "--author", "Zoë <z@example.org>", "--message", "side"]);
    commit(4, &["switch", "--quiet", "main"]);
    commit(4, &["merge", "--quiet", "--no-ff", "--message", "merge", "side"]);
    environment
}

/// libgit2 reads the first kind of repository, and git itself the second.
const FORMATS: [&str; 2] = ["sha1", "sha256"];

const MERGE: &str = "merge (tester, 2 parents, true)";
const SIDE: &str = "side (Zoë, 1 parents, true)";
const SECOND: &str = "second (tester, 1 parents, true)";
const FIRST: &str = "first (tester, 0 parents, true)";

#[test]
fn the_commits_that_lead_to_the_runs_are_listed_newest_first() {
    for format in FORMATS {
        let environment = repository(format);
        let all = commits(&environment, None, 10);
        assert_eq!(all, format!("Start: {MERGE}; {SIDE}; {SECOND}; {FIRST}"), "{format}");
        assert_eq!(commits(&environment, None, 4), all, "{format}");
        assert_eq!(commits(&environment, None, 2), format!("Limit: {MERGE}; {SIDE}"), "{format}");
        let since = |since: &str| commits(&environment, Some(since), 10);
        assert_eq!(since("refs/tags/v1"), format!("Since: {MERGE}; {SIDE}; {SECOND}"), "{format}");
        assert_eq!(since(&id(&environment, "HEAD^1")), format!("Since: {MERGE}; {SIDE}"), "{format}");
        assert_eq!(since(&id(&environment, "HEAD")), "Since: ", "{format}");
        // A run for an earlier commit lists what leads to that one.
        let side = id(&environment, "side");
        environment.git(&["switch", "--quiet", "--detach", "HEAD^1"]);
        assert_eq!(since(&side), format!("Since, diverged: {SECOND}"), "{format}");
    }
}

#[test]
fn commits_that_the_repository_lacks_are_an_error_with_the_remedy() {
    for format in FORMATS {
        let environment = repository(format);
        let unknown =
            "0123456789".repeat(if format == "sha1" { 4 } else { 7 })[..id(&environment, "HEAD").len()].to_owned();
        let missing = commits(&environment, Some(&unknown), 1);
        let expected = format!(
            "ErrorCode::FailedPrecondition: could not list the commits: the repository has no commit {unknown}"
        );
        assert_eq!(missing, expected, "{format}");
        assert!(commits(&environment, Some("refs/tags/v9"), 1).ends_with("the repository has no tag `v9`"), "{format}");
        for name in ["main", "refs/heads/main", "--all"] {
            let refused = commits(&environment, Some(name), 1);
            assert!(refused.starts_with("ErrorCode::InvalidArgument") && refused.contains(name), "{refused}");
        }
        assert!(commits(&environment, None, 0).starts_with("ErrorCode::InvalidArgument"));
        assert!(commits(&environment, None, 10_001).starts_with("ErrorCode::InvalidArgument"));
    }
    let none = TestEnvironment::new();
    none.write("one", "1");
    assert!(commits(&none, None, 1).ends_with("the run is for no commit"));
}

#[test]
fn a_shallow_clone_says_that_it_has_no_more() {
    for format in FORMATS {
        let origin = repository(format);
        let clone = TestEnvironment::new();
        let url = format!("file://{}", origin.root().display());
        clone.git(&["clone", "--quiet", "--depth", "2", &url, "."]);
        clone.write("one", "1");
        let cut = |commit: &str| commit.replace("1 parents", "0 parents");
        assert_eq!(commits(&clone, None, 10), format!("Shallow: {MERGE}; {}; {}", cut(SIDE), cut(SECOND)), "{format}");
        assert_eq!(
            commits(&clone, Some(&id(&clone, "HEAD^1")), 10),
            format!("Since: {MERGE}; {}", cut(SIDE)),
            "{format}"
        );
        let lost = commits(&clone, Some(&id(&origin, "v1")), 10);
        assert!(lost.contains("has no commit"), "{format}: {lost}");
    }
}

#[test]
fn the_address_of_the_repository_has_no_credentials() {
    for format in FORMATS {
        let environment = repository(format);
        let address = || answers(&environment, &[json!({ "do": "repository" })]).0.remove(0);
        assert_eq!(address(), "none", "{format}");
        environment.git(&["remote", "add", "origin", "https://ada:hunter2@git.example/acme/app.git"]);
        assert_eq!(address(), "https://git.example/acme/app", "{format}");
        environment.git(&["remote", "set-url", "origin", "git@git.example:acme/app.git"]);
        assert_eq!(address(), "https://git.example/acme/app", "{format}");
        environment.git(&["remote", "set-url", "origin", "/srv/app.git"]);
        assert_eq!(address(), "none", "{format}");
    }
}

#[test]
fn a_result_that_depends_on_the_history_is_not_cached() {
    let environment = repository("sha1");
    let others = [json!({ "do": "output", "name": "n", "value": 1 })];
    assert!(!answers(&environment, &others).1);
    assert!(answers(&environment, &others).1);
    for action in [
        json!({ "do": "commits", "most": 1 }),
        json!({ "do": "repository" }),
        json!({ "do": "good-release", "environment": "production" }),
    ] {
        for _ in 0..2 {
            assert!(!answers(&environment, std::slice::from_ref(&action)).1, "{action}");
        }
    }
}

#[test]
fn the_known_good_release_is_that_of_another_run_and_needs_no_approval() {
    let production = Production::new();
    let environment = &production.0;
    environment.write("one", "1");
    environment.write(".gitignore", ".stagewright/\npipelines/\nimage/\n");
    environment.git(&["init", "--quiet", "--initial-branch", "main"]);
    environment.commit();
    let good = |name: &str| answers(environment, &[json!({ "do": "good-release", "environment": name })]).0.remove(0);
    assert_eq!(good("production"), "none");
    production.deploy("1", 0);
    let (first, commit) = (good("production"), id(environment, "HEAD"));
    assert!(first.starts_with("local/versioned@sha256:") && first.ends_with(&commit), "{first}");
    // The check of this release fails, so it isn't good.
    environment.git(&["commit", "--quiet", "--allow-empty", "--message", "second"]);
    environment.run(&["run", "--input", "version=2", "--input", "broken=yes"]).exits(1);
    assert_eq!(good("production"), first);
    let unknown = good("staging");
    assert!(
        unknown.starts_with("ErrorCode::FailedPrecondition: the pipeline has no environment `staging`"),
        "{unknown}"
    );
}
