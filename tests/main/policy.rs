//! The operator's policy, which bounds every pipeline on the machine.

use crate::environment::TestEnvironment;

const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "build"
[stages.hello]
uses = "command"
with = { run = "echo hello" }
[stages.hello.permissions]
process = ["sh"]
"#;

/// A repository with a pipeline, and a policy beside it.
fn under(policy: &str) -> TestEnvironment {
    let mut environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.write("../policy.toml", policy);
    let path = environment.root().with_file_name("policy.toml").display().to_string();
    environment.set("STAGEWRIGHT_POLICY", &path);
    environment
}

#[test]
fn a_pipeline_beyond_the_policy_is_refused_everywhere() {
    let environment = under("schema = 1\n");
    environment.run(&["run"]).exits(0);
    environment.write("../policy.toml", "schema = 1\n# Ours.\n[permissions]\nprocess = [\"cargo\"]\n");
    let commands: [&[&str]; 5] =
        [&["run"], &["rerun", "latest"], &["resume", "latest", "--from", "hello"], &["plan"], &["run", "--rehearse"]];
    for command in commands {
        let refused = environment.run(command).exits(4);
        for part in ["stagewright.toml:9:", "`hello` may start `sh`", "policy.toml:4 allows process = [\"cargo\"]"] {
            let text = refused.stderr.replace("\n        ", " ");
            assert!(text.contains(part), "{command:?}: {part} is missing in:\n{}", refused.stderr);
        }
    }
    let checked = environment.run(&["validate", "--json"]).exits(3);
    assert!(checked.stdout.contains("stagewright::beyond-policy"), "{}", checked.stdout);
    let events = environment.run(&["runs", "--json"]).exits(0);
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&events.stdout).unwrap().len(), 1);
    // The command line takes precedence.
    environment.write("../other.toml", "schema = 1\n[permissions]\nprocess = [\"sh -c *\", \"sh\"]\n");
    environment.run(&["run", "--policy", "../other.toml"]).exits(0);
}

#[test]
fn a_policy_that_cannot_be_read_stops_everything() {
    let environment = under("schema = 1\n[permision]\n");
    for command in [&["run"][..], &["plan"], &["validate"], &["lock"]] {
        let stopped = environment.run(command).exits(7);
        for part in ["policy.toml:2:", "permissions", "is invalid; nothing was run"] {
            assert!(stopped.stderr.contains(part), "{command:?}: {part} is missing in:\n{}", stopped.stderr);
        }
    }
    std::fs::remove_file(environment.root().with_file_name("policy.toml")).unwrap();
    let stopped = environment.run(&["run"]).exits(7);
    assert!(stopped.stderr.contains("can't read the policy"), "{}", stopped.stderr);
}

#[test]
fn a_policy_can_ask_for_the_lock() {
    let environment = under("schema = 1\nlocked = true\n");
    let refused = environment.run(&["run"]).exits(4);
    assert!(
        refused.stderr.contains("stagewright.lock, which does not exist")
            && refused.stderr.contains("policy.toml requires")
    );
    environment.run(&["lock"]).exits(0);
    environment.run(&["run"]).exits(0);
    environment.write("stagewright.toml", &PIPELINE.replace("[\"sh\"]", "[\"*\"]"));
    environment.run(&["run"]).exits(4);
}

/// A forbidden native plugin isn't even asked for its manifest, because that would run it.
#[test]
fn native_code_that_the_policy_forbids_is_not_loaded() {
    let environment = under("schema = 1\nnative = false\n");
    let native = format!("uses = \"path:evil.so\"\ntrust = \"native\"\ndigest = \"sha256:{}\"", "0".repeat(64));
    environment.write("stagewright.toml", &PIPELINE.replace("uses = \"command\"", &native));
    for command in [&["run"][..], &["plan"], &["lock"]] {
        let refused = environment.run(command).exits(4);
        assert!(refused.stderr.contains("native library, which the policy doesn't allow"), "{}", refused.stderr);
    }
}

#[test]
fn the_policys_limits_are_the_defaults() {
    let environment = under("schema = 1\n[limits]\nlog-limit = \"10B\"\n");
    let shown = environment.run(&["plan"]).exits(0).stdout;
    assert!(shown.contains("log-limit 10B"), "{shown}");
    let long = PIPELINE.replace("echo hello", "echo hello and more than that");
    environment.write("stagewright.toml", &long);
    assert!(environment.run(&["run"]).exits(1).stdout.contains("10B"));
}
