//! What the plugin `command` reports of a program, and what people see of it.

use serde_json::Value as Json;

use crate::environment::{TestEnvironment, failure, outcomes, text};

/// A pipeline with a stage that runs a script.
fn pipeline(with: &str, script: &str) -> TestEnvironment {
    let pipeline = format!(
        "schema = 1\npipeline.name = \"p\"\n[stages.test]\nuses = \"command\"\nwith = {{ run = \"sh ./script\"{with} \
         }}\npermissions = {{ process = [\"sh\"], read = [\".\"], write = [\"out\"] }}\n"
    );
    let environment = TestEnvironment::with_pipeline(&pipeline);
    environment.write("script", script);
    environment.write("out/kept", "");
    environment
}

/// A failing test at the beginning of a long report.
const TAP: &str = "echo 'not ok 1 - adds two numbers
  ---
  message: expected 4, got 5
  at: lib/add.test.js:7
  ...'
for n in $(seq 2 60); do echo \"ok $n - case $n\"; done
exit 1
";

#[test]
fn the_failing_test_is_shown_once_and_not_the_end_of_the_log() {
    let environment = pipeline("", TAP);
    let (code, events) = environment.events(&["run"]);
    assert_eq!((code, outcomes(&events)["test"].as_str()), (1, "failed"));
    let problem = &events.iter().find(|event| event["type"] == "problem").unwrap()["problem"];
    assert_eq!(text(&problem["code"]), "test-failed");
    assert_eq!(text(&problem["path"]), "lib/add.test.js");
    assert_eq!(problem["range"]["line"], 7);
    let said = "test `adds two numbers` failed: expected 4, got 5";
    assert_eq!(text(&problem["message"]), said);
    assert_eq!(failure(&events, "test")["causes"][0], format!("{said} (lib/add.test.js:7)"));

    let shown = environment.run(&["show", "latest"]).exits(0).stdout;
    let (_, summary) = shown.split_once("\ntest failed\n").unwrap();
    assert_eq!((summary.matches(said).count(), summary.matches("case 60").count()), (1, 0), "{summary}");
}

#[test]
fn what_a_program_prints_for_github_never_becomes_a_command_of_ours() {
    let script = "echo '::error file=a.js,line=1,title=x%0A::set-output name=y::z%0A::add-mask::w'\nexit 1\n";
    let environment = pipeline("", script);
    let shown = environment.run(&["run", "--format", "github"]).exits(1).stdout;
    let commands = shown
        .lines()
        .filter(|line| line.trim_start().starts_with("::"))
        .map(|line| line.split("::").nth(1).and_then(|command| command.split(' ').next()).unwrap_or_default());
    assert!(commands.clone().all(|command| ["group", "endgroup", "error"].contains(&command)), "{shown}");
    assert!(shown.contains("::error file=a.js,line=1,"), "{shown}");
}

#[test]
fn programs_get_ci_unless_the_stage_sets_it() {
    let environment = pipeline(", capture = \"ci\"", "printf %s \"$CI\"\n");
    let captured = |environment: &TestEnvironment| {
        let (code, events) = environment.events(&["run"]);
        assert_eq!(code, 0);
        let ended = events.iter().find(|event| event["type"] == "attempt-ended").unwrap();
        ended["outputs"]["ci"].clone()
    };
    assert_eq!(captured(&environment), "true");
    let own = environment.read("stagewright.toml") + "env = { CI = \"no\" }\n";
    environment.write("stagewright.toml", &own);
    assert_eq!(captured(&environment), "no");
}

#[test]
fn artifacts_are_published_after_a_failure_and_saved_by_name() {
    let with = ", artifacts = [\"out/app\", { path = \"out/site\", when = \"always\" }]";
    let environment = pipeline(with, "mkdir -p out/site; echo page > out/site/index; echo app > out/app; exit 3\n");
    environment.run(&["run"]).exits(1);
    let list: Json = serde_json::from_str(&environment.run(&["artifacts", "--json"]).exits(0).stdout).unwrap();
    assert_eq!((list.as_array().unwrap().len(), text(&list[0]["name"]).as_str()), (1, "site"));
    assert_eq!((list[0]["folder"].as_bool(), text(&list[0]["stage"]).as_str()), (Some(true), "test"));

    let saved = environment.run(&["artifacts", "latest", "get", "site", "--json"]).exits(0).stdout;
    assert!(saved.contains("\"path\":\"site\""), "{saved}");
    assert_eq!(environment.read("site/index"), "page\n");
    let refused = environment.run(&["artifacts", "get", "site"]).exits(4).stderr;
    assert!(refused.contains("site already exists") && refused.contains("--force"), "{refused}");
    environment.run(&["artifacts", "get", "site", "--force"]).exits(0);
    environment.run(&["artifacts", "get", "app"]).exits(4);
    assert!(environment.run(&["artifacts", "latest"]).exits(0).stdout.contains("folder"));
}

#[test]
fn the_tests_of_a_junit_report_are_in_the_report_of_the_run() {
    let script = r#"cat > out/a.xml <<'E'
<testsuite name="calc"><testcase name="one"/><testcase name="two"><failure message="4 != 5"/></testcase></testsuite>
E
"#;
    let environment = pipeline(", junit = [\"out/*.xml\"]", script);
    environment.write(
        "stagewright.toml",
        &environment.read("stagewright.toml").replace("process = [\"sh\"]", "process = [\"sh\", \"cat\"]"),
    );
    environment.run(&["run", "--junit", "junit.xml"]).exits(1);
    let report = environment.read("junit.xml");
    assert!(report.contains("name=\"two\"") && report.contains("4 != 5"), "{report}");
    let shown = environment.run(&["show", "latest"]).exits(0).stdout;
    let (_, summary) = shown.split_once("\ntest failed\n").unwrap();
    assert!(summary.contains("1 of 2 tests failed, although the program succeeded"), "{summary}");
    assert_eq!(summary.matches("two").count(), 1, "{summary}");
}

#[test]
fn a_missing_path_is_created_as_what_its_name_says() {
    let pipeline = "schema = 1\npipeline.name = \"p\"\n[stages.test]\nuses = \"command\"\nwith = { run = \"ls -dF * .cache\" }\n\
                    permissions = { process = [\"sh\"], write = [\"a\", \"b.txt\", \"c.d/\", \"e.egg-info\", \".cache\"] }\n";
    let environment = TestEnvironment::with_pipeline(pipeline);
    let shown = environment.run(&["run"]).exits(0).stdout;
    for name in ["a/", "b.txt", "c.d/", "e.egg-info/", ".cache/"] {
        assert!(shown.lines().any(|line| line.ends_with(&format!("| {name}"))), "{name}: {shown}");
    }
}

#[test]
fn a_stage_without_a_sandbox_says_so_wherever_it_is_shown() {
    let pipeline = "schema = 1\npipeline.name = \"p\"\n[stages.test]\nuses = \"command\"\nsandbox = \"off\"\n\
                    with = { run = \"cat /etc/hostname > /dev/null; echo > made; ls ..\" }\npermissions = { process = [\"sh\"] }\n";
    let environment = TestEnvironment::with_pipeline(pipeline);
    let plan = environment.run(&["plan"]).exits(0).stdout;
    assert!(
        plan.contains("unsandboxed  its programs (sh): `sandbox = \"off\"`") && plan.contains("external"),
        "{plan}"
    );
    let shown = environment.run(&["run"]).exits(0).stdout;
    assert!(environment.root().join("made").exists(), "no grant restricts the program");
    let warning = "without a sandbox (`sandbox = \"off\"`)";
    assert!(shown.contains(warning), "{shown}");
    assert!(environment.run(&["show", "latest"]).exits(0).stdout.contains(warning));

    std::fs::remove_file(environment.root().join("made")).unwrap();
    let shown = environment.run(&["run", "--rehearse"]).exits(0).stdout;
    assert!(shown.contains("would run `sh"), "{shown}");
    environment.write("policy.toml", "schema = 1\nsandbox = \"required\"\n");
    let refused = environment.run(&["--policy", "policy.toml", "run"]).exits(4).stderr;
    assert!(refused.contains("beyond the policy"), "{refused}");
    assert!(!environment.root().join("made").exists());
}
