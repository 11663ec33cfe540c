//! Each capability without its grant, and with it.

use super::{DENIED, attack, repository};
use crate::environment::TestEnvironment;

/// An action for each capability, the permission that grants it, and the result if it is granted.
const ACTIONS: [(&str, &str, &str); 13] = [
    (r#"do = "start", program = "echo", args = ["hello"]"#, r#"process = ["echo"]"#, "hello"),
    (r#"do = "read", path = "open/file""#, r#"read = ["open"]"#, "for all"),
    (r#"do = "read-at", path = "open/file""#, r#"read = ["open"]"#, "for all"),
    (r#"do = "digest", path = "open/file""#, r#"read = ["open"]"#, "sha256:"),
    (r#"do = "write", path = "out/file", text = "x""#, r#"write = ["out"]"#, "done"),
    (r#"do = "append", path = "out/file", text = "x""#, r#"write = ["out"]"#, "done"),
    (r#"do = "remove", path = "out/file""#, r#"write = ["out"]"#, "done"),
    (r#"do = "publish", name = "a", path = "open/file""#, r#"read = ["open"]"#, "sha256:"),
    (r#"do = "hold", secret = "token""#, r#"secrets = ["token"]"#, "held"),
    (r#"do = "reveal", secret = "token""#, "secrets = [\"token\"]\nreveal = [\"token\"]", "29"),
    (
        r#"do = "push", layout = "open", reference = "local/app:1""#,
        "read = [\"open\"]\nregistry = [\"local/app\"]",
        "Not",
    ),
    (r#"do = "resolve", reference = "local/app:1""#, r#"registry = ["local/app"]"#, "ErrorCode::NotFound"),
    (r#"do = "current", service = "app""#, r#"service = ["app"]"#, "ErrorCode::FailedPrecondition"),
];

#[test]
fn every_capability_is_refused_without_a_grant_and_refusals_are_recorded() {
    let environment = repository();
    let actions = ACTIONS.map(|(action, ..)| action);
    let call = r#"do = "call", url = "http://127.0.0.1:9/""#;
    let ended = attack(&environment, &[&actions[..], &[call]].concat(), "");
    let answers = ended.answers();
    assert!(answers.iter().all(|answer| answer == DENIED), "{answers:#?}");
    // The guest ignored all refusals, so the stage succeeded. Each refusal is reported once, with its subject.
    let denials = ended.denials();
    for asked in ["`echo`", "`open/file`", "`out/file`", "`token`", "local/app", "`app`", "http://127.0.0.1:9"] {
        assert!(denials.iter().any(|denial| denial.contains(asked)), "{asked} is missing in {denials:#?}");
    }
    assert!(!environment.root().join("out").exists());
    let recorded = environment.run(&["show", "latest", "--format", "json"]).exits(0).stdout;
    assert_eq!(recorded.matches(r#""code":"permission-denied""#).count(), denials.len(), "{recorded}");
}

#[test]
fn every_capability_works_with_its_grant() {
    for (action, grant, answer) in ACTIONS {
        let ended = attack(&repository(), &[action], grant);
        assert!(ended.answers()[0].contains(answer), "{action}: {:?}", ended.answers());
        assert_eq!(ended.denials(), Vec::<String>::new(), "{action}");
    }
}

#[test]
fn a_handle_is_not_a_value() {
    let actions = [r#"do = "hold", secret = "token""#, r#"do = "reveal", secret = "token""#];
    let ended = attack(&repository(), &actions, r#"secrets = ["token"]"#);
    assert_eq!(ended.answers(), ["held", DENIED]);
    assert!(ended.denials()[0].contains("token"), "{:?}", ended.denials());
}

#[test]
fn a_grant_does_not_cover_similar_names() {
    let actions = [
        r#"do = "read", path = "open-too/file""#,
        r#"do = "read", path = "open/../closed/file""#,
        r#"do = "read", path = "/etc/hostname""#,
        r#"do = "read", path = "OPEN/file""#,
        r#"do = "write", path = "open/file", text = "x""#,
        r#"do = "start", program = "/bin/echo""#,
        r#"do = "start", program = "echo", args = ["other"]"#,
        r#"do = "resolve", reference = "local/app-too:1""#,
        r#"do = "call", url = "http://127.0.0.1:80/""#,
        r#"do = "call", url = "https://127.0.0.1:9/""#,
        r#"do = "read", path = "open/file""#,
    ];
    let environment = repository();
    environment.write("open-too/file", "not granted");
    let grants =
        "process = [\"echo one\"]\nread = [\"open\"]\nregistry = [\"local/app\"]\nnet = [\"http://127.0.0.1:9\"]";
    let answers = attack(&environment, &actions, grants).answers();
    let (granted, refused) = answers.split_last().unwrap();
    assert_eq!(granted, "for all");
    let allowed = [DENIED, "ErrorCode::InvalidArgument"];
    assert!(refused.iter().all(|answer| allowed.contains(&answer.as_str())), "{refused:#?}");
    assert_eq!(environment.read("open/file"), "for all");
}

/// The engine's own folders can't be granted, and naming one in a pipeline is an error.
#[test]
fn the_engines_own_folders_cannot_be_granted() {
    let environment = repository();
    environment.write(".git/config", "[remote]");
    let paths = [".git/config", ".git/hooks/pre-commit", ".stagewright/journal", "./.git//config"];
    let actions: Vec<String> = paths
        .iter()
        .flat_map(|path| {
            let write = format!(r#"do = "write", path = "{path}", text = "x""#);
            [
                format!(r#"do = "read", path = "{path}""#),
                write,
                format!(r#"do = "append", path = "{path}", text = "x""#),
            ]
        })
        .chain([r#"do = "remove", path = ".git""#.to_owned(), r#"do = "read", path = "closed/file""#.to_owned()])
        .collect();
    let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
    let answers = attack(&environment, &actions, "read = [\".\"]\nwrite = [\".\"]").answers();
    let (granted, refused) = answers.split_last().unwrap();
    assert_eq!(granted, "not granted", "a grant of everything includes other files");
    assert!(refused.iter().all(|answer| answer == DENIED), "{refused:#?}");
    assert_eq!(environment.read(".git/config"), "[remote]");
    let listed = attack(&environment, &[r#"do = "glob", pattern = "**""#], "read = [\".\"]\nwrite = [\".\"]").answers();
    assert!(listed[0].contains("closed/file") && !listed[0].contains(".git") && !listed[0].contains(".stagewright"));
}

#[test]
fn artifact_names_are_not_paths() {
    let names = ["../a", "a/b", "/a", ".hidden", "", "a\\u0000b", "a\\u001b[2J", "a b"];
    let actions: Vec<String> =
        names.iter().map(|name| format!(r#"do = "publish", name = "{name}", path = "open/file""#)).collect();
    let fetch = r#"do = "fetch", name = "../../../stagewright.toml", path = "out/x""#.to_owned();
    let actions: Vec<&str> = actions.iter().chain([&fetch]).map(String::as_str).collect();
    let grants = "read = [\"open\"]\nwrite = [\"out\"]";
    let answers = attack(&repository(), &actions, grants).answers();
    assert!(answers.iter().all(|answer| answer == "ErrorCode::InvalidArgument"), "{answers:#?}");
    let actions = [
        r#"do = "publish", name = "a-1.txt", path = "open/file""#,
        r#"do = "fetch", name = "a-1.txt", path = "out/x""#,
        r#"do = "read", path = "out/x""#,
    ];
    assert_eq!(attack(&repository(), &actions, grants).answers()[2], "for all");
}

#[test]
fn no_pipeline_evades_the_policy_or_the_lock() {
    let environment = TestEnvironment::new();
    for line in ["policy = \"/dev/null\"", "locked = false", "native = true"] {
        let text = format!("schema = 1\n[pipeline]\nname = \"p\"\n{line}\n[stages.a]\nuses = \"noop\"\n");
        environment.write("stagewright.toml", &text);
        assert!(environment.run(&["run"]).exits(3).stderr.contains("unknown"), "{line}");
    }
}
