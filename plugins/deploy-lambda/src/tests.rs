//! Tests on the fake host. Those on real functions are in `tests/main/targets`.

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, Report};
use stagewright_sdk::{ErrorCode, Observation, Permission};

use crate::DeployLambda;

const ORIGIN: &str = "https://lambda.eu-central-1.amazonaws.com";
const FUNCTION: &str = "https://lambda.eu-central-1.amazonaws.com/2015-03-31/functions/orders";
const DIGEST: &str = "sha256:b0b9b0b9b0b9b0b9b0b9b0b9b0b9b0b9b0b9b0b9b0b9b0b9b0b9b0b9b0b9b0b9";
/// The same digest as Lambda writes it.
const CODE: &str = "sLmwubC5sLmwubC5sLmwubC5sLmwubC5sLmwubC5sLk=";

fn with(more: Json) -> Json {
    let mut config = json!({ "function": "orders", "credential": "lambda", "zip": format!("function@{DIGEST}") });
    if let (Json::Object(config), Json::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    config
}

fn host(more: Json) -> FakeHost {
    FakeHost::new().config(with(more)).environment("production").fence(7).credential("lambda", ORIGIN)
}

fn get(path: &str, body: &Json) -> HttpScript {
    HttpScript::get(&format!("{FUNCTION}{path}")).body(body.to_string())
}

fn send(method: &str, path: &str, body: &Json) -> HttpScript {
    HttpScript::new(method, &format!("{FUNCTION}{path}")).body(body.to_string())
}

fn version(number: &str, description: &str, code: &str) -> Json {
    json!({ "Version": number, "CodeSha256": code, "Description": description, "RevisionId": "r", "State": "Active",
        "LastUpdateStatus": "Successful" })
}

fn alias(version: &str, description: &str) -> Json {
    json!({ "FunctionVersion": version, "Description": description, "RevisionId": "a" })
}

fn mark(fence: u64, run: &str, rest: &str) -> String {
    format!("stagewright fence={fence} run={run} digest={DIGEST}{rest}")
}

fn run_id() -> String {
    FakeHost::new().with(stagewright_sdk::context::run_id).0
}

/// The function with version 1, which serves, and this code in `$LATEST`.
fn function(host: FakeHost, alias_mark: &str, code: &str) -> FakeHost {
    let latest = version("$LATEST", "", code);
    host.http(get("/aliases/live", &alias("1", alias_mark)))
        .http(get("", &json!({ "Configuration": latest, "Code": {} })))
        .http(get("/versions?MaxItems=50", &json!({ "Versions": [latest, version("1", "", "old")] })))
        .http(get("/configuration?Qualifier=%24LATEST", &latest))
        .http(get("/configuration?Qualifier=1", &version("1", "", "old")))
}

/// The requests that change something, without the origin.
fn changes<T>(report: &Report<T>) -> Vec<String> {
    let sent = report.sent.iter().filter(|sent| sent.method != "GET");
    sent.map(|sent| format!("{} {}", sent.method, sent.url.trim_start_matches(FUNCTION))).collect()
}

fn body<T>(report: &Report<T>, index: usize) -> Json {
    let sent: Vec<_> = report.sent.iter().filter(|sent| sent.method != "GET").collect();
    serde_json::from_slice(&sent[index].body).unwrap()
}

#[test]
fn code_that_lambda_has_is_published_and_gets_all_requests() {
    let host = function(host(json!({})), "", CODE)
        .http(send("POST", "/versions", &version("2", &mark(7, &run_id(), ""), CODE)))
        .http(get("/configuration?Qualifier=2", &version("2", &mark(7, &run_id(), ""), CODE)))
        .http(send("PUT", "/aliases/live", &json!({})));
    let report = host.run::<DeployLambda>();
    assert!(report.result.is_ok(), "{:?}", report.result);
    assert_eq!(changes(&report), ["POST /versions", "PUT /aliases/live", "PUT /aliases/live", "PUT /aliases/live"]);
    let published = body(&report, 0);
    assert_eq!((&published["CodeSha256"], &published["RevisionId"]), (&json!(CODE), &json!("r")));
    let shifted = body(&report, 2);
    assert_eq!(shifted["RoutingConfig"], json!({ "AdditionalVersionWeights": { "2": 1.0 } }));
    assert_eq!((&shifted["FunctionVersion"], &shifted["RevisionId"]), (&json!("1"), &json!("a")));
    let finished = body(&report, 3);
    assert_eq!(
        (&finished["FunctionVersion"], &finished["RoutingConfig"]["AdditionalVersionWeights"]),
        (&json!("2"), &json!({}))
    );
}

/// The function of [`function`] with these variables, whose deploy is published as version 2.
fn with_variables(host: FakeHost, variables: &Json) -> FakeHost {
    let configured = json!({ "RevisionId": "c", "Environment": { "Variables": variables } });
    function(host, "", CODE)
        .http(get("/configuration", &configured))
        .http(send("PUT", "/configuration", &json!({})))
        .http(send("POST", "/versions", &version("2", &mark(7, &run_id(), ""), CODE)))
        .http(get("/configuration?Qualifier=2", &version("2", &mark(7, &run_id(), ""), CODE)))
        .http(send("PUT", "/aliases/live", &json!({})))
}

#[test]
fn secrets_become_variables_and_those_of_others_stay() {
    let current = json!({ "artifact": "function@sha256:1", "config": { "secret-env": { "OLD": "old" } } });
    let deploy = |variables: &Json| {
        let host = host(json!({ "secret-env": { "TOKEN": "token" } })).secret("token", "hunter22");
        with_variables(host.ledger(Some(current.clone()), None), variables).run::<DeployLambda>()
    };
    let report = deploy(&json!({ "LEVEL": "info", "OLD": "***", "TOKEN": "of the release before" }));
    assert!(report.result.is_ok(), "{:?}", report.result);
    let expected =
        json!({ "RevisionId": "c", "Environment": { "Variables": { "LEVEL": "info", "TOKEN": "{secret token}" } } });
    assert_eq!((changes(&report)[0].as_str(), body(&report, 0)), ("PUT /configuration", expected));
    assert_eq!(changes(&report)[1], "POST /versions");

    // The host has masked a secret's value in another variable, so that it can't be written back.
    let report = deploy(&json!({ "URL": "https://user:***@db" }));
    let error = report.result.as_ref().unwrap_err();
    assert!(error.message.starts_with("the variable `URL` of `orders` contains a secret's value"), "{error}");
    assert!(changes(&report).is_empty());

    // Without secrets, now and before, the function's variables are left alone.
    let report = with_variables(host(json!({})), &json!({})).run::<DeployLambda>();
    assert_eq!(changes(&report)[0], "POST /versions");
}

#[test]
fn variables_that_lambda_does_not_show_are_not_overwritten() {
    let configured = json!({ "RevisionId": "c", "Environment": { "Error": { "ErrorCode": "AccessDeniedException" } } });
    let host = host(json!({ "secret-env": { "TOKEN": "token" } })).secret("token", "hunter22");
    let report = function(host, "", CODE).http(get("/configuration", &configured)).run::<DeployLambda>();
    let error = report.result.as_ref().unwrap_err();
    assert!(error.message.starts_with("Lambda doesn't show the variables of `orders`"), "{error}");
    assert!(changes(&report).is_empty());
}

#[test]
fn a_restored_release_has_the_version_of_then_and_a_new_one_the_values_of_now() {
    let published = |number: &str, fence: u64| version(number, &mark(fence, "earlier", ""), CODE);
    let listed = json!({ "Versions": [published("2", 3), published("3", 5)] });
    let deploy = |host: FakeHost| {
        let host = host.secret("token", "hunter22").http(get("/versions?MaxItems=50", &listed));
        let report = with_variables(host, &json!({})).run::<DeployLambda>();
        (changes(&report)[0].clone(), body(&report, 0))
    };
    let config = json!({ "secret-env": { "TOKEN": "token" } });
    let restored = json!({ "artifact": format!("function@{DIGEST}"), "config": {}, "fence": 4 });
    let (first, of_alias) = deploy(host(config.clone()).restored(restored));
    assert_eq!(first, "PUT /aliases/live");
    assert!(of_alias["Description"].as_str().unwrap().contains("version=2"), "{of_alias}");
    assert_eq!(deploy(host(config)).0, "PUT /configuration");
}

#[test]
fn new_code_is_sent_as_base64_for_the_revision_that_was_seen() {
    let archive = b"a zip archive".to_vec();
    let (digest, _) =
        FakeHost::new().file("z", archive.clone()).with(|| stagewright_sdk::workspace::digest("z").unwrap());
    let host = function(host(json!({ "zip": format!("function@{digest}") })), "", "old").artifact("function", archive);
    let host = host.http(send("PUT", "/code", &json!({})));
    let report = host.run::<DeployLambda>();
    assert_eq!(body(&report, 0), json!({ "RevisionId": "r", "ZipFile": "YSB6aXAgYXJjaGl2ZQ==" }));
    // The fake answers that `$LATEST` still has the old code.
    let error = report.result.unwrap_err();
    assert!(error.message.contains("something else replaced the code of `orders`"), "{error}");
}

#[test]
fn a_version_whose_answer_is_not_the_expected_one_is_deleted() {
    let own = version("2", &mark(7, &run_id(), ""), CODE);
    let more = json!({ "readiness": { "payload": { "check": true }, "expect": { "status": "ok", "of": { "a": 1 } } } });
    let deploy = |answer: &Json| {
        let call = send("POST", "/invocations?Qualifier=2", answer).header("x-amz-log-result", "bm8gZGF0YWJhc2U=");
        let scripts = [
            send("POST", "/versions", &own),
            get("/configuration?Qualifier=2", &own),
            call,
            send("PUT", "/aliases/live", &json!({})),
            send("DELETE", "?Qualifier=2", &Json::Null),
        ];
        scripts.into_iter().fold(function(host(more.clone()), "", CODE), FakeHost::http).run::<DeployLambda>()
    };
    assert!(deploy(&json!({ "status": "ok", "of": { "a": 1, "b": 2 }, "more": [] })).result.is_ok());
    let report = deploy(&json!({ "status": "ok", "of": { "a": 2 } }));
    let error = report.result.as_ref().unwrap_err();
    assert!(error.causes[0].contains(r#"answered {"status":"ok","of":{"a":2}} to the call"#), "{error:?}");
    assert!(error.causes.iter().any(|cause| cause.contains("no database")), "{error:?}");
    let expected = [
        "POST /versions",
        "PUT /aliases/live",
        "POST /invocations?Qualifier=2",
        "PUT /aliases/live",
        "DELETE ?Qualifier=2",
    ];
    assert_eq!(changes(&report), expected);
}

#[test]
fn a_stale_deploy_changes_nothing() {
    let published = mark(8, "later", "");
    let alias_mark = mark(8, "later", " version=1 phase=finished");
    for (alias_mark, description, what) in
        [(alias_mark.as_str(), "", "the alias `live`"), ("", &published, "version 9")]
    {
        let newest = version("9", description, "other");
        let host = host(json!({})).http(get("/versions?MaxItems=50", &json!({ "Versions": [newest] })));
        let report = function(host, alias_mark, CODE).run::<DeployLambda>();
        let error = report.result.as_ref().unwrap_err();
        assert!(
            error.message.contains(&format!("{what} of `orders` has the token 8, which is newer than 7")),
            "{error}"
        );
        assert_eq!((error.code.clone(), changes(&report)), (ErrorCode::Superseded, Vec::new()));
    }
}

#[test]
fn an_alias_that_changes_in_between_is_not_overwritten() {
    let refusal = json!({ "Type": "User", "message": "does not match" });
    let refused =
        send("PUT", "/aliases/live", &refusal).status(412).header("x-amzn-errortype", "PreconditionFailedException");
    let host = function(host(json!({})), "", CODE)
        .http(send("POST", "/versions", &version("2", &mark(7, &run_id(), ""), CODE)))
        .http(refused);
    let error = host.run::<DeployLambda>().result.unwrap_err();
    assert!(error.message.contains("something else changed the alias `live` of `orders`"), "{error:?}");
    assert_eq!(error.code, ErrorCode::Aborted);
}

#[test]
fn an_interrupted_deploy_was_applied_only_if_the_alias_was_moved() {
    let observe = |rest: &str, description: &str| {
        let host = host(json!({}))
            .http(get("/aliases/live", &alias("2", &mark(7, &run_id(), rest))))
            .http(get("/configuration?Qualifier=2", &version("2", description, CODE)));
        host.observe::<DeployLambda>().result
    };
    let earlier = mark(3, "earlier", "");
    assert!(matches!(observe(" version=2 phase=finished", &earlier), Ok(Observation::Applied(_))));
    assert_eq!(observe(" version=3 phase=begun", &earlier), Ok(Observation::NotStarted));
    assert_eq!(observe(" version=2 phase=first", &mark(7, &run_id(), "")), Ok(Observation::NotStarted));
}

#[test]
fn what_cannot_work_is_refused_with_its_key() {
    let keys = |more: Json| -> Vec<String> {
        host(more).validate::<DeployLambda>().into_iter().filter_map(|problem| problem.key).collect()
    };
    assert_eq!(keys(json!({ "zip": "function" })), ["zip"]);
    assert_eq!(keys(json!({ "image": format!("repository@{DIGEST}") })), ["zip"]);
    assert_eq!(keys(json!({ "zip": null })), ["zip"]);
    assert_eq!(keys(json!({ "function": "a/b", "alias": "12" })), ["function", "alias"]);
    assert_eq!(keys(json!({ "create": { "role": "r" } })), ["create.runtime"]);
    assert_eq!(keys(json!({ "readiness": { "expect": 1 } })), ["readiness.expect"]);
    assert_eq!(
        keys(json!({ "secret-env": { "AWS_REGION": "a", "A-B": "b" } })),
        ["secret-env.A-B", "secret-env.AWS_REGION"]
    );
    let create = json!({ "role": "r", "runtime": "python3.13", "env": { "TOKEN": "plain" } });
    assert_eq!(keys(json!({ "create": create, "secret-env": { "TOKEN": "token" } })), ["secret-env.TOKEN"]);
    assert_eq!(keys(json!({ "strategy": { "recreate": {} } })), ["strategy"]);
    assert_eq!(keys(json!({ "strategy": { "rolling": {} } })), ["strategy"]);
    assert!(keys(json!({ "strategy": { "blue-green": {} } })).is_empty());
}

#[test]
fn the_credential_is_required_and_the_folder_for_an_archive() {
    let required = |config: Json| -> Vec<(Permission, String)> {
        let required = FakeHost::new().config(config).requirements::<DeployLambda>();
        required.into_iter().map(|needed| (needed.permission, needed.entry)).collect()
    };
    let credential = (Permission::Credentials, "lambda".to_owned());
    assert_eq!(required(with(json!({}))), [credential.clone(), (Permission::Write, ".deploy".to_owned())]);
    let image = json!({ "function": "orders", "credential": "lambda", "image": format!("repository@{DIGEST}") });
    assert_eq!(required(image), [credential]);
}
