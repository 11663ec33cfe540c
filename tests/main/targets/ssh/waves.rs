//! Hosts that get a release one wave after the other.

use super::fleet::{Fleet, deploy};
use super::pipeline;
use crate::targets::engine::rollout;

#[test]
fn a_wave_that_fails_stops_before_the_next_and_the_deploy_can_be_continued_or_taken_back() {
    let fleet = Fleet::start(3);
    let repository = fleet.repository(&pipeline("strategy = { waves = { on-failure = \"stop\" } }"));
    deploy(&repository, "1", "", 0);
    assert_eq!(fleet.versions(), ["1", "1", "1"]);
    let third = fleet.read(2, "systemctl.log");

    fleet.write(1, "refuses", "");
    let stopped = deploy(&repository, "2", "", 1);
    assert!(
        stopped.stdout.contains("the deploy of `shop` stopped: 34% of the hosts have release"),
        "{}",
        stopped.stdout
    );
    assert_eq!((fleet.versions()[0].as_str(), fleet.versions()[2].as_str()), ("2", "1"));
    let restarts = |log: &str| log.matches("restart").count();
    assert_eq!(restarts(&fleet.read(2, "systemctl.log")), restarts(&third), "the third host isn't touched");
    assert_eq!(rollout(&repository)["phase"], "degraded");

    std::fs::remove_file(fleet.folder(1).join("refuses")).expect("a file");
    repository.run(&["rollout", "retry", "production"]).exits(0);
    assert_eq!(fleet.versions(), ["2", "2", "2"]);

    let stopped = deploy(&repository, "3", "web3", 1);
    assert!(stopped.stdout.contains("67% of the hosts"), "{}", stopped.stdout);
    assert_eq!(fleet.versions(), ["3", "3", "2"], "the failed host serves what it served before");
    repository.run(&["rollout", "abort", "production"]).exits(0);
    assert_eq!(fleet.versions(), ["2", "2", "2"]);
}

#[test]
fn by_default_the_hosts_of_earlier_waves_go_back_as_well() {
    let fleet = Fleet::start(3);
    let repository = fleet.repository(&pipeline("strategy = { waves = {} }"));
    deploy(&repository, "1", "", 0);
    let failed = deploy(&repository, "2", "web2", 1);
    assert!(
        failed.stdout.contains("`web2` isn't healthy") && failed.stdout.contains(" still serves"),
        "{}",
        failed.stdout
    );
    assert_eq!(fleet.versions(), ["1", "1", "1"]);
    assert_eq!((fleet.releases(0).len(), fleet.releases(2).len()), (1, 1));
    deploy(&repository, "3", "", 0);
    assert_eq!(fleet.versions(), ["3", "3", "3"]);
}

#[test]
fn waves_can_wait_for_a_person() {
    let fleet = Fleet::start(3);
    let repository = fleet.repository(&pipeline("strategy = { waves = { serial = [1, 9], pause = {} } }"));
    deploy(&repository, "1", "", 5);
    assert_eq!(fleet.versions(), ["1", "", ""]);
    repository.run(&["rollout", "promote", "production"]).exits(0);
    assert_eq!(fleet.versions(), ["1", "1", "1"]);
    deploy(&repository, "2", "", 5);
    repository.run(&["rollout", "abort", "production"]).exits(1);
    assert_eq!(fleet.versions(), ["1", "1", "1"]);
}
