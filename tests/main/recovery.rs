//! Recovery after the engine was killed, and what a resume verifies.

use serde_json::Value as Json;

use crate::environment::{TestEnvironment, eventually, text};

/// A program with network access, whose outcome can't be determined after a kill.
const DOUBTFUL: &str = r#"
schema = 1
[pipeline]
name = "doubtful"
[stages.publish]
uses = "command"
with = { run = "echo started >> starts; test -f go || sleep 1000" }
[stages.publish.permissions]
process = ["sh"]
net = ["https://example.org"]
write = ["."]
[stages.after]
uses = "noop"
needs = ["publish"]
"#;

/// A repository with a run that was killed while its stage ran.
fn killed(pipeline: &str) -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(pipeline);
    let mut child = environment.start(&["run"]);
    // The shell creates the file before it writes to it.
    let starts = environment.root().join("starts");
    let has_started = || std::fs::read_to_string(&starts).is_ok_and(|text| text.ends_with('\n'));
    eventually("the program has started", || has_started().then_some(()));
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    environment.write("go", "");
    environment
}

fn starts(environment: &TestEnvironment) -> usize {
    environment.read("starts").lines().count()
}

#[test]
fn an_unknown_outcome_is_settled_by_a_person() {
    for (finding, code, starts_after) in [("applied", 0, 1), ("not-started", 0, 2), ("failed", 1, 1)] {
        let environment = killed(DOUBTFUL);
        let asked = environment.run(&["resume", "latest"]).exits(5);
        let command = "stagewright settle";
        assert!(asked.stdout.contains(command), "{}", asked.stdout);
        assert_eq!(starts(&environment), 1, "it ran again without an answer");
        // Neither a plain approval nor a second resume continues it.
        let refused = environment.run(&["approve", "latest"]).exits(4);
        assert!(refused.stderr.contains(&format!("{command} ")), "{}", refused.stderr);
        environment.run(&["resume", "latest"]).exits(5);
        assert_eq!(starts(&environment), 1);

        environment.run(&["settle", "latest", "publish", finding, "--reason", "looked at the registry"]).exits(0);
        let ended = environment.run(&["resume", "latest"]).exits(code);
        assert_eq!(starts(&environment), starts_after, "{finding}: {}", ended.stdout);
    }
}

#[test]
fn a_stage_without_external_effects_runs_again() {
    let environment = killed(&DOUBTFUL.replace("net = [\"https://example.org\"]\n", ""));
    environment.run(&["resume", "latest"]).exits(0);
    assert_eq!(starts(&environment), 2);
}

const GUARDED: &str = r#"
schema = 1
[pipeline]
name = "guarded"
[inputs.version]
default = "1"
[stages.ask]
uses = "approve"
with = { message = "Go?" }
[stages.go]
uses = "noop"
needs = ["ask"]
with = { message = "${{ inputs.version }} of ${{ git.commit }}" }
"#;

fn commit(environment: &TestEnvironment, message: &str) {
    for args in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "--allow-empty", "-m", message]] {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "user.name=ada", "-c", "user.email=ada@example.org"]).args(args);
        assert!(git.current_dir(environment.root()).status().expect("git starts").success());
    }
}

#[test]
fn changes_since_the_start_do_not_affect_stages_behind_a_gate() {
    let environment = TestEnvironment::with_pipeline(GUARDED);
    commit(&environment, "first");
    environment.run(&["run", "--input", "version=2"]).exits(5);
    environment.run(&["approve", "latest"]).exits(0);
    commit(&environment, "second");
    environment.run(&["resume", "latest"]).exits(0);

    // A new run uses the current files.
    let refused = environment.run(&["rerun", "latest"]).exits(4);
    assert!(refused.stderr.contains("commit: "), "{}", refused.stderr);
    let (code, events) = environment.events(&["rerun", "latest", "--accept-changes"]);
    assert_eq!((code, text(&events[0]["inputs"]["version"])), (5, "2".to_owned()), "on the same inputs");
}

/// Fails at first, and before any gate.
const UNGUARDED: &str = r#"
schema = 1
[pipeline]
name = "unguarded"
[stages.check]
uses = "command"
with = { run = "test -f go" }
permissions = { process = ["sh", "test"], read = ["."] }
[stages.ask]
uses = "approve"
needs = ["check"]
with = { message = "Go?" }
"#;

#[test]
fn changes_since_the_start_are_refused_before_a_gate() {
    let environment = TestEnvironment::with_pipeline(UNGUARDED);
    environment.write(".gitignore", ".stagewright/\n");
    commit(&environment, "first");
    environment.run(&["run"]).exits(1);
    environment.write("go", "");
    commit(&environment, "second");
    let refused = environment.run(&["resume", "latest"]).exits(4);
    assert!(refused.stderr.contains("commit: ") && refused.stderr.contains("--accept-changes"), "{}", refused.stderr);
    environment.run(&["resume", "latest", "--accept-changes"]).exits(5);
}

/// Changes that git is configured to ignore, or can't detect by size and time.
#[test]
fn changes_hidden_from_git_are_refused() {
    for how in ["--assume-unchanged", "--skip-worktree", "trustctime"] {
        let environment = TestEnvironment::with_pipeline(UNGUARDED);
        environment.write(".gitignore", ".stagewright/\ngo\n");
        environment.write("app", "one");
        commit(&environment, "first");
        if how == "trustctime" {
            environment.git(&["config", "core.trustctime", "false"]);
        } else {
            environment.git(&["update-index", how, "app"]);
        }
        environment.run(&["run"]).exits(1);
        environment.write("go", "");
        let app = std::fs::File::options().write(true).open(environment.root().join("app")).expect("a file");
        let time = app.metadata().and_then(|file| file.modified()).expect("a time");
        environment.write("app", "two");
        app.set_modified(time).expect("the test owns the file");
        let refused = environment.run(&["resume", "latest"]).exits(4);
        assert!(refused.stderr.contains("--accept-changes"), "{how}: {}", refused.stderr);
        environment.run(&["resume", "latest", "--accept-changes"]).exits(5);
    }
}

#[test]
fn an_unreadable_repository_does_not_count_as_clean() {
    let environment = TestEnvironment::with_pipeline(GUARDED);
    commit(&environment, "first");
    environment.run(&["run"]).exits(5);
    std::fs::write(environment.root().join(".git/index"), "damaged").expect("a file");
    let refused = environment.run(&["run"]).exits(4);
    assert!(
        refused.stderr.contains("can't read the git repository") && refused.stderr.contains("git status"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_resume_runs_only_what_is_missing_and_from_names_more() {
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        [pipeline]
        name = "steps"
        [stages.one]
        uses = "noop"
        [stages.two]
        uses = "command"
        needs = ["one"]
        with = { run = "test -f go" }
        [stages.two.permissions]
        process = ["sh"]
        read = ["."]
        [stages.three]
        uses = "noop"
        needs = ["two"]
        "#,
    );
    environment.run(&["run"]).exits(1);
    environment.write("go", "");
    let attempts = |events: &[Json]| {
        let started = events.iter().filter(|event| event["type"] == "attempt-started");
        started.map(|event| format!("{}#{}", text(&event["stage-id"]), event["attempt"])).collect::<Vec<_>>()
    };
    let (code, events) = environment.events(&["resume", "latest"]);
    assert_eq!((code, attempts(&events)), (0, ["one#1", "two#1", "two#2", "three#1"].map(str::to_owned).to_vec()));
    environment.run(&["resume", "latest"]).exits(4);
    let (code, events) = environment.events(&["resume", "latest", "--from", "two"]);
    assert_eq!(code, 0);
    assert_eq!(attempts(&events)[4..], ["two#3", "three#2"]);
}

#[test]
fn a_run_can_be_cancelled_from_another_terminal() {
    let environment = TestEnvironment::with_pipeline(&DOUBTFUL.replace("net = [\"https://example.org\"]\n", ""));
    let child = environment.start(&["run"]);
    eventually("the program has started", || environment.root().join("starts").exists().then_some(()));
    environment.run(&["cancel", "latest", "--reason", "wrong branch"]).exits(0);
    let ended = crate::environment::Ended::of(&child.wait_with_output().unwrap()).exits(130);
    assert!(ended.stdout.contains("cancelled by tester: wrong branch"), "{}", ended.stdout);

    let waiting = TestEnvironment::with_pipeline(GUARDED);
    waiting.run(&["run"]).exits(5);
    waiting.run(&["cancel", "latest"]).exits(0);
    let rows = waiting.run(&["runs"]).exits(0);
    assert!(rows.stdout.contains("cancelled"), "{}", rows.stdout);
}

const GROUPED: &str = r#"
schema = 1
[pipeline]
name = "grouped"
[inputs.name]
[concurrency]
group = "shop"
POLICY
[stages.work]
uses = "command"
env = { NAME = "${{ inputs.name }}" }
with = { run = 'echo "$NAME" >> starts; while ! test -f "go-$NAME"; do sleep 0.05; done' }
[stages.work.permissions]
process = ["sh"]
write = ["."]
"#;

fn begun(environment: &TestEnvironment, name: &str) {
    eventually("it has begun", || {
        let path = environment.root().join("starts");
        std::fs::read_to_string(path).ok()?.lines().any(|line| line == name).then_some(())
    });
}

fn shown(environment: &TestEnvironment, pattern: &str) {
    eventually(pattern, || {
        let rows: Vec<Json> = serde_json::from_str(&environment.run(&["runs", "--json"]).stdout).ok()?;
        let shown = rows.iter().map(|row| environment.run(&["show", &text(&row["run"])]).stdout).collect::<String>();
        shown.contains(pattern).then_some(())
    });
}

#[test]
fn runs_of_a_group_do_not_overlap_and_cancellations_are_reported() {
    let environment = TestEnvironment::with_pipeline(&GROUPED.replace("POLICY", ""));
    let run = |name: &str| environment.start(&["run", "--input", &format!("name={name}")]);
    let first = run("a");
    begun(&environment, "a");
    let second = run("b");
    shown(&environment, "which holds the group");
    let third = run("c");
    // The newest waiting run replaces the older one.
    let replaced = crate::environment::Ended::of(&second.wait_with_output().unwrap()).exits(130);
    assert!(replaced.stdout.contains("group `shop`"), "{}", replaced.stdout);
    assert_eq!(environment.read("starts"), "a\n");
    environment.write("go-a", "");
    environment.write("go-c", "");
    crate::environment::Ended::of(&first.wait_with_output().unwrap()).exits(0);
    crate::environment::Ended::of(&third.wait_with_output().unwrap()).exits(0);
    assert_eq!(environment.read("starts"), "a\nc\n");
}

#[test]
fn a_newer_run_cancels_the_current_one_with_cancel_in_progress() {
    let environment = TestEnvironment::with_pipeline(&GROUPED.replace("POLICY", "cancel-in-progress = true"));
    let run = |name: &str| environment.start(&["run", "--input", &format!("name={name}")]);
    let first = run("a");
    begun(&environment, "a");
    environment.write("go-b", "");
    let second = run("b");
    crate::environment::Ended::of(&first.wait_with_output().unwrap()).exits(130);
    crate::environment::Ended::of(&second.wait_with_output().unwrap()).exits(0);
}

#[test]
fn a_run_is_shown_again_byte_for_byte() {
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        [pipeline]
        name = "talkative"
        [stages.talk]
        uses = "command"
        matrix = { n = [1, 2, 3] }
        with = { run = "for i in 1 2 3 4 5; do echo $i of ${{ matrix.n }}; sleep 0.02; echo ! >&2; done; test ${{ matrix.n }} != 2" }
        retry = { max = 1, backoff = "20ms" }
        continue-on-error = true
        [stages.talk.permissions]
        process = ["sh"]
        [stages.last]
        uses = "noop"
        needs = ["talk"]
        with = { message = "done" }
        "#,
    );
    let live = environment.run(&["run", "--jobs", "3"]).exits(0);
    assert_eq!(live.stdout.matches(" of 2").count(), 10, "two tries of five lines: {}", live.stdout);
    for _ in 0..2 {
        assert_eq!(environment.run(&["show", "latest"]).exits(0).stdout, live.stdout);
    }
}

#[test]
fn an_attempt_that_changed_the_files_of_an_earlier_stage_can_be_repeated() {
    let pipeline = "schema = 1\npipeline.name = \"p\"\n[stages.build]\nuses = \"command\"\n\
                    with = { run = \"echo built > out/app\" }\npermissions = { process = [\"sh\"], write = [\"out\"] }\n\
                    [stages.test]\nuses = \"command\"\nneeds = [\"build\"]\nretry = { max = 1, backoff = \"10ms\" }\n\
                    with = { run = \"echo tested >> out/app; test -e fixed\" }\n\
                    permissions = { process = [\"sh\"], read = [\".\"], write = [\"out\"] }\n";
    let environment = TestEnvironment::with_pipeline(pipeline);
    let shown = environment.run(&["run"]).exits(1).stdout;
    assert!(shown.contains("ended with exit code 1") && !shown.contains("isn't started"), "{shown}");
    environment.write("fixed", "");
    environment.run(&["resume", "latest"]).exits(0);
    environment.run(&["resume", "latest", "--from", "test"]).exits(0);
    assert_eq!(environment.read("out/app").lines().count(), 5, "it was built once, and tested four times");
}
