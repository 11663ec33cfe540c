//! E-mails: what `curl` gets.

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, ProcessScript, Report};
use stagewright_sdk::{Outcome, Permission, Result, Retry};

use crate::Notify;

fn email(more: &Json) -> Json {
    let mut email = json!({ "server": "smtp.example.org", "from": "ci@example.org", "to": ["ada@example.org"] });
    email.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    json!({ "message": "hi", "email": email })
}

fn run(with: Json, script: ProcessScript) -> Report<Result<Outcome>> {
    FakeHost::new().config(with).secret("smtp", "hush").process(script).run::<Notify>()
}

fn curl() -> ProcessScript {
    ProcessScript::new("curl", ["--disable", "--config", "-"])
}

fn stdin(report: &Report<Result<Outcome>>) -> String {
    String::from_utf8(report.spawned[0].stdin.clone()).unwrap()
}

#[test]
fn everything_is_on_the_standard_input_of_curl_and_the_password_comes_from_the_host() {
    let more =
        json!({ "user": "ci \"x\"", "secret": "smtp", "to": ["ada@example.org", "bob@example.org"], "ca": "ca.pem" });
    let mut with = email(&more);
    with["message"] = json!("a \"quoted\" \\ line;type=x\nsecond");
    with["title"] = json!("Grüße\r\nBcc: eve@example.org");
    let report = run(with, curl());
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.spawned[0].args, ["--disable", "--config", "-"]);
    assert!(report.spawned[0].env.is_empty() && report.spawned[0].secret_env.is_empty() && report.spawned[0].quiet);
    let settings = stdin(&report);
    let lines: Vec<&str> = settings.lines().collect();
    for expected in [
        r#"url = "smtp://smtp.example.org:587/example.org""#,
        "ssl-reqd",
        r#"mail-from = "<ci@example.org>""#,
        r#"mail-rcpt = "<ada@example.org>""#,
        r#"mail-rcpt = "<bob@example.org>""#,
        r#"cacert = "ca.pem""#,
        r#"header = "To: <ada@example.org>,\r\n <bob@example.org>""#,
        r#"header = "Subject: =?utf-8?B?R3LDvMOfZSAgQmNjOiBldmVAZXhhbXBsZS5vcmc=?=""#,
        r#"header = "Date: Tue, 14 Nov 2023 22:13:20 +0000""#,
        r#"user = "ci \"x\":{quoted secret smtp}""#,
        r#"form = "=\"a \\\"quoted\\\" \\\\ line;type=x\r\nsecond\";type=text/plain;charset=utf-8;encoder=quoted-printable""#,
    ] {
        assert!(lines.contains(&expected), "{expected}\n{settings}");
    }
    assert!(!settings.contains("hush"));
}

#[test]
fn the_encryption_decides_about_the_port() {
    let first =
        |more: Json| stdin(&run(email(&more), curl())).lines().find(|line| line.starts_with("url")).unwrap().to_owned();
    assert_eq!(first(json!({ "security": "tls" })), r#"url = "smtps://smtp.example.org:465/example.org""#);
    let local = json!({ "security": "none", "server": "127.0.0.1:2525" });
    assert_eq!(first(local.clone()), r#"url = "smtp://127.0.0.1:2525/example.org""#);
    assert!(!stdin(&run(email(&local), curl())).contains("ssl-reqd"));
    assert!(!stdin(&run(email(&json!({ "security": "tls" })), curl())).contains("ssl-reqd"));
}

#[test]
fn a_refusal_shows_what_curl_says_and_whether_a_retry_helps() {
    let failed = |code: i32, reply: &str, said: &str| {
        run(email(&json!({})), curl().exit(code).stdout(reply).stderr(said)).result.unwrap_err()
    };
    let denied = failed(67, "535", "curl: (67) Login denied");
    assert_eq!(denied.message, "smtp.example.org:587 did not take the e-mail");
    assert_eq!(denied.causes, ["curl: (67) Login denied"]);
    assert_eq!(denied.retry, Retry::Never);
    assert_eq!(failed(55, "550", "").retry, Retry::Never);
    assert!(failed(55, "451", "").is_retryable());
    assert!(failed(7, "000", "curl: (7) Failed to connect").is_retryable());
    let unknown = failed(60, "000", "curl: (60) SSL certificate problem");
    assert_eq!(unknown.retry, Retry::Never);
    assert!(unknown.help.unwrap().contains("email.ca"));
    let mut with = email(&json!({}));
    with["best-effort"] = json!(true);
    assert_eq!(run(with, curl().exit(7)).result, Ok(Outcome::Succeeded));
}

#[test]
fn mistakes_name_their_key() {
    let keys = |more: Json| -> Vec<String> {
        let found = FakeHost::new().config(email(&more)).validate::<Notify>();
        found.into_iter().map(|found| found.key.unwrap_or_default()).collect()
    };
    assert!(keys(json!({})).is_empty());
    let addresses = json!({ "from": "CI <ci@example.org>", "to": ["ada", "a@b>\r\nRCPT TO:<eve@example.org"] });
    assert_eq!(keys(addresses), ["email.from", "email.to[0]", "email.to[1]"]);
    assert_eq!(keys(json!({ "to": [] })), ["email.to"]);
    assert_eq!(keys(json!({ "server": "smtp://x" })), ["email.server"]);
    assert_eq!(keys(json!({ "server": "x:99999" })), ["email.server"]);
    assert_eq!(keys(json!({ "user": "ci" })), ["email.secret"]);
    assert_eq!(keys(json!({ "secret": "smtp" })), ["email.user"]);
    assert_eq!(keys(json!({ "security": "none" })), ["email.security"]);
    let plain = json!({ "security": "none", "server": "localhost", "user": "ci", "secret": "smtp" });
    assert_eq!(keys(plain), ["email.security"]);
}

#[test]
fn the_program_the_server_and_the_password_are_required() {
    let with = email(&json!({ "user": "ci", "secret": "smtp", "ca": "ca.pem" }));
    let required = FakeHost::new().config(with).requirements::<Notify>();
    let entries: Vec<_> = required.iter().map(|needed| (needed.permission, needed.entry.as_str())).collect();
    let expected = [
        (Permission::Process, "curl --disable --config -"),
        (Permission::Net, "tcp://smtp.example.org:587"),
        (Permission::Secrets, "smtp:env"),
        (Permission::Read, "ca.pem"),
    ];
    assert_eq!(entries, expected);
}
