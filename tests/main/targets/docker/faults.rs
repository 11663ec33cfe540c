//! Faults of deploys to containers.

use super::Docker;
use crate::targets::faults::{build, check_registry_down, deploy_two_at_once, gate_deploy, go, require_login};

#[test]
fn a_registry_that_is_down_stops_a_deploy_and_no_rollback() {
    let docker = Docker::with("");
    check_registry_down(
        &docker.repository,
        &docker.engine.machine,
        "the Docker engine can't pull 127.0.0.1:5000/",
        |version| {
            assert_eq!(
                (docker.containers(), docker.serves()),
                (vec!["versioned".to_owned()], format!("version {version}"))
            );
        },
    );
}

const CREDENTIAL: &str = r#"
[secrets.login]
from = "env:LOGIN"
hosts = ["127.0.0.1:5000", "unix://SOCKET"]
[credentials.registry]
type = "docker-registry"
registry = "127.0.0.1:5000"
username = "deploy"
password = "login"
origins = ["unix://SOCKET"]
"#;

#[test]
fn a_login_that_expires_between_the_build_and_the_deploy_is_named_and_can_be_renewed() {
    let mut docker = Docker::with("");
    docker.deploy("1", &[], 0);
    let pipeline = docker.repository.read("stagewright.toml");
    let pipeline = pipeline.replacen(
        "[stages.deploy.permissions]",
        "[stages.deploy.permissions]\ncredentials = [\"registry\"]",
        1,
    );
    let declared = CREDENTIAL.replace("SOCKET", &docker.engine.socket);
    docker.repository.write("stagewright.toml", &format!("{pipeline}\n{declared}"));
    docker.repository.set("LOGIN", "of-yesterday");
    gate_deploy(&docker.repository);
    let run = build(&docker.repository, "2");
    require_login(&docker.engine.machine);
    let failed = go(&docker.repository, &run).exits(1).stdout;
    assert!(failed.contains("renew the login for 127.0.0.1:5000"), "{failed}");
    assert!(!failed.contains("of-yesterday"), "{failed}");
    assert_eq!(docker.serves(), "version 1");
    docker.repository.set("LOGIN", "of-today");
    docker.repository.run(&["resume", &run]).exits(0);
    assert_eq!(docker.serves(), "version 2");
}

#[test]
fn a_container_that_others_have_put_in_place_of_the_release_is_not_replaced() {
    let docker = Docker::with("");
    docker.deploy("1", &[], 0);
    gate_deploy(&docker.repository);
    let run = build(&docker.repository, "2");
    let image = docker.docker(&["inspect", "--format", "{{.Config.Image}}", "versioned"]);
    docker.docker(&["rm", "--force", "versioned"]);
    let by_hand = docker.docker(&["run", "--detach", "--name", "versioned", image.trim()]);
    let refused = go(&docker.repository, &run).exits(1).stdout;
    assert!(refused.contains("the container `versioned` wasn't created by a deploy"), "{refused}");
    assert!(refused.contains("docker rename versioned versioned-by-hand"), "{refused}");
    let left = docker.docker(&["ps", "--quiet", "--no-trunc"]);
    assert_eq!(left, by_hand, "it still runs, and nothing was started beside it");
    docker.docker(&["rename", "versioned", "versioned-by-hand"]);
    docker.repository.run(&["resume", &run]).exits(0);
    assert_eq!((docker.containers().len(), docker.serves()), (2, "version 2".to_owned()));
}

#[test]
fn of_two_deploys_at_once_the_newer_one_serves_at_the_end() {
    let docker = Docker::with("");
    docker.deploy("0", &[], 0);
    gate_deploy(&docker.repository);
    deploy_two_at_once(&docker.repository, "1", "2");
    assert_eq!((docker.containers(), docker.serves()), (vec!["versioned".to_owned()], "version 2".to_owned()));
}
