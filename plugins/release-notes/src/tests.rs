//! Tests on the fake host.

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, Report, Source};
use stagewright_sdk::source::Commit;
use stagewright_sdk::{Outcome, Permission, Result};

use crate::ReleaseNotes;

fn id(number: usize) -> String {
    format!("{number:040x}").replace('0', "a")
}

/// Commits with these messages, newest first.
fn history(messages: &[&str]) -> Vec<Commit> {
    let commit = |(at, message): (usize, &&str)| Commit {
        id: id(messages.len() - at),
        author: "Ada".to_owned(),
        message: (*message).to_owned(),
        ..Commit::default()
    };
    messages.iter().enumerate().map(commit).collect()
}

fn release(commit: &str) -> Json {
    json!({ "artifact": "local/app@sha256:1", "config": {}, "commit": commit, "by": "bob" })
}

fn host(messages: &[&str], good: Option<&str>) -> FakeHost {
    let commits = history(messages);
    let source = Source { commit: commits.first().map(|commit| commit.id.clone()), ..Source::default() };
    FakeHost::new()
        .config(json!({ "environment": "production" }))
        .source(source)
        .history(commits)
        .good_release("production", good.map(release))
}

fn notes(report: &Report<Result<Outcome>>) -> &str {
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    report.text("target/release-notes.md")
}

#[test]
fn commits_since_the_last_good_release_are_grouped_by_their_types() {
    let messages = [
        "fix(api): close [the](https://evil.example) door\n\nCo-authored-by: Bob <b@x>",
        "feat!: drop v1",
        "chore: tidy",
        "A plain message",
        "feat: add <b>x</b>\n\nBREAKING CHANGE: y is gone",
        "feat: released already",
    ];
    let host = host(&messages, Some(&id(1))).repository("https://github.com/acme/app");
    let report = host.config(json!({ "environment": "production", "title": "Version 2" })).run::<ReleaseNotes>();
    let link = |number| format!("[`{}`](https://github.com/acme/app/commit/{})", &id(number)[..7], id(number));
    let expected = format!(
        "# Version 2\n\n5 commits since {}, the last good release of production (`local/app@sha256:1` by bob).\n\n\
         ## Breaking changes\n\n- drop v1 ({}, Ada)\n- y is gone (add \\<b\\>x\\</b\\>; {}, Ada)\n\n\
         ## Fixes\n\n- **api:** close `[the](https://evil.example)` door ({}, Ada, Bob)\n\n\
         ## Chores\n\n- tidy ({}, Ada)\n\n## Other changes\n\n- A plain message ({}, Ada)\n",
        link(1),
        link(5),
        link(2),
        link(6),
        link(4),
        link(3)
    );
    assert_eq!(notes(&report), expected);
    assert_eq!(report.outputs["notes"], expected);
    assert_eq!([&report.outputs["commits"], &report.outputs["breaking"]], [5, 2]);
    assert_eq!(report.outputs["since"], id(1));
    assert_eq!(report.published[0].name, "release-notes.md");
    assert_eq!(report.published[0].media_type, "text/markdown");
    assert_eq!(report.summaries, [expected]);
    assert!(report.findings.is_empty());
}

#[test]
fn without_types_the_commits_are_a_plain_list_with_merges_as_one_line() {
    let mut commits = history(&["Merge branch 'x'\n\nAdd x\n\nmore", "One", "Two"]);
    commits[0].parents = vec![id(2), id(9)];
    let report = host(&["Merge", "One", "Two"], Some(&id(1))).history(commits.clone()).run::<ReleaseNotes>();
    let [merge, one] = [&id(3)[..7], &id(2)[..7]];
    let expected = format!("- Merge branch 'x': Add x (`{merge}`, Ada)\n- One (`{one}`, Ada)\n");
    assert!(notes(&report).ends_with(&format!(").\n\n{expected}")), "{}", notes(&report));

    commits[1].message = "feat: One".to_owned();
    let report = host(&["Merge", "One", "Two"], Some(&id(1))).history(commits).run::<ReleaseNotes>();
    let expected =
        format!("## Features\n\n- One (`{one}`, Ada)\n\n## Merges\n\n- Merge branch 'x': Add x (`{merge}`, Ada)\n");
    assert!(notes(&report).ends_with(&expected), "{}", notes(&report));
}

#[test]
fn a_first_release_says_so_and_begins_at_the_first_commit_or_a_tag() {
    let report = host(&["Two", "One"], None).run::<ReleaseNotes>();
    assert!(notes(&report).starts_with("2 commits in the first release to production.\n\n- Two"), "{}", notes(&report));
    assert_eq!(report.outputs["since"], Json::Null);

    let with = json!({ "environment": "production", "first-since": "v1" });
    let tagged = host(&["Two", "One"], None).history_tag("v1", &id(1)).config(with.clone()).run::<ReleaseNotes>();
    let text = notes(&tagged);
    assert!(text.contains("Only commits after the tag `v1`") && !text.contains("- One"), "{text}");
    let error = host(&["Two", "One"], None).config(with).run::<ReleaseNotes>().result.unwrap_err();
    assert!(error.causes.join(" ").contains("no tag `v1`"), "{error:?}");
}

#[test]
fn what_the_notes_do_not_have_is_said() {
    let with = json!({ "environment": "production", "max-commits": 1 });
    let bounded = host(&["Three", "Two", "One"], Some(&id(1))).config(with).run::<ReleaseNotes>();
    assert!(
        notes(&bounded).contains("There are more; these are the newest 1 commit.\n\n- Three"),
        "{}",
        notes(&bounded)
    );
    assert_eq!(bounded.findings[0].rule, "incomplete-notes");

    let shallow = host(&["Two", "One"], None).shallow().run::<ReleaseNotes>();
    assert!(notes(&shallow).contains("the clone is shallow"), "{}", notes(&shallow));
    assert_eq!(shallow.findings.len(), 1);

    let diverged = host(&["Two", "One"], Some(&id(9))).diverged(&id(9)).run::<ReleaseNotes>();
    assert!(notes(&diverged).contains("doesn't lead to this one"), "{}", notes(&diverged));

    let source = Source { commit: Some(id(2)), dirty: true, ..Source::default() };
    let dirty = host(&["Two", "One"], None).source(source).run::<ReleaseNotes>();
    assert!(notes(&dirty).contains("Files of the workspace differ"), "{}", notes(&dirty));

    let nothing = host(&["One"], Some(&id(1))).run::<ReleaseNotes>();
    assert!(notes(&nothing).starts_with("No commits since `aaaaaaa`"), "{}", notes(&nothing));
}

#[test]
fn a_lost_commit_of_the_last_release_is_an_error_unless_it_may_be() {
    for good in [id(9), String::new()] {
        let host = host(&["Two", "One"], Some(&good)).shallow();
        let error = host.clone().run::<ReleaseNotes>().result.unwrap_err();
        assert!(error.message.contains("the last good release of `production`, local/app@sha256:1"), "{error:?}");
        assert!(error.help.as_ref().unwrap().contains("missing = \"first\""), "{error:?}");
        let with = json!({ "environment": "production", "missing": "first" });
        let first = host.config(with).run::<ReleaseNotes>();
        let text = notes(&first);
        assert!(text.starts_with("2 commits in the first release") && text.contains("not the commits since"), "{text}");
    }
}

#[test]
fn long_notes_are_whole_in_the_artifact_only() {
    let long = "x".repeat(290);
    let messages: Vec<&str> = std::iter::repeat_n(long.as_str(), 1000).collect();
    let with = json!({ "environment": "production", "max-commits": 1000, "name": "NOTES.md", "file": "out/n.md" });
    let report = host(&messages, None).config(with).run::<ReleaseNotes>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.text("out/n.md").lines().filter(|line| line.starts_with("- ")).count(), 1000);
    let output = report.outputs["notes"].as_str().unwrap();
    assert!(output.len() < 300_000 && output.ends_with("Ada)\n\nThe artifact has the rest.\n"));
    assert_eq!(report.published[0].name, "NOTES.md");
}

#[test]
fn the_environment_is_that_of_the_stage_by_default() {
    let report = host(&["One"], None).config(json!({})).environment("production").run::<ReleaseNotes>();
    assert!(notes(&report).contains("to production"));
    let error = host(&["One"], None).config(json!({ "environment": "qa" })).run::<ReleaseNotes>().result.unwrap_err();
    assert!(error.message.contains("no environment `qa`"), "{error:?}");
}

#[test]
fn mistakes_name_their_key_and_the_file_is_required() {
    let keys = |with: Json| -> Vec<String> {
        let found = FakeHost::new().config(with).validate::<ReleaseNotes>();
        found.into_iter().map(|found| found.key.unwrap_or_default()).collect()
    };
    assert_eq!(keys(json!({})), ["environment"]);
    let wrong = json!({ "environment": "x", "max-commits": 1001, "first-since": "refs/tags/v1", "file": "." });
    assert_eq!(keys(wrong), ["max-commits", "first-since", "file"]);
    assert_eq!(keys(json!({ "environment": "x", "forge": "sourceforge" })), ["forge"]);
    let required = host(&["One"], None).requirements::<ReleaseNotes>();
    assert_eq!((required[0].permission, required[0].entry.as_str()), (Permission::Write, "target/release-notes.md"));
}
