//! Tests on the fake host. The expected tags are those of docker/metadata-action v6 for the same rules and refs.

use serde_json::{Value as Json, json};
use stagewright_sdk::Outcome;
use stagewright_sdk::fake::{FakeHost, Report, Source};
use stagewright_sdk::source::Commit;

use crate::ImageMeta;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn host(with: Json, reference: &str) -> FakeHost {
    let source = Source { commit: Some(COMMIT.to_owned()), reference: Some(reference.to_owned()), ..Source::default() };
    let commit = Commit { id: COMMIT.to_owned(), time_ms: 1_769_860_800_000, ..Commit::default() };
    FakeHost::new().config(with).source(source).history([commit])
}

fn run(with: Json, reference: &str) -> Report<stagewright_sdk::Result<Outcome>> {
    host(with, reference).run::<ImageMeta>()
}

fn tags(with: &Json, reference: &str) -> Json {
    let report = run(with.clone(), reference);
    assert_eq!(report.result, Ok(Outcome::Succeeded), "{reference}");
    report.outputs["tags"].clone()
}

/// The rules that most projects have.
fn usual() -> Json {
    json!({ "tags": [
        { "type": "branch" },
        { "type": "pr" },
        { "type": "semver", "pattern": "{{version}}" },
        { "type": "semver", "pattern": "{{major}}.{{minor}}" },
    ] })
}

#[test]
fn what_a_run_is_for_gives_the_tags() {
    let cases = [
        ("refs/heads/main", json!(["main"])),
        ("refs/heads/feature/x", json!(["feature-x"])),
        ("refs/heads/feature//ä x+y", json!(["feature-x-y"])),
        ("refs/pull/7/head", json!(["pr-7"])),
        ("refs/pull/7/merge", json!(["pr-7"])),
        ("refs/tags/v3.0.0", json!(["3.0.0", "3.0", "latest"])),
        ("refs/tags/3.0.0", json!(["3.0.0", "3.0", "latest"])),
        ("refs/tags/v3.1.0-rc.1", json!(["3.1.0-rc.1"])),
        ("refs/tags/v3.1.0+build.5", json!(["3.1.0", "3.1", "latest"])),
        ("refs/tags/v0.4.2", json!(["0.4.2", "0.4", "latest"])),
        ("refs/tags/v3.1", json!([])),
        ("refs/tags/nightly", json!([])),
    ];
    for (reference, expected) in cases {
        assert_eq!(tags(&usual(), reference), expected, "{reference}");
    }
}

#[test]
fn patterns_have_the_parts_of_a_version() {
    let cases = [
        ("{{raw}}", "v1.2.3", json!(["v1.2.3", "latest"])),
        ("v{{major}}", "v1.2.3", json!(["v1", "latest"])),
        ("{{ minor }}-{{patch}}", "v1.2.3", json!(["2-3", "latest"])),
        ("{{major}}", "v0.1.2", json!(["0", "latest"])),
        ("{{raw}}", "v2.0.8-beta.67", json!(["v2.0.8-beta.67"])),
        ("v{{major}}", "v2.0.8-beta.67", json!(["2.0.8-beta.67"])),
    ];
    for (pattern, tag, expected) in cases {
        let with = json!({ "tags": [{ "type": "semver", "pattern": pattern }] });
        assert_eq!(tags(&with, &format!("refs/tags/{tag}")), expected, "{pattern} {tag}");
        let with = json!({ "tags": [{ "type": "semver", "pattern": pattern, "value": tag }] });
        assert_eq!(tags(&with, "refs/heads/main"), expected, "{pattern} {tag} as a value");
    }
}

#[test]
fn without_rules_there_are_those_of_branches_tags_and_pull_requests() {
    assert_eq!(tags(&json!({}), "refs/heads/main"), json!(["main"]));
    assert_eq!(tags(&json!({}), "refs/tags/v1.2.3"), json!(["v1.2.3", "latest"]));
    assert_eq!(tags(&json!({}), "refs/pull/12/head"), json!(["pr-12"]));
}

#[test]
fn the_most_specific_tag_is_the_version_and_decides_about_latest() {
    let with = json!({ "tags": [
        { "type": "sha" },
        { "type": "raw", "value": "edge stable" },
        { "type": "tag" },
        { "type": "sha", "format": "long", "prefix": "" },
        { "type": "semver", "pattern": "{{version}}" },
    ] });
    let report = run(with, "refs/tags/v1.0.0-rc.1");
    assert_eq!(report.outputs["version"], "1.0.0-rc.1");
    assert_eq!(report.outputs["tags"], json!(["1.0.0-rc.1", "v1.0.0-rc.1", "edge-stable", "sha-0123456", COMMIT]));
}

#[test]
fn the_flavor_applies_to_all_tags_and_a_rule_has_its_own() {
    let rules = json!([{ "type": "branch" }, { "type": "sha" }, { "type": "raw", "value": "a", "suffix": "" }]);
    let with = |flavor: Json| json!({ "tags": rules, "flavor": flavor });
    let expected = json!(["x-main-y", "x-a", "sha-0123456-y"]);
    assert_eq!(tags(&with(json!({ "prefix": "x-", "suffix": "-y" })), "refs/heads/main"), expected);
    let all = json!({ "prefix": "x-", "suffix": "-y", "latest": true, "prefix-latest": true, "suffix-latest": true });
    assert_eq!(tags(&with(all), "refs/heads/main"), json!(["x-main-y", "x-a", "sha-0123456-y", "x-latest-y"]));
    let never = json!({ "tags": [{ "type": "tag" }], "flavor": { "latest": false, "prefix": "x-" } });
    assert_eq!(tags(&never, "refs/tags/v1.0.0"), json!(["x-v1.0.0"]));
    let twice = json!({ "tags": [{ "type": "raw", "value": "latest" }], "flavor": { "latest": true } });
    assert_eq!(tags(&twice, "refs/heads/main"), json!(["latest"]));
}

#[test]
fn a_rule_can_be_disabled() {
    let with = json!({ "tags": [{ "type": "branch" }, { "type": "sha", "enable": false }] });
    assert_eq!(tags(&with, "refs/heads/main"), json!(["main"]));
}

#[test]
fn the_branch_of_a_pull_request_gives_no_tag() {
    let mut source = Source { commit: Some(COMMIT.to_owned()), ..Source::default() };
    source.reference = Some("refs/heads/main".to_owned());
    source.trigger = "pull-request".to_owned();
    let report = host(usual(), "").source(source).run::<ImageMeta>();
    assert_eq!(report.outputs["tags"], json!([]));
    assert!(report.logged("`--pull-request`"));
}

#[test]
fn a_tag_that_a_registry_refuses_is_an_error_with_its_rule() {
    let error = run(usual(), "refs/heads/.hidden").result.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`tags[0]` (type = \"branch\")") && text.contains("`.hidden`"), "{text}");
    let long = format!("refs/tags/v1.0.0-{}", "a".repeat(128));
    let text = run(usual(), &long).result.unwrap_err().to_string();
    assert!(text.contains("pattern = \"{{version}}\"") && text.contains("at most 128"), "{text}");
    let fits = format!("refs/heads/{}", "a".repeat(128));
    assert_eq!(tags(&usual(), &fits), json!(["a".repeat(128)]));
    let with = json!({ "tags": [{ "type": "branch" }], "flavor": { "prefix": "-" } });
    assert!(run(with, "refs/heads/main").result.is_err());
}

#[test]
fn without_tags_there_is_a_warning_and_no_version() {
    let report = run(usual(), "refs/tags/nightly");
    assert_eq!(report.outputs["version"], Json::Null);
    assert_eq!(report.findings[0].message, "no rule gives a tag for refs/tags/nightly");
}

#[test]
fn labels_are_those_of_the_commit() {
    let report = host(usual(), "refs/tags/v1.2.3").repository("https://github.com/acme/app").run::<ImageMeta>();
    let prefix = "org.opencontainers.image.";
    let expected = [
        ("created", "2026-01-31T12:00:00Z"),
        ("revision", COMMIT),
        ("source", "https://github.com/acme/app"),
        ("title", "app"),
        ("url", "https://github.com/acme/app"),
        ("version", "1.2.3"),
    ];
    let expected = expected.map(|(name, value)| (format!("{prefix}{name}"), json!(value)));
    assert_eq!(report.outputs["labels"], Json::Object(expected.into_iter().collect()));
    assert_eq!(report.outputs["created"], "2026-01-31T12:00:00Z");
    assert_eq!(report.outputs["revision"], COMMIT);
}

#[test]
fn labels_of_the_table_take_precedence() {
    let with = json!({
        "title": "App", "description": "Does it", "licenses": "MIT", "url": "https://app.example",
        "labels": { "org.opencontainers.image.version": "custom", "com.example.team": "a" },
    });
    let labels = run(with, "refs/heads/main").outputs["labels"].clone();
    assert_eq!(labels["org.opencontainers.image.title"], "App");
    assert_eq!(labels["org.opencontainers.image.description"], "Does it");
    assert_eq!(labels["org.opencontainers.image.licenses"], "MIT");
    assert_eq!(labels["org.opencontainers.image.url"], "https://app.example");
    assert_eq!(labels["org.opencontainers.image.version"], "custom");
    assert_eq!(labels["com.example.team"], "a");
    assert!(labels.get("org.opencontainers.image.source").is_none());
}

#[test]
fn references_are_those_of_all_repositories() {
    let with =
        json!({ "images": ["ghcr.io/Acme/App", "local/app"], "tags": [{ "type": "branch" }, { "type": "sha" }] });
    let expected =
        json!(["ghcr.io/acme/app:main", "ghcr.io/acme/app:sha-0123456", "local/app:main", "local/app:sha-0123456"]);
    assert_eq!(run(with, "refs/heads/main").outputs["references"], expected);
}

#[test]
fn uncommitted_changes_are_said_and_a_run_without_a_commit_fails() {
    let source = Source { commit: Some(COMMIT.to_owned()), dirty: true, ..Source::default() };
    assert!(host(usual(), "").source(source).run::<ImageMeta>().logged("differ from the commit"));
    let error = FakeHost::new().config(usual()).run::<ImageMeta>().result.unwrap_err();
    assert!(error.message.contains("no commit") && error.help.is_some(), "{error:?}");
}

#[test]
fn mistakes_name_their_key() {
    let keys = |with: Json| -> Vec<String> {
        let found = FakeHost::new().config(with).validate::<ImageMeta>();
        found.into_iter().map(|found| found.key.unwrap_or_default()).collect()
    };
    assert!(keys(usual()).is_empty());
    let rules = json!([
        { "type": "semver" },
        { "type": "raw" },
        { "type": "raw", "value": ".a" },
        { "type": "raw", "value": "" },
        { "type": "sha", "value": "a" },
        { "type": "branch", "pattern": "{{version}}", "format": "long" },
    ]);
    let expected =
        ["tags[0].pattern", "tags[1].value", "tags[2].value", "tags[4].value", "tags[5].pattern", "tags[5].format"];
    assert_eq!(keys(json!({ "tags": rules })), expected);
    assert_eq!(keys(json!({ "flavor": { "latest": "sometimes" } })), ["flavor.latest"]);
    for pattern in ["{{versoin}}", "{{version", ""] {
        let with = json!({ "tags": [{ "type": "semver", "pattern": pattern }] });
        assert_eq!(keys(with), ["tags[0].pattern"], "{pattern}");
    }
}
