//! Environments with regions: waves, locks, fences, and what a failed region means for the others.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::crash::{killed, stride, to_the_end};
use crate::environment::{TestEnvironment, eventually, outcomes, text};
use crate::production::answer;
use crate::targets::engine::{image_stages, latest_run};

/// WAVES and IMAGE_STAGES are replaced.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "service"

[inputs.version]
[inputs.broken]
default = ""
[inputs.slow]
default = ""
[inputs.wait-for]
default = ""
[inputs.only]
default = ""

[environments.production]
target = "process"
regions.us.values = { greeting = "hello" }
regions.eu.values = { greeting = "hallo" }
regions.ap.values = { greeting = "konnichiwa" }
WAVES

IMAGE_STAGES

[stages.deploy]
uses = "deploy"
needs = ["push"]
environment = "production"
if = "inputs.only == '' || inputs.only == region.name"
[stages.deploy.with]
service = "versioned"
image = "${{ stages.push.outputs.reference }}"
[stages.deploy.with.env]
VERSION = "${{ inputs.version }}"
GREETING = "${{ region.greeting }}"
BROKEN = "${{ inputs.broken == region.name ? 'yes' : '' }}"
WAIT_FOR = "${{ inputs.slow == region.name ? inputs['wait-for'] : '' }}"
[stages.deploy.permissions]
registry = ["local/versioned"]
service = ["versioned"]

[stages.smoke]
uses = "smoke-test"
needs = ["deploy"]
environment = "production"
compensate = ["deploy"]
with = { url = "${{ stages.deploy.outputs.url }}", checks = [{ path = "/", contains = "version ${{ inputs.version }}" }], deadline = "1s" }
permissions = { net = ["http://127.0.0.1:*"] }

[stages.announce]
uses = "noop"
needs = ["smoke"]
with.message = "${{ size(stages.smoke.cells) }} regions have ${{ inputs.version }}"
"#;

/// A repository with a production environment of three regions. Its services are stopped when it is dropped.
struct Regions(TestEnvironment);

impl Regions {
    fn with(waves: &str) -> Regions {
        let text = PIPELINE.replace("WAVES", waves).replace("IMAGE_STAGES", &image_stages("local", ""));
        let environment = TestEnvironment::with_pipeline(&text);
        std::fs::copy(env!("CARGO_BIN_EXE_versioned"), environment.root().join("versioned")).expect("a copy");
        Regions(environment)
    }

    /// Runs the pipeline, and returns how its stages ended.
    #[track_caller]
    fn deploy(&self, version: &str, more: &[&str], code: i32) -> BTreeMap<String, String> {
        let version = format!("version={version}");
        let mut args = vec!["run", "--input", version.as_str()];
        args.extend(more.iter().flat_map(|input| ["--input", input]));
        let (ended, events) = self.0.events(&args);
        assert_eq!(ended, code, "{events:#?}");
        outcomes(&events)
    }

    /// What each region responds with.
    fn serve(&self) -> BTreeMap<String, String> {
        let status = self.0.run(&["service", "status", "--json"]).exits(0);
        let found: Vec<Json> = serde_json::from_str(&status.stdout).expect("JSON");
        found
            .iter()
            .map(|service| (text(&service["environment"]), answer(&text(&service["current"]["address"]))))
            .collect()
    }

    #[track_caller]
    fn serves(&self, expected: [(&str, &str); 3]) {
        let expected = expected.map(|(region, version)| (format!("production.{region}"), format!("version {version}")));
        assert_eq!(self.serve(), BTreeMap::from(expected));
    }

    fn releases(&self, region: &str) -> Vec<Json> {
        let history = self.0.run(&["env", "history", &format!("production.{region}"), "--json"]).exits(0);
        serde_json::from_str(&history.stdout).expect("JSON")
    }
}

impl Drop for Regions {
    fn drop(&mut self) {
        for region in ["us", "eu", "ap"] {
            self.0.run(&["service", "stop", &format!("production.{region}"), "versioned"]);
        }
    }
}

#[test]
fn regions_are_deployed_and_tested_one_after_the_other_and_go_back_together() {
    let regions = Regions::with("");
    let (code, events) = regions.0.events(&["run", "--input", "version=1"]);
    assert_eq!(code, 0, "{events:#?}");
    let ended = events.iter().filter(|event| event["type"] == "stage-ended").map(|event| text(&event["stage-id"]));
    let ended: Vec<String> = ended.filter(|stage| stage.contains("region")).collect();
    let expected =
        ["us", "eu", "ap"].map(|region| ["deploy", "smoke"].map(|stage| format!("{stage} (region={region})")));
    assert_eq!(ended, expected.concat());
    regions.serves([("us", "1"), ("eu", "1"), ("ap", "1")]);
    for region in ["us", "eu", "ap"] {
        let releases = regions.releases(region);
        assert_eq!((releases.len(), &releases[0]["good"]), (1, &Json::Bool(true)), "{releases:#?}");
    }
    let fence = |region: &str| regions.releases(region)[0]["release"]["fence"].as_u64().expect("a token");
    assert!(fence("us") < fence("eu") && fence("eu") < fence("ap"), "each region has a token of its own");
    let greeting = regions.releases("eu")[0]["release"]["config"]["env"]["GREETING"].clone();
    assert_eq!(greeting, "hallo");

    regions.deploy("2", &[], 0);
    let listed = regions.0.run(&["env", "list"]).exits(0).stdout;
    let names: Vec<&str> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["production.ap", "production.eu", "production.us"]);
    let shown = regions.0.run(&["rollback", "production", "--dry-run"]).exits(0).stdout;
    assert_eq!(shown.matches("Rolling back production.").count(), 3, "{shown}");
    regions.0.run(&["rollback", "production"]).exits(0);
    regions.serves([("us", "1"), ("eu", "1"), ("ap", "1")]);
    regions.deploy("3", &[], 0);
    regions.deploy("4", &["only=us"], 0);
    let mixed = regions.0.run(&["rollback", "production"]).exits(2);
    assert!(mixed.stderr.contains("releases of different runs"), "{}", mixed.stderr);
    assert!(mixed.stderr.contains("stagewright rollback production.us"), "{}", mixed.stderr);
    regions.0.run(&["rollback", "production.eu"]).exits(0);
    regions.serves([("us", "4"), ("eu", "1"), ("ap", "3")]);
}

#[test]
fn a_release_of_one_region_is_promoted_to_another_one_or_to_all() {
    let regions = Regions::with("waves.pause = {}");
    let ended = regions.deploy("1", &["only=us"], 0);
    assert_eq!(ended["production (wave 2)"], "skipped", "there is nothing to do in the next wave");
    regions.0.run(&["promote", "production.us", "production.eu"]).exits(0);
    let serve = regions.serve();
    assert_eq!(serve.keys().collect::<Vec<_>>(), ["production.eu", "production.us"]);
    // Between waves, a promotion waits like any other deploy.
    let (code, events) = regions.0.events(&["promote", "production.us", "production"]);
    let ended = outcomes(&events);
    assert_eq!((code, ended["deploy (region=us)"].as_str()), (5, "succeeded"), "{ended:#?}");
    assert!(!ended.contains_key("deploy (region=ap)"), "{ended:#?}");
}

#[test]
fn a_failed_region_gives_those_before_it_the_earlier_release_back() {
    let regions = Regions::with("");
    regions.deploy("1", &[], 0);
    let ended = regions.deploy("2", &["broken=eu"], 1);
    assert_eq!(ended["smoke (region=eu)"], "failed");
    assert_eq!(ended["deploy (region=ap)"], "skipped");
    regions.serves([("us", "1"), ("eu", "1"), ("ap", "1")]);
    let undone = |region: &str| regions.releases(region).iter().filter(|release| release["undone"] == true).count();
    assert_eq!(["us", "eu", "ap"].map(undone), [1, 1, 0]);
    let summary = regions.0.run(&["show", "latest"]).exits(0).stdout;
    assert!(
        summary.contains("`smoke (region=eu)` failed, which ends the deploy to the regions of `production`"),
        "{summary}"
    );
    // Nothing is left behind that would stop the next one.
    regions.deploy("3", &[], 0);
    regions.serves([("us", "3"), ("eu", "3"), ("ap", "3")]);
}

#[test]
fn a_wave_that_stops_leaves_the_regions_before_it_as_they_are() {
    let regions = Regions::with("waves.on-failure = 'stop'");
    regions.deploy("1", &[], 0);
    regions.deploy("2", &["broken=eu"], 1);
    regions.serves([("us", "2"), ("eu", "1"), ("ap", "1")]);
}

/// Both regions of the second wave run at the same time. The one that is healthy ends only after the other one has failed.
#[test]
fn a_region_that_ends_after_the_failure_of_another_one_is_undone_too() {
    let regions = Regions::with("waves.serial = [1, '100%']");
    regions.deploy("1", &[], 0);
    let go = regions.0.root().join("go").display().to_string();
    let inputs = ["version=2", "broken=eu", "slow=ap", &format!("wait-for={go}")].map(ToOwned::to_owned);
    let args: Vec<&str> = std::iter::once("run").chain(inputs.iter().flat_map(|input| ["--input", input])).collect();
    let mut run = regions.0.start(&args);
    let has_failed = || {
        let shown = regions.0.run(&["show", "latest"]).stdout;
        shown.lines().any(|line| line.contains("smoke (region=eu)") && line.contains("failed"))
    };
    eventually("the failure of a region", || has_failed().then_some(()));
    regions.0.write("go", "");
    assert_eq!(run.wait().expect("an end").code(), Some(1));
    regions.serves([("us", "1"), ("eu", "1"), ("ap", "1")]);
}

#[test]
fn a_pause_between_waves_waits_for_a_person_and_a_newer_run_takes_precedence() {
    let regions = Regions::with("waves.pause = {}");
    regions.deploy("1", &[], 5);
    regions.0.run(&["approve", "latest", "production (wave 2)"]).exits(0);
    let (code, events) = regions.0.events(&["resume", "latest"]);
    assert_eq!((code, outcomes(&events)["deploy (region=eu)"].as_str()), (5, "succeeded"));
    regions.0.run(&["reject", "latest", "production (wave 3)"]).exits(0);
    let (code, events) = regions.0.events(&["resume", "latest"]);
    assert_eq!(code, 6, "{events:#?}");
    assert_eq!(outcomes(&events)["deploy (region=ap)"], "skipped");
    let has_release = |region: &str| !regions.releases(region).is_empty();
    assert_eq!(["us", "eu", "ap"].map(has_release), [true, true, false]);

    regions.deploy("2", &[], 5);
    let older = text(&latest_run(&regions.0));
    regions.deploy("3", &[], 5);
    regions.0.run(&["approve", &older, "production (wave 2)"]).exits(0);
    let (code, events) = regions.0.events(&["resume", &older]);
    assert_eq!(code, 1, "{events:#?}");
    let refused = events.iter().find(|event| event["stage-id"] == "deploy (region=eu)").expect("an end");
    assert!(text(&refused["reason"]).contains("is newer and has already acted on `production.eu`"), "{refused}");
    let serve = regions.serve();
    assert_eq!((serve["production.us"].as_str(), serve["production.eu"].as_str()), ("version 3", "version 1"));
}

#[test]
fn a_pause_can_end_by_itself() {
    let regions = Regions::with("waves = { pause = { duration = '1s' } }");
    let ended = regions.deploy("1", &[], 0);
    assert_eq!(ended["production (wave 2)"], "succeeded");
    regions.serves([("us", "1"), ("eu", "1"), ("ap", "1")]);
}

#[test]
fn a_region_that_is_skipped_does_not_hold_up_the_next_wave() {
    let regions = Regions::with("waves.pause = {}");
    let ended = regions.deploy("1", &["only=ap"], 0);
    assert_eq!(ended["deploy (region=us)"], "skipped");
    assert_eq!(ended["production (wave 2)"], "skipped", "nothing was done in the wave before");
    assert_eq!(ended["deploy (region=ap)"], "succeeded");
}

#[test]
fn a_frozen_region_stops_the_wave_until_someone_decides() {
    let regions = Regions::with("");
    regions.0.run(&["env", "freeze", "production.eu", "--reason", "a fair"]).exits(0);
    let ended = regions.deploy("1", &[], 5);
    assert_eq!(ended["deploy (region=us)"], "succeeded");
    assert!(!ended.contains_key("deploy (region=eu)"), "{ended:#?}");
    regions.0.run(&["env", "unfreeze", "production.eu"]).exits(0);
    regions.0.run(&["resume", "latest"]).exits(0);
    regions.0.run(&["env", "freeze", "production", "--reason", "holidays"]).exits(0);
    let frozen = regions.0.run(&["env", "list"]).exits(0).stdout;
    assert_eq!(frozen.matches("frozen").count(), 3, "{frozen}");
    regions.deploy("2", &[], 5);
    regions.serves([("us", "1"), ("eu", "1"), ("ap", "1")]);
}

#[test]
fn a_deploy_that_is_killed_at_any_write_reaches_each_region_once() {
    let mut kills = 0;
    for write in (1..).step_by(stride(5)) {
        let regions = Regions::with("");
        let run = ["run", "--input", "version=1"];
        if killed(&regions.0, &run, write).is_none() {
            break;
        }
        kills += 1;
        to_the_end(&regions.0, &run);
        regions.serves([("us", "1"), ("eu", "1"), ("ap", "1")]);
        for region in ["us", "eu", "ap"] {
            let releases = regions.releases(region);
            assert_eq!(
                releases.len(),
                1,
                "killed at write {write}: {region} was deployed to more than once: {releases:#?}"
            );
        }
    }
    assert!(kills > 3, "the engine was killed {kills} times: is the journal still a write-ahead log?");
}
