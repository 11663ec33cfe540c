//! `stagewright.lock`: how it is written, shown and enforced.

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
"#;

const LOCK: &str = "stagewright.lock";

fn locked() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.run(&["lock"]).exits(0);
    environment
}

fn runs(environment: &TestEnvironment) -> usize {
    let rows = environment.run(&["runs", "--json"]).exits(0);
    serde_json::from_str::<Vec<Json>>(&rows.stdout).expect("a list").len()
}

#[test]
fn a_lock_is_written_once_and_checked() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    let missing = environment.run(&["lock", "--check"]).exits(4);
    assert!(missing.stdout.contains("+ `hello` may now start `sh` with any arguments"), "{}", missing.stdout);
    assert!(!environment.root().join(LOCK).exists(), "--check wrote");
    environment.run(&["lock"]).exits(0);
    let text = environment.read(LOCK);
    for part in ["[pipelines.build.plugins.command]", "imports = [", "wit = \"0.2.3\"", "process = [\"sh\"]"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(environment.run(&["lock"]).exits(0).stdout.contains("stagewright.lock is up to date"));
    environment.run(&["lock", "--check"]).exits(0);
    assert_eq!(environment.read(LOCK), text);
    environment.write("stagewright.toml", &PIPELINE.replace("[\"sh\"]", "[\"sh\", \"curl\"]"));
    environment.run(&["lock", "--check"]).exits(4);
    assert_eq!(environment.read(LOCK), text);
}

#[test]
fn locking_one_pipeline_keeps_what_is_locked_of_others() {
    let environment = locked();
    let other = PIPELINE.replace("\"build\"", "\"other\"");
    environment.write("pipelines/other.toml", &other);
    environment.run(&["lock", "other"]).exits(0);
    let text = environment.read(LOCK);
    assert!(text.contains("[pipelines.build]") && text.contains("[pipelines.other]"), "{text}");
    environment.write("pipelines/twin.toml", &other);
    let twins = environment.run(&["lock"]).exits(4);
    assert!(twins.stderr.contains("pipelines/other.toml and pipelines/twin.toml are both called `other`"));
    std::fs::remove_file(environment.root().join("pipelines/twin.toml")).unwrap();
    std::fs::remove_file(environment.root().join("pipelines/other.toml")).unwrap();
    assert!(environment.run(&["lock"]).exits(0).stdout.contains("- the pipeline was removed"));
    assert!(!environment.read(LOCK).contains("other"));
}

#[test]
fn what_is_wider_than_the_lock_is_refused_before_anything_starts() {
    let environment = locked();
    environment.run(&["run", "--locked"]).exits(0);
    environment.write("stagewright.toml", &PIPELINE.replace("[\"sh\"]", "[\"sh\", \"curl\"]"));
    let refused = environment.run(&["run", "--locked"]).exits(4);
    for part in
        ["+ `hello` may now start `curl` with any arguments", "nothing was run", "stagewright lock stagewright.toml"]
    {
        assert!(refused.stderr.contains(part), "{part} is missing in:\n{}", refused.stderr);
    }
    assert_eq!(runs(&environment), 1);
    // Without the option there is a note of one line.
    let noted = environment.run(&["run"]).exits(0);
    assert!(
        noted.stderr.contains("note: stagewright.toml may do one thing that stagewright.lock doesn't say"),
        "{}",
        noted.stderr
    );
    // With the option, such a run can't be resumed or repeated.
    environment.run(&["rerun", "latest", "--locked"]).exits(4);
    environment.run(&["resume", "latest", "--from", "hello", "--locked"]).exits(4);
    environment.run(&["resume", "latest", "--from", "hello"]).exits(0);
    // Fewer grants than locked are allowed.
    environment.write("stagewright.toml", &PIPELINE.replace("[\"sh\"]", "[\"sh -eu -c *\"]"));
    environment.run(&["run", "--locked"]).exits(0);
}

#[test]
fn the_environment_can_ask_for_the_lock() {
    let mut environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.set("STAGEWRIGHT_LOCKED", "1");
    let refused = environment.run(&["run"]).exits(4);
    assert!(refused.stderr.contains("stagewright.lock, which does not exist"), "{}", refused.stderr);
    environment.run(&["lock"]).exits(0);
    environment.run(&["run"]).exits(0);
    environment.write("pipelines/new.toml", &PIPELINE.replace("\"build\"", "\"new\""));
    assert!(environment.run(&["run", "new"]).exits(4).stderr.contains("doesn't contain the pipeline `new`"));
    environment.set("STAGEWRIGHT_LOCKED", "0");
    environment.run(&["run", "new"]).exits(0);
}

#[test]
fn a_plugin_with_another_digest_is_refused() {
    let pipeline = PIPELINE.replace("uses = \"command\"", "uses = \"path:plugins/mine.wasm\"");
    let environment = TestEnvironment::with_pipeline(&pipeline);
    let built_in = |name: &str| {
        let folders = crate::environment::plugins();
        std::env::split_paths(&folders).next().unwrap().join(name).with_extension("wasm")
    };
    let mine = environment.root().join("plugins/mine.wasm");
    std::fs::create_dir(mine.parent().unwrap()).unwrap();
    std::fs::copy(built_in("command"), &mine).unwrap();
    environment.run(&["lock"]).exits(0);
    environment.run(&["run", "--locked"]).exits(0);
    std::fs::copy(built_in("notify"), &mine).unwrap();
    let refused = environment.run(&["run", "--locked"]).exits(4);
    assert!(refused.stderr.contains("+ plugin `path:plugins/mine.wasm` changed: sha256:"), "{}", refused.stderr);
    assert!(refused.stderr.contains("and now imports clock, http"), "{}", refused.stderr);
    assert_eq!(runs(&environment), 1);
}

#[test]
fn a_lock_that_is_not_as_it_was_written_stops_every_run() {
    let environment = locked();
    let good = environment.read(LOCK);
    let edited = good.replace("[\"sh\"]", "[\"*\"]");
    let conflict = good.replace("schema = 1\n", "<<<<<<< HEAD\nschema = 1\n=======\nschema = 1\n>>>>>>> other\n");
    let cases =
        [(edited, "stagewright.lock:6"), (conflict, "stagewright.lock:3"), (good[..good.len() - 3].to_owned(), LOCK)];
    for (damaged, place) in cases {
        environment.write(LOCK, &damaged);
        for command in
            [&["run"][..], &["run", "--locked"], &["plan"], &["lock", "stagewright.toml"], &["lock", "--check"]]
        {
            let ended = environment.run(command).exits(4);
            assert!(ended.stderr.contains(place), "{command:?}: {}", ended.stderr);
        }
    }
    assert_eq!(runs(&environment), 0);
    environment.run(&["lock"]).exits(0);
    assert_eq!(environment.read(LOCK), good);
}

#[test]
fn plan_shows_what_changed_first() {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    let plan = |environment: &TestEnvironment| environment.run(&["plan"]).stdout;
    assert!(plan(&environment).contains("stagewright.lock doesn't exist"));
    environment.run(&["lock"]).exits(0);
    assert!(plan(&environment).contains("stagewright.lock is up to date."));
    environment
        .write("stagewright.toml", &PIPELINE.replace("[\"sh\"]", "[\"bash\"]\nsocket = [\"docker\"]\nnet = [\"npm\"]"));
    let shown = plan(&environment);
    let lines: Vec<&str> = shown.lines().skip(1).take(5).map(str::trim).collect();
    let expected = [
        "Since stagewright.lock was written:",
        "+ `hello` may now start `bash` with any arguments",
        "+ `hello` may now call the package hosts of npm",
        "+ `hello` may now connect to the socket `docker`",
        "- `hello` may no longer start `sh` with any arguments",
    ];
    assert_eq!(lines, expected);
    for part in
        ["full control of this machine", "`bash` can run any program", "npm          https://registry.npmjs.org"]
    {
        assert!(shown.contains(part), "{part} is missing in:\n{shown}");
    }
    let json: Json = serde_json::from_str(&environment.run(&["plan", "--json"]).exits(4).stdout).unwrap();
    assert_eq!(json["lock"]["state"], "changed");
    assert_eq!(json["lock"]["changes"][3]["wider"], false);
}

#[test]
fn plan_says_what_the_plugin_does_not_ask_for() {
    let pipeline = PIPELINE
        .replace("process = [\"sh\"]", "net = [\"a.example\"]\nwrite = [\".\"]")
        .replace("\"command\"", "\"noop\"");
    let environment = TestEnvironment::with_pipeline(&pipeline.replace("with = { run = \"echo hello\" }\n", ""));
    let shown = environment.run(&["plan"]).exits(0).stdout;
    assert!(shown.contains("granted, but not requested by the plugin: write, net"), "{shown}");
    assert!(
        shown.contains("can change what runs next: it may write `stagewright.toml`, `stagewright.lock`"),
        "{shown}"
    );
}
