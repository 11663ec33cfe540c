//! The stage `image-meta`: the tags and labels of a run, as `build-image` and `push-image` take them.

use serde_json::{Value as Json, json};

use crate::environment::{TestEnvironment, failure};

const PIPELINE: &str = r#"
schema = 1
pipeline.name = "image"
[on.push]
[on.pull-request]

[stages.meta]
uses = "image-meta"
[stages.meta.with]
licenses = "MIT"
tags = [
    { type = "branch" },
    { type = "pr" },
    { type = "semver", pattern = "{{version}}" },
    { type = "semver", pattern = "{{major}}.{{minor}}" },
    { type = "sha", enable = "${{ event.name == 'push' }}" },
]

[stages.build]
uses = "build-image"
needs = ["meta"]
[stages.build.with]
files = ["app"]
layout = "image"
tags = "${{ stages.meta.outputs.tags }}"
labels = "${{ stages.meta.outputs.labels }}"
created = "${{ stages.meta.outputs.created }}"
[stages.build.permissions]
read = ["app"]
write = ["image"]

[stages.push]
uses = "push-image"
needs = ["build", "meta"]
with = { layout = "image", image = "local/app", tags = "${{ stages.meta.outputs.tags }}" }
permissions = { read = ["image"], registry = ["local/app"] }
"#;

fn repository() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.write("app", "an app");
    environment.write(".gitignore", ".stagewright/\nimage/\n");
    environment.git(&["init", "--quiet", "--initial-branch", "main"]);
    environment.git(&["remote", "add", "origin", "https://ada:hunter2@git.example/acme/shop.git"]);
    environment.commit();
    environment
}

/// The outputs of a stage in a run that succeeds.
#[track_caller]
fn outputs(events: &[Json], stage: &str) -> Json {
    let is_end = |event: &&Json| event["type"] == "attempt-ended" && event["stage-id"] == stage;
    events.iter().find(is_end).unwrap_or_else(|| panic!("`{stage}` never ended: {events:#?}"))["outputs"].clone()
}

#[track_caller]
fn pushed(environment: &TestEnvironment, args: &[&str]) -> Json {
    let (code, events) = environment.events(&[&["run"], args].concat());
    assert_eq!(code, 0, "{events:#?}");
    outputs(&events, "push")
}

/// The configuration of the only image in the layout.
fn configuration(environment: &TestEnvironment) -> Json {
    let blob = |digest: &Json| -> Json {
        let path = digest.as_str().expect("a digest").replace(':', "/");
        serde_json::from_str(&environment.read(&format!("image/blobs/{path}"))).expect("JSON")
    };
    let index: Json = serde_json::from_str(&environment.read("image/index.json")).expect("JSON");
    blob(&blob(&index["manifests"][0]["digest"])["config"]["digest"])
}

fn head(environment: &TestEnvironment, format: &str) -> String {
    let output = environment.program("git").args(["show", "--no-patch", format, "HEAD"]).output().expect("git starts");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

#[test]
fn a_branch_a_version_and_a_pull_request_have_their_tags() {
    let environment = repository();
    environment.run(&["validate"]).exits(0);
    assert_eq!(pushed(&environment, &[])["tags"], json!(["main"]));
    environment.git(&["switch", "--quiet", "--create", "feature/x"]);
    assert_eq!(pushed(&environment, &[])["tags"], json!(["feature-x"]));
    let pull_request = ["--event", "pull-request", "--base", "main", "--pull-request", "7"];
    assert_eq!(pushed(&environment, &pull_request)["tags"], json!(["pr-7"]));
    // A CI system has the commit of the merge checked out, without a branch.
    environment.git(&["switch", "--quiet", "--detach"]);
    assert_eq!(pushed(&environment, &pull_request)["tags"], json!(["pr-7"]));
    environment.git(&["tag", "v3.1.0-rc.1"]);
    assert_eq!(pushed(&environment, &[])["tags"], json!(["3.1.0-rc.1"]));
    environment.git(&["tag", "--delete", "v3.1.0-rc.1"]);
    environment.git(&["tag", "v3.0.0"]);
    let sha = head(&environment, "--format=sha-%h");
    assert_eq!(pushed(&environment, &["--event", "push"])["tags"], json!(["3.0.0", "3.0", sha[..11], "latest"]));
}

#[test]
fn the_labels_are_in_the_image_and_the_same_commit_has_the_same_image() {
    let environment = repository();
    environment.git(&["tag", "v1.2.3"]);
    let first = pushed(&environment, &[]);
    let image = configuration(&environment);
    let time = head(&environment, "--format=%ct").parse::<i64>().expect("seconds");
    let created = outputs_time(time);
    let label = |name: &str| image["config"]["Labels"][format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(label("created"), created.as_str());
    assert_eq!(image["created"], created.as_str());
    assert_eq!(label("revision"), head(&environment, "--format=%H").as_str());
    assert_eq!(label("source"), "https://git.example/acme/shop");
    assert_eq!([label("version"), label("title"), label("licenses")], ["1.2.3", "shop", "MIT"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(pushed(&environment, &[])["digest"], first["digest"]);
}

/// The time as `date` prints it.
fn outputs_time(seconds: i64) -> String {
    let mut date = std::process::Command::new("date");
    let output = date.args(["--utc", "--date", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]).output();
    String::from_utf8(output.expect("date starts").stdout).expect("UTF-8").trim().to_owned()
}

#[test]
fn a_tag_that_the_registry_would_refuse_names_its_rule() {
    let environment = repository();
    environment.git(&["tag", &format!("v1.0.0-{}", "a".repeat(130))]);
    let (code, events) = environment.events(&["run"]);
    let failure = failure(&events, "meta");
    assert_eq!(code, 1, "{events:#?}");
    assert!(failure["message"].as_str().unwrap().contains("pattern = \"{{version}}\"): `1.0.0-aaa"), "{failure:#}");
    let pipeline = environment.read("stagewright.toml").replace("{{version}}", "{{versoin}}");
    environment.write("stagewright.toml", &pipeline);
    let refused = environment.run(&["validate"]).exits(3);
    assert!(refused.stderr.contains("{{versoin}}") && refused.stderr.contains("{{version}}"), "{}", refused.stderr);
}

#[test]
fn the_number_of_a_pull_request_needs_its_event() {
    let environment = repository();
    let refused = environment.run(&["run", "--event", "push", "--pull-request", "7"]).exits(2);
    assert!(refused.stderr.contains("use it with `--event pull-request`"), "{}", refused.stderr);
    environment.run(&["run", "--pull-request", "7"]).exits(2);
    environment.run(&["run", "--event", "pull-request", "--pull-request", "0"]).exits(2);
}
