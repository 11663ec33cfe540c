//! Analyses on the fake host.

use std::time::Duration;

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, ProcessScript};
use stagewright_sdk::{Error, ErrorCode};

use super::{Analysis, Phase, Subject, Verdict};

const QUERY: &str = "http://prometheus:9090/api/v1/query?query=";

fn analysis(metric: Json) -> Analysis {
    let mut whole = json!({ "name": "error-rate", "interval": "1s" });
    if let (Json::Object(whole), Json::Object(metric)) = (&mut whole, metric) {
        whole.extend(metric);
    }
    serde_json::from_value(json!({ "metrics": [whole] })).expect("an analysis")
}

/// A metric of Prometheus with the query `rate`.
fn rate(more: Json) -> Analysis {
    let mut metric = json!({
        "prometheus": { "address": "http://prometheus:9090", "query": "rate" },
        "success-condition": "result[0] < 0.01",
    });
    if let (Json::Object(metric), Json::Object(more)) = (&mut metric, more) {
        metric.extend(more);
    }
    analysis(metric)
}

fn answer(query: &str, values: &[&str]) -> HttpScript {
    let series: Vec<_> = values.iter().map(|value| json!({ "metric": {}, "value": [1.5, value] })).collect();
    let data = json!({ "resultType": "vector", "result": series });
    HttpScript::get(&format!("{QUERY}{query}")).body(json!({ "status": "success", "data": data }).to_string())
}

fn run(analysis: &Analysis, answers: impl IntoIterator<Item = HttpScript>) -> (Verdict, usize) {
    let host = answers.into_iter().fold(FakeHost::new(), FakeHost::http);
    let (verdict, report) = host.with(|| analysis.run(&Subject::default()));
    (verdict.expect("a verdict"), report.sent.len())
}

fn phase(analysis: &Analysis, answers: impl IntoIterator<Item = HttpScript>) -> Phase {
    run(analysis, answers).0.phase()
}

#[test]
fn a_metric_is_measured_until_its_count_is_reached() {
    let (verdict, sent) = run(&rate(json!({ "count": 3 })), [answer("rate", &["0.001"])]);
    assert_eq!((verdict.phase(), sent), (Phase::Successful, 3));
    assert_eq!(verdict.error(), None);
}

#[test]
fn failures_beyond_the_limit_decide_at_once() {
    let answers = || ["0.5", "0.001", "0.5", "0.001"].map(|value| answer("rate", &[value]));
    let (verdict, sent) = run(&rate(json!({ "count": 4, "failure-limit": 1 })), answers());
    assert_eq!((verdict.phase(), sent), (Phase::Failed, 3));
    let error = verdict.error().unwrap();
    assert_eq!(error.causes, ["error-rate: [0.5] (failed)"]);
    assert_eq!(phase(&rate(json!({ "count": 4, "failure-limit": 2 })), answers()), Phase::Successful);
}

#[test]
fn no_data_and_values_that_are_no_numbers_are_inconclusive() {
    for values in [&[][..], &["NaN"], &["+Inf"], &["0.001", "NaN"]] {
        let (verdict, _) = run(&rate(json!({})), [answer("rate", values)]);
        assert_eq!(verdict.phase(), Phase::Inconclusive, "{values:?}");
        assert!(verdict.error().is_some());
    }
    assert_eq!(phase(&rate(json!({ "inconclusive-limit": 1 })), [answer("rate", &["NaN"])]), Phase::Successful);
}

#[test]
fn too_few_samples_are_inconclusive() {
    let prometheus = |min: u32| json!({ "address": "http://prometheus:9090", "query": "rate", "samples": "total", "min-count": min });
    let with = |min: u32, total: &[&str]| {
        phase(&rate(json!({ "prometheus": prometheus(min) })), [answer("total", total), answer("rate", &["0.001"])])
    };
    assert_eq!(with(100, &["100"]), Phase::Successful);
    assert_eq!(with(100, &["99"]), Phase::Inconclusive);
    assert_eq!(with(1, &[]), Phase::Inconclusive);
}

#[test]
fn two_conditions_leave_something_in_between() {
    let both = |value: &str| {
        let conditions = json!({ "success-condition": "result[0] < 0.01", "failure-condition": "result[0] > 0.1" });
        phase(&rate(conditions), [answer("rate", &[value])])
    };
    assert_eq!([both("0.001"), both("0.05"), both("0.5")], [Phase::Successful, Phase::Inconclusive, Phase::Failed]);
}

#[test]
fn a_canary_is_compared_with_what_serves() {
    let prometheus = json!({
        "address": "http://prometheus:9090",
        "query": "latency{v=\"$version\"}",
        "baseline": "latency{v=\"$serving\"}",
    });
    let compared = rate(json!({ "prometheus": prometheus, "success-condition": "result[0] <= baseline[0] * 1.2" }));
    let verdict = |new: &str| {
        let encoded = |name: &str| format!("latency%7Bv%3D%22app%2E{name}%22%7D");
        let host = FakeHost::new().http(answer(&encoded("2"), &[new])).http(answer(&encoded("1"), &["100"]));
        let subject = Subject { version: "app.2".to_owned(), serving: "app.1".to_owned(), ..Subject::default() };
        host.with(|| compared.run(&subject)).0.expect("a verdict").phase()
    };
    assert_eq!([verdict("119"), verdict("121")], [Phase::Successful, Phase::Failed]);
}

#[test]
fn errors_are_no_failures_and_the_limit_is_for_those_in_a_row() {
    let down = || answer("rate", &[]).error(Error::new(ErrorCode::Unavailable, "connection refused"));
    let (verdict, sent) = run(&rate(json!({})), [down()]);
    assert_eq!((verdict.phase(), sent), (Phase::Error, 5));
    let error = verdict.error().unwrap();
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.causes[0].contains("connection refused"), "{:?}", error.causes);
    let refused =
        HttpScript::get(&format!("{QUERY}rate")).status(400).body(r#"{"status":"error","error":"parse error"}"#);
    let (verdict, _) = run(&rate(json!({ "consecutive-error-limit": 0 })), [refused]);
    assert!(verdict.reasons()[0].contains("Prometheus returned 400: parse error"), "{:?}", verdict.reasons());
    // Of three errors in a row and a success, again and again, none exceeds the limit.
    let good = || answer("rate", &["0.001"]);
    let mixed = [down(), down(), down(), good(), down(), down(), down(), good()];
    let limits = json!({ "count": 2, "consecutive-error-limit": 3 });
    assert_eq!(phase(&rate(limits), mixed), Phase::Successful);
}

#[test]
fn requests_programs_and_logs_are_measured() {
    let http = analysis(json!({ "http": { "url": "$address/queue" }, "success-condition": "result.length <= 3" }));
    let host = FakeHost::new().http(HttpScript::get("http://127.0.0.1:80/queue").body(r#"{"length":3}"#));
    let subject = Subject { address: "http://127.0.0.1:80".to_owned(), ..Subject::default() };
    assert_eq!(host.with(|| http.run(&subject)).0.expect("a verdict").phase(), Phase::Successful);

    let command = analysis(
        json!({ "command": { "argv": ["check"] }, "success-condition": "result.code == 0 && result.stdout == 'ok'" }),
    );
    let host = FakeHost::new().process(ProcessScript::new("check", [""; 0]).stdout("ok\n"));
    assert_eq!(host.with(|| command.run(&Subject::default())).0.expect("a verdict").phase(), Phase::Successful);

    let log = analysis(json!({ "log": { "contains": "ERROR" }, "success-condition": "result < 2" }));
    let lines = |_| Ok("ERROR one\ninfo\nERROR two\n".to_owned());
    let subject = Subject { log: Some(&lines), ..Subject::default() };
    let verdict = FakeHost::new().with(|| log.run(&subject)).0.expect("a verdict");
    assert_eq!((verdict.phase(), verdict.reasons()), (Phase::Failed, vec!["error-rate: 2 (failed)".to_owned()]));
}

#[test]
fn a_dry_run_decides_nothing() {
    let mut dry = rate(json!({}));
    dry.dry_run = true;
    let (verdict, _) = run(&dry, [answer("rate", &["0.5"])]);
    assert_eq!((verdict.phase(), verdict.reasons().len()), (Phase::Successful, 1));
}

#[test]
fn the_first_measurement_waits_for_its_delay() {
    let host = FakeHost::new().http(answer("rate", &["0.001"]));
    let delayed = rate(json!({ "initial-delay": "90s" }));
    let (elapsed, _) = host.with(|| delayed.run(&Subject::default()).map(|_| stagewright_sdk::clock::monotonic()));
    assert_eq!(elapsed, Ok(Duration::from_secs(90)));
}

#[test]
fn mistakes_name_their_key() {
    let keys = |metric: Json| -> Vec<String> {
        analysis(metric).problems("", false).into_iter().filter_map(|problem| problem.key).collect()
    };
    assert_eq!(keys(json!({})), ["metrics[0]"]);
    assert_eq!(keys(json!({ "log": { "contains": "x" } })), ["metrics[0].log"]);
    let http = json!({ "http": { "url": "http://x/" }, "count": 0, "success-condition": "result <" });
    assert_eq!(keys(http), ["metrics[0].count", "metrics[0].success-condition"]);
    let unknown = json!({ "http": { "url": "http://x/" }, "failure-condition": "baseline > 1", "name": "a b" });
    assert_eq!(keys(unknown), ["metrics[0].name", "metrics[0].failure-condition"]);
    assert!(rate(json!({})).problems("x", true).is_empty());
}
