//! Malicious stages: each can do what it was granted, and nothing else.
//!
//! Where a test shows that an attack fails, the same script shows that granted actions work: a sandbox that blocks
//! everything fails these tests.
//!
//! The attacks open files of the machine but never write to them: if the sandbox is broken, by accident or to see a test
//! fail, the machine must not be damaged.

use serde_json::Value as Json;

use crate::environment::{Ended, TestEnvironment, binary, failure};

mod configuration;
mod doors;
mod files;
mod git;
mod network;
mod patterns;
mod processes;
mod reserved;

/// Shell functions for the scripts. A missing program doesn't count as refused.
const WORDS: &str = r#"
may() { if "$@"; then echo "as granted: $*"; else echo "WRONG, refused: $*"; fi; }
never() {
  command -v "$1" > /dev/null || echo "WRONG, there is no $1"
  if "$@"; then echo "WRONG, done: $*"; else echo "as it should be, refused: $*"; fi
}
put() { echo changed > "$1"; }
opens() { true >> "$1"; }
hostile() { tools/hostile "$@"; }
"#;

/// A repository with files to read in `src` and to write in `out`, and with other files that aren't granted.
fn repository() -> TestEnvironment {
    let environment = TestEnvironment::new();
    for (path, text) in [
        ("src/open", "for all\n"),
        ("src/tool", "#!/bin/sh\necho started\n"),
        ("out/mine", "mine\n"),
        ("closed", "not granted\n"),
        (".git/config", "[remote \"origin\"]\n\turl = https://ada:hunter2@git.test/a\n"),
        (".git/HEAD", "ref: refs/heads/main\n"),
        (".git/hooks/pre-push.sample", "exit 0\n"),
        ("../home/.ssh/id_ed25519", "hunter2\n"),
        ("../outside/prize", "hunter2\n"),
    ] {
        environment.write(path, text);
    }
    make_executable(&environment, "src/tool");
    std::fs::create_dir(environment.root().join("tools")).expect("a folder");
    std::fs::copy(env!("CARGO_BIN_EXE_hostile"), environment.root().join("tools/hostile")).expect("a program");
    environment
}

fn make_executable(environment: &TestEnvironment, path: &str) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(environment.root().join(path), mode).expect("a mode");
}

/// A stage that runs a script with the usual grants and additional ones. `settings` and `permissions` are lines of TOML.
fn stage(name: &str, settings: &str, permissions: &str, script: &str) -> String {
    let usual = [("process", r#"["sh", "tools/hostile"]"#), ("read", r#"["src"]"#), ("write", r#"["out"]"#)];
    let named = |key: &str| permissions.lines().any(|line| line.trim_start().starts_with(key));
    let usual = usual.iter().filter(|(key, _)| !named(key)).map(|(key, value)| format!("{key} = {value}\n"));
    let (usual, run) = (usual.collect::<String>(), format!("{WORDS}{script}\necho tried it all"));
    format!(
        "[stages.{name}]\nuses = \"command\"\nwith = {{ shell = [\"sh\", \"-c\"], run = '''{run}''' }}\n{settings}\n\
         [stages.{name}.permissions]\n{usual}{permissions}\n"
    )
}

fn write_pipeline(environment: &TestEnvironment, stages: &[String]) {
    let text = format!("schema = 1\n[pipeline]\nname = \"hostile\"\n{}", stages.concat());
    environment.write("stagewright.toml", &text);
}

/// Both streams of a stage's log.
fn log(environment: &TestEnvironment, stage: &str) -> String {
    let ended = environment.run(&["logs", "latest", stage]).exits(0);
    ended.stdout + &ended.stderr
}

/// Checks the output of the functions in [`WORDS`].
#[track_caller]
fn holds(said: &str) {
    assert!(said.contains("tried it all"), "the script didn't finish:\n{said}");
    assert!(!said.contains("WRONG"), "{said}");
    assert!(said.contains("as granted: "), "no granted action was tried:\n{said}");
    assert!(said.contains("as it should be, refused: "), "no attack was tried:\n{said}");
}

/// Runs one stage and checks the results of its script.
#[track_caller]
fn tries(environment: &TestEnvironment, permissions: &str, script: &str) -> String {
    write_pipeline(environment, &[stage("attack", "", permissions, script)]);
    environment.run(&["run"]).exits(0);
    let said = log(environment, "attack");
    holds(&said);
    said
}

/// Runs one stage that has to fail. Returns the failure.
#[track_caller]
fn fails(environment: &TestEnvironment, settings: &str, permissions: &str, script: &str) -> Json {
    write_pipeline(environment, &[stage("attack", settings, permissions, script)]);
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 1, "{events:#?}");
    failure(&events, "attack")
}

/// Runs a script in its own mount namespace, where `$S` is the binary.
fn with_own_mounts(environment: &TestEnvironment, script: &str) -> Ended {
    let script = format!("S={}; {script}", binary().display());
    let root = rustix::process::geteuid().is_root();
    let mut command = environment.program("unshare");
    command.args(if root { &["--mount"][..] } else { &["--mount", "--map-root-user"] }).args(["sh", "-ec", &script]);
    Ended::of(&command.output().expect("unshare starts"))
}
