//! Promotion of what is known good in one environment to another.

use serde_json::Value as Json;

use crate::environment::outcomes;
use crate::production::Production;

#[test]
fn a_release_that_is_good_in_staging_is_deployed_to_production_by_digest() {
    let both = Production::with_staging();
    let deploy_to_staging = |version: &str, check: &str, code: i32| {
        let [version, check] = [format!("version={version}"), format!("staging-check={check}")];
        let args = ["run", "--only", "smoke-staging", "--input", &version, "--input", &check];
        both.0.run(&args).exits(code);
    };
    let nothing = both.0.run(&["promote", "staging", "production"]).exits(2);
    assert!(nothing.stderr.contains("nothing is deployed to an environment `staging`"), "{}", nothing.stderr);
    deploy_to_staging("1", "", 0);

    let early = both.0.run(&["promote", "staging", "production", "--soak", "1h"]).exits(4);
    assert!(early.stderr.contains("promote it in 60 min"), "{}", early.stderr);
    let nowhere = both.0.run(&["promote", "staging", "canary"]).exits(4);
    assert!(nowhere.stderr.contains("acts on canary"), "{}", nowhere.stderr);
    let shown = both.0.run(&["promote", "1", "production", "--dry-run"]).exits(0);
    assert!(shown.stdout.contains("Promoting release 1 of staging to production: local/versioned@sha256:"));

    // The gate before production was left out so far.
    let (code, events) = both.0.events(&["promote", "staging", "production"]);
    assert_eq!((code, &events[0]["source"]["promotion"]["release"]), (5, &Json::from(1)), "{events:#?}");
    both.0.run(&["approve", "latest", "approve"]).exits(0);
    let (code, events) = both.0.events(&["resume", "latest"]);
    assert_eq!(code, 0, "{events:#?}");
    let outcomes = outcomes(&events);
    assert_eq!(
        ["image", "deploy-staging", "deploy", "smoke"].map(|stage| outcomes[stage].as_str()),
        ["skipped", "skipped", "succeeded", "succeeded"]
    );
    let listed = both.0.run(&["env", "list", "--json"]).exits(0);
    let listed: Json = serde_json::from_str(&listed.stdout).expect("JSON");
    let artifact = |index: usize| &listed[index]["current"]["release"]["artifact"];
    assert_eq!(artifact(0), artifact(1), "{listed:#}");
    let table = both.0.run(&["env", "list"]).exits(0).stdout;
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["ENVIRONMENT", "RELEASE", "ARTIFACT", "COMMIT", "SINCE", "STATE"]);
    assert_eq!([words[1][..2].to_vec(), words[2][..2].to_vec()], [["production", "2"], ["staging", "1"]]);
    assert_eq!(words[1][2], words[2][2], "{table}");

    let again = both.0.run(&["promote", "production", "production"]).exits(2);
    assert!(again.stderr.contains("is in production already"), "{}", again.stderr);
    // Its check failed, so it isn't known good.
    deploy_to_staging("2", "version 3", 1);
    let bad = both.0.run(&["promote", "staging", "production"]).exits(4);
    assert!(bad.stderr.contains("isn't known good"), "{}", bad.stderr);
}

#[test]
fn a_release_that_has_ended_is_not_as_it_was_deployed() {
    let production = Production::new();
    production.deploy("1", 0);
    let status = || production.0.run(&["env", "status", "production", "--live", "--json"]);
    let same: Json = serde_json::from_str(&status().exits(0).stdout).expect("JSON");
    assert_eq!(same["differences"], Json::Array(Vec::new()));
    let plan = production.0.run(&["plan", "--input", "version=2"]).exits(0).stdout;
    assert!(plan.contains("changes      env.VERSION of release 1: 1 -> ${{ inputs.version }}"), "{plan}");
    assert!(plan.contains("image of release 1: local/versioned@sha256:"), "{plan}");
    production.0.run(&["service", "stop", "production", "versioned"]).exits(0);
    let gone: Json = serde_json::from_str(&status().exits(8).stdout).expect("JSON");
    assert_eq!(gone["differences"][0]["what"], "state", "{gone:#}");
    // What has exited stops no deploy.
    production.deploy("2", 0);
    assert_eq!(production.serves(), "version 2");
}
