use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, Report};
use stagewright_sdk::{ErrorCode, Permission};

use super::*;

const HEALTH: &str = "http://app/health";

fn host(check: Json) -> FakeHost {
    let mut with = json!({ "url": "http://app/" });
    with["checks"] = Json::Array(vec![check]);
    FakeHost::new().config(with)
}

fn run(check: Json, script: HttpScript) -> Report<Result<Outcome>> {
    host(check).http(script).run::<SmokeTest>()
}

fn complaint(check: Json, script: HttpScript) -> String {
    run(check, script).findings.remove(0).message
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_check_that_passes_is_logged_with_its_latency() {
    let check = json!({
        "path": "/health", "status": [200, "3xx"], "contains": "ok", "json": { "/status": "ok", "/n/0": 1 },
        "header": { "X-Version": "2" }, "max-latency-ms": 50,
    });
    let body = r#"{"status":"ok","n":[1]}"#;
    let report = run(check, HttpScript::get(HEALTH).body(body).header("x-version", "2").takes(millis(40)));
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert!(report.logged("ok      GET /health (40 ms)"), "{:?}", report.logs);
    assert_eq!(report.outputs["checks"], 1);
    assert_eq!(report.outputs["failed"], 0);
    assert_eq!(report.outputs["p95-latency-ms"], 40);
    assert_eq!((report.metrics["p95-latency"].value, report.metrics["p95-latency"].unit.as_str()), (40.0, "ms"));
}

#[test]
fn each_unmet_expectation_is_reported() {
    let get = || HttpScript::get(HEALTH);
    let health = |mut check: Json| {
        check["path"] = json!("/health");
        check
    };
    assert_eq!(complaint(health(json!({})), get().status(500)), "GET /health: status 500, expected 2xx");
    assert_eq!(
        complaint(health(json!({ "name": "page", "contains": "hello" })), get().body("bye")),
        "page: the body doesn't contain `hello`"
    );
    let json_check = || health(json!({ "json": { "/a": 1 } }));
    assert_eq!(complaint(json_check(), get().body(r#"{"a":2}"#)), "GET /health: `/a` is 2, expected 1");
    assert_eq!(complaint(json_check(), get().body("{}")), "GET /health: the body has nothing at `/a`, expected 1");
    assert!(complaint(json_check(), get().body("<html>")).starts_with("GET /health: the body isn't valid JSON"));
    let header = || health(json!({ "header": { "x-a": "1" } }));
    assert_eq!(complaint(header(), get()), "GET /health: header `x-a` is missing");
    assert_eq!(complaint(header(), get().header("X-A", "2")), "GET /health: header `x-a` is `2`, expected `1`");
    assert_eq!(
        complaint(health(json!({ "max-latency-ms": 10 })), get().takes(millis(11))),
        "GET /health: it took 11 ms, expected at most 10 ms"
    );
}

#[test]
fn all_checks_run_and_all_failures_are_reported() {
    let with = json!({ "url": "http://app", "checks": [{ "path": "/a" }, { "path": "/b" }, { "path": "/c" }] });
    let host = FakeHost::new().config(with).http(HttpScript::get("http://app/a").status(404));
    let report = host.http(HttpScript::get("http://app/b").takes(millis(7))).run::<SmokeTest>();
    assert_eq!(report.result.unwrap_err().message, "2 of 3 checks of http://app failed");
    let names: Vec<_> = report.findings.iter().filter_map(|finding| finding.fingerprint.as_deref()).collect();
    assert_eq!(names, ["GET /a", "GET /c"]);
    assert_eq!(report.outputs["failed"], 2);
}

#[test]
fn a_retry_waits_and_repeats_the_request() {
    let check = json!({ "path": "/health", "retries": 3, "interval": "2s" });
    let report = host(check)
        .http(HttpScript::get(HEALTH).error(Error::new(ErrorCode::Unavailable, "connection refused")))
        .http(HttpScript::get(HEALTH).status(503))
        .http(HttpScript::get(HEALTH))
        .run::<SmokeTest>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.sent.len(), 3);
    assert!(report.logged("attempt 3"));
}

#[test]
fn retries_stop_at_their_limit_or_the_deadline() {
    let tries = |check: Json| run(check, HttpScript::get(HEALTH).status(503)).sent.len();
    assert_eq!(tries(json!({ "path": "/health" })), 1);
    assert_eq!(tries(json!({ "path": "/health", "retries": 2 })), 3);
    // At 0, 4 and 8 seconds; the next would begin at 12.
    assert_eq!(tries(json!({ "path": "/health", "deadline": "10s", "interval": "4s" })), 3);
    assert_eq!(tries(json!({ "path": "/health", "deadline": "10s", "interval": "4s", "retries": 1 })), 2);
}

#[test]
fn requests_are_sent_as_configured() {
    let check = json!({ "path": "/x", "method": "POST", "headers": { "a": "b" }, "body": "hi", "redirects": 0 });
    let report = run(check, HttpScript::post("http://app/x"));
    let sent = &report.sent[0];
    assert_eq!((sent.header("a"), sent.body.as_slice(), sent.max_redirects), (Some("b"), b"hi".as_slice(), Some(0)));
    assert_eq!(sent.timeout, Some(Duration::from_secs(10)));
}

#[test]
fn a_denial_is_an_error_and_not_a_failed_check() {
    let report =
        host(json!({ "path": "/health", "retries": 9 })).deny(Permission::Net, "http://app").run::<SmokeTest>();
    assert!(report.result.unwrap_err().is_denied());
    assert_eq!(report.findings, []);
}

#[test]
fn configuration_errors_name_their_key() {
    let with = json!({ "url": "app", "checks": [{ "path": "x", "json": { "a": 1 } }] });
    let found = FakeHost::new().config(with).validate::<SmokeTest>();
    let paths: Vec<_> = found.iter().filter_map(|found| found.key.as_deref()).collect();
    assert_eq!(paths, ["url", "checks[0].path", "checks[0].json"]);
    let with = json!({ "url": "http://app", "checks": [{ "status": "9xx" }] });
    let found = FakeHost::new().config(with).validate::<SmokeTest>();
    assert_eq!(found[0].key.as_deref(), Some("checks[0].status"));
}

#[test]
fn percentiles_are_by_nearest_rank() {
    let of = |count: u64| percentile(&mut (1..=count).rev().map(millis).collect::<Vec<_>>(), 95);
    assert_eq!(of(0), None);
    assert_eq!(of(1), Some(millis(1)));
    assert_eq!(of(20), Some(millis(19)));
    assert_eq!(of(100), Some(millis(95)));
}

#[test]
fn the_origin_is_required() {
    let required = host(json!({ "path": "/health" })).requirements::<SmokeTest>();
    assert_eq!((required[0].permission, required[0].entry.as_str()), (Permission::Net, "http://app"));
}
