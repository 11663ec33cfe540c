//! `run --learn`: stages are observed on a copy of the workspace, and what they used is proposed.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value as Json;

use crate::environment::{Ended, TestEnvironment};

/// A repository with sources, a script and an ignored folder, whose stage `build` runs `script`.
fn repository(script: &str) -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(&format!(
        "schema = 1\npipeline.name = \"new\"\n[stages.build]\nuses = \"command\"\nwith.run = '''\n{script}\n'''\n"
    ));
    for file in ["src/a", "src/b", "docs/c", "secret-notes"] {
        environment.write(file, &format!("{file}\n"));
    }
    environment.write(".gitignore", "out\n.stagewright\n");
    environment.write("tools/run.sh", "#!/bin/sh\necho tool\n");
    let tool = environment.root().join("tools/run.sh");
    std::fs::set_permissions(tool, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    environment.git(&["init", "--quiet"]);
    environment.git(&["add", "."]);
    environment.git(&["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "all"]);
    environment
}

fn learn(environment: &TestEnvironment, more: &[&str]) -> Ended {
    environment.run(&[&["run", "--learn", "--yes"], more].concat())
}

/// The permissions of the stage in the file.
fn permissions(environment: &TestEnvironment, stage: &str) -> Json {
    let file: toml::Table = environment.read("stagewright.toml").parse().expect("TOML");
    let granted = file["stages"][stage].get("permissions").cloned();
    granted.map_or(Json::Null, |granted| serde_json::to_value(granted).expect("JSON"))
}

#[test]
fn a_stage_passes_with_what_was_learned_and_gets_nothing_else() {
    let environment = repository("cat src/a src/b; mkdir -p out; cp src/a out/made; tools/run.sh; [ -d docs ]");
    let learned = learn(&environment, &[]).exits(0);
    let expected = serde_json::json!({
        "process": ["sh"], "read": ["docs", "src/a", "src/b"], "write": ["out"], "exec": ["tools/run.sh"],
    });
    assert_eq!(permissions(&environment, "build"), expected, "{}", learned.stdout);
    assert!(!environment.root().join("out").exists(), "it worked on a copy");
    assert!(learned.stdout.contains("not what they should need"), "{}", learned.stdout);
    environment.run(&["run"]).exits(0);
    assert_eq!(environment.read("out/made"), "src/a\n");
}

#[test]
fn nothing_runs_and_nothing_is_written_without_a_confirmation() {
    let environment = repository("cat src/a");
    let before = environment.read("stagewright.toml");
    let refused = environment.run(&["run", "--learn"]).exits(4);
    assert!(refused.stderr.contains("agree with --yes"), "{}", refused.stderr);
    assert_eq!(environment.run(&["runs", "--json"]).stdout.trim(), "[]", "nothing ran");
    assert_eq!(environment.read("stagewright.toml"), before);
}

#[test]
fn programs_that_learn_can_neither_change_the_workspace_nor_leave_it() {
    let script = "echo changed > src/a; rm -r docs; echo x > new; \
                  cat \"$OUTSIDE\" && echo READ-OUTSIDE; ls .stagewright && echo READ-STATE; \
                  echo x > .git/config && echo WROTE-GIT; cat .git/config; \
                  ln -s \"$OUTSIDE\" link; cat link && echo READ-LINK; true";
    let mut environment = repository(script);
    let outside = environment.root().parent().expect("a folder").join("outside");
    std::fs::write(&outside, "CANARY-OUTSIDE").expect("a file");
    environment.git(&["config", "remote.origin.url", "https://user:CANARY-GIT@example.org/x"]);
    let text = environment.read("stagewright.toml");
    environment.write("stagewright.toml", &format!("{text}env.OUTSIDE = '{}'\n", outside.display()));
    environment.set("HOME", environment.root().parent().expect("a folder").join("home").to_str().expect("UTF-8"));
    let learned = learn(&environment, &[]).exits(0);
    for leak in ["CANARY", "READ-OUTSIDE", "READ-LINK", "WROTE-GIT"] {
        assert!(!learned.stdout.contains(leak), "{leak}: {}", learned.stdout);
    }
    assert_eq!((environment.read("src/a"), environment.read("docs/c")), ("src/a\n".into(), "docs/c\n".into()));
    assert!(!environment.root().join("new").exists());
    let runs = environment.root().join(".stagewright/rehearsal/runs");
    assert_eq!(runs.read_dir().expect("a folder").count(), 0, "the copy is gone");
}

#[test]
fn loopback_and_other_hosts_stay_closed_and_are_not_learned() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("an address").port();
    let script = format!(
        "python3 - <<'EOF'\nimport os, socket, urllib.request\n\
         for address in ['http://127.0.0.1:{port}', 'http://example.org/']:\n\
         \x20   try:\n        urllib.request.urlopen(address, timeout=5); print('REACHED', address)\n\
         \x20   except Exception as error:\n        print('refused', error)\nEOF"
    );
    let environment = repository(&script);
    let learned = learn(&environment, &[]).exits(0);
    assert!(!learned.stdout.contains("REACHED"), "{}", learned.stdout);
    assert!(learned.stdout.contains("--allow-host http://example.org"), "{}", learned.stdout);
    assert_eq!(permissions(&environment, "build").get("net"), None);
    let own = learn(&environment, &["--allow-host", &format!("http://127.0.0.1:{port}")]).exits(2);
    assert!(own.stderr.contains("stay closed"), "{}", own.stderr);
    server.set_nonblocking(true).expect("a socket");
    assert!(server.accept().is_err(), "nothing connected");
}

#[test]
fn a_learning_run_is_no_source_of_anything() {
    let environment = repository("cat src/a; echo made > out");
    learn(&environment, &[]).exits(0);
    for again in [&["resume", "latest", "--from", "build"][..], &["rerun", "latest"], &["resume", "latest"]] {
        let refused = environment.run(again).exits(2);
        assert!(refused.stderr.contains("run --learn"), "{again:?}: {}", refused.stderr);
    }
}

#[test]
fn stages_that_act_on_an_environment_are_left_out() {
    let environment = repository("cat src/a");
    let text = environment.read("stagewright.toml");
    let deploy = "[environments.production]\ntarget = \"process\"\n[stages.ship]\nuses = \"command\"\n\
                  environment = \"production\"\nwith.run = \"echo SHIPPED\"\n";
    environment.write("stagewright.toml", &format!("{text}{deploy}"));
    let learned = learn(&environment, &[]).exits(0);
    assert!(!learned.stdout.contains("| SHIPPED"), "{}", learned.stdout);
    assert!(learned.stdout.contains("which a learning run never does"), "{}", learned.stdout);
}

#[test]
fn secrets_are_stand_ins_and_links_are_granted_with_their_targets() {
    let mut environment = repository("cat near/a; test \"$TOKEN\" != CANARY-SECRET && echo stand-in || true");
    environment.set("REAL_TOKEN", "CANARY-SECRET");
    std::os::unix::fs::symlink("src", environment.root().join("near")).expect("a link");
    environment.git(&["add", "near"]);
    let text = environment
        .read("stagewright.toml")
        .replace("[stages.build]", "[secrets.token]\nfrom = \"env:REAL_TOKEN\"\n[stages.build]");
    environment.write("stagewright.toml", &format!("{text}with.secret-env = {{ TOKEN = \"token\" }}\n"));
    let learned = learn(&environment, &[]).exits(0);
    assert!(learned.stdout.contains("| stand-in"), "{}", learned.stdout);
    assert_eq!(permissions(&environment, "build")["read"], serde_json::json!(["near", "src"]));
    environment.run(&["run"]).exits(0);
}

#[test]
fn a_policy_limits_what_a_run_may_learn() {
    let environment = repository("cat src/a");
    environment.write("policy.toml", "schema = 1\n[permissions]\nprocess = [\"sh\"]\n");
    let refused = learn(&environment, &["--policy", "policy.toml"]);
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    assert_eq!(environment.run(&["runs", "--json"]).stdout.trim(), "[]", "nothing ran");
}

#[test]
fn a_variable_that_a_failed_program_named_is_listed_without_its_value() {
    let mut environment =
        repository("test -n \"$SERVICE_REGION\" || { echo 'SERVICE_REGION is not set' >&2; exit 1; }");
    environment.set("SERVICE_REGION", "CANARY-VALUE");
    let learned = learn(&environment, &[]).exits(1);
    assert!(learned.stdout.contains("the variable `SERVICE_REGION`"), "{}", learned.stdout);
    assert!(!learned.stdout.contains("CANARY-VALUE"), "{}", learned.stdout);
    assert!(learned.stdout.contains("isn't known"), "{}", learned.stdout);
}
