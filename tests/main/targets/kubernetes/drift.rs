//! Changes by hand.

use super::Namespace;
use crate::environment::after;

#[test]
#[ignore = "needs a cluster"]
fn what_was_changed_by_hand_is_named_and_overwritten_only_after_an_approval() {
    let shop = Namespace::with_shop("");
    shop.deploy("1", &[], 0);
    let same = shop.repository.run(&["env", "status", "production", "--live"]).exits(0).stdout;
    assert!(same.contains("in place     as it was deployed"), "{same}");
    // Neither a restart nor a field that the release doesn't set is a change to it.
    shop.kubectl(&["rollout", "restart", "deployment/shop"]);
    shop.kubectl(&["label", "deployment/shop", "team=web"]);
    shop.repository.run(&["env", "status", "production", "--live"]).exits(0);

    shop.kubectl(&["scale", "deployment/shop", "--replicas", "3"]);
    shop.kubectl(&["patch", "service/shop", "--patch", "{\"spec\":{\"ports\":[{\"port\":80,\"targetPort\":9090}]}}"]);
    shop.kubectl(&["delete", "configmap", &shop.objects("configmap")[0].replace("configmap/", "")]);
    let live = shop.repository.run(&["env", "status", "production", "--live"]).exits(8).stdout;
    for difference in [
        "deployment/shop: spec.replicas: 3",
        "was deployed as 2",
        "service/shop: spec.ports[80].targetPort: 9090 (set by kubectl",
        "configmap/shop-",
        ": missing",
    ] {
        assert!(live.contains(difference), "{difference}: {live}");
    }

    // An autoscaler may scale.
    shop.kubectl(&["autoscale", "deployment/shop", "--min", "3", "--max", "3"]);
    let scaled = shop.repository.run(&["env", "status", "production", "--live"]).exits(8).stdout;
    assert!(!scaled.contains("spec.replicas"), "{scaled}");
    shop.kubectl(&["delete", "horizontalpodautoscaler", "shop"]);

    let asked = shop.deploy("2", &[], 5).stdout;
    assert!(asked.contains("deployment/shop: spec.replicas: 3 instead of 2"), "{asked}");
    assert_eq!(shop.field("deployment/shop", ".spec.replicas"), "3");
    let mark = after(&asked, "--field overwrite=", 8);
    shop.repository.run(&["approve", "latest", "deploy", "--field", &format!("overwrite={mark}")]).exits(0);
    shop.repository.run(&["resume", "latest"]).exits(0);
    assert_eq!(shop.field("deployment/shop", ".spec.replicas"), "2");
    assert_eq!(shop.serves(), "version 2");
    shop.repository.run(&["env", "status", "production", "--live"]).exits(0);
}
