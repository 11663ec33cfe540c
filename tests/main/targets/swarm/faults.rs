//! Faults of deploys to a swarm.

use super::Swarm;
use crate::targets::faults::{check_registry_down, deploy_two_at_once, gate_deploy};

#[test]
fn a_registry_that_is_down_stops_a_deploy_and_no_rollback() {
    let swarm = Swarm::start();
    let refused = "neither the Docker engine nor its registry has 127.0.0.1:5000/";
    check_registry_down(&swarm.repository, &swarm.engine.machine, refused, |version| {
        swarm.serves(&[format!("version {version}").as_str(); 2]);
    });
}

#[test]
fn of_two_deploys_at_once_the_newer_one_serves_at_the_end() {
    let swarm = Swarm::start();
    swarm.deploy("0", &[], 0);
    gate_deploy(&swarm.repository);
    deploy_two_at_once(&swarm.repository, "1", "2");
    swarm.serves(&["version 2", "version 2"]);
    assert_eq!(swarm.releases().len(), 1);
}
