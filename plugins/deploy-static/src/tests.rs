//! Tests on the fake host. Those on a real bucket are in `tests/main/targets`.

use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, Report};
use stagewright_sdk::{ErrorCode, Observation, Permission};

use crate::DeployStatic;
use crate::config::Config;

const ORIGIN: &str = "https://s3.eu-central-1.amazonaws.com";
const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

fn with(more: Json) -> Json {
    let mut config = json!({ "bucket": "www", "credential": "s3", "site": format!("dist@{DIGEST}") });
    if let (Json::Object(config), Json::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    config
}

fn host(more: Json) -> FakeHost {
    FakeHost::new().config(with(more)).environment("production").fence(7).credential("s3", ORIGIN)
}

fn release(more: Json) -> String {
    serde_json::from_value::<Config>(with(more)).unwrap().release()
}

fn key(path: &str) -> String {
    format!("{ORIGIN}/www/{path}")
}

fn pointer(pointer: &Json) -> HttpScript {
    HttpScript::get(&key("releases/current.json")).body(pointer.to_string()).header("etag", "\"1\"")
}

fn list(release: &str, files: &[(&str, &str)]) -> HttpScript {
    let files: serde_json::Map<String, Json> = files
        .iter()
        .map(|(path, digest)| {
            ((*path).to_owned(), json!({ "digest": digest, "content-type": "text/html", "cache-control": "no-cache" }))
        })
        .collect();
    let list = json!({ "artifact": "dist", "run": "earlier", "is-complete": true, "files": files });
    HttpScript::get(&key(&format!("releases/{release}.json"))).body(list.to_string())
}

fn deployed(release: &str, digest: &str, run: &str) -> Json {
    json!({ "release": release, "artifact": format!("dist@{digest}"), "fence": 7, "run": run })
}

fn changes<T>(report: &Report<T>) -> Vec<String> {
    let sent = report.sent.iter().filter(|sent| sent.method != "GET");
    sent.map(|sent| format!("{} {}", sent.method, sent.url.trim_start_matches(&key("")))).collect()
}

fn run_id() -> String {
    FakeHost::new().with(stagewright_sdk::context::run_id).0
}

#[test]
fn the_pointer_is_claimed_first_and_pages_are_copied_last() {
    let (own, mut bucket) = (release(json!({})), host(json!({})));
    let mut serving = json!({ "release": "0000000000000000", "fence": 3 });
    serving["serving"] = deployed("0000000000000000", "sha256:0", "earlier");
    let mut claimed = serving.clone();
    claimed["candidate"] = deployed(&own, DIGEST, &run_id());
    for state in [&serving, &serving, &serving, &claimed] {
        bucket = bucket.http(pointer(state));
    }
    let files = json!({
        "index.html": { "digest": "sha256:2", "content-type": "text/html", "cache-control": "no-cache" },
        "z.css": { "digest": "sha256:3", "content-type": "text/css", "cache-control": "no-cache" },
        "same.html": { "digest": "sha256:4", "content-type": "text/html", "cache-control": "no-cache" },
    });
    let own_list = json!({ "artifact": "dist", "run": "earlier", "is-complete": true, "files": files });
    let ok = |method: &str, path: &str| HttpScript::new(method, &key(path)).header("etag", "\"2\"");
    let report = bucket
        .http(HttpScript::get(&key(&format!("releases/{own}.json"))).body(own_list.to_string()))
        .http(list("0000000000000000", &[("same.html", "sha256:4"), ("gone.html", "sha256:5")]))
        .http(ok("PUT", "releases/current.json"))
        .http(ok("PUT", "z.css"))
        .http(ok("PUT", "index.html"))
        .http(ok("DELETE", "gone.html"))
        .http(
            HttpScript::get(&format!("{ORIGIN}/www?delimiter=%2F&list-type=2&prefix=releases%2F"))
                .body("<ListBucketResult/>"),
        )
        .run::<DeployStatic>();
    assert!(report.result.is_ok(), "{:?}", report.result);
    let expected = [
        "PUT releases/current.json",
        "PUT releases/current.json",
        "PUT z.css",
        "PUT index.html",
        "PUT releases/current.json",
        "DELETE gone.html",
    ];
    assert_eq!(changes(&report), expected);
    let puts: Vec<_> =
        report.sent.iter().filter(|sent| sent.url.ends_with("current.json") && sent.method == "PUT").collect();
    assert!(
        puts.iter().all(|put| put.header("if-match") == Some("\"1\"")),
        "the pointer is replaced only if it is unchanged"
    );
}

#[test]
fn a_first_deploy_claims_a_pointer_that_does_not_exist() {
    let missing =
        HttpScript::get(&key("releases/current.json")).status(404).body("<Error><Code>NoSuchKey</Code></Error>");
    let taken = HttpScript::new("PUT", &key("releases/current.json"))
        .status(412)
        .body("<Error><Code>PreconditionFailed</Code></Error>");
    let report = host(json!({})).http(missing).http(taken).run::<DeployStatic>();
    let error = report.result.as_ref().unwrap_err();
    assert!(error.message.contains("something else changed `releases/current.json` in the bucket"), "{error}");
    assert_eq!(error.code, ErrorCode::Aborted);
    let put = report.sent.iter().find(|sent| sent.method == "PUT").unwrap();
    assert_eq!(put.header("if-none-match"), Some("*"));
}

#[test]
fn a_stale_deploy_changes_nothing() {
    let report = host(json!({})).http(pointer(&json!({ "release": null, "fence": 8 }))).run::<DeployStatic>();
    let error = report.result.as_ref().unwrap_err();
    assert!(error.message.contains("a deploy to `www` has the token 8, which is newer than 7"), "{error}");
    assert_eq!((error.code.clone(), changes(&report)), (ErrorCode::Superseded, Vec::new()));
}

#[test]
fn an_interrupted_deploy_was_applied_only_once_it_has_finished() {
    let own = release(json!({}));
    let observe = |key: &str, run: &str| {
        let mut state = json!({ "release": own });
        state[key] = deployed(&own, DIGEST, run);
        host(json!({})).http(pointer(&state)).observe::<DeployStatic>().result
    };
    assert!(matches!(observe("serving", &run_id()), Ok(Observation::Applied(_))));
    assert_eq!(observe("serving", "earlier"), Ok(Observation::NotStarted));
    assert_eq!(observe("candidate", &run_id()), Ok(Observation::NotStarted));
}

#[test]
fn a_release_is_its_files_and_the_headers_that_they_are_served_with() {
    let cache = json!({ "cache": [{ "files": "**", "control": "no-store" }] });
    assert_eq!(release(json!({})), release(json!({ "prefix": "docs", "keep": 1 })));
    assert_ne!(release(json!({})), release(cache));
    assert_ne!(release(json!({})), release(json!({ "types": { "x": "text/x" } })));
    assert_ne!(release(json!({})), release(json!({ "site": format!("dist@{}", DIGEST.replace('1', "2")) })));
}

#[test]
fn what_cannot_work_is_refused_with_its_key() {
    let keys = |more: Json| -> Vec<String> {
        host(more).validate::<DeployStatic>().into_iter().filter_map(|problem| problem.key).collect()
    };
    assert_eq!(keys(json!({ "site": "dist", "bucket": "A" })), ["site", "bucket"]);
    assert_eq!(keys(json!({ "cache": [{ "files": "/a", "control": "x" }] })), ["cache[0].files"]);
    assert_eq!(keys(json!({ "types": { ".x": "text/x" } })), ["types..x"]);
    assert_eq!(keys(json!({ "health": {} })), ["health"]);
    assert_eq!(keys(json!({ "url": "www.example.org" })), ["url"]);
    assert_eq!(keys(json!({ "strategy": { "recreate": {} } })), ["strategy"]);
    assert_eq!(keys(json!({ "strategy": { "rolling": {} } })), ["strategy"]);
    assert_eq!(keys(json!({ "strategy": { "canary": { "steps": [{ "set-weight": 10 }] } } })), ["strategy"]);
    assert!(keys(json!({ "strategy": { "blue-green": { "auto-promotion-enabled": false } } })).is_empty());
}

#[test]
fn credentials_and_the_folder_for_the_files_are_required() {
    let more = json!({ "cloudfront": { "distribution": "E1", "credential": "cdn" }, "preview": "https://preview.example.org/x" });
    let required = host(more).requirements::<DeployStatic>();
    let required: Vec<_> = required.iter().map(|needed| (needed.permission, needed.entry.as_str())).collect();
    let expected = [
        (Permission::Credentials, "s3"),
        (Permission::Write, ".deploy"),
        (Permission::Credentials, "cdn"),
        (Permission::Net, "https://preview.example.org"),
    ];
    assert_eq!(required, expected);
}
