use std::time::Duration;

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, Report};
use stagewright_sdk::{Outcome, Result};

use crate::Perf;

fn host(more: &Json) -> FakeHost {
    let mut with = json!({ "url": "http://shop:80", "rate": 10, "duration": "2s", "warm-up": "1s", "connections": 3 });
    with.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    FakeHost::new().config(with)
}

fn answers(host: FakeHost, url: &str, times: usize, takes: u64) -> FakeHost {
    (0..times).fold(host, |host, _| host.http(HttpScript::get(url).takes(Duration::from_millis(takes))))
}

fn run(host: FakeHost) -> Report<Result<Outcome>> {
    host.run::<Perf>()
}

fn failure(report: &Report<Result<Outcome>>) -> String {
    format!("{:?}", report.result.as_ref().unwrap_err())
}

#[test]
fn requests_are_sent_at_the_rate_and_those_of_the_warm_up_do_not_count() {
    let report = run(answers(host(&json!({})), "http://shop:80/", 30, 20));
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.sent.len(), 30);
    assert_eq!((&report.outputs["requests"], &report.outputs["rate"]), (&json!(20), &json!(10.0)));
    assert_eq!((&report.outputs["p95-ms"], &report.outputs["errors"]), (&json!(20), &json!(0.0)));
    let metric = |name: &str| report.metrics.get(name).map(|metric| metric.value);
    assert_eq!((metric("p95"), metric("errors"), metric("rate")), (Some(20.0), Some(0.0), Some(10.0)));
}

#[test]
fn a_stall_counts_for_all_requests_that_were_due_in_it() {
    // Three may be under way, and each takes 600 ms: five of ten requests per second.
    let report = run(answers(host(&json!({ "limits": { "p50": "650ms" } })), "http://shop:80/", 30, 600));
    let error = failure(&report);
    assert!(error.contains("at most 650 ms are allowed"), "{error}");
    assert!(report.outputs["p95-ms"].as_u64().unwrap() > 2000, "{:?}", report.outputs);
}

#[test]
fn what_could_not_be_sent_within_the_timeout_is_an_error() {
    let limits = json!({ "timeout": "1s", "connections": 1, "limits": { "errors": 10 } });
    let report = run(answers(host(&limits), "http://shop:80/", 30, 900));
    let error = failure(&report);
    assert!(error.contains("not sent in time beside 1 request under way"), "{error}");
    assert!(error.contains("% of the requests failed, at most 10 % are allowed"), "{error}");
}

#[test]
fn statuses_from_400_and_missing_answers_are_errors() {
    let broken = host(&json!({ "warm-up": "0s", "limits": { "errors": 20, "p95": "100ms" } }));
    let broken = answers(broken, "http://shop:80/", 10, 5);
    let broken = (0..10).fold(broken, |host, _| host.http(HttpScript::get("http://shop:80/").status(503)));
    let error = failure(&run(broken));
    assert!(
        error.contains("50.00 % of the requests failed, at most 20 % are allowed") && error.contains("10 × status 503"),
        "{error}"
    );
    let none = (0..20).fold(host(&json!({ "warm-up": "0s", "limits": { "p95": "1s" } })), |host, _| {
        host.http(HttpScript::get("http://shop:80/").error(stagewright_sdk::Error::failed("connection refused")))
    });
    let error = failure(&run(none));
    assert!(
        error.contains("p95 is unknown, because nothing was answered") && error.contains("20 × connection refused"),
        "{error}"
    );
}

#[test]
fn it_may_be_worse_than_the_service_beside_it_by_so_much() {
    let compared = |takes: u64| {
        let with = json!({ "warm-up": "0s", "compare": { "url": "http://stable:80" } });
        let host = answers(host(&with), "http://shop:80/", 10, takes);
        run(answers(host, "http://stable:80/", 10, 100))
    };
    assert_eq!(compared(119).result, Ok(Outcome::Succeeded));
    let error = failure(&compared(130));
    assert!(error.contains("p95 is 130 ms, and 100 ms of http://stable:80: at most 120 ms are allowed"), "{error}");
}

#[test]
fn it_may_be_worse_than_the_last_good_release_by_so_much() {
    let with = json!({ "warm-up": "0s", "compare": { "environment": "staging", "p95": 50.0, "errors": 1.0 } });
    let compared = |release: Option<Json>, takes: u64| {
        run(answers(host(&with), "http://shop:80/", 20, takes).good_release("staging", release))
    };
    let good = |stage: &str| {
        let measured = json!({ stage: { "p95": 100.0, "errors": 0.0 } });
        Some(json!({ "artifact": "a", "config": {}, "measurements": measured }))
    };
    assert_eq!(compared(good("stage"), 149).result, Ok(Outcome::Succeeded));
    let error = failure(&compared(good("stage"), 160));
    assert!(error.contains("p95 is 160 ms, and 100 ms of the last good release of staging"), "{error}");
    // The first release, and one that another stage has measured.
    for release in [None, good("other")] {
        let report = compared(release, 900);
        assert_eq!(report.result, Ok(Outcome::Succeeded));
        assert!(report.logged("there is nothing to compare with"));
    }
}

#[test]
fn mistakes_are_named_with_their_keys() {
    for (more, key) in [
        (json!({ "url": "shop" }), "url"),
        (json!({ "rate": 0 }), "rate"),
        (json!({ "connections": 0 }), "connections"),
        (json!({ "duration": "0s" }), "duration"),
        (json!({ "rate": 1_000_000, "duration": "10m" }), "duration"),
        (json!({ "requests": [] }), "requests"),
        (json!({ "requests": [{ "path": "x" }] }), "requests[0].path"),
        (json!({ "compare": {} }), "compare"),
        (json!({ "compare": { "url": "http://a", "environment": "b" } }), "compare"),
    ] {
        let found = host(&more).validate::<Perf>();
        assert_eq!(found.iter().map(|problem| problem.key.as_deref()).collect::<Vec<_>>(), [Some(key)], "{more}");
    }
}
