//! A stage writes a revealed secret in all encodings to all kinds of output: it is masked everywhere.

use super::{DENIED, TOKEN, attack, content_below, pipeline, repository, run};
use crate::environment::{TestEnvironment, text};

/// The encodings, with the text to search for.
const SPELLINGS: [(&str, &str); 7] = [
    ("plain", TOKEN),
    ("base64", "dG9rL2VuKzQ3MTE/InF1b3RlZCItdW5kLW1laHI"),
    ("hex", "746f6b2f656e2b343731313f2271756f746564222d756e642d6d656872"),
    ("percent", "%74%6f%6b%2f%65%6e%2b%34%37%31%31%3f"),
    ("json", "tok/en+4711?\\\"quoted\\\"-und-mehr"),
    ("upper", "TOK/EN+4711?\"QUOTED\"-UND-MEHR"),
    ("wrapped", "711?\"quo"),
];

/// The kinds of output that don't end the stage.
const PLACES: [&str; 6] = ["log", "field", "progress", "summary", "problem", "output"];

/// The encodings of the secret that are in the shown text or in files.
fn found(environment: &TestEnvironment, shown: &str) -> Vec<&'static str> {
    let mut all = content_below(&environment.root().join(".stagewright"));
    all.extend(shown.as_bytes());
    let all = String::from_utf8_lossy(&all).into_owned();
    // Search again without the escapes of JSON, in which events are written.
    let unquoted = all.replace("\\\"", "\"").replace("\\n", "\n").replace("\\\\", "\\");
    let there = |spelled: &&str| all.contains(spelled) || unquoted.contains(spelled);
    SPELLINGS.iter().map(|(_, spelled)| *spelled).filter(there).collect()
}

/// All reports on the last run.
fn reports(environment: &TestEnvironment) -> String {
    let commands: [&[&str]; 4] = [
        &["logs", "latest", "stranger"],
        &["show", "latest"],
        &["show", "latest", "--format", "json"],
        &["show", "latest", "--format", "github"],
    ];
    commands.iter().map(|command| environment.run(command)).map(|ended| ended.stdout + &ended.stderr).collect()
}

fn say(place: &str, spelling: &str) -> String {
    format!(r#"do = "say", place = "{place}", text = "said {{}} so", secret = "token", spelling = "{spelling}""#)
}

const GRANT: &str = "secrets = [\"token\"]\nreveal = [\"token\"]";

#[test]
fn every_place_and_every_spelling_is_masked() {
    let actions: Vec<String> = PLACES
        .iter()
        .flat_map(|place| SPELLINGS.iter().map(|(spelling, _)| say(place, spelling)))
        .chain(["output-name", "file-name", "header"].map(|place| say(place, "plain")))
        .collect();
    let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
    let environment = repository();
    let ended = attack(&environment, &actions, GRANT);
    let shown = format!("{:?}{}", ended.events, reports(&environment));
    assert_eq!(found(&environment, &shown), Vec::<&str>::new(), "{shown}");
    for kind in ["log", "summary", "problem"] {
        let of_kind = ended.events.iter().filter(|event| event["type"] == kind);
        assert!(of_kind.map(ToString::to_string).filter(|event| event.contains("said ***")).count() >= 1, "{kind}");
    }
    assert!(text(&ended.ended("stranger")["outputs"]["said"]).starts_with("said ***"), "{shown}");
}

#[test]
fn every_way_to_end_is_masked() {
    for (place, code) in [("failure", 1), ("skip", 0), ("gate", 5)] {
        let environment = repository();
        environment.write("stagewright.toml", &pipeline(&[&say(place, "plain")], "", GRANT));
        let ended = run(&environment);
        assert_eq!(ended.code, code, "{place}");
        let shown = format!("{:?}{}", ended.events, reports(&environment));
        assert_eq!(found(&environment, &shown), Vec::<&str>::new(), "{place}: {shown}");
        assert!(shown.contains("said *** so"), "{place}: {shown}");
    }
}

/// Names of outputs and artifacts with a secret are refused and not masked, because a masked name could be another one.
#[test]
fn no_name_holds_a_secret() {
    let environment = repository();
    environment.write("to-publish.txt", "x");
    environment.write("../token.txt", "a-secret-that-could-be-a-name");
    let actions = ["output-name", "artifact-name", "media-type"]
        .map(|place| format!(r#"do = "say", place = "{place}", text = "x-{{}}", secret = "token""#));
    let granted = [
        r#"do = "say", place = "output-name", text = "x-name""#.to_owned(),
        r#"do = "say", place = "artifact-name", text = "x-name""#.to_owned(),
    ];
    let actions: Vec<&str> = actions.iter().chain(&granted).map(String::as_str).collect();
    let ended = attack(&environment, &actions, &format!("{GRANT}\nread = [\"to-publish.txt\"]"));
    let refused = "ErrorCode::InvalidArgument";
    assert_eq!(ended.answers(), [refused, refused, refused, "done", "done"]);
    let kept = content_below(&environment.root().join(".stagewright"));
    assert!(!String::from_utf8_lossy(&kept).contains("a-secret-that"), "in the state folder");
    assert!(!format!("{:?}", ended.events).contains("a-secret-that"), "{:#?}", ended.events);
    let names = walk(&environment.root().join(".stagewright"));
    assert!(names.contains("x-name.json") && !names.contains("a-secret-that"), "{names}");
}

fn walk(folder: &std::path::Path) -> String {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let below = entries.map(|path| match path.is_dir() {
        true => format!("{}\n{}", path.display(), walk(&path)),
        false => format!("{}\n", path.display()),
    });
    below.collect()
}

/// A stage without a grant for the secret finds it in a file that another stage left.
#[test]
fn a_secret_found_by_another_stage_is_masked() {
    let environment = repository();
    let leave = "\n[stages.leaves]\nuses = \"command\"\n\
                 with = { secret-env = { TOKEN = \"token\" }, run = 'printf %s \"$TOKEN\" > left/token' }\n\
                 [stages.leaves.permissions]\nprocess = [\"sh\"]\nwrite = [\"left\"]\nsecrets = [\"token\"]\n";
    let finds = |place: &str| format!(r#"do = "say", place = "{place}", text = "found {{}} so", file = "left/token""#);
    for places in [&PLACES[..], &["failure"], &["skip"], &["gate"]] {
        let actions: Vec<String> = places.iter().map(|place| finds(place)).collect();
        let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
        let text = pipeline(&actions, "needs = [\"leaves\"]", "read = [\"left\"]") + leave;
        environment.write("stagewright.toml", &text);
        let ended = run(&environment);
        let shown = format!("{:?}{}", ended.events, reports(&environment));
        // The gate captures files of the workspace, and this is one of them.
        let captured = environment.root().join(".stagewright/captures");
        if captured.exists() {
            std::fs::remove_dir_all(captured).expect("a folder");
        }
        assert_eq!(found(&environment, &shown), Vec::<&str>::new(), "{places:?}: {shown}");
        assert!(shown.contains("found *** so"), "{places:?}: {shown}");
    }
    assert_eq!(environment.read("left/token"), TOKEN, "the secret is in the file");
}

/// Text beyond a limit is cut off, which may split a secret.
#[test]
fn a_secret_at_a_truncation_limit_is_masked() {
    let borders = [("summary", (1 << 20) - 10), ("field", 4096 - 15), ("problem", 65536 - 15), ("log", 65536 - 15)];
    for (place, padding) in borders {
        let environment = repository();
        let action = format!(r#"do = "say", place = "{place}", text = "{{}}", secret = "token", padding = {padding}"#);
        let ended = attack(&environment, &[&action], GRANT);
        let shown = format!("{:?}{}", ended.events, reports(&environment));
        assert!(!shown.contains("tok/en") && !shown.contains("und-mehr"), "{place} shows a part");
        assert!(shown.contains("xxx***"), "{place}");
    }
}

#[test]
fn secrets_in_a_release_are_masked() {
    let environment = repository();
    // Only a stage with external effects acts under a fencing token.
    let place = "environment = \"staging\"";
    let text_of = pipeline(&[&say("release", "plain")], place, &format!("{GRANT}\nnet = [\"http://127.0.0.1:9\"]"))
        + "\n[environments.staging]\ntarget = \"process\"\n";
    environment.write("stagewright.toml", &text_of);
    let ended = run(&environment);
    assert_eq!(ended.answers(), ["done"], "{:#?}", ended.events);
    let shown = format!(
        "{:?}{}{}",
        ended.events,
        reports(&environment),
        environment.run(&["env", "history", "staging"]).stdout
    );
    assert_eq!(found(&environment, &shown), Vec::<&str>::new(), "{shown}");
    assert!(shown.contains("said *** so"), "{shown}");
}

#[test]
fn a_secret_for_a_program_reaches_that_program_alone() {
    let environment = repository();
    let start = |program: &str| {
        format!(
            r#"do = "start", program = "{program}", args = ["-c", "printf %s \"$T\" | wc -c"], secret-env = {{ T = "token" }}"#
        )
    };
    let text_of = |programs: &str| {
        let text = pipeline(&[&start("sh"), &start("bash")], "", "process = [\"sh\", \"bash\"]\nsecrets = [\"token\"]");
        text.replace("[stages.stranger]\n", &format!("programs = {programs}\n[stages.stranger]\n"))
    };
    environment.write("stagewright.toml", &text_of(r#"["sh"]"#));
    assert_eq!(run(&environment).answers(), [text(&TOKEN.len().to_string().into()).as_str(), DENIED]);
}
