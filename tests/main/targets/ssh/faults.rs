//! Faults of deploys to hosts.

use std::os::unix::fs::symlink;

use super::fleet::{Fleet, deploy};
use super::pipeline;
use crate::targets::faults::{check_changes_by_hand, deploy_two_at_once, gate_deploy};

#[test]
fn a_link_that_others_have_changed_is_replaced_only_after_an_approval() {
    let fleet = Fleet::start(1);
    let repository = fleet.repository(&pipeline(""));
    let mut names = Vec::new();
    for version in ["1", "2", "3"] {
        deploy(&repository, version, "", 0);
        names.push(fleet.state(0, "serving").split(' ').next().expect("a release").to_owned());
    }
    gate_deploy(&repository);
    let link = |release: &str| {
        let path = fleet.folder(0).join("srv/shop/current");
        std::fs::remove_file(&path).expect("a link");
        symlink(format!("releases/{release}"), path).expect("a link");
    };
    check_changes_by_hand(&repository, "4", || link(&names[0]), || link(&names[1]));
    assert_eq!(fleet.versions(), ["4"]);
}

#[test]
fn of_two_deploys_at_once_the_newer_one_serves_at_the_end() {
    let fleet = Fleet::start(2);
    let repository = fleet.repository(&pipeline(""));
    deploy(&repository, "0", "", 0);
    gate_deploy(&repository);
    deploy_two_at_once(&repository, "1", "2");
    assert_eq!(fleet.versions(), ["2", "2"]);
}
