//! The stage `release-notes`: the commits since the last good release of an environment.

use serde_json::Value as Json;

use crate::environment::{TestEnvironment, failure};
use crate::production::Production;

/// Approvals of production are for deploys: the notes are there before.
const NOTES: &str = r#"
schema = 1
pipeline.name = "notes"
[environments.production]
target = "process"
approvers = ["ada"]
[stages.notes]
uses = "release-notes"
with = { environment = "production", title = "Next", file = "out/notes.md" }
permissions = { write = ["out"] }
[stages.read]
uses = "command"
needs = ["notes"]
env = { NOTES = "${{ stages.notes.outputs.notes }}" }
with = { run = 'echo "$NOTES"' }
permissions = { process = ["sh"] }
"#;

/// A production with a repository around it.
fn production() -> Production {
    let production = Production::new();
    let environment = &production.0;
    environment.write("pipelines/notes.toml", NOTES);
    environment.write(".gitignore", ".stagewright/\nimage/\nout/\n");
    environment.git(&["init", "--quiet", "--initial-branch", "main"]);
    environment.git(&["remote", "add", "origin", "git@github.com:acme/app.git"]);
    environment.commit();
    production
}

fn commit(environment: &TestEnvironment, message: &str) -> String {
    environment.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
    let output = environment.program("git").args(["rev-parse", "HEAD"]).output().expect("git starts");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

#[track_caller]
fn notes(environment: &TestEnvironment, args: &[&str]) -> String {
    let ended = environment.run(&[&["run", "notes"], args].concat()).exits(0);
    let notes = environment.read("out/notes.md");
    // The output has the same text.
    let last = notes.trim_end().lines().last().expect("a line");
    assert!(ended.stdout.contains(last), "{last}: {}", ended.stdout);
    notes
}

#[test]
fn the_notes_of_a_release_begin_after_the_last_good_one() {
    let production = production();
    let environment = &production.0;
    let first = notes(environment, &[]);
    assert!(first.starts_with("# Next\n\n1 commit in the first release to production.\n\n- a change ("), "{first}");

    production.deploy("1", 0);
    let good = commit(environment, "feat: wings\n\nCo-authored-by: Bob <b@example.org>");
    production.deploy("2", 0);
    // The check of the third release fails: the next good one has its commits as well.
    let bad = commit(environment, "fix(api)!: [x](https://evil.example)");
    environment.run(&["run", "--input", "version=3", "--input", "broken=yes"]).exits(1);
    let plain = commit(environment, "Tidy");
    let since = notes(environment, &[]);
    let link = |id: &str| format!("[`{}`](https://github.com/acme/app/commit/{id})", &id[..7]);
    let expected =
        format!("# Next\n\n2 commits since {}, the last good release of production (`local/versioned@", link(&good));
    assert!(since.starts_with(&expected), "{since}");
    let lists = format!(
        "## Breaking changes\n\n- **api:** `[x](https://evil.example)` ({}, tester)\n\n## Other changes\n\n- Tidy ({}, tester)\n",
        link(&bad),
        link(&plain)
    );
    assert!(since.ends_with(&lists), "{since}");

    // A rehearsal has an environment of its own, and shows the notes of the real one.
    assert_eq!(notes(environment, &["--rehearse"]), since);
    // The release of an interrupted history: no notes, or notes that say so.
    environment.git(&["checkout", "--quiet", "--orphan", "new"]);
    environment.commit();
    environment.git(&["branch", "--quiet", "--delete", "--force", "main"]);
    environment.git(&["reflog", "expire", "--expire=now", "--all"]);
    environment.git(&["gc", "--quiet", "--prune=now"]);
    let (code, events) = environment.events(&["run", "notes"]);
    let message = failure(&events, "notes")["message"].to_string();
    assert_eq!(code, 1, "{events:#?}");
    assert!(message.contains(&good) && message.contains("the repository doesn't have"), "{message}");
    let text = NOTES.replace("title = \"Next\"", "missing = \"first\"");
    environment.write("pipelines/notes.toml", &text);
    let lost = notes(environment, &[]);
    assert!(
        lost.contains("1 commit in the first release") && lost.contains("These are not the commits since"),
        "{lost}"
    );
}

#[test]
fn the_artifact_is_there_for_later_stages_and_people() {
    let production = production();
    let environment = &production.0;
    let (_, events) = environment.events(&["run", "notes"]);
    let published = events.iter().find(|event| event["type"] == "artifact-published");
    let artifact = published.map_or(Json::Null, |event| event["artifact"].clone());
    assert_eq!([&artifact["name"], &artifact["media-type"]], ["release-notes.md", "text/markdown"], "{events:#?}");
}

#[test]
fn a_missing_environment_is_found_before_anything_runs() {
    let production = production();
    let environment = &production.0;
    environment.write("pipelines/notes.toml", &NOTES.replace("environment = \"production\", ", ""));
    let refused = environment.run(&["validate", "notes"]).exits(3);
    assert!(refused.stderr.contains("environment") && refused.stderr.contains("is missing"), "{}", refused.stderr);
    environment
        .write("pipelines/notes.toml", &NOTES.replace("environment = \"production\", ", "environment = \"qa\", "));
    let (code, events) = environment.events(&["run", "notes"]);
    let failure = failure(&events, "notes");
    assert_eq!(code, 1);
    assert!(failure["message"].as_str().unwrap().contains("no environment `qa`"), "{failure:#}");
}
