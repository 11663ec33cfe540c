//! The target `helm`, the plugin deploy-helm: upgrades by Helm's own program, whose requests the proxy signs.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value as Json;

use super::{CONFIGURATION, DEPLOYMENT, Load, Namespace, PIPELINE, SERVICE, variable};
use crate::environment::after;
use crate::targets::aws::program;
use crate::targets::engine::kill_at_every_write;
use crate::targets::faults::{deploy_two_at_once, gate_deploy};

/// Runs before each upgrade, as a migration of a database would, and fails with the code of the value `migration`.
const HOOK: &str = r#"
apiVersion: batch/v1
kind: Job
metadata:
  name: migrate
  annotations: { "helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-delete-policy": before-hook-creation }
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: web
        image: {{ .Values.image }}
        env: [{ name: EXIT, value: "{{ .Values.migration }}" }]
"#;

/// A chart with a hook and with what it looks up in the cluster, and the repository that deploys it.
fn shop(more: &str) -> Namespace {
    let text = PIPELINE
        .replace(r#"target = "kubernetes""#, r#"target = "helm""#)
        .replace("images = { web = ", "chart = \"charts/shop\"\nvalues = [\"production.yaml\"]\nset = { image = ");
    let mut shop = Namespace::of(&text, more);
    let programs = PathBuf::from(program("helm")).parent().expect("a folder").display().to_string();
    shop.repository.set("PATH", &format!("{programs}:{}", std::env::var("PATH").expect("PATH")));
    shop.repository.write("charts/shop/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n");
    shop.repository.write("charts/shop/values.yaml", "image: none\nreplicas: 1\nmigration: 0\n");
    shop.repository.write("production.yaml", "replicas: 2\n");
    let template = |text: &str| {
        let lookup = "{{ (lookup \"v1\" \"ConfigMap\" .Release.Namespace \"settings\").data.COLOUR }}";
        let replaced =
            [("replicas: 2", "replicas: {{ .Values.replicas }}"), ("image: web", "image: {{ .Values.image }}")];
        replaced.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to)).replace("green", lookup)
    };
    shop.repository
        .write("charts/shop/templates/shop.yaml", &template(&[CONFIGURATION, DEPLOYMENT, SERVICE].join("---")));
    shop.repository.write("charts/shop/templates/migrate.yaml", HOOK);
    shop.kubectl(&["create", "configmap", "settings", "--from-literal=COLOUR=red"]);
    shop
}

impl Namespace {
    /// Helm's revisions with their states, oldest first, as in `1 superseded`.
    fn revisions(&self) -> Vec<String> {
        let labels = "{range .items[*]}{.metadata.labels.version} {.metadata.labels.status}{\"\\n\"}{end}";
        let listed =
            self.kubectl(&["get", "secret", "--selector", "owner=helm", "--output", &format!("jsonpath={labels}")]);
        let mut found: Vec<String> = listed.lines().map(str::to_owned).collect();
        found.sort_by_key(|line| line.split(' ').next().and_then(|number| number.parse::<u32>().ok()));
        found
    }

    fn helm_record(&self) -> Json {
        serde_json::from_str(&self.field("configmap/stagewright-helm-shop", ".data.record")).expect("JSON")
    }
}

#[test]
#[ignore = "needs a cluster"]
fn a_chart_is_upgraded_with_its_hooks_and_rolled_back() {
    let shop = shop("");
    shop.deploy("1", &[], 0);
    assert_eq!((shop.serves(), shop.field("configmap/shop", ".data.COLOUR")), ("version 1".into(), "red".to_owned()));
    assert_eq!(shop.field("deployment/shop", ".spec.replicas"), "2");
    assert_eq!(shop.field("job/migrate", ".status.succeeded"), "1");
    let mut load = Load::on_host(&shop.address(), 80, "/");
    shop.deploy("2", &[], 0);
    assert_eq!(
        (shop.serves(), shop.revisions()),
        ("version 2".into(), vec!["1 superseded".to_owned(), "2 deployed".to_owned()])
    );
    shop.repository.run(&["env", "status", "production", "--live"]).exits(0);

    shop.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!((shop.serves(), shop.revisions().last().cloned()), ("version 1".into(), Some("3 deployed".to_owned())));
    let status = shop.repository.run(&["env", "status", "production", "--live"]).exits(0).stdout;
    assert!(status.contains("in place     as it was deployed"), "{status}");
    let answers = load.answers();
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["version 1", "version 2"], "{answers:?}");
}

#[test]
#[ignore = "needs a cluster"]
fn a_release_that_never_gets_ready_and_a_hook_that_fails_go_back() {
    let shop = shop("readiness = { deadline = \"15s\" }");
    let first = shop.deploy("1", &["exit=7"], 1).stdout;
    assert!(first.contains("deployment/shop: 0 of 2"), "{first}");
    assert!(shop.revisions().is_empty() && shop.objects("deployment").is_empty(), "{:?}", shop.revisions());
    shop.deploy("2", &[], 0);
    let mut load = Load::on_host(&shop.address(), 80, "/");
    let failed = shop.deploy("3", &["exit=7"], 1).stdout;
    assert!(failed.contains("/web: no database"), "the log of the failing pod: {failed}");
    assert_eq!(shop.helm_record()["unfinished"], Json::Null);
    shop.repository.write("production.yaml", "replicas: 2\nmigration: 3\n");
    let failed = shop.deploy("4", &[], 1).stdout;
    assert!(failed.contains("pre-upgrade hooks failed"), "{failed}");
    let answers = load.answers();
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["version 2"], "{answers:?}");
    assert!(shop.revisions().last().expect("revisions").ends_with(" deployed"), "{:?}", shop.revisions());
    shop.repository.write("production.yaml", "replicas: 2\n");
    shop.deploy("5", &[], 0);
    assert_eq!(shop.serves(), "version 5");
}

#[test]
#[ignore = "needs a cluster"]
fn a_deploy_that_is_killed_at_any_write_is_completed_once() {
    let shop = shop("");
    shop.deploy("0", &[], 0);
    let mut load = Load::on_host(&shop.address(), 80, "/");
    kill_at_every_write(&shop.repository, 7, |version| {
        assert_eq!(shop.serves(), format!("version {version}"));
        assert_eq!(shop.helm_record()["unfinished"], Json::Null);
    });
    // A node may direct a request to a pod some moments after it has begun to end, which Helm doesn't wait for either.
    let answers = load.answers();
    let (served, all) = answers.iter().fold((0, 0), |(served, all), (answer, count)| {
        (served + if answer.starts_with("version ") { *count } else { 0 }, all + count)
    });
    assert!(all - served <= all / 10_000, "{answers:?}");
}

#[test]
#[ignore = "needs a cluster"]
fn what_others_do_by_hand_is_named_and_overwritten_only_after_an_approval() {
    let shop = shop("");
    shop.deploy("1", &[], 0);
    shop.kubectl(&["patch", "service/shop", "--patch", "{\"spec\":{\"ports\":[{\"port\":80,\"targetPort\":9090}]}}"]);
    let live = shop.repository.run(&["env", "status", "production", "--live"]).exits(8).stdout;
    assert!(live.contains("service/shop: spec.ports[80].targetPort: 9090 (set by kubectl"), "{live}");

    let chart = shop.repository.root().join("charts/shop").display().to_string();
    let upgrade = ["upgrade", "shop", &chart, "--reuse-values", "--set", "replicas=1", "--namespace", &shop.name];
    let by_hand = Command::new(program("helm")).args(upgrade).args(["--kubeconfig", &variable("KUBECONFIG")]).output();
    let by_hand = by_hand.expect("helm starts");
    assert!(by_hand.status.success(), "{}", String::from_utf8_lossy(&by_hand.stderr));
    let asked = shop.deploy("2", &[], 5).stdout;
    assert!(asked.contains("the release shop of Helm: shop.v2 instead of shop.v1"), "{asked}");
    let mark = after(&asked, "--field overwrite=", 8);
    shop.repository.run(&["approve", "latest", "deploy", "--field", &format!("overwrite={mark}")]).exits(0);
    shop.repository.run(&["resume", "latest"]).exits(0);
    assert_eq!((shop.serves(), shop.field("deployment/shop", ".spec.replicas")), ("version 2".into(), "2".to_owned()));
}

#[test]
#[ignore = "needs a cluster"]
fn of_two_upgrades_at_once_the_newer_one_serves_at_the_end() {
    let shop = shop("");
    shop.deploy("0", &[], 0);
    gate_deploy(&shop.repository);
    deploy_two_at_once(&shop.repository, "1", "2");
    assert_eq!((shop.serves().as_str(), &shop.helm_record()["unfinished"]), ("version 2", &Json::Null));
}
