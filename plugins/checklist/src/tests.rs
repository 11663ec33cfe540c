use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, ProcessScript, Report};
use stagewright_sdk::{Outcome, Result};

use crate::Checklist;

fn host(items: &Json) -> FakeHost {
    FakeHost::new().config(json!({ "items": items }))
}

fn run(host: FakeHost) -> Report<Result<Outcome>> {
    host.run::<Checklist>()
}

fn item(more: &Json) -> Json {
    let mut item = json!({ "name": "it", "text": "It is so" });
    item.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    json!([item])
}

/// What speaks against an item, or for it.
fn evidence(host: FakeHost) -> String {
    let report = run(host);
    match &report.result {
        Ok(_) => report.outputs["items"]["it"].as_str().unwrap().to_owned(),
        Err(error) => error.causes[0].clone(),
    }
}

#[test]
fn what_people_know_is_asked_in_a_form_that_shows_the_evidence() {
    let items = json!([
        { "name": "check", "text": "The check passes", "command": ["check"] },
        { "name": "support", "text": "Support knows" },
        { "name": "window", "text": "It is the right time" },
    ]);
    let host = || host(&items).process(ProcessScript::new("check", [""; 0]).stdout("all 3 fine\n"));
    let asked = run(host());
    assert!(matches!(asked.result, Ok(Outcome::Suspended(_))), "{:?}", asked.result);
    let fields: Vec<_> = asked.gates[0].fields.iter().map(|field| (field.name.as_str(), field.required)).collect();
    assert_eq!(fields, [("support", true), ("window", true)]);
    let reason = asked.suspended.unwrap().reason;
    assert_eq!(reason, "2 items to confirm; found: The check passes: `check` succeeded: all 3 fine");

    let yes = run(host().approved("ada", None, json!({ "support": true, "window": true })));
    assert_eq!(yes.result, Ok(Outcome::Succeeded));
    assert_eq!(
        (&yes.outputs["answered-by"], &yes.outputs["items"]["window"]),
        (&json!("ada"), &json!("yes, says ada"))
    );
    let no = run(host().approved("ada", None, json!({ "support": true, "window": false })));
    let error = no.result.as_ref().unwrap_err();
    assert_eq!(
        (error.message.as_str(), &error.causes[..]),
        ("ada says no to 1 item", &["It is the right time".to_owned()][..])
    );
}

#[test]
fn evidence_against_an_item_fails_before_anybody_is_asked() {
    let items = json!([
        { "name": "check", "text": "The check passes", "command": ["check"] },
        { "name": "support", "text": "Support knows" },
    ]);
    let fails = ProcessScript::new("check", [""; 0]).exit(1).stderr("2 of 3 fine\n");
    let report = run(host(&items).process(fails.clone()));
    let error = report.result.as_ref().unwrap_err();
    assert_eq!(error.causes, ["The check passes: `check` ended with exit code 1: 2 of 3 fine"]);
    assert!(report.gates.is_empty());
    // It was fine when the form was opened.
    let later = run(host(&items).process(fails).approved("ada", None, json!({ "support": true })));
    assert!(later.result.is_err());
    let without = run(host(&item(&json!({ "command": ["check"] }))).process(ProcessScript::new("check", [""; 0])));
    assert_eq!((without.result, &without.outputs["answered-by"]), (Ok(Outcome::Succeeded), &Json::Null));
}

#[test]
fn responses_and_certificates_are_evidence() {
    let http = |script: HttpScript| {
        evidence(host(&item(&json!({ "http": { "url": "http://a/", "contains": "up" } }))).http(script))
    };
    assert_eq!(http(HttpScript::get("http://a/").body("all up")), "http://a/ returned 200");
    assert!(http(HttpScript::get("http://a/").body("down")).ends_with("doesn't contain `up`"));
    assert!(http(HttpScript::get("http://a/").status(503)).contains("returned 503"));

    let with = item(&json!({ "certificate": { "host": "shop.example.org", "days": 30 } }));
    let show = || ProcessScript::new("openssl", ["s_client", "-connect", "shop.example.org:443"]).stdout("PEM");
    let check = || ProcessScript::new("openssl", ["x509", "-noout", "-enddate", "-checkend", "2592000"]);
    let until = "notAfter=Jan  1 00:00:00 2027 GMT\n";
    assert_eq!(
        evidence(host(&with).process(show()).process(check().stdout(until))),
        "good until Jan  1 00:00:00 2027 GMT"
    );
    let soon = host(&with).process(show()).process(check().stdout(until).exit(1));
    assert!(evidence(soon).ends_with("which is in less than 30 days"));
    let other = show().exit(1).stderr("verify error:num=62:hostname mismatch\nmore\n");
    assert!(evidence(host(&with).process(other)).contains("hostname mismatch"));
}

#[test]
fn the_age_of_a_backup_is_evidence() {
    let record = |verified: &Json| {
        json!({
            "format": 1, "name": "shop-1", "engine": "postgresql", "database": "shop", "moment": "2023-11-14T22:03:20Z", "run": "r",
            "stage": "s", "file": "f", "digest": "d", "size": 1, "contents": { "version": "15", "tables": {} }, "verified": verified,
        })
        .to_string()
    };
    let with = |age: &str, verified: bool| {
        let backup = json!({ "store": { "folder": "backups" }, "database": "shop", "age": age, "verified": verified });
        host(&item(&json!({ "backup": backup })))
    };
    let made = |host: FakeHost, verified: Json| evidence(host.file("backups/shop-1.json", record(&verified)));
    assert_eq!(made(with("10m", false), Json::Null), "`shop-1` is 10 min 0 s old");
    assert!(made(with("9m", false), Json::Null).ends_with("is 10 min 0 s old, at most 9 min 0 s are allowed"));
    assert!(made(with("10m", true), Json::Null).ends_with("has no verified backup"));
    let verified = json!({ "at": "2023-11-14T22:04:00Z", "run": "r", "recovery-time-ms": 1 });
    assert_eq!(made(with("10m", true), verified), "`shop-1` is 10 min 0 s old");
}

#[test]
fn what_the_machine_has_is_evidence() {
    let with = item(
        &json!({ "machine": { "cores": 4, "memory-gib": 8.0, "disk": { "path": "data", "gib": 1.0 }, "tools": { "docker": "24" } } }),
    );
    let machine = |cores: &str, docker: &str| {
        evidence(
            host(&with)
                .process(ProcessScript::new("nproc", ["--all"]).stdout(format!("{cores}\n")))
                .process(
                    ProcessScript::new("free", ["--bytes"]).stdout("       total used\nMem:  17179869184 1\nSwap: 0\n"),
                )
                .process(ProcessScript::new("df", ["--output=avail"]).stdout("Avail\n2147483648\n"))
                .process(ProcessScript::new("docker", ["--version"]).stdout(docker)),
        )
    };
    assert_eq!(
        machine("8", "Docker version 24.0.5, build x\n"),
        "8.0 processors, 16.0 GiB of memory, 2.0 GiB of free space, docker 24.0.5"
    );
    assert_eq!(
        machine("2", "Docker version 20.10.1\n"),
        "It is so: 2.0 processors instead of 4.0, docker 20.10.1 instead of 24"
    );
}

#[test]
fn the_good_release_of_an_environment_is_evidence() {
    let with = || host(&item(&json!({ "release": { "environment": "staging", "artifact": "app@sha256:1" } })));
    let release = |artifact: &str| Some(json!({ "artifact": artifact, "config": {} }));
    assert_eq!(evidence(with().good_release("staging", release("app@sha256:1"))), "it is the good release of staging");
    assert!(evidence(with().good_release("staging", release("app@sha256:2"))).contains("is app@sha256:2"));
    assert!(evidence(with().good_release("staging", None)).contains("has no good release"));
}

#[test]
fn mistakes_are_named_with_their_keys() {
    for (with, key) in [
        (json!({ "items": [] }), "items"),
        (json!({ "items": [{ "name": "a b", "text": "x" }] }), "items[0].name"),
        (json!({ "items": [{ "name": "a", "text": " " }] }), "items[0].text"),
        (json!({ "items": [{ "name": "a", "text": "x" }, { "name": "a", "text": "y" }] }), "items[1].name"),
        (json!({ "items": [{ "name": "a", "text": "x", "command": [] }] }), "items[0].command"),
        (
            json!({ "items": [{ "name": "a", "text": "x", "command": ["a"], "http": { "url": "http://b" } }] }),
            "items[0]",
        ),
        (json!({ "items": [{ "name": "a", "text": "x", "command": ["a"] }], "approvers": ["ada"] }), "approvers"),
    ] {
        let found = FakeHost::new().config(with.clone()).validate::<Checklist>();
        assert_eq!(found.iter().map(|problem| problem.key.as_deref()).collect::<Vec<_>>(), [Some(key)], "{with}");
    }
}
