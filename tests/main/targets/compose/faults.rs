//! Faults of deploys by Compose.

use super::Composed;
use crate::targets::faults::{check_changes_by_hand, check_registry_down, deploy_two_at_once, gate_deploy};

#[test]
fn a_registry_that_goes_down_after_the_build_stops_a_deploy_and_no_rollback() {
    let shop = Composed::start();
    check_registry_down(
        &shop.repository,
        &shop.engine.machine,
        "the Docker engine can't pull 127.0.0.1:5000/",
        |version| {
            assert_eq!(shop.serves(), Some(format!("version {version}")));
            assert_eq!((shop.names().len(), shop.releases().len()), (3, 1));
        },
    );
}

/// Another image for the service `web`, by Compose itself.
fn bring_up(shop: &Composed, image: &str) {
    let environment = "{ HOST: 0.0.0.0, PORT: 8080, VERSION: by-hand }";
    let text = format!(
        "services:\n  web: {{ image: \"{image}\", environment: {environment}, ports: [\"127.0.0.1:8080:8080\"] }}\n"
    );
    let file = shop.engine.machine.write("by-hand.yaml", &text).display().to_string();
    shop.engine.docker(&["compose", "--project-name", "shop", "--file", &file, "up", "--detach"]);
}

#[test]
fn containers_that_others_have_replaced_are_overwritten_only_after_an_approval() {
    let shop = Composed::start();
    let mut images = Vec::new();
    for version in ["1", "2", "3"] {
        shop.deploy(version, &[], 0);
        images.push(shop.engine.docker(&["inspect", "shop-web-1", "--format", "{{.Config.Image}}"]).trim().to_owned());
    }
    shop.repository.run(&["env", "status", "production", "--live"]).exits(0);
    gate_deploy(&shop.repository);
    let change = |image: &str| bring_up(&shop, image);
    check_changes_by_hand(&shop.repository, "4", || change(&images[0]), || change(&images[1]));
    assert_eq!((shop.serves().as_deref(), shop.names().len()), (Some("version 4"), 3));
    shop.repository.run(&["env", "status", "production", "--live"]).exits(0);
}

#[test]
fn of_two_deploys_at_once_the_newer_one_serves_at_the_end() {
    let shop = Composed::start();
    shop.deploy("0", &[], 0);
    gate_deploy(&shop.repository);
    deploy_two_at_once(&shop.repository, "1", "2");
    assert_eq!(shop.serves().as_deref(), Some("version 2"));
    assert_eq!((shop.names().len(), shop.releases().len()), (3, 1));
}
