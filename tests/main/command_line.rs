//! Arguments, errors, exit codes, and the records of a run.

use crate::environment::TestEnvironment;

const TWO: &str = r#"
schema = 1
[pipeline]
name = "two"
[inputs.name]
type = "string"
default = "world"
[stages.hello]
uses = "command"
with = { run = 'echo "hello $NAME"' }
env = { NAME = "${{ inputs.name }}" }
[stages.hello.permissions]
process = ["sh"]
[stages.fails]
uses = "command"
needs = ["hello"]
with = { run = "echo oh no >&2; exit 3" }
[stages.fails.permissions]
process = ["sh"]
read = ["."]
"#;

#[test]
fn every_command_has_help() {
    let environment = TestEnvironment::new();
    let help = environment.run(&["--help"]).exits(0);
    for command in
        ["run", "resume", "plan", "validate", "graph", "runs", "logs", "approve", "reject", "service", "plugin"]
    {
        assert!(help.stdout.contains(command), "{command} is not in the help");
        environment.run(&[command, "--help"]).exits(0);
    }
    assert!(help.stdout.contains("Exit codes"));
    assert!(help.stdout.trim_end().ends_with("stagewright run    runs them"), "the first steps are last");
    assert!(environment.run(&["completions", "bash"]).exits(0).stdout.contains("stagewright"));
    environment.run(&["no-such-command"]).exits(2);
}

#[test]
fn a_failed_run_reports_the_place_the_cause_and_the_next_step() {
    let environment = TestEnvironment::with_pipeline(TWO);
    let ended = environment.run(&["run", "--input", "name=Ada"]).exits(1);
    for part in ["hello Ada", "oh no", "exit code 3", "stagewright logs", "stagewright resume"] {
        assert!(ended.stdout.contains(part), "{part:?} is missing in:\n{}", ended.stdout);
    }
    let log = environment.run(&["logs", "latest", "hello"]).exits(0);
    assert_eq!(log.stdout, "hello Ada\n");
    let rows = environment.run(&["runs", "--json"]).exits(0);
    let rows: serde_json::Value = serde_json::from_str(&rows.stdout).unwrap();
    assert_eq!((&rows[0]["state"], &rows[0]["failed-stage"]), (&"failed".into(), &"fails".into()));
}

#[test]
fn resume_runs_only_what_is_missing() {
    let environment = TestEnvironment::with_pipeline(&TWO.replace("exit 3", "test -f marker"));
    environment.run(&["run"]).exits(1);
    environment.write("marker", "");
    let (code, events) = environment.events(&["resume", "latest"]);
    assert_eq!(code, 0);
    let starts = |stage: &str| {
        events.iter().filter(|event| event["type"] == "attempt-started" && event["stage-id"] == stage).count()
    };
    assert_eq!((starts("hello"), starts("fails")), (1, 2));
}

#[test]
fn mistakes_are_shown_with_their_place_and_nothing_runs() {
    let broken =
        TWO.replace("needs = [\"hello\"]", "need = [\"hello\"]").replace("uses = \"command\"", "uses = \"comand\"");
    let environment = TestEnvironment::with_pipeline(&broken);
    let ended = environment.run(&["run"]).exits(3);
    for part in ["stagewright.toml:", "need", "needs", "comand", "command"] {
        assert!(ended.stderr.contains(part), "{part:?} is missing in:\n{}", ended.stderr);
    }
    assert_eq!(environment.run(&["runs"]).exits(0).stdout.lines().count(), 1, "a run was recorded");
    let checked = environment.run(&["validate", "--json"]).exits(3);
    let found: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    assert!(found.as_array().unwrap().len() >= 2, "{found:#}");
}

#[test]
fn a_wrong_configuration_is_found_before_anything_starts() {
    let environment = TestEnvironment::with_pipeline(&TWO.replace("run = \"echo oh", "runn = \"echo oh"));
    let ended = environment.run(&["run"]).exits(3);
    for part in ["fails", "runn", "run"] {
        assert!(ended.stderr.contains(part), "{part:?} is missing in:\n{}", ended.stderr);
    }
    assert!(!ended.stdout.contains("hello world"));
}

#[test]
fn validation_results_are_cached_by_configuration() {
    const ONE: &str = "schema = 1\n[pipeline]\nname = \"one\"\n[stages.one]\nuses = \"noop\"\n";
    let mut environment = TestEnvironment::with_pipeline(ONE);
    let cache = environment.root().join("../cache");
    environment.set("XDG_CACHE_HOME", &cache.display().to_string());
    // The compiled component exists only once a command had to load the plugin.
    let compiled = cache.join("stagewright/compiled");
    for (with, code) in [("", 0), ("with = { nonsense = 1 }\n", 3)] {
        environment.write("stagewright.toml", &format!("{ONE}{with}"));
        let first = environment.run(&["validate", "--json"]).exits(code);
        std::fs::remove_dir_all(&compiled).expect("the component was compiled");
        let second = environment.run(&["validate", "--json"]).exits(code);
        assert_eq!(second.stdout, first.stdout);
        assert!(!compiled.exists(), "it was compiled again");
    }
    environment.run(&["validate"]).exits(3);
    environment.write("stagewright.toml", ONE);
    environment.run(&["run"]).exits(0);
    assert!(compiled.exists());
}

#[test]
fn unknown_inputs_and_stages_are_reported() {
    let environment = TestEnvironment::with_pipeline(TWO);
    assert!(environment.run(&["run", "--input", "nam=x"]).exits(4).stderr.contains("name"));
    assert!(environment.run(&["run", "--only", "helo"]).exits(2).stderr.contains("hello"));
    assert!(environment.run(&["run", "nowhere"]).exits(4).stderr.contains("nowhere"));
}

#[test]
fn only_and_skip_choose_stages() {
    let environment = TestEnvironment::with_pipeline(TWO);
    environment.run(&["run", "--only", "hello"]).exits(0);
    environment.run(&["run", "--skip", "fails"]).exits(0);
    environment.run(&["run", "--skip", "hello"]).exits(1);
}

#[test]
fn plan_shows_what_each_stage_may_touch() {
    let environment = TestEnvironment::with_pipeline(TWO);
    let plan = environment.run(&["plan"]).exits(0);
    for part in ["hello", "fails", "sh", "2 stages, all sandboxed."] {
        assert!(plan.stdout.contains(part), "{part:?} is missing in:\n{}", plan.stdout);
    }
    let json = environment.run(&["plan", "--json"]).exits(0);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["stages"][0]["id"], "hello");
}

#[test]
fn graphs_are_printed_in_three_formats() {
    let environment = TestEnvironment::with_pipeline(TWO);
    for (format, part) in [("dot", "digraph"), ("mermaid", "flowchart"), ("svg", "<svg")] {
        assert!(environment.run(&["graph", "--format", format]).exits(0).stdout.contains(part));
    }
}

#[test]
fn a_missing_secret_stops_the_run_and_a_set_one_is_masked() {
    let mut environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        [pipeline]
        name = "secret"
        [secrets.token]
        from = "env:TOKEN"
        [stages.print]
        uses = "command"
        with = { run = "echo the token is $TOKEN", secret-env = { TOKEN = "token" } }
        [stages.print.permissions]
        process = ["sh"]
        secrets = ["token"]
        "#,
    );
    let unset = environment.run(&["run"]).exits(4);
    assert!(unset.stderr.contains("TOKEN"), "{}", unset.stderr);
    environment.set("TOKEN", "hunter2-hunter2");
    let ended = environment.run(&["run"]).exits(0);
    assert!(ended.stdout.contains("the token is ***"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("hunter2"));
    assert!(!environment.run(&["logs", "latest"]).exits(0).stdout.contains("hunter2"));
}

/// CRLF, as git and editors write it on Windows.
#[test]
fn crlf_and_lf_files_are_equivalent() {
    let text = "schema = 1\npipeline.name = \"ends\"\n[stages.a]\nuses = \"command\"\n\
                with = { run = \"\"\"\nif true; then\n  echo two\nfi\n\"\"\" }\npermissions = { process = [\"sh\"] }\n";
    let environment = TestEnvironment::with_pipeline(&format!("\u{feff}{}", text.replace('\n', "\r\n")));
    let ended = environment.run(&["run"]).exits(0);
    assert!(ended.stdout.contains("two"), "{}", ended.stdout);
    environment.run(&["lock"]).exits(0);
    let lock = environment.read("stagewright.lock").replace('\n', "\r\n");
    environment.write("stagewright.lock", &lock);
    environment.write("stagewright.toml", text);
    environment.run(&["run", "--locked"]).exits(0);
}

/// A run keeps the normalised text, which must not be compared with the file as it is.
#[test]
fn a_file_with_crlf_has_not_changed_when_its_run_is_resumed() {
    let environment = TestEnvironment::with_pipeline(&TWO.replace('\n', "\r\n"));
    environment.run(&["run"]).exits(1);
    let unchanged = environment.run(&["resume", "latest"]).exits(1);
    assert!(!unchanged.stderr.contains("has changed"), "{}", unchanged.stderr);
    environment.write("stagewright.toml", &format!("{TWO}# changed\n").replace('\n', "\r\n"));
    let changed = environment.run(&["resume", "latest"]).exits(1);
    assert!(changed.stderr.contains("stagewright.toml has changed since the run was started"), "{}", changed.stderr);
}

#[test]
fn a_pipeline_has_at_most_16_mib() {
    let padded = |bytes: usize| format!("{TWO}{}", "# padding\n".repeat(bytes / 10));
    let environment = TestEnvironment::with_pipeline(&padded(15 << 20));
    environment.run(&["validate"]).exits(0);
    environment.write("stagewright.toml", &padded(17 << 20));
    let refused = environment.run(&["validate"]).exits(4);
    assert!(refused.stderr.contains("it has more than 16777216 bytes"), "{}", refused.stderr);
}

#[test]
fn junit_and_github_formats() {
    let environment = TestEnvironment::with_pipeline(TWO);
    let ended = environment.run(&["run", "--format", "github", "--junit", "out/junit.xml"]).exits(1);
    assert!(ended.stdout.contains("::error"), "{}", ended.stdout);
    let junit = environment.read("out/junit.xml");
    assert!(junit.contains("testcase name=\"fails\""), "{junit}");
}

#[test]
fn a_deploy_to_an_unknown_target_is_refused_before_anything_starts() {
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        [pipeline]
        name = "elsewhere"
        [environments.production]
        target = "nowhere"
        [stages.first]
        uses = "noop"
        [stages.deploy]
        uses = "deploy"
        needs = ["first"]
        environment = "production"
        with = { service = "app", image = "${{ stages.first.outputs.image }}" }
        "#,
    );
    for command in ["validate", "run"] {
        let ended = environment.run(&[command]).exits(3);
        for part in [
            "no plugin deploys to the target `nowhere`",
            "stagewright.toml:6:18",
            "the targets of this version are: `compose`, `docker`, `ecs`,",
        ] {
            assert!(ended.stderr.contains(part), "{part:?} is missing in:\n{}", ended.stderr);
        }
    }
    assert_eq!(environment.run(&["runs"]).exits(0).stdout.lines().count(), 1, "a run was recorded");
}

#[test]
fn a_run_records_the_commit_the_branch_the_tag_and_whether_anything_was_changed() {
    let environment = TestEnvironment::with_pipeline(
        "schema = 1\npipeline.name = \"p\"\n[stages.s]\nuses = \"noop\"\n\
         with = { outputs = { ref = \"${{ event.ref }}\", dirty = \"${{ git.dirty }}\" } }\n",
    );
    let git = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]).args(args);
        let output = command.current_dir(environment.root()).output().expect("git starts");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "first"]);
    let source = || {
        environment.run(&["run"]).exits(0);
        let rows = environment.run(&["runs", "--json", "--limit", "1"]).exits(0);
        let rows: serde_json::Value = serde_json::from_str(&rows.stdout).unwrap();
        rows[0]["source"].clone()
    };
    let clean = source();
    assert_eq!(clean["git"]["commit"], git(&["rev-parse", "HEAD"]));
    assert_eq!(clean["git"]["branch"], git(&["branch", "--show-current"]));
    assert_eq!((&clean["git"]["dirty"], &clean["git"]["tag"]), (&false.into(), &serde_json::Value::Null));

    git(&["tag", "v1"]);
    environment.write("new.txt", "");
    let tagged = source();
    assert_eq!((&tagged["git"]["dirty"], &tagged["git"]["tag"]), (&true.into(), &"v1".into()));
    assert_eq!(tagged["event"]["ref"], "refs/tags/v1");
}

#[test]
fn every_mistake_in_a_with_table_is_shown_at_its_place() {
    let environment = TestEnvironment::with_pipeline(
        "schema = 1\npipeline.name = \"x\"\n[stages.a]\nuses = \"command\"\n\
         with = { argv = \"ls\", tiemout = 1, cwd = [] }\npermissions = { process = [\"ls\"] }\n",
    );
    for command in ["validate", "run"] {
        let refused = environment.run(&[command]).exits(3);
        let shown = refused.stdout + &refused.stderr;
        for mistake in ["`with.argv` of [stages.a]", "`with.tiemout` of [stages.a]", "`with.cwd` of [stages.a]"] {
            assert!(shown.contains(mistake), "{command}: {shown}");
        }
        assert!(shown.contains("[stagewright.toml:5:17]"), "{command}: {shown}");
        assert!(shown.contains("1 stage has an invalid configuration"), "{command}: {shown}");
    }
    let found: serde_json::Value =
        serde_json::from_str(&environment.run(&["validate", "--json"]).stdout).expect("JSON");
    let places: Vec<_> = found.as_array().into_iter().flatten().map(|one| (&one["line"], &one["path"])).collect();
    assert_eq!(places.len(), 3, "{found}");
    assert!(places.iter().all(|(line, path)| **line == 5 && path.is_string()), "{found}");
}

#[test]
fn an_unknown_name_is_a_usage_error() {
    let environment = TestEnvironment::with_pipeline("schema = 1\npipeline.name = \"x\"\nstages.a.uses = \"noop\"\n");
    environment.run(&["run"]).exits(0);
    for command in [
        &["resume", "nosuch"][..],
        &["rerun", "nosuch"],
        &["cancel", "nosuch"],
        &["show", "nosuch"],
        &["logs", "nosuch"],
        &["logs", "latest", "nosuch"],
        &["explain", "a", "--run", "nosuch"],
        &["explain", "nosuch"],
        &["why", "a", "--run", "nosuch"],
        &["why", "nosuch"],
        &["approve", "nosuch"],
        &["reject", "nosuch"],
        &["settle", "nosuch", "a", "applied"],
        &["env", "status", "nosuch"],
        &["run", "--only", "nosuch"],
        &["run", "--skip", "nosuch"],
        &["resume", "latest", "--from", "nosuch"],
    ] {
        let refused = environment.run(command);
        assert_eq!(refused.code, 2, "{command:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains("nosuch") && refused.stderr.contains("help: "),
            "{command:?}: {}",
            refused.stderr
        );
    }
}

#[test]
fn a_grant_of_something_missing_is_a_warning() {
    let environment = TestEnvironment::with_pipeline(
        "schema = 1\npipeline.name = \"x\"\n[stages.a]\nuses = \"command\"\nwith = { argv = [\"nosuch-tool\"] }\n\
         matrix = { a = [1, 2] }\n\
         permissions = { process = [\"nosuch-tool\", \"sh\", \"out/tool\", \"tools/gone.sh\"], \
         read = [\"srcc/**\", \"stagewright.toml\", \"out/x\", \".\"] }\n\
         [stages.b]\nuses = \"noop\"\npermissions = { write = [\"out\"] }\n",
    );
    let checked = environment.run(&["validate"]).exits(0);
    let shown = checked.stdout + &checked.stderr;
    for (entry, times) in [("`nosuch-tool`", 1), ("tools/gone.sh`", 1), ("`srcc/**`", 1), ("out/", 0), ("no `.`", 0)] {
        let messages = shown.lines().filter(|line| line.contains('⚠') && line.contains(entry)).count();
        assert_eq!(messages, times, "{entry}: {shown}");
    }
}
