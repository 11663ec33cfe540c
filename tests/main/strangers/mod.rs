//! Plugins of strangers: components that try what they were not granted, swallow every refusal, and lie in all that
//! they say. The test guest `stranger` does the deeds that it is told to, and keeps what came of each as an output.
//!
//! Where a test shows that an attack fails, the same deed shows that it succeeds once it is granted.

use std::path::Path;

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::environment::{TestEnvironment, text};

mod archives;
mod capabilities;
mod expressions;
mod floods;
mod http;
mod secrets;
mod server;
mod shown;
mod supply;
mod workspace;

/// What a refusal looks like to the guest.
const DENIED: &str = "ErrorCode::PermissionDenied";

/// A pipeline of one stage, `stranger`; `deeds` are inline tables, `rest` are lines of TOML: of the stage, then of its
/// permissions.
fn pipeline(deeds: &[&str], settings: &str, permissions: &str) -> String {
    let deeds = deeds.iter().map(|deed| format!("  {{ {deed} }},\n")).collect::<String>();
    format!(
        "schema = 1\n[pipeline]\nname = \"strangers\"\n[secrets.token]\nfrom = \"file:../token.txt\"\n\
         hosts = [\"127.0.0.1\", \"10.255.255.1\", \"localhost\"]\n[stages.stranger]\nuses = \"stranger\"\n{settings}\n\
         with.deeds = [\n{deeds}]\n[stages.stranger.permissions]\n{permissions}\n"
    )
}

/// The secret that strangers are after.
const TOKEN: &str = "tok/en+4711?\"quoted\"-und-mehr";

/// A repository with a file for everybody in `open`, and another that is nobody's business.
fn repository() -> TestEnvironment {
    let environment = TestEnvironment::new();
    environment.write("open/file", "for all");
    environment.write("closed/file", "for nobody");
    environment.write("../token.txt", TOKEN);
    environment
}

/// A run that has ended.
struct Ended {
    code: i32,
    events: Vec<Json>,
}

/// Runs a stage that succeeds whatever it is refused.
#[track_caller]
fn attack(environment: &TestEnvironment, deeds: &[&str], permissions: &str) -> Ended {
    environment.write("stagewright.toml", &pipeline(deeds, "", permissions));
    let ended = run(environment);
    assert_eq!(ended.code, 0, "{:#?}", ended.events);
    ended
}

fn run(environment: &TestEnvironment) -> Ended {
    let (code, events) = environment.events(&["run"]);
    Ended { code, events }
}

impl Ended {
    /// What the guest got, deed by deed.
    fn answers(&self) -> Vec<String> {
        let answers = self.ended("stranger")["outputs"]["answers"].clone();
        answers.as_array().unwrap_or_else(|| panic!("{:#?}", self.events)).iter().map(text).collect()
    }

    fn ended(&self, stage: &str) -> &Json {
        let ended = |event: &&Json| event["type"] == "attempt-ended" && event["stage-id"] == stage;
        self.events.iter().rev().find(ended).unwrap_or_else(|| panic!("{:#?}", self.events))
    }

    /// Messages of the refusals that the journal has.
    fn denials(&self) -> Vec<String> {
        let problems = self.events.iter().filter(|event| event["problem"]["code"] == "permission-denied");
        problems.map(|event| text(&event["problem"]["message"])).collect()
    }
}

/// `sha256:…`.
fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// All bytes of the files below a folder.
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
