//! Faults of deploys to a service of ECS.

use serde_json::json;

use super::Cluster;
use crate::environment::eventually;
use crate::targets::engine::{start_registry, stop_registry};
use crate::targets::faults::{
    build, check_changes_by_hand, check_expired_keys, check_wrong_clock, deploy_two_at_once, gate_deploy, go,
};

/// The version in the image of the task definition that the service has.
fn serves(cluster: &Cluster) -> String {
    cluster.runs().join(" ")
}

#[test]
fn keys_that_expire_before_the_update_of_the_service_are_named_and_the_deploy_goes_on_with_others() {
    let cluster = Cluster::with("");
    check_expired_keys(&cluster.aws, &cluster.repository, "ecs", "UpdateService", |_| {
        assert_eq!(cluster.state().1, "COMPLETED");
    });
    cluster.scale(1);
    assert_eq!(serves(&cluster), "2");
}

#[test]
fn a_wrong_clock_changes_nothing_and_is_named() {
    let mut cluster = Cluster::with("");
    let Cluster { aws, repository, .. } = &mut cluster;
    check_wrong_clock(aws, repository, |_| {});
    cluster.scale(1);
    assert_eq!(serves(&cluster), "2");
    assert_eq!(cluster.state().0, "api:3", "a refused deploy registers nothing");
}

#[test]
fn a_registry_that_is_down_gives_the_service_its_earlier_tasks_back() {
    let cluster = Cluster::with("");
    super::deploy(&cluster.repository, &["version=1"], 0);
    cluster.scale(1);
    gate_deploy(&cluster.repository);
    let run = build(&cluster.repository, "2");
    stop_registry(&cluster.aws.machine);
    let failed = go(&cluster.repository, &run).exits(1).stdout;
    assert!(failed.contains("release api:3 was removed, and release api:2"), "{failed}");
    assert_eq!((cluster.state().0.as_str(), serves(&cluster).as_str()), ("api:2", "1"));
    start_registry(&cluster.aws.machine, "");
    cluster.repository.run(&["resume", &run]).exits(0);
    eventually("the tasks of version 1 have stopped", || (serves(&cluster) == "2").then_some(()));
}

#[test]
fn a_service_that_others_have_updated_is_updated_again_only_after_an_approval() {
    let cluster = Cluster::with("");
    for version in ["1", "2", "3"] {
        super::deploy(&cluster.repository, &[&format!("version={version}")], 0);
    }
    gate_deploy(&cluster.repository);
    let update = |definition: &str| {
        let input = json!({ "cluster": "main", "service": "api", "taskDefinition": definition });
        cluster.call("UpdateService", &input);
        eventually("ECS has finished", || {
            (cluster.state() == (definition.to_owned(), "COMPLETED".to_owned())).then_some(())
        });
    };
    check_changes_by_hand(&cluster.repository, "4", || update("api:2"), || update("api:3"));
    cluster.scale(1);
    assert_eq!(serves(&cluster), "4");
}

#[test]
fn of_two_deploys_at_once_the_newer_one_serves_at_the_end() {
    let cluster = Cluster::with("");
    super::deploy(&cluster.repository, &["version=0"], 0);
    gate_deploy(&cluster.repository);
    deploy_two_at_once(&cluster.repository, "1", "2");
    assert_eq!(cluster.state().1, "COMPLETED");
    cluster.scale(1);
    assert_eq!(serves(&cluster), "2");
}
