//! The hosts that `cargo`, `npm` and `pip` in `net` stand for: locked, bounded by the policy, and fixed for a run.

use serde_json::Value as Json;

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
net = ["npm", "cargo"]
"#;

const NPMRC: &str = "registry=https://npm.acme.invalid/a/\n";

#[test]
fn an_origin_that_a_file_of_the_repository_adds_is_a_wider_grant() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.run(&["lock"]).exits(0);
    environment.run(&["run", "--locked"]).exits(0);
    for (path, text, origin) in [
        (".npmrc", NPMRC, "`npm` in `net` now includes https://npm.acme.invalid"),
        (
            ".cargo/config.toml",
            "[registries.x]\nindex = 'sparse+https://u:p@cargo.acme.invalid:8443/'\n",
            "`cargo` in `net` now includes https://cargo.acme.invalid:8443",
        ),
    ] {
        environment.write(path, text);
        let shown = environment.run(&["plan"]).exits(0).stdout;
        assert!(shown.contains(&format!("+ {origin}, which is configured")), "{shown}");
        assert!(shown.contains(&format!("by the repository: {}", origin.rsplit(' ').next().unwrap())), "{shown}");
        let refused = environment.run(&["run", "--locked"]).exits(4).stderr;
        assert!(refused.contains(origin) && refused.contains("nothing was run"), "{refused}");
        environment.run(&["lock", "--check"]).exits(4);
        environment.run(&["lock"]).exits(0);
        environment.run(&["run", "--locked"]).exits(0);
    }
    assert!(environment.read("stagewright.lock").contains("npm = [\"https://npm.acme.invalid\"]"));
    // Fewer hosts are allowed.
    std::fs::remove_file(environment.root().join(".npmrc")).unwrap();
    environment.run(&["run", "--locked"]).exits(0);
}

/// A lock that was written on a laptop is valid on a server.
#[test]
fn a_mirror_of_the_user_is_shown_and_not_locked_and_the_policy_bounds_it() {
    let mut environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.run(&["lock"]).exits(0);
    environment.write("../home/.npmrc", NPMRC);
    let shown = environment.run(&["plan"]).exits(0).stdout;
    assert!(shown.contains("stagewright.lock is up to date."), "{shown}");
    assert!(shown.contains("by this machine, not locked: https://npm.acme.invalid ("), "{shown}");
    environment.run(&["run", "--locked"]).exits(0);
    environment.run(&["lock", "--check"]).exits(0);
    let json: Json = serde_json::from_str(&environment.run(&["plan", "--json"]).exits(0).stdout).unwrap();
    assert_eq!(json["stages"][0]["package-hosts-named-by"][0]["by"], "machine");
    let policy = environment.root().with_file_name("policy.toml");
    environment.set("STAGEWRIGHT_POLICY", &policy.display().to_string());
    environment.write("../policy.toml", "schema = 1\n[permissions]\nnet = [\"npm\", \"cargo\"]\n");
    for command in [&["run"][..], &["plan"]] {
        let refused = environment.run(command).exits(4).stderr.replace("\n  │ ", " ");
        assert!(refused.contains("may call https://npm.acme.invalid"), "{refused}");
    }
    environment.run(&["validate"]).exits(3);
    let allowing = "schema = 1\npackage-hosts = [\"*.acme.invalid\"]\n[permissions]\nnet = [\"npm\", \"cargo\"]\n";
    environment.write("../policy.toml", allowing);
    environment.run(&["run"]).exits(0);
}

#[test]
fn package_words_never_stand_for_this_machine_or_metadata_services() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    for (npmrc, origin) in [
        ("registry=http://127.0.0.1:4873/\n", "http://127.0.0.1:4873"),
        ("registry=http://0x7f.1:4873/\n", "http://127.0.0.1:4873"),
        ("@a:registry=http://npm.localhost/\n", "http://npm.localhost"),
        ("registry=http://[::ffff:169.254.169.254]/\n", "http://[::ffff:a9fe:a9fe]"),
        ("registry=http://metadata.google.internal/\n", "http://metadata.google.internal"),
    ] {
        environment.write(".npmrc", npmrc);
        for command in [&["run"][..], &["plan"], &["lock"], &["lock", "--check"]] {
            let refused = environment.run(command).exits(4).stderr;
            assert!(refused.contains(&format!(".npmrc:1 names {origin} for `npm`")), "{command:?}: {refused}");
            assert!(refused.contains(&format!("net = [\"npm\", \"cargo\", \"{origin}\"]")), "{refused}");
        }
    }
    // An origin that is granted explicitly is allowed.
    environment.write(".npmrc", "registry=http://127.0.0.1:4873/\n");
    let granted = PIPELINE.replace("\"cargo\"]", "\"cargo\", \"http://127.0.0.1:4873\"]");
    environment.write("stagewright.toml", &granted);
    environment.run(&["run"]).exits(0);
    // The user's own configuration is shown, with the entry that would grant it.
    environment.write("stagewright.toml", PIPELINE);
    std::fs::rename(environment.root().join(".npmrc"), environment.root().join("../.npmrc")).unwrap();
    std::fs::create_dir_all(environment.root().join("../home")).unwrap();
    std::fs::rename(environment.root().join("../.npmrc"), environment.root().join("../home/.npmrc")).unwrap();
    let run = environment.run(&["run"]).exits(0);
    let plan = environment.run(&["plan"]).exits(0);
    for said in [run.stderr, plan.stdout] {
        assert!(said.contains("net = [\"npm\", \"cargo\", \"http://127.0.0.1:4873\"]"), "{said}");
    }
}

/// Otherwise a branch could choose the hosts that its rehearsal calls.
#[test]
fn in_a_rehearsal_origins_of_the_repository_must_be_locked() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.write(".npmrc", NPMRC);
    let words = "in a rehearsal `npm` doesn't stand for https://npm.acme.invalid, which .npmrc:1 names";
    assert!(environment.run(&["run", "--rehearse"]).exits(0).stderr.contains(words));
    assert!(!environment.run(&["run"]).exits(0).stderr.contains("npm.acme.invalid"));
    environment.run(&["lock"]).exits(0);
    assert!(!environment.run(&["run", "--rehearse"]).exits(0).stderr.contains("npm.acme.invalid"));
}

/// A stage can change the configuration for the next run, but not for its own.
#[test]
fn what_a_word_stands_for_is_fixed_when_the_run_starts() {
    let fetching = r#"
        schema = 1
        [pipeline]
        name = "build"
        [stages.write]
        uses = "command"
        with = { run = "echo registry=http://planted.invalid/ > .npmrc" }
        permissions = { process = ["sh"], write = ["."] }
        [stages.fetch]
        uses = "command"
        needs = ["write"]
        with = { argv = ["curl", "--silent", "--show-error", "http://planted.invalid/"] }
        permissions = { process = ["curl"], net = ["npm"] }
    "#;
    let environment = TestEnvironment::with_pipeline(fetching);
    let denied = |environment: &TestEnvironment| {
        environment.run(&["run"]);
        let log = environment.run(&["logs", "latest", "fetch"]).exits(0);
        (log.stdout + &log.stderr).contains("the stage may not call http://planted.invalid")
    };
    assert!(denied(&environment), "the first run used the configuration that it wrote");
    assert!(!denied(&environment), "without a lock, the second run uses the repository's configuration");
}

#[test]
fn a_resumed_run_keeps_the_origins_of_its_words() {
    let failing = PIPELINE.replace("echo hello", "test -e go");
    let failing = failing.replace("process = [\"sh\"]", "process = [\"sh\"]\nread = [\".\"]");
    let environment = TestEnvironment::with_pipeline(&failing);
    environment.run(&["run"]).exits(1);
    environment.write("go", "");
    environment.write(".npmrc", NPMRC);
    for command in [&["resume", "latest"][..], &["rerun", "latest"]] {
        let refused = environment.run(command).exits(4).stderr;
        assert!(refused.contains("package hosts of npm: none -> https://npm.acme.invalid"), "{refused}");
    }
    environment.run(&["resume", "latest", "--accept-changes"]).exits(0);
    // The change was accepted, and fewer hosts don't count as a change.
    environment.run(&["resume", "latest", "--from", "hello"]).exits(0);
    std::fs::remove_file(environment.root().join(".npmrc")).unwrap();
    environment.run(&["resume", "latest", "--from", "hello"]).exits(0);
}

#[test]
fn a_configuration_file_that_is_a_pipe_does_not_block() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    assert!(environment.program("mkfifo").arg(".npmrc").status().unwrap().success());
    std::fs::create_dir_all(environment.root().join(".cargo")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", environment.root().join(".cargo/config.toml")).unwrap();
    let notes = environment.run(&["run"]).exits(0).stderr;
    assert_eq!(notes.matches("a configuration of package hosts is ignored").count(), 2, "{notes}");
}
