//! Environments: who may deploy, which release is current, and rollbacks.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value as Json;

use crate::environment::{Ended, TestEnvironment, eventually, outcomes, text};

const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "service"

[inputs.version]
[inputs.broken]
default = ""
[inputs.wait-for]
default = ""

[environments.production]
target = "process"
APPROVERS

[stages.image]
uses = "build-image"
with = { files = [{ from = "versioned", to = "/versioned" }], entrypoint = ["/versioned"], layout = "image", tags = ["x"] }
[stages.image.permissions]
read = ["versioned"]
write = ["image"]

[stages.push]
uses = "push-image"
needs = ["image"]
with = { layout = "image", image = "local/versioned", tags = ["${{ inputs.version }}"] }
[stages.push.permissions]
read = ["image"]
registry = ["local/versioned"]

BEFORE

[stages.deploy]
uses = "deploy"
needs = [DEPLOY_NEEDS]
environment = "production"
[stages.deploy.with]
service = "versioned"
image = "${{ stages.push.outputs.reference }}"
env = { VERSION = "${{ inputs.version }}", BROKEN = "${{ inputs.broken }}", WAIT_FOR = "${{ inputs.wait-for }}" }
[stages.deploy.permissions]
registry = ["local/versioned"]
service = ["versioned"]

[stages.smoke]
uses = "smoke-test"
needs = ["deploy"]
environment = "production"
compensate = ["deploy"]
[stages.smoke.with]
url = "${{ stages.deploy.outputs.url }}"
checks = [{ path = "/", status = 200, contains = "version ${{ inputs.version }}" }]
deadline = "2s"
[stages.smoke.permissions]
net = ["http://127.0.0.1:*"]
"#;

const APPROVE: &str = r#"
[stages.approve]
uses = "approve"
needs = ["push"]
with = { message = "Go?" }
"#;

const STAGING: &str = r#"
[inputs.staging-check]
default = ""

[environments.staging]
target = "process"

[stages.deploy-staging]
uses = "deploy"
needs = ["push"]
environment = "staging"
[stages.deploy-staging.with]
service = "versioned"
image = "${{ stages.push.outputs.reference }}"
env = { VERSION = "${{ inputs.version }}" }
[stages.deploy-staging.permissions]
registry = ["local/versioned"]
service = ["versioned"]

[stages.smoke-staging]
uses = "smoke-test"
needs = ["deploy-staging"]
environment = "staging"
with = { url = "${{ stages.deploy-staging.outputs.url }}", checks = [{ path = "/", contains = "${{ inputs['staging-check'] }}" }], deadline = "1s" }
permissions = { net = ["http://127.0.0.1:*"] }

[stages.approve]
uses = "approve"
needs = ["smoke-staging"]
with = { message = "Go?" }
"#;

/// A repository with a production environment. Its services are stopped when it is dropped.
pub(crate) struct Production(pub(crate) TestEnvironment);

impl Production {
    pub(crate) fn new() -> Production {
        Production::of("", "", "\"push\"")
    }

    /// With a gate before the deploy.
    pub(crate) fn with_gate() -> Production {
        Production::of("", APPROVE, "\"push\", \"approve\"")
    }

    /// With another environment, `staging`, and a gate between the two.
    pub(crate) fn with_staging() -> Production {
        Production::of("", STAGING, "\"push\", \"approve\"")
    }

    /// Deployed by another plugin than the built-in one.
    pub(crate) fn deployed_by(plugin: &Path) -> Production {
        let production = Production::new();
        let text = production.0.read("stagewright.toml").replace(r#"uses = "deploy""#, r#"uses = "path:deploy.wasm""#);
        production.0.write("stagewright.toml", &text);
        std::fs::copy(plugin, production.0.root().join("deploy.wasm")).expect("a copy");
        production
    }

    fn of(approvers: &str, before: &str, needs: &str) -> Production {
        let text = PIPELINE.replace("APPROVERS", approvers).replace("BEFORE", before).replace("DEPLOY_NEEDS", needs);
        let environment = TestEnvironment::with_pipeline(&text);
        std::fs::copy(env!("CARGO_BIN_EXE_versioned"), environment.root().join("versioned")).expect("a copy");
        Production(environment)
    }

    pub(crate) fn deploy(&self, version: &str, code: i32) -> Ended {
        self.0.run(&["run", "--input", &format!("version={version}")]).exits(code)
    }

    /// The response of the release in production.
    pub(crate) fn serves(&self) -> String {
        let status = self.0.run(&["service", "status", "--json"]).exits(0);
        let found: Json = serde_json::from_str(&status.stdout).expect("JSON");
        answer(&text(&found[0]["current"]["address"]))
    }

    fn history(&self) -> Vec<Json> {
        let history = self.0.run(&["env", "history", "production", "--json"]).exits(0);
        serde_json::from_str(&history.stdout).expect("JSON")
    }

    fn status(&self) -> Json {
        let status = self.0.run(&["env", "status", "production", "--json"]).exits(0);
        serde_json::from_str(&status.stdout).expect("JSON")
    }
}

/// What the service at this address responds with.
pub(crate) fn answer(address: &str) -> String {
    let host = address.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(host).expect("a service");
    write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.rsplit("\r\n").next().unwrap_or_default().to_owned()
}

impl Drop for Production {
    fn drop(&mut self) {
        for environment in ["production", "staging"] {
            self.0.run(&["service", "stop", environment, "versioned"]);
        }
    }
}

#[test]
fn the_ledger_records_releases_and_rollback_restores_them() {
    let production = Production::new();
    let nothing = production.0.run(&["rollback", "production"]).exits(0);
    assert!(nothing.stdout.contains("nothing was done"), "{}", nothing.stdout);

    production.deploy("1", 0);
    let only = production.0.run(&["rollback", "production"]).exits(4);
    assert!(only.stderr.contains("no earlier known-good release"), "{}", only.stderr);
    production.deploy("2", 0);
    assert_eq!(production.serves(), "version 2");
    let status = production.status();
    assert_eq!(status["current"]["good"], true, "{status:#}");
    assert_eq!(status["last-known-good"]["number"], 1, "{status:#}");
    assert_eq!(text(&status["current"]["release"]["by"]), "tester");

    let tried = production.0.run(&["rollback", "production", "--dry-run"]).exits(0);
    assert!(tried.stdout.contains("to release 1"), "{}", tried.stdout);
    assert_eq!(production.serves(), "version 2");
    // Only events are printed.
    let (code, events) = production.0.events(&["rollback", "production"]);
    assert_eq!((code, &events[0]["type"]), (0, &Json::from("run-started")));
    assert_eq!(production.serves(), "version 1");
    let ways = production.history().iter().map(|row| text(&row["release"]["way"])).collect::<Vec<_>>();
    assert_eq!(ways, ["rollback", "deploy", "deploy"]);
    let listed = production.0.run(&["env", "list"]).exits(0);
    assert!(listed.stdout.contains("\nproduction   3        local/versioned@sha256:"), "{}", listed.stdout);
}

#[test]
fn a_failed_smoke_test_compensates_its_deploy() {
    let production = Production::new();
    production.deploy("1", 0);
    let args = ["run", "--input", "version=2", "--input", "broken=yes"];
    let (code, events) = production.0.events(&args);
    assert_eq!(code, 1, "{events:#?}");
    assert_eq!(production.serves(), "version 1");
    let undone = events.iter().find(|event| event["type"] == "undo-ended").unwrap();
    assert_eq!(undone["outcome"], "succeeded", "{undone:#}");
    let history = production.history();
    assert_eq!((text(&history[0]["release"]["way"]), &history[0]["good"]), ("undo".to_owned(), &Json::Bool(true)));
    assert_eq!(history[1]["undone"], true, "{history:#?}");

    // A rerun deploys the compensated release again and repeats its smoke test.
    let (_, events) = production.0.events(&["resume", "latest"]);
    let starts = events.iter().filter(|event| event["type"] == "attempt-started" && event["stage-id"] == "deploy");
    assert_eq!(starts.count(), 2);
    assert_eq!(production.serves(), "version 1");
}

#[test]
fn an_older_run_never_overtakes_a_newer_one() {
    let production = Production::with_gate();
    let older = run_id(&production.0, "1");
    let newer = run_id(&production.0, "2");
    production.0.run(&["approve", &newer]).exits(0);
    production.0.run(&["resume", &newer]).exits(0);
    assert_eq!(production.serves(), "version 2");

    production.0.run(&["approve", &older]).exits(0);
    let refused = production.0.run(&["resume", &older]).exits(1);
    assert!(refused.stdout.contains(&format!("run {newer} is newer")), "{}", refused.stdout);
    assert_eq!(production.serves(), "version 2");
    assert_eq!(production.history().len(), 1);
}

/// The id of the run that waits at its gate.
fn run_id(environment: &TestEnvironment, version: &str) -> String {
    let (code, events) = environment.events(&["run", "--input", &format!("version={version}")]);
    assert_eq!(code, 5, "{events:#?}");
    text(&events[0]["run"])
}

#[test]
fn a_frozen_environment_makes_a_run_wait_until_the_freeze_is_lifted_or_overridden() {
    let production = Production::new();
    production.0.run(&["env", "freeze", "production", "--reason", "holidays", "--by", "ada"]).exits(0);
    let waiting = production.deploy("1", 5);
    assert!(waiting.stdout.contains("holidays"), "{}", waiting.stdout);
    production.0.run(&["env", "unfreeze", "production"]).exits(0);
    production.0.run(&["resume", "latest"]).exits(0);
    assert_eq!(production.serves(), "version 1");

    production.0.run(&["env", "freeze", "production", "--reason", "fair", "--for", "3d"]).exits(0);
    production.deploy("2", 5);
    production.0.run(&["approve", "latest", "--reason", "the shop is down"]).exits(0);
    production.0.run(&["resume", "latest"]).exits(0);
    assert_eq!(production.serves(), "version 2");
}

#[test]
fn a_deploy_waits_for_an_approver_of_the_environment() {
    let production = Production::of("approvers = [\"team:release\"]\n[teams]\nrelease = [\"grace\"]", "", "\"push\"");
    let waiting = production.deploy("1", 5);
    assert!(waiting.stdout.contains("stagewright approve"), "{}", waiting.stdout);
    let refused = production.0.run(&["approve", "latest", "--by", "mallory"]).exits(4);
    assert!(refused.stderr.contains("team:release"), "{}", refused.stderr);
    production.0.run(&["approve", "latest", "--by", "grace"]).exits(0);
    production.0.run(&["resume", "latest"]).exits(0);
    assert_eq!(production.serves(), "version 1");
}

/// What the approver saw is what the deploy replaces.
#[test]
fn an_approval_lapses_when_another_run_deploys_in_between() {
    let production = Production::of("approvers = [\"grace\"]", "", "\"push\"");
    let older = run_id(&production.0, "1");
    let newer = run_id(&production.0, "2");
    production.0.run(&["approve", &newer, "--by", "grace"]).exits(0);
    production.0.run(&["approve", &older, "--by", "grace"]).exits(0);
    production.0.run(&["resume", &older]).exits(0);
    assert_eq!(production.serves(), "version 1", "and its smoke test asks for no further approval");

    let asked = production.0.run(&["resume", &newer]).exits(5);
    assert!(asked.stdout.contains("Since `production` was approved for this run"), "{}", asked.stdout);
    assert_eq!(production.serves(), "version 1");
    production.0.run(&["approve", &newer, "--by", "grace"]).exits(0);
    production.0.run(&["resume", &newer]).exits(0);
    assert_eq!(production.serves(), "version 2");
}

#[test]
fn a_killed_deploy_is_observed_before_it_runs_again() {
    let production = Production::new();
    production.deploy("1", 0);
    let marker = production.0.root().join("ready").display().to_string();
    let args = ["run", "--input", "version=2", "--input", &format!("wait-for={marker}"), "--format", "json"];
    let mut child = production.0.start(&args);
    eventually("the deploy is about to start a release", || {
        let journal = production.0.run(&["show", "latest", "--format", "json"]).stdout;
        (journal.contains("start a release") && journal.contains("\"version\":\"2\"")).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(production.serves(), "version 1");

    production.0.write("ready", "");
    let (code, events) = production.0.events(&["resume", "latest"]);
    assert_eq!(code, 0, "{events:#?}");
    let recovered = events.iter().find(|event| event["type"] == "recovered").unwrap();
    assert_eq!(recovered["finding"]["found"], "not-started", "{recovered:#}");
    assert_eq!(production.serves(), "version 2");
    assert_eq!(production.history().len(), 2);
}

#[test]
fn a_killed_deploy_does_not_block_other_runs() {
    let production = Production::new();
    let marker = production.0.root().join("ready").display().to_string();
    let mut child = production.0.start(&["run", "--input", "version=1", "--input", &format!("wait-for={marker}")]);
    eventually("it holds production", || {
        let list = production.0.run(&["env", "list"]).stdout;
        list.contains("is deploying").then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    production.deploy("2", 0);
    assert_eq!(production.serves(), "version 2");
    // The dead run is the older one now.
    production.0.write("ready", "");
    let late = production.0.run(&["resume", &first_run(&production.0)]).exits(1);
    assert!(late.stdout.contains("is newer"), "{}", late.stdout);
    assert_eq!(production.serves(), "version 2");
}

fn first_run(environment: &TestEnvironment) -> String {
    let rows: Vec<Json> = serde_json::from_str(&environment.run(&["runs", "--json"]).stdout).expect("JSON");
    text(&rows.last().expect("a run")["run"])
}

#[test]
fn a_rehearsal_leaves_production_alone() {
    let production = Production::new();
    production.deploy("1", 0);
    let (code, events) = production.0.events(&["run", "--rehearse", "--input", "version=2"]);
    assert_eq!((code, outcomes(&events)["deploy"].as_str()), (0, "succeeded"));
    assert_eq!(production.serves(), "version 1");
    assert_eq!(production.history().len(), 1);
    let rehearsed = production.0.run(&["env", "history", "production", "--rehearsal", "--json"]).exits(0);
    assert!(rehearsed.stdout.contains("versioned@sha256"), "{}", rehearsed.stdout);
}
