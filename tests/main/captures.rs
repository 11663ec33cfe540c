//! What was approved is deployed, and a run never uses files that another run made.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::environment::{TestEnvironment, eventually, failure, outcomes, text};

const GATED: &str = r#"
schema = 1
[pipeline]
name = "gated"
[stages.build]
uses = "command"
with = { run = "cp source target/app" }
permissions = { process = ["sh", "cp"], read = ["source"], write = ["target"] }
[stages.approve]
uses = "approve"
needs = ["build"]
with = { message = "Deploy?" }
[stages.deploy]
uses = "command"
needs = ["approve"]
permissions = { process = ["sh", "cat", "git", "./tool"], read = ["."], write = ["deployed.txt", "target"] }
[stages.deploy.with]
run = """
{ cat app ignored sub/module new 2>/dev/null; ./tool; git rev-parse HEAD; cat target/app; } > deployed.txt || true
"""
"#;

fn git(environment: &TestEnvironment, args: &[&str]) -> String {
    let mut command = environment.program("git");
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]).args(args);
    let output = command.output().expect("git starts");
    assert!(output.status.success(), "{args:?}");
    text(&serde_json::json!(String::from_utf8_lossy(&output.stdout).trim()))
}

/// A repository with a run that waits for its approval.
fn waiting() -> (TestEnvironment, String) {
    let environment = TestEnvironment::with_pipeline(GATED);
    environment.write(".gitignore", ".stagewright/\nignored\ntarget/\ndeployed.txt\n");
    for (path, content) in
        [("app", "app 1\n"), ("ignored", "ignored 1\n"), ("sub/module", "module 1\n"), ("source", "built 1\n")]
    {
        environment.write(path, content);
    }
    environment.write("tool", "#!/bin/sh\necho tool 1\n");
    let tool = environment.root().join("tool");
    std::fs::set_permissions(tool, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    git(&environment, &["init", "--quiet", "--initial-branch", "main"]);
    git(&environment, &["add", "--all"]);
    git(&environment, &["commit", "--quiet", "--message", "one"]);
    environment.run(&["run"]).exits(5);
    let commit = git(&environment, &["rev-parse", "HEAD"]);
    (environment, commit)
}

#[test]
fn what_was_approved_is_deployed_whatever_was_changed_since() {
    let (environment, commit) = waiting();
    let listed: serde_json::Value =
        serde_json::from_str(&environment.run(&["runs", "--waiting", "--json"]).exits(0).stdout).expect("JSON");
    let digest = text(&listed[0]["captures"]["approve"]["digest"]);
    assert!(digest.starts_with("sha256:"), "{listed}");
    assert!(environment.run(&["runs", "--waiting"]).stdout.contains(&digest[..19]));
    let approved = environment.run(&["approve", "latest", "approve", "--by", "ada"]).exits(0);
    assert!(approved.stdout.contains(&digest), "{}", approved.stdout);

    git(&environment, &["update-index", "--assume-unchanged", "app"]);
    for path in ["app", "ignored", "sub/module", "new", "target/app"] {
        environment.write(path, "slipped in\n");
    }
    environment.write("tool", "#!/bin/sh\necho slipped in\n");
    std::fs::write(environment.root().join(".git/index"), "not a git index").expect("a file");
    std::fs::remove_file(environment.root().join(".git/index")).expect("a file");
    git(&environment, &["commit", "--quiet", "--allow-empty", "--message", "two"]);

    let (code, events) = environment.events(&["resume", "latest"]);
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(environment.read("deployed.txt"), format!("app 1\nignored 1\nmodule 1\ntool 1\n{commit}\nbuilt 1\n"));
    assert_eq!(environment.read("target/app"), "slipped in\n", "the file that was built meanwhile is kept");
    let opened = events.iter().find(|event| event["type"] == "gate-opened").expect("replayed");
    assert_eq!(text(&opened["gate"]["capture"]["digest"]), digest);
    let decided = events.iter().find(|event| event["type"] == "gate-decided").expect("an answer");
    assert_eq!(text(&decided["decision"]["capture"]), digest);
}

/// A cached result was made from the workspace's current files, and not from the captured ones.
#[test]
fn a_stage_behind_a_gate_is_not_restored_from_a_result_of_other_files() {
    let environment = TestEnvironment::with_pipeline(
        r#"
schema = 1
[pipeline]
name = "packed"
[stages.approve]
uses = "approve"
with = { message = "Deploy?" }
[stages.pack]
uses = "command"
needs = ["approve"]
with = { run = "cat app > packed.txt" }
inputs = ["app"]
outputs = ["packed.txt"]
permissions = { process = ["sh", "cat"], read = ["app"], write = ["packed.txt"] }
"#,
    );
    // The second time the files are those that the result was made from.
    for approved in ["slipped in\n", "slipped in\n", "approved\n"] {
        environment.write("app", approved);
        environment.run(&["run"]).exits(5);
        environment.run(&["approve", "latest", "approve", "--by", "ada"]).exits(0);
        environment.write("app", "slipped in\n");
        environment.run(&["resume", "latest"]).exits(0);
        assert_eq!(environment.read("packed.txt"), approved);
    }
}

#[test]
fn a_new_capture_needs_a_new_approval() {
    let (environment, _) = waiting();
    environment.run(&["approve", "latest", "approve", "--by", "ada"]).exits(0);
    environment.write("ignored", "ignored 2\n");
    environment.run(&["resume", "latest", "--from", "approve"]).exits(5);
    environment.run(&["approve", "latest", "approve", "--by", "ada"]).exits(0);
    environment.run(&["resume", "latest"]).exits(0);
    assert!(environment.read("deployed.txt").contains("ignored 2"));
}

#[test]
fn captured_files_are_kept_while_a_run_may_need_them() {
    let (environment, _) = waiting();
    let captures = || -> Vec<PathBuf> {
        let trees = std::fs::read_dir(environment.root().join(".stagewright/captures/trees")).expect("a folder");
        trees.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect()
    };
    environment.run(&["gc"]).exits(0);
    assert_eq!(captures().len(), 1);
    environment.run(&["approve", "latest", "approve", "--by", "ada"]).exits(0);
    environment.run(&["resume", "latest"]).exits(0);
    let removed = environment.run(&["gc"]).exits(0);
    assert!(captures().is_empty() && removed.stdout.contains("1 unused capture"), "{}", removed.stdout);
    let gone = environment.run(&["resume", "latest", "--from", "deploy"]);
    assert!(gone.code == 1 && gone.stdout.contains("--from approve"), "{}{}", gone.stdout, gone.stderr);
}

#[test]
fn a_run_never_takes_what_another_has_made() {
    let environment = TestEnvironment::with_pipeline(
        r#"
schema = 1
[pipeline]
name = "shared"
[inputs.version]
type = "string"
[inputs.wait]
type = "boolean"
default = false
[stages.build]
uses = "command"
with = { argv = ["sh", "-c", "echo \"$VERSION\" > app.txt"] }
env = { VERSION = "${{ inputs.version }}" }
permissions = { process = ["sh"], write = ["app.txt"] }
[stages.slow]
uses = "command"
needs = ["build"]
with = { run = "while test \"$WAIT\" = true && ! test -e go/on; do sleep 0.05; done" }
env = { WAIT = "${{ inputs.wait }}" }
permissions = { process = ["sh", "test", "sleep"], read = ["go"] }
[stages.image]
uses = "command"
needs = ["build", "slow"]
with = { run = "cat app.txt > image.txt" }
permissions = { process = ["sh", "cat"], read = ["app.txt"], write = ["image.txt"] }
"#,
    );
    std::fs::create_dir(environment.root().join("go")).expect("a folder");
    let first = environment.start(&["run", "-i", "version=1", "-i", "wait=true", "--format", "json"]);
    eventually("the first run has built", || {
        let built = std::fs::read_to_string(environment.root().join("app.txt")).unwrap_or_default();
        (built == "1\n").then_some(())
    });
    environment.run(&["run", "-i", "version=2"]).exits(0);
    environment.write("go/on", "");
    let first = first.wait_with_output().expect("it ends");
    let events: Vec<serde_json::Value> = String::from_utf8_lossy(&first.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    assert_eq!(outcomes(&events)["image"], "errored");
    let why = failure(&events, "image");
    assert!(text(&why["message"]).contains("`app.txt` is not what `build` made"), "{why}");
    assert_eq!(environment.read("image.txt"), "2\n", "made by the second run");
}
