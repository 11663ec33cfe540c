//! What is refused before Helm changes anything.

use rollout::Target as _;
use serde_json::{Value as Json, json};
use stagewright_sdk::ErrorCode;
use stagewright_sdk::fake::{FakeHost, HttpScript, ProcessScript, Report};

use crate::DeployHelm;
use crate::config::Config;
use crate::revision::tests::secret;
use crate::target::Chart;

const SERVER: &str = "https://k8s.example.org";
const TAGGED: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\n\
                      spec: { template: { spec: { containers: [{ name: web, image: 'web:1' }] } } }\n";

fn get(path: &str, body: &Json) -> HttpScript {
    HttpScript::get(&format!("{SERVER}{path}")).body(body.to_string())
}

/// A stage that deploys with the token 5, to a cluster with this record and these revisions.
fn host(record: Option<Json>, revisions: &[Json]) -> FakeHost {
    let kinds = json!({ "resources": [
        { "name": "configmaps", "kind": "ConfigMap", "namespaced": true },
        { "name": "secrets", "kind": "Secret", "namespaced": true },
    ] });
    let record = match record {
        None => {
            HttpScript::get(&format!("{SERVER}/api/v1/namespaces/prod/configmaps/stagewright-helm-shop")).status(404)
        }
        Some(record) => get(
            "/api/v1/namespaces/prod/configmaps/stagewright-helm-shop",
            &json!({ "metadata": { "resourceVersion": "1" }, "data": { "record": record.to_string() } }),
        ),
    };
    FakeHost::new()
        .config(json!({ "service": "shop", "credential": "cluster", "namespace": "prod", "chart": "charts/shop" }))
        .environment("production")
        .fence(5)
        .credential("cluster", SERVER)
        .file("charts/shop/Chart.yaml", "name: shop\n")
        .http(get("/api/v1", &kinds))
        .http(record)
        .http(get("/api/v1/namespaces/prod/secrets?labelSelector=owner=helm,name=shop", &json!({ "items": revisions })))
}

fn config() -> Config {
    let with = json!({ "service": "shop", "credential": "cluster", "namespace": "prod", "chart": "charts/shop" });
    serde_json::from_value(with).expect("a configuration")
}

fn helm(report: &Report<impl Sized>) -> Vec<String> {
    report.spawned.iter().map(|spawned| spawned.args.join(" ")).collect()
}

#[test]
fn what_a_tag_names_is_refused_before_anything_is_changed() {
    let rendered = json!({ "version": 1, "manifest": TAGGED }).to_string();
    let report = host(None, &[]).process(ProcessScript::new("helm", ["upgrade"]).stdout(rendered)).run::<DeployHelm>();
    let error = report.result.as_ref().unwrap_err();
    assert!(error.message.starts_with("deployment/web: the container `web` has the image `web:1`"), "{error}");
    assert!(error.help.as_deref().unwrap().contains("with.allow-tags = true"), "{error}");
    let ran = helm(&report);
    assert!(ran.len() == 1 && ran[0].contains("--dry-run=server") && ran[0].contains("./charts/shop"), "{ran:?}");
}

#[test]
fn a_deploy_waits_for_no_helm_of_others() {
    let pending = secret("shop", 3, "pending-upgrade", "");
    let report = host(None, &[pending]).run::<DeployHelm>();
    let error = report.result.as_ref().unwrap_err();
    assert!(error.message.contains("revision 3 is pending-upgrade"), "{error}");
    assert!(error.help.as_deref().unwrap().contains("helm rollback shop --namespace prod"), "{error}");
    assert_eq!(helm(&report), [""; 0]);
}

#[test]
fn a_stale_deploy_changes_nothing() {
    let report = host(Some(json!({ "fence": 6 })), &[]).run::<DeployHelm>();
    assert_eq!(report.result.as_ref().unwrap_err().code, ErrorCode::Superseded);
    assert_eq!(helm(&report), [""; 0]);
}

/// Between the check of this deploy's token and its upgrade, a deploy with a newer one has made revision 7.
#[test]
fn a_newer_deploy_in_between_is_put_back() {
    let place = format!("{SERVER}/api/v1/namespaces/prod/configmaps/stagewright-helm-shop");
    let record =
        |record: &Json| json!({ "metadata": { "resourceVersion": "1" }, "data": { "record": record.to_string() } });
    let newer =
        json!({ "fence": 6, "unfinished": { "artifact": "shop@sha256:0", "fence": 6, "run": "r", "revision": 7 } });
    let rendered = json!({ "version": 8, "manifest": "" }).to_string();
    let host = host(Some(json!({ "fence": 4 })), &[])
        .http(HttpScript::get(&place).body(record(&json!({ "fence": 4 })).to_string()))
        .http(HttpScript::get(&place).body(record(&newer).to_string()))
        .http(HttpScript::new("PUT", &place))
        .process(ProcessScript::new("helm", ["upgrade"]).stdout(rendered))
        .process(ProcessScript::new("helm", ["rollback", "shop", "7"]));
    let (result, report) = host.with(|| Chart::open(&config(), None)?.apply());
    assert_eq!(result.unwrap_err().code, ErrorCode::Superseded);
    let verbs = report.spawned.iter().map(|spawned| spawned.args[0].as_str()).collect::<Vec<_>>();
    assert_eq!(verbs, ["upgrade", "upgrade", "rollback"], "{:?}", helm(&report));
}

/// Helm refuses an upgrade beside one by others, whose revision has the number that this one would have had.
#[test]
fn the_revision_of_others_is_not_rolled_back() {
    let serving = json!({ "artifact": "shop@sha256:0", "fence": 4, "run": "r", "revision": 2, "label": "r" });
    let [own, others] = [secret("shop", 2, "deployed", ""), secret("shop", 3, "pending-upgrade", "")];
    let revisions = format!("{SERVER}/api/v1/namespaces/prod/secrets?labelSelector=owner=helm,name=shop");
    let place = format!("{SERVER}/api/v1/namespaces/prod/configmaps/stagewright-helm-shop");
    let rendered = json!({ "version": 3, "manifest": "" }).to_string();
    let host = host(Some(json!({ "fence": 4, "serving": serving })), std::slice::from_ref(&own))
        .http(HttpScript::get(&revisions).body(json!({ "items": [own] }).to_string()))
        .http(HttpScript::get(&revisions).body(json!({ "items": [own, others] }).to_string()))
        .http(HttpScript::new("PUT", &place))
        .process(ProcessScript::new("helm", ["upgrade"]).stdout(rendered))
        .process(ProcessScript::new("helm", ["upgrade"]).stderr("Error: another operation is in progress\n").exit(1))
        .process(ProcessScript::new("helm", ["rollback"]));
    let (result, report) = host.with(|| Chart::open(&config(), None)?.apply());
    assert!(result.unwrap_err().causes[0].contains("another operation"), "{:?}", helm(&report));
    let verbs = report.spawned.iter().map(|spawned| spawned.args[0].as_str()).collect::<Vec<_>>();
    assert_eq!(verbs, ["upgrade", "upgrade"], "{:?}", helm(&report));
}
