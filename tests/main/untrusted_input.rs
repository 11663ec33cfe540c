//! Untrusted plugins: components that try what they weren't granted, ignore refusals, and lie in their output. The test
//! guest `stranger` performs the configured actions, and publishes their results as an output.
//!
//! Where a test shows that an attack fails, it also shows that the same action succeeds once it is granted.

use std::path::Path;

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::environment::{TestEnvironment, text};

mod archives;
mod capabilities;
mod credentials;
mod expressions;
mod floods;
mod http;
mod secrets;
mod server;
mod shown;
mod supply;
mod workspace;

/// A refusal as the guest sees it.
const DENIED: &str = "ErrorCode::PermissionDenied";

/// A pipeline with one stage, `stranger`. `actions` are inline tables; `settings` and `permissions` are lines of TOML.
fn pipeline(actions: &[&str], settings: &str, permissions: &str) -> String {
    let actions = actions.iter().map(|action| format!("  {{ {action} }},\n")).collect::<String>();
    format!(
        "schema = 1\n[pipeline]\nname = \"strangers\"\n[secrets.token]\nfrom = \"file:../token.txt\"\n\
         hosts = [\"127.0.0.1\", \"10.255.255.1\", \"localhost\"]\n[stages.stranger]\nuses = \"stranger\"\n{settings}\n\
         with.actions = [\n{actions}]\n[stages.stranger.permissions]\n{permissions}\n"
    )
}

/// The secret that the attacks try to get.
const TOKEN: &str = "tok/en+4711?\"quoted\"-und-mehr";

/// A repository with a granted file in `open`, and another one that isn't granted.
fn repository() -> TestEnvironment {
    let environment = TestEnvironment::new();
    environment.write("open/file", "for all");
    environment.write("closed/file", "not granted");
    environment.write("../token.txt", TOKEN);
    environment
}

/// A run that has ended.
struct Ended {
    code: i32,
    events: Vec<Json>,
}

/// Runs a stage that succeeds despite refusals.
#[track_caller]
fn attack(environment: &TestEnvironment, actions: &[&str], permissions: &str) -> Ended {
    environment.write("stagewright.toml", &pipeline(actions, "", permissions));
    let ended = run(environment);
    assert_eq!(ended.code, 0, "{:#?}", ended.events);
    ended
}

fn run(environment: &TestEnvironment) -> Ended {
    let (code, events) = environment.events(&["run"]);
    Ended { code, events }
}

impl Ended {
    /// The result of each action.
    fn answers(&self) -> Vec<String> {
        let answers = self.ended("stranger")["outputs"]["answers"].clone();
        answers.as_array().unwrap_or_else(|| panic!("{:#?}", self.events)).iter().map(text).collect()
    }

    fn ended(&self, stage: &str) -> &Json {
        let ended = |event: &&Json| event["type"] == "attempt-ended" && event["stage-id"] == stage;
        self.events.iter().rev().find(ended).unwrap_or_else(|| panic!("{:#?}", self.events))
    }

    /// The messages of the refusals in the journal.
    fn denials(&self) -> Vec<String> {
        let problems = self.events.iter().filter(|event| event["problem"]["code"] == "permission-denied");
        problems.map(|event| text(&event["problem"]["message"])).collect()
    }
}

/// A digest, as `sha256:…`.
fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The content of all files below a folder.
fn content_below(folder: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            content.extend(content_below(&path));
        } else {
            content.extend(std::fs::read(&path).expect("a file"));
        }
    }
    content
}

fn state_size(environment: &TestEnvironment) -> usize {
    content_below(&environment.root().join(".stagewright")).len()
}
