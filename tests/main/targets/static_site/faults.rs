//! Faults of deploys of a site.

use super::{BUILD, PIPELINE, Website};
use crate::targets::aws::{Aws, credential, deploy, repository, start_seaweed};
use crate::targets::faults::{
    check_changes_by_hand, check_expired_keys, check_wrong_clock, deploy_two_at_once, fake_clock, gate_deploy,
    set_clock,
};
use crate::targets::machine::Machine;

fn page(aws: &Aws) -> String {
    aws.send("s3", "GET", "/www/index.html", &[], "").body
}

#[test]
fn keys_that_expire_before_the_switch_are_named_and_the_deploy_goes_on_with_others() {
    let website = Website::with("");
    check_expired_keys(&website.aws, &website.repository, "s3", "PUT /www/releases/current.json", |version| {
        assert_eq!(website.page(), format!("version {version}"));
    });
}

#[test]
fn a_wrong_clock_changes_nothing_and_is_named() {
    let mut website = Website::with("");
    let Website { aws, repository } = &mut website;
    check_wrong_clock(aws, repository, |version| assert_eq!(page(aws), format!("version {version}")));
}

#[test]
fn a_server_of_another_maker_refuses_a_wrong_clock_as_well() {
    let machine = Machine::start();
    start_seaweed(&machine);
    let pipeline = PIPELINE.replace("DEPLOY", "").replace(":4566", ":8333");
    let pipeline = format!("{pipeline}\n{}", credential("s3", "s3", "127.0.0.1:8333"));
    let mut repository = repository(&machine, &pipeline, &[("build.py", BUILD)]);
    deploy(&repository, &["version=1"], 0);
    fake_clock(&mut repository);
    set_clock(&repository, "-1h");
    let refused = deploy(&repository, &["version=2"], 1).stdout;
    assert!(refused.contains("RequestTimeTooSkewed"), "{refused}");
    assert!(refused.contains("behind that of the service: set it"), "{refused}");
    assert_eq!(machine.get("http://127.0.0.1:8333/www/index.html").as_deref(), Some("version 1"));
}

#[test]
fn an_approval_to_overwrite_is_for_the_changes_that_it_names() {
    let website = Website::with("");
    let mut pointers = Vec::new();
    for version in ["1", "2", "3"] {
        deploy(&website.repository, &[&format!("version={version}")], 0);
        pointers.push(website.pointer());
    }
    gate_deploy(&website.repository);
    let serve = |earlier: usize| {
        let mut pointer = website.pointer();
        pointer["serving"] = pointers[earlier]["serving"].clone();
        website.write_pointer(&pointer);
    };
    check_changes_by_hand(&website.repository, "4", || serve(0), || serve(1));
    assert_eq!(website.page(), "version 4");
}

#[test]
fn of_two_deploys_at_once_the_newer_one_serves_at_the_end() {
    let website = Website::with("");
    deploy(&website.repository, &["version=0"], 0);
    gate_deploy(&website.repository);
    deploy_two_at_once(&website.repository, "1", "2");
    assert_eq!(website.page(), "version 2");
}
