//! `run --event`: which events `on` lets start the pipeline.

use crate::environment::{TestEnvironment, binary, outcomes, text};

const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "events"
[on.push]
branches = ["main", "release/*"]
tags = ["v*"]
paths = ["src", "docs/api/**"]
paths-ignore = ["**/*.md"]
[on.pull-request]
branches = ["main"]
paths-ignore = ["docs"]
[stages.one]
uses = "noop"
[stages.pushed]
uses = "noop"
if = "event.name == 'push'"
"#;

fn repository() -> TestEnvironment {
    repository_of("sha1")
}

/// A repository with this object format.
fn repository_of(format: &str) -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.write(".gitignore", ".stagewright/\n");
    environment.write("src/main.c", "as it was");
    environment.git(&["init", "--quiet", "--initial-branch", "main", "--object-format", format]);
    environment.commit();
    environment
}

/// The event that the run records, and how the stage for pushes ended.
#[track_caller]
fn started(environment: &TestEnvironment, args: &[&str]) -> (String, String, String) {
    let (code, events) = environment.events(&[&["run"], args].concat());
    assert_eq!(code, 0, "{events:#?}");
    let started = events.iter().find(|event| event["type"] == "run-started").expect("it started");
    let event = &started["source"]["event"];
    (text(&event["name"]), text(&event["ref"]), outcomes(&events)["pushed"].clone())
}

#[track_caller]
fn ignored(environment: &TestEnvironment, args: &[&str], reason: &str) {
    let ended = environment.run(&[&["run"], args].concat()).exits(0);
    assert!(ended.stderr.contains(reason), "{}", ended.stderr);
    assert!(!ended.stdout.contains("stages:"), "{}", ended.stdout);
}

#[test]
fn a_push_starts_the_pipeline_if_files_changed_that_count() {
    let environment = repository();
    let push = &["--event", "push"];
    ignored(&environment, push, "stagewright.toml isn't run: nothing has changed since main (");
    environment.write("README.md", "new");
    environment.write("src/notes.md", "new");
    let reason = "`on.push.paths` without `paths-ignore` doesn't match the 2 files changed since main (";
    ignored(&environment, push, reason);
    environment.write("docs/api/index.html", "new");
    let expected = ("push".to_owned(), "refs/heads/main".to_owned(), "succeeded".to_owned());
    assert_eq!(started(&environment, push), expected);

    // Committed, it is compared with the upstream branch, or with what is named.
    environment.commit();
    ignored(&environment, push, "nothing has changed since main (");
    assert_eq!(started(&environment, &["--event", "push", "--base", "HEAD~1"]), expected);
    environment.git(&["branch", "there", "HEAD~1"]);
    environment.git(&["branch", "--quiet", "--set-upstream-to", "there"]);
    assert_eq!(started(&environment, push), expected);

    // A rerun is for the same event.
    let (_, events) = environment.events(&["rerun", "latest"]);
    let event = events.iter().find(|event| event["type"] == "run-started").expect("it started");
    assert_eq!(event["source"]["event"]["name"], "push");
}

#[test]
fn branches_and_tags_that_are_not_named_start_nothing() {
    let environment = repository();
    environment.write("src/main.c", "changed");
    environment.git(&["switch", "--quiet", "--create", "topic"]);
    ignored(&environment, &["--event", "push"], "`on.push.branches` doesn't match the branch `topic`");
    environment.git(&["switch", "--quiet", "--create", "release/1"]);
    environment.git(&["tag", "other"]);
    assert_eq!(started(&environment, &["--event", "push"]).1, "refs/heads/release/1");
    let (_, events) = environment.events(&["rerun", "latest"]);
    let again = events.iter().find(|event| event["type"] == "run-started").expect("it started");
    assert_eq!(again["source"]["event"]["ref"], "refs/heads/release/1", "a run without an event would be for the tag");
    environment.git(&["tag", "--delete", "other"]);

    // Paths don't matter for a tag.
    environment.git(&["checkout", "--quiet", "--", "src/main.c"]);
    environment.git(&["switch", "--quiet", "topic"]);
    environment.git(&["tag", "v1"]);
    assert_eq!(started(&environment, &["--event", "push"]).1, "refs/tags/v1");
    environment.git(&["tag", "--delete", "v1"]);
    environment.git(&["tag", "other"]);
    let reason =
        "`on.push.tags` doesn't match the tag `other`, and `on.push.branches` doesn't match the branch `topic`";
    ignored(&environment, &["--event", "push"], reason);
}

#[test]
fn a_pull_request_is_into_the_main_branch_or_the_named_one() {
    // libgit2 reads the first one, the `git` program the second one.
    for format in ["sha1", "sha256"] {
        pull_requests(&repository_of(format));
    }
}

fn pull_requests(environment: &TestEnvironment) {
    environment.git(&["branch", "next"]);
    environment.git(&["switch", "--quiet", "--create", "topic"]);
    environment.write("docs/index.html", "new");
    let reason = "`on.pull-request.paths-ignore` matches the 1 file changed since main (";
    ignored(environment, &["--event", "pull-request"], reason);
    environment.write("other", "new");
    let expected = ("pull-request".to_owned(), "refs/heads/topic".to_owned(), "skipped".to_owned());
    assert_eq!(started(environment, &["--event", "pull-request"]), expected);
    let reason = "`on.pull-request.branches` doesn't match the target branch `next`";
    ignored(environment, &["--event", "pull-request", "--base", "next"], reason);

    // A branch of a remote, also by the name of the remote's default.
    environment.git(&["update-ref", "refs/remotes/origin/main", "main"]);
    environment.git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"]);
    for base in ["origin/main", "origin/HEAD"] {
        assert_eq!(started(environment, &["--event", "pull-request", "--base", base]), expected);
    }
    let unknown = environment.run(&["run", "--event", "pull-request", "--base", "HEAD~0"]).exits(2).stderr;
    assert!(unknown.contains("names no branch that a pull request could be into"), "{unknown}");
}

#[test]
fn an_event_needs_its_key_and_a_branch() {
    let environment = repository();
    let text = "schema = 1\npipeline.name = 'x'\non.push = true\n[stages.one]\nuses = 'noop'\n";
    environment.write("stagewright.toml", text);
    ignored(&environment, &["--event", "pull-request"], "`on` has no `pull-request`");
    environment.commit();
    environment.git(&["checkout", "--quiet", "--detach"]);
    let detached = environment.run(&["run", "--event", "push"]).exits(2).stderr;
    assert!(detached.contains("`--event push` needs a branch that is checked out"), "{detached}");
    let nowhere = TestEnvironment::with_pipeline(PIPELINE);
    for event in ["push", "pull-request"] {
        let refused = nowhere.run(&["run", "--event", event]).exits(2).stderr;
        assert!(refused.contains("needs a git repository with a commit"), "{refused}");
    }
    let watched = environment.run(&["run", "--event", "push", "--watch"]).exits(2).stderr;
    assert!(watched.contains("cannot be used with"), "{watched}");
}

#[test]
fn the_documented_hook_lets_pushes_through_whose_pipeline_succeeds() {
    let environment = repository();
    let documents =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/runs.md")).expect("it is there");
    let (_, rest) = documents.split_once("```sh\n#!/bin/sh\n").expect("a hook");
    let (hook, _) = rest.split_once("```").expect("its end");
    environment.write(".git/hooks/pre-push", &format!("#!/bin/sh\n{hook}"));
    environment.git(&["init", "--quiet", "--bare", "../there"]);
    environment.git(&["remote", "add", "origin", "../there"]);
    environment.git(&["config", "core.hooksPath", ".git/hooks"]);
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(environment.root().join(".git/hooks/pre-push"), executable).expect("the mode is set");
    let push = || {
        let mut command = environment.program("git");
        let path = std::env::var_os("PATH").expect("it is set");
        let own = binary().parent().expect("a folder").to_owned();
        let path = std::env::join_paths([own].into_iter().chain(std::env::split_paths(&path))).expect("a path");
        command
            .env("PATH", path)
            .args(["push", "--quiet", "--set-upstream", "origin", "main"])
            .output()
            .expect("git starts")
    };
    let pushed = push();
    assert!(pushed.status.success(), "{pushed:?}");
    environment.write("src/main.c", "changed");
    environment.write(
        "stagewright.toml",
        &format!("{PIPELINE}[stages.bad]\nuses = 'command'\nwith.run = 'exit 3'\npermissions.process = ['sh']\n"),
    );
    environment.commit();
    let refused = push();
    assert!(!refused.status.success(), "{refused:?}");
    environment.write("stagewright.toml", PIPELINE);
    environment.commit();
    let pushed = push();
    assert!(pushed.status.success(), "{pushed:?}");
}
