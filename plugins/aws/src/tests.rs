//! Tests on the fake host.

use std::time::Duration;

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript};
use stagewright_sdk::{Error, ErrorCode};

use crate::{Failure, Service, encoded, encoded_path};

const ORIGIN: &str = "https://ecs.eu-central-1.amazonaws.com";

fn host() -> FakeHost {
    FakeHost::new().credential("ecs", ORIGIN)
}

fn call(host: FakeHost) -> (Result<Json, Failure>, Vec<stagewright_sdk::fake::Sent>) {
    let (result, report) =
        host.with(|| Service::of_credential("ecs")?.call("V1", "ListTasks", &json!({ "cluster": "main" })));
    (result, report.sent)
}

fn refused(status: u16, body: &str) -> HttpScript {
    HttpScript::post(&format!("{ORIGIN}/")).status(status).body(body)
}

#[test]
fn an_operation_is_named_in_a_header_and_signed_by_the_host() {
    let (result, sent) = call(host().http(refused(200, r#"{"taskArns":[]}"#)));
    assert_eq!(result.unwrap(), json!({ "taskArns": [] }));
    assert_eq!(sent[0].header("x-amz-target"), Some("V1.ListTasks"));
    assert_eq!(sent[0].credential.as_deref(), Some("ecs"));
}

#[test]
fn refusals_say_what_to_do() {
    let error = |status: u16, body: &str| Error::from(call(host().http(refused(status, body))).0.unwrap_err());
    let expired = error(400, r#"{"__type":"com.amazon.coral.service#ExpiredTokenException","message":"is expired"}"#);
    assert_eq!(expired.message, "ListTasks was refused with 400: ExpiredTokenException: is expired");
    assert_eq!(expired.code, ErrorCode::Unauthenticated);
    assert!(expired.help.unwrap().contains("the temporary keys of [credentials.ecs] have expired"));
    let unknown = error(403, r#"{"__type":"UnrecognizedClientException","Message":"invalid"}"#);
    assert!(unknown.help.unwrap().contains("`access-key-id`"));
    let wrong = error(403, "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>");
    assert!(wrong.help.unwrap().contains("`secret-access-key`"));
    let denied = error(400, r#"{"__type":"AccessDeniedException","message":"not authorized"}"#);
    assert!(denied.help.unwrap().contains("allow ListTasks"));
    let nested = error(404, "<ErrorResponse><Error><Code>NoSuchDistribution</Code></Error></ErrorResponse>");
    assert_eq!(
        (nested.message.as_str(), nested.is_not_found()),
        ("ListTasks was refused with 404: NoSuchDistribution", true)
    );
    assert_eq!(error(502, "<html>").message, "ListTasks was refused with 502");
}

#[test]
fn a_wrong_clock_is_named_with_its_difference_to_that_of_the_service() {
    let late = r#"{"__type":"InvalidSignatureException","message":"Signature expired"}"#;
    // 1 December 2026, 05:00 UTC.
    let help = |own: u64, body: &str| {
        let script = refused(403, body).header("date", "Tue, 01 Dec 2026 05:00:00 GMT");
        let (result, _) = call(host().now(Duration::from_secs(own)).http(script));
        Error::from(result.unwrap_err()).help.unwrap()
    };
    let five = 1_796_101_200;
    let wrong = [
        (five - 3780, "this machine's clock is 1 h 3 min behind that of the service"),
        (five + 86_400, "this machine's clock is 1 d ahead of that of the service"),
        (five + 301, "this machine's clock is 5 min ahead of that of the service"),
        (five - 299, "check the secret `secret-access-key`"),
    ];
    for (own, words) in wrong {
        let found = help(own, late);
        assert!(found.starts_with(words), "{found}");
    }
    let denied = help(five - 3780, r#"{"__type":"AccessDeniedException"}"#);
    assert!(denied.starts_with("allow ListTasks"), "a clock is the reason for refused signatures alone: {denied}");
}

#[test]
fn only_what_was_throttled_is_repeated() {
    let throttled = || refused(400, r#"{"__type":"ThrottlingException"}"#);
    let (result, sent) = call(host().http(throttled()).http(throttled()).http(refused(200, "{}")));
    assert_eq!((result.unwrap(), sent.len()), (json!({}), 3));
    let (result, sent) = call(host().http(throttled()));
    assert!(result.unwrap_err().is("ThrottlingException"));
    assert_eq!(sent.len(), 4);
    let (_, sent) = call(host().http(refused(500, "")));
    assert_eq!(sent.len(), 1);
}

#[test]
fn keys_are_encoded_as_signatures_expect() {
    assert_eq!(encoded_path("a b/c+d~é.html").to_string(), "a%20b/c%2Bd~%C3%A9.html");
    assert_eq!(encoded("arn:aws:x/y").to_string(), "arn%3Aaws%3Ax%2Fy");
}
