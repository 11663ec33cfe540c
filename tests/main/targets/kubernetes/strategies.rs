//! How requests go from one release to the next, and what interrupts it.

#![expect(clippy::print_stderr, reason = "they show what they have measured")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use serde_json::Value as Json;

use super::{CONFIGURATION, DEPLOYMENT, Namespace, SERVICE};
use crate::environment::eventually;
use crate::targets::engine::kill_at_every_write;
use crate::targets::load::Load;

/// Under a steady load no request fails, whether Stagewright rolls out or `kubectl`.
#[test]
#[ignore = "needs a cluster"]
fn rolling_updates_and_rollbacks_fail_no_request() {
    let shop = Namespace::with_shop("");
    shop.deploy("1", &[], 0);
    let mut load = Load::on_host(&shop.address(), 80, "/");
    let begun = Instant::now();
    shop.deploy("2", &[], 0);
    let deployed = begun.elapsed();
    shop.repository.run(&["rollback", "production"]).exits(0);
    shop.deploy("3", &[], 0);
    let answers = load.answers();
    let failed: Vec<_> = answers.keys().filter(|answer| !answer.starts_with("version ")).collect();
    assert!(failed.is_empty(), "{answers:?}");

    let image = shop.field("deployment/shop", ".spec.template.spec.containers[0].image");
    let earlier =
        shop.kubectl(&["get", "replicaset", "--output", "jsonpath={.items[*].spec.template.spec.containers[0].image}"]);
    let other = earlier.split(' ').find(|other| *other != image).expect("an earlier image").to_owned();
    let begun = Instant::now();
    shop.kubectl(&["set", "image", "deployment/shop", &format!("web={other}")]);
    shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=120s"]);
    let by_kubectl = begun.elapsed();
    let peer: u64 = load.answers().values().sum::<u64>() - answers.values().sum::<u64>();
    eprintln!(
        "{} requests in three deploys of Stagewright, none failed; one took {deployed:.1?} with building the image and \
         looking at what is there; kubectl took {by_kubectl:.1?}, with {peer} requests: {:?}",
        answers.values().sum::<u64>(),
        load.answers()
    );
}

#[test]
#[ignore = "needs a cluster"]
fn a_deploy_that_is_killed_at_any_write_is_completed_once() {
    let shop = Namespace::with_shop("");
    shop.deploy("0", &[], 0);
    let mut load = Load::on_host(&shop.address(), 80, "/");
    kill_at_every_write(&shop.repository, 7, |version| {
        assert_eq!(shop.serves(), format!("version {version}"));
        assert_eq!(shop.record()["unfinished"], serde_json::json!([]));
    });
    let answers = load.answers();
    assert!(answers.keys().all(|answer| answer.starts_with("version ")), "{answers:?}");
}

/// How many of the requests since `before` had which answer.
fn since(before: &BTreeMap<String, u64>, load: &mut Load) -> BTreeMap<String, u64> {
    let now = load.answers();
    now.into_iter().map(|(answer, count)| (answer.clone(), count - before.get(&answer).copied().unwrap_or(0))).collect()
}

#[test]
#[ignore = "needs a cluster"]
fn blue_green_waits_for_a_person_with_a_preview_and_can_be_aborted_after_the_switch() {
    let strategy = r#"strategy = { blue-green = { auto-promotion-enabled = false, scale-down-delay = "1h" } }"#;
    let shop = Namespace::with_shop(strategy);
    let rollout = |decision: &[&str]| shop.repository.run(&[&["rollout"], decision, &["production"]].concat());
    // The switch, after which the process waits for the delay, and the end of the delay by another process.
    let switch = || shop.repository.start(&["rollout", "promote", "production"]);
    let is_switched = || {
        let status = rollout(&["status", "--json"]).exits(0);
        let status: Json = serde_json::from_str(&status.stdout).expect("JSON");
        let rollout = &status[0]["rollout"];
        (rollout["weight"] == 100 && rollout["phase"] == "paused").then_some(())
    };
    let deploy = |version: &str| {
        shop.deploy(version, &[], 5);
        let mut process = switch();
        eventually("the switch", is_switched);
        rollout(&["promote", "--full"]).exits(0);
        assert!(process.wait().expect("it ends").success());
    };
    deploy("1");
    assert_eq!((shop.serves(), shop.objects("deployment").len()), ("version 1".to_owned(), 1));

    let mut load = Load::on_host(&shop.address(), 80, "/");
    shop.deploy("2", &[], 5);
    let preview = format!("http://{}/", shop.field("service/shop-preview", ".spec.clusterIP"));
    let previewed = Command::new("curl").args(["-s", &preview]).output().expect("curl starts");
    assert_eq!(String::from_utf8_lossy(&previewed.stdout), "version 2");
    assert_eq!(load.answers().keys().collect::<Vec<_>>(), ["version 1"], "before the switch");
    let mut process = switch();
    eventually("the new release answers all requests", || {
        let before = load.answers();
        std::thread::sleep(std::time::Duration::from_millis(500));
        let answers = since(&before, &mut load);
        (answers["version 1"] == 0 && answers.get("version 2").is_some_and(|count| *count > 0)).then_some(())
    });
    assert_eq!(shop.objects("deployment").len(), 2, "the earlier release keeps running");
    rollout(&["abort"]).exits(0);
    assert_eq!(process.wait().expect("it ends").code(), Some(1));
    assert_eq!((shop.serves(), shop.objects("deployment").len()), ("version 1".to_owned(), 1));

    deploy("3");
    assert_eq!((shop.serves(), shop.objects("deployment").len()), ("version 3".to_owned(), 1));
    shop.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!((shop.serves(), shop.objects("deployment").len()), ("version 1".to_owned(), 1));
    let answers = load.answers();
    assert!(answers.keys().all(|answer| answer.starts_with("version ")), "{answers:?}");
}

#[test]
#[ignore = "needs a cluster"]
fn a_canary_gets_no_more_than_its_share_and_is_removed_when_its_analysis_fails() {
    let analysis = r#"analysis = { metrics = [{ name = "errors", log = { contains = "no stock" }, failure-condition = "result > 0", count = 2, interval = "1s" }] }"#;
    let strategy = format!(
        "strategy = {{ canary = {{ steps = [{{ set-weight = 25 }}, {{ pause = {{}} }}, {{ {analysis} }}] }} }}"
    );
    let shop = Namespace::with_shop(&strategy);
    let deployment = DEPLOYMENT.replace("replicas: 2", "replicas: 4");
    shop.manifests(&[CONFIGURATION, &deployment, SERVICE]);
    shop.deploy("1", &[], 5);
    shop.repository.run(&["rollout", "promote", "production", "--full"]).exits(0);
    assert_eq!(
        (shop.serves(), shop.objects("deployment")),
        ("version 1".to_owned(), vec!["deployment.apps/shop-1".to_owned()])
    );

    let mut load = Load::on_host(&shop.address(), 80, "/");
    let paused = shop.deploy("2", &[], 5);
    assert!(paused.stdout.contains("1 of 5 replicas are of the release shop-3: 20%"), "{}", paused.stdout);
    let before = load.answers();
    std::thread::sleep(std::time::Duration::from_secs(5));
    let shared = since(&before, &mut load);
    let all = shared.values().sum::<u64>() as f64;
    let new = shared["version 2"] as f64;
    // 20% and what chance adds to it in 999 of 1,000 cases.
    let most = 0.2 * all + 3.1 * (0.2 * 0.8 * all).sqrt();
    assert!(new > 0.0 && new <= most, "{shared:?}: at most {most}");
    eprintln!("a canary with 25% got {new} of {all} requests");

    shop.repository.run(&["rollout", "promote", "production"]).exits(0);
    assert_eq!(
        (shop.serves(), shop.objects("deployment")),
        ("version 2".to_owned(), vec!["deployment.apps/shop-3".to_owned()])
    );
    shop.deploy("3", &["broken=yes"], 5);
    let failed = shop.repository.run(&["rollout", "promote", "production"]).exits(1);
    assert!(failed.stdout.contains("errors"), "{}", failed.stdout);
    assert_eq!(shop.objects("deployment"), ["deployment.apps/shop-3"]);
    let answers = load.answers();
    assert!(answers.keys().all(|answer| answer.starts_with("version ") || answer == "status 500"), "{answers:?}");
    assert!(answers["status 500"] < answers.values().sum::<u64>() / 5, "{answers:?}");
}
