//! Slack and Matrix.

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, Report};
use stagewright_sdk::{Observation, Outcome, Permission, Result};

use super::sent;
use crate::config::Config;
use crate::{Notify, matrix};

const SLACK: &str = "https://hooks.slack.com";
const HOMESERVER: &str = "https://matrix.example.org";

fn slack(with: Json, script: HttpScript) -> Report<Result<Outcome>> {
    let mut with = with;
    with["slack"]["secret"] = json!("hook");
    FakeHost::new()
        .config(with)
        .environment("staging")
        .secret("hook", "https://hooks.slack.com/services/T/B/x")
        .http(script)
        .run::<Notify>()
}

fn matrix_table(message: &str) -> Json {
    let matrix = json!({ "homeserver": format!("{HOMESERVER}/"), "room": "!a b:example.org", "secret": "token" });
    json!({ "message": message, "matrix": matrix })
}

fn matrix(message: &str) -> FakeHost {
    FakeHost::new().config(matrix_table(message)).secret("token", "hush")
}

#[test]
fn slack_gets_blocks_in_which_text_is_only_text() {
    let report = slack(json!({ "message": "<!channel> a & b\nsecond" }), HttpScript::post(SLACK).body("ok"));
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.sent[0].url_secret.as_deref(), Some("hook"));
    assert!(report.sent[0].secret_headers.is_empty());
    let plain = |text: &str| json!({ "type": "plain_text", "text": text });
    let expected = json!({
        "text": "pipeline (staging): &lt;!channel&gt; a &amp; b\nsecond",
        "blocks": [
            { "type": "header", "text": plain("pipeline (staging)") },
            { "type": "section", "text": plain("<!channel> a & b\nsecond") },
            { "type": "context", "elements": [plain("pipeline · stage · run-1")] },
        ],
    });
    assert_eq!(sent(&report), expected);

    let with = json!({ "message": "*bold* <https://x.example|x>", "title": "A\nb", "slack": { "markup": true } });
    let body = sent(&slack(with, HttpScript::post(SLACK)));
    assert_eq!(body["blocks"][0]["text"]["text"], "A b");
    assert_eq!(body["blocks"][1]["text"], json!({ "type": "mrkdwn", "text": "*bold* <https://x.example|x>" }));
    assert_eq!(body["text"], "A b: *bold* <https://x.example|x>");
}

#[test]
fn long_messages_are_divided_by_the_limits_of_slack() {
    let lines = "é".repeat(1999) + "\n";
    let body = sent(&slack(json!({ "message": lines.repeat(3), "title": "t".repeat(200) }), HttpScript::post(SLACK)));
    let blocks = body["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 5);
    let length = |block: &Json| block["text"]["text"].as_str().unwrap().chars().count();
    assert_eq!(length(&blocks[0]), 150);
    assert!(blocks[1..4].iter().all(|block| (1..=3000).contains(&length(block))));
    let endless = sent(&slack(json!({ "message": "x".repeat(50_000) }), HttpScript::post(SLACK)));
    let blocks = endless["blocks"].as_array().unwrap();
    assert_eq!((blocks.len(), length(&blocks[10]), blocks[11]["text"]["text"].as_str()), (13, 3000, Some("…")));
}

#[test]
fn slacks_refusal_is_shown() {
    let script = HttpScript::post(SLACK).status(404).body("no_service");
    let error = slack(json!({ "message": "hi" }), script).result.unwrap_err();
    assert_eq!(error.message, format!("{SLACK} returned 404, expected 2xx"));
    assert_eq!(error.causes, ["no_service"]);
    assert!(!error.is_retryable());
}

/// The URL that the stage calls for a message.
fn called(message: &str, attempt: u32) -> String {
    let config: Config = serde_json::from_value(matrix_table(message)).unwrap();
    matrix(message).attempt(attempt).with(|| matrix::url(&config, config.matrix.as_ref().unwrap())).0
}

#[test]
fn matrix_gets_an_event_whose_transaction_is_that_of_the_message() {
    let url = called("hi", 1);
    let room = format!("{HOMESERVER}/_matrix/client/v3/rooms/%21a%20b%3Aexample.org/send/m.room.message/");
    let transaction = url.strip_prefix(&room).unwrap_or_else(|| panic!("{url}"));
    assert!(transaction.len() == 32 && transaction.chars().all(|c| c.is_ascii_hexdigit()), "{transaction}");
    assert_eq!(called("hi", 2), url, "a retry sends the same");
    assert_ne!(called("ho", 1), url);

    let report = matrix("hi").http(HttpScript::new("PUT", &url).body(r#"{"event_id":"$1"}"#)).run::<Notify>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(sent(&report), json!({ "msgtype": "m.text", "body": "pipeline\n\nhi" }));
    let expected = ("authorization".to_owned(), "Bearer ".to_owned(), "token".to_owned());
    assert_eq!(report.sent[0].secret_headers, [expected]);
}

#[test]
fn the_error_of_a_homeserver_says_when_to_try_again() {
    let url = called("hi", 1);
    let limited = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too many","retry_after_ms":2000}"#;
    let error =
        matrix("hi").http(HttpScript::new("PUT", &url).status(429).body(limited)).run::<Notify>().result.unwrap_err();
    assert!(error.message.contains("429 M_LIMIT_EXCEEDED") && error.is_retryable(), "{error:?}");
    let forbidden = r#"{"errcode":"M_FORBIDDEN","error":"not in the room"}"#;
    let error =
        matrix("hi").http(HttpScript::new("PUT", &url).status(403).body(forbidden)).run::<Notify>().result.unwrap_err();
    assert_eq!(error.causes, ["not in the room"]);
    assert!(!error.is_retryable());
}

#[test]
fn after_a_crash_only_matrix_gets_the_message_again() {
    assert_eq!(matrix("hi").observe::<Notify>().result, Ok(Observation::NotStarted));
    let slack = FakeHost::new().config(json!({ "message": "hi", "slack": { "secret": "hook" } })).observe::<Notify>();
    assert!(matches!(slack.result, Ok(Observation::Unknown(_))));
}

#[test]
fn the_origin_and_the_secret_are_required() {
    let slack = FakeHost::new().config(json!({ "message": "hi", "slack": { "secret": "hook" } }));
    for (host, origin, secret) in [(slack, SLACK, "hook:header"), (matrix("hi"), HOMESERVER, "token:header")] {
        let required = host.requirements::<Notify>();
        let entries: Vec<_> = required.iter().map(|needed| (needed.permission, needed.entry.as_str())).collect();
        assert_eq!(entries, [(Permission::Net, origin), (Permission::Secrets, secret)]);
    }
}
