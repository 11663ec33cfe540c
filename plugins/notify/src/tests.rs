mod email;
mod slack_and_matrix;

use serde_json::{Value as Json, json};
use stagewright_sdk::Permission;
use stagewright_sdk::fake::{FakeHost, HttpScript, Report};

use super::*;

const URL: &str = "https://hooks.example.org/x";

fn notify(with: Json, script: HttpScript) -> Report<Result<Outcome>> {
    let mut with = with;
    with["url"] = json!(URL);
    FakeHost::new().config(with).environment("staging").secret("hook", "hush").http(script).run::<Notify>()
}

fn sent(report: &Report<Result<Outcome>>) -> Json {
    serde_json::from_slice(&report.sent[0].body).unwrap()
}

#[test]
fn each_format_has_its_own_body() {
    let report = notify(json!({ "message": "hi" }), HttpScript::post(URL).status(204));
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.outputs["status"], 204);
    assert_eq!(sent(&report)["message"], "hi");
    assert_eq!(sent(&report)["environment"], "staging");

    let report = notify(json!({ "message": "hi", "format": "slack" }), HttpScript::post(URL));
    assert_eq!(sent(&report), json!({ "text": "hi" }));

    let report = notify(json!({ "message": "hi", "format": "text" }), HttpScript::post(URL));
    assert_eq!(report.sent[0].body, b"hi");
    assert_eq!(report.sent[0].header("content-type"), Some("text/plain; charset=utf-8"));

    let report = notify(json!({ "body": { "a": 1 }, "method": "PUT" }), HttpScript::new("PUT", URL));
    assert_eq!(sent(&report), json!({ "a": 1 }));
}

#[test]
fn the_secret_is_attached_without_being_read() {
    let with = json!({ "message": "hi", "secret": "hook", "headers": { "x-a": "b" } });
    let report = notify(with, HttpScript::post(URL));
    let expected = ("authorization".to_owned(), "Bearer ".to_owned(), "hook".to_owned());
    assert_eq!(report.sent[0].secret_headers, [expected]);
    assert_eq!(report.sent[0].header("x-a"), Some("b"));
}

#[test]
fn an_unexpected_status_is_an_error_with_the_response() {
    let error = notify(json!({ "message": "hi" }), HttpScript::post(URL).status(503).body("later")).result.unwrap_err();
    assert_eq!(error.message, format!("{URL} returned 503, expected 2xx"));
    assert_eq!(error.causes, ["later"]);
    assert!(error.is_retryable());
    let error = notify(json!({ "message": "hi" }), HttpScript::post(URL).status(404)).result.unwrap_err();
    assert!(!error.is_retryable());
}

#[test]
fn best_effort_turns_a_failure_but_not_a_denial_into_a_warning() {
    let with = json!({ "url": URL, "message": "hi", "best-effort": true });
    let report = FakeHost::new().config(with.clone()).run::<Notify>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.findings[0].rule, "not-notified");

    let report = FakeHost::new().config(with).deny(Permission::Net, URL).run::<Notify>();
    assert!(report.result.unwrap_err().is_denied());
}

#[test]
fn a_configuration_without_a_url_or_a_message_is_refused() {
    let found = FakeHost::new().config(json!({ "url": "example.org" })).validate::<Notify>();
    assert_eq!(found[0].key.as_deref(), Some("url"));
    assert_eq!(found[1].message, "neither `message` nor `body` is set");
}

#[test]
fn a_notification_has_one_target_with_its_own_keys() {
    let keys = |with: Json| -> Vec<String> {
        let found = FakeHost::new().config(with).validate::<Notify>();
        found.into_iter().map(|found| found.key.unwrap_or_default()).collect()
    };
    let slack = json!({ "secret": "hook" });
    assert_eq!(keys(json!({ "message": "hi" })), ["url"]);
    assert_eq!(keys(json!({ "message": "hi", "url": URL, "slack": slack })), ["slack"]);
    assert_eq!(keys(json!({ "slack": slack })), ["message"]);
    let foreign = json!({ "message": "hi", "slack": slack, "body": {}, "headers": { "a": "b" }, "secret": "x" });
    assert_eq!(keys(foreign), ["body", "headers", "secret"]);
    assert_eq!(keys(json!({ "message": "hi", "slack": { "secret": "hook", "origin": "slack" } })), ["slack.origin"]);
    let matrix = json!({ "homeserver": "matrix.example", "room": "#ops:example.org", "secret": "token" });
    assert_eq!(keys(json!({ "message": "hi", "matrix": matrix })), ["matrix.homeserver", "matrix.room"]);
}

#[test]
fn after_a_crash_only_a_best_effort_notification_is_sent_again() {
    let observed = |best_effort: bool| {
        let with = json!({ "url": URL, "message": "hi", "best-effort": best_effort });
        FakeHost::new().config(with).observe::<Notify>().result.unwrap()
    };
    assert_eq!(observed(true), Observation::NotStarted);
    assert!(matches!(observed(false), Observation::Unknown(why) if why.contains(URL)));
    let undone = FakeHost::new().config(json!({ "url": URL, "message": "hi" })).undo::<Notify>();
    assert!(undone.result.unwrap_err().message.contains("can't be undone"));
}

#[test]
fn the_origin_and_the_secret_are_required() {
    let with = json!({ "url": URL, "message": "hi", "secret": "hook" });
    let required = FakeHost::new().config(with).requirements::<Notify>();
    let entries: Vec<_> = required.iter().map(|needed| (needed.permission, needed.entry.as_str())).collect();
    assert_eq!(entries, [(Permission::Net, "https://hooks.example.org"), (Permission::Secrets, "hook:header")]);
}
