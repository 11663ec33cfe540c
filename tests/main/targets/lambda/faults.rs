//! Faults of deploys of a function.

use serde_json::json;

use super::{CANARY, CREATE, FUNCTION, Functions};
use crate::targets::engine::rollout;
use crate::targets::faults::{
    check_changes_by_hand, check_expired_keys, check_wrong_clock, deploy_two_at_once, gate_deploy,
};

#[test]
fn keys_that_expire_after_the_version_was_published_are_named_and_the_deploy_goes_on_with_others() {
    let functions = Functions::with(CREATE);
    let at = format!("PUT {FUNCTION}/aliases/live");
    check_expired_keys(&functions.aws, &functions.repository, "lambda", &at, |version| {
        assert_eq!(functions.serves(), version);
    });
    assert_eq!(functions.versions(), ["1", "2"], "the version was published once");
}

#[test]
fn keys_that_expire_during_a_pause_leave_a_degraded_rollout_that_is_aborted_with_others() {
    let functions = Functions::with(&format!("{CREATE}\n{CANARY}"));
    super::deploy(&functions.repository, &["version=1"], 5);
    functions.repository.run(&["rollout", "promote", "production"]).exits(0);
    functions.aws.check_requests(&functions.repository);
    super::deploy(&functions.repository, &["version=2"], 5);
    functions.aws.expire_keys("PUT");
    let failed = functions.repository.run(&["rollout", "promote", "production"]).exits(1).stdout;
    for words in ["the temporary keys of [credentials.lambda] have expired", "`stagewright rollout retry production`"] {
        assert!(failed.contains(words), "{words}: {failed}");
    }
    assert_eq!(rollout(&functions.repository)["phase"], "degraded", "it couldn't be undone either: {failed}");
    assert_eq!(functions.alias()["FunctionVersion"], "1");
    functions.aws.renew_keys();
    functions.repository.run(&["rollout", "abort", "production"]).exits(0);
    assert_eq!((functions.serves().as_str(), functions.alias()["RoutingConfig"].is_null()), ("1", true));
}

#[test]
fn a_wrong_clock_changes_nothing_and_is_named() {
    let mut functions = Functions::with(CREATE);
    let Functions { aws, repository } = &mut functions;
    check_wrong_clock(aws, repository, |version| assert_eq!(super::serves(aws), version));
}

#[test]
fn an_alias_that_others_have_moved_is_moved_again_only_after_an_approval() {
    let functions = Functions::with(CREATE);
    for version in ["1", "2", "3"] {
        super::deploy(&functions.repository, &[&format!("version={version}")], 0);
    }
    gate_deploy(&functions.repository);
    let point = |version: &str| {
        let body = json!({ "FunctionVersion": version }).to_string();
        functions.aws.send("lambda", "PUT", &format!("{FUNCTION}/aliases/live"), &[], &body).ok();
    };
    check_changes_by_hand(&functions.repository, "4", || point("1"), || point("2"));
    assert_eq!(functions.serves(), "4");
}

#[test]
fn of_two_deploys_at_once_the_newer_one_serves_at_the_end() {
    let functions = Functions::with(CREATE);
    super::deploy(&functions.repository, &["version=0"], 0);
    gate_deploy(&functions.repository);
    deploy_two_at_once(&functions.repository, "1", "2");
    assert_eq!((functions.serves().as_str(), functions.alias()["RoutingConfig"].is_null()), ("2", true));
}
