//! Missing permissions: they are all known before a run, and `grant` writes them.

use serde_json::Value as Json;

use crate::environment::TestEnvironment;

const PIPELINE: &str = r#"
schema = 1
pipeline.name = "service"

# Packs the program.
[stages.image]
uses = "build-image"
with = { files = [{ from = "app", to = "/app" }], entrypoint = ["/app"], layout = "image" }

[stages.check] # of the layout
uses = "command"
needs = ["image"]
with = { argv = ["ls", "image"] }
permissions.read = [
  "image", # what was built
]

[stages.say]
uses = "command"
with.run = "echo done"
permissions = { process = ["sh"] }
"#;

fn service() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.write("app", "#!/bin/sh\n");
    environment
}

#[test]
fn everything_that_is_missing_is_listed_before_anything_runs() {
    let environment = service();
    let lines = ["read = [\"app\"]", "write = [\"image\"]", "process = [\"ls\"]"];
    for (command, code) in [("validate", 3), ("run", 4)] {
        let refused = environment.run(&[command]).exits(code);
        let said = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        for line in lines {
            assert!(said.contains(line), "{command}, {line}: {said}");
        }
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("2 stages lack permissions"), "{said}");
    }
    assert_eq!(environment.run(&["runs", "--json"]).stdout.trim(), "[]", "nothing ran");
    let plan = environment.run(&["plan"]).exits(4);
    assert!(plan.stdout.contains("lacks        read `app` (goes into the image), write `image` (receives the image)"));
    let plan: Json = serde_json::from_str(&environment.run(&["plan", "--json"]).stdout).expect("JSON");
    let lacks: Vec<usize> =
        ["image", "check", "say"].iter().map(|id| stage(&plan, id)["lacks"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(lacks, [2, 1, 0]);
}

fn stage<'a>(plan: &'a Json, id: &str) -> &'a Json {
    plan["stages"].as_array().expect("stages").iter().find(|stage| stage["id"] == id).expect("the stage")
}

#[test]
fn what_a_run_leaves_out_may_lack_permissions() {
    service().run(&["run", "--only", "say"]).exits(0);
}

#[test]
fn grant_writes_what_is_missing_and_keeps_the_rest() {
    let environment = service();
    let shown = environment.run(&["grant", "--dry-run"]).exits(0);
    assert!(shown.stdout.contains("+permissions = { read = [\"app\"], write = [\"image\"] }"), "{}", shown.stdout);
    assert!(shown.stdout.contains("[stages.check] start `ls` with any arguments"), "{}", shown.stdout);
    let refused = environment.run(&["grant"]).exits(4);
    assert!(refused.stderr.contains("stagewright grant --yes"), "{}", refused.stderr);
    assert_eq!(environment.read("stagewright.toml"), PIPELINE, "nothing was written");

    environment.run(&["grant", "--yes", "image"]).exits(0);
    let line = "layout = \"image\" }\npermissions = { read = [\"app\"], write = [\"image\"] }\n";
    let expected = PIPELINE.replacen("layout = \"image\" }\n", line, 1);
    assert_eq!(environment.read("stagewright.toml"), expected, "one stage");
    environment.run(&["grant", "--yes"]).exits(0);
    let expected =
        expected.replacen("# what was built\n]\n", "# what was built\n]\npermissions.process = [\"ls\"]\n", 1);
    assert_eq!(environment.read("stagewright.toml"), expected);
    environment.run(&["run"]).exits(0);
    let again = environment.run(&["grant", "--json"]).exits(0);
    let again: Json = serde_json::from_str(&again.stdout).expect("JSON");
    assert_eq!((again["grants"].as_array().map(Vec::len), &again["written"]), (Some(0), &Json::Bool(false)));
}

#[test]
fn grant_proposes_what_the_last_run_was_denied() {
    let environment = TestEnvironment::with_pipeline(
        "schema = 1\npipeline.name = \"denied\"\n[stages.look]\nuses = \"stranger\"\n\
         with.actions = [{ do = \"read\", path = \"notes\" }, { do = \"read\", path = \"more\" }]\n",
    );
    environment.write("notes", "text");
    environment.write("more", "text");
    environment.run(&["run"]).exits(0);
    let proposed = environment.run(&["grant", "--json", "--yes"]).exits(0);
    let proposed: Json = serde_json::from_str(&proposed.stdout).expect("JSON");
    let entries: Vec<&str> =
        proposed["grants"].as_array().expect("grants").iter().filter_map(|grant| grant["entry"].as_str()).collect();
    assert_eq!(entries, ["more", "notes"]);
    assert!(proposed["grants"][0]["reason"].as_str().is_some_and(|reason| reason.starts_with("was denied in run ")));
    assert_eq!(proposed["written"], true);
    let text = environment.read("stagewright.toml");
    assert!(text.ends_with("\npermissions = { read = [\"more\", \"notes\"] }\n"), "{text}");
    environment.run(&["run"]).exits(0);
    let rest = environment.run(&["grant"]).exits(0);
    assert!(rest.stdout.contains("lacks no permissions"), "{}", rest.stdout);
}

#[test]
fn grant_says_that_the_lock_becomes_wider() {
    let environment = TestEnvironment::with_pipeline(
        "schema = 1\npipeline.name = \"locked\"\n[stages.say]\nuses = \"command\"\nwith.run = \"echo\"\n",
    );
    environment.run(&["lock"]).exits(0);
    let lock = environment.read("stagewright.lock");
    let written = environment.run(&["grant", "--yes"]).exits(0);
    assert!(written.stdout.contains("+ `say` may now start `sh` with any arguments"), "{}", written.stdout);
    assert!(written.stdout.contains("stagewright lock stagewright.toml"), "{}", written.stdout);
    assert_eq!(environment.read("stagewright.lock"), lock, "only a person widens it");
    environment.run(&["run", "--locked"]).exits(4);
}

#[test]
fn grant_keeps_the_mode_of_the_file_and_refuses_what_it_cannot_write() {
    use std::os::unix::fs::PermissionsExt as _;
    let environment = service();
    let file = environment.root().join("stagewright.toml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    environment.run(&["grant", "--yes"]).exits(0);
    assert_eq!(file.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
    let unknown = environment.run(&["grant", "--yes", "none"]).exits(2);
    assert!(unknown.stderr.contains("none"), "{}", unknown.stderr);
    let unknown = environment.run(&["grant", "--run", "20000101-000000-none"]).exits(2);
    assert!(unknown.stderr.contains("no run"), "{}", unknown.stderr);
}

#[test]
fn a_run_takes_new_permissions_of_the_stage_that_was_denied() {
    // Which program it is isn't known before the run.
    let pipeline = r#"
schema = 1
pipeline.name = "fix"
[inputs.tool]
default = "echo"
[stages.first]
uses = "stranger"
with.actions = [{ do = "append", path = "out/first", text = "." }]
permissions.write = ["out"]
[stages.second]
uses = "command"
needs = ["first"]
with.argv = ["${{ inputs.tool }}", "text"]
"#;
    let environment = TestEnvironment::with_pipeline(pipeline);
    let refused = environment.run(&["run"]).exits(1);
    let steps = ["stagewright grant --run ", "stagewright resume ", " --accept-changes"];
    assert!(steps.iter().all(|step| refused.stdout.contains(step)), "{}", refused.stdout);
    environment.run(&["grant", "--run", "latest", "--yes"]).exits(0);
    let unchanged = environment.run(&["resume", "latest"]).exits(1);
    assert!(unchanged.stderr.contains("`--accept-changes` takes the changes"), "{}", unchanged.stderr);
    let taken = environment.run(&["resume", "latest", "--accept-changes"]).exits(0);
    assert!(taken.stdout.contains("pipeline file stagewright.toml"), "{}", taken.stdout);
    assert_eq!(environment.read("out/first"), ".", "a stage that succeeded doesn't run again");
}

#[test]
fn a_run_refuses_other_changes_of_its_file() {
    let pipeline = "schema = 1\npipeline.name = \"fix\"\n[stages.first]\nuses = \"command\"\nwith.run = \"true\"\n\
                    permissions.process = [\"sh\"]\n[stages.second]\nuses = \"command\"\nneeds = [\"first\"]\n\
                    with.run = \"exit 1\"\npermissions.process = [\"sh\"]\n";
    let environment = TestEnvironment::with_pipeline(pipeline);
    environment.run(&["run"]).exits(1);
    for (from, to, why) in [
        ("pipeline.name = \"fix\"", "pipeline.name = \"other\"", "they change `pipeline`"),
        ("[stages.second]", "[stages.more]\nuses = \"noop\"\n[stages.second]", "they add, remove or reorder stages"),
        ("with.run = \"true\"", "with.run = \"true;\"", "[stages.first] differs, and `first` has succeeded"),
        ("needs = [\"first\"]\n", "", "they add, remove or reorder stages"),
    ] {
        environment.write("stagewright.toml", &pipeline.replacen(from, to, 1));
        let refused = environment.run(&["resume", "latest", "--accept-changes"]).exits(4);
        assert!(refused.stderr.contains(why), "{why}: {}", refused.stderr);
    }
    environment.write("stagewright.toml", "schema = ");
    environment.run(&["resume", "latest", "--accept-changes"]).exits(3);
    let again = pipeline.replacen("with.run = \"true\"", "with.run = \"true;\"", 1).replacen("exit 1", "exit 0", 1);
    environment.write("stagewright.toml", &again);
    environment.run(&["resume", "latest", "--accept-changes", "--from", "first"]).exits(0);
}

#[test]
fn what_a_resumed_run_leaves_out_may_lack_permissions() {
    let environment = service();
    environment.write("stagewright.toml", &PIPELINE.replace("echo done", "test -e ready"));
    environment.run(&["run", "--only", "say"]).exits(1);
    environment.run(&["resume", "latest"]).exits(1);
}
