use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, ProcessScript, Report};
use stagewright_sdk::{ErrorCode, Observation, Outcome, Permission, Result};

use crate::DbBackup;

const SERVER: &str = r#"{"moment":"2026-01-31T02:00:00.120Z","version":"15.1","encoding":"UTF8","collate":"C","ctype":"C","owner":"shop"}"#;
const TABLE: &str = r#"{"table" : "public.orders", "rows" : 3, "digest" : "42"}"#;
const KEY: &str = "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq";

fn with(more: &Json) -> Json {
    let mut with = json!({
        "server": { "postgresql": { "host": "db.example.org", "user": "it's", "secret": "password" } },
        "database": "shop",
        "to": [{ "folder": "backups" }],
    });
    with.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    with
}

fn host(more: &Json) -> FakeHost {
    FakeHost::new().config(with(more)).secret("password", "hush")
}

fn dumps() -> ProcessScript {
    ProcessScript::new("psql", ["--no-psqlrc"])
        .stdout(format!("{SERVER}\n{TABLE}\n{{\"dumped\": 0}}\n"))
        .writes(".database/dump", "PGDMP")
}

fn record(name: &str, moment: &str, more: &Json) -> String {
    let mut record = json!({
        "format": 1, "name": name, "engine": "postgresql", "database": "shop", "moment": moment, "run": "r", "stage": "s",
        "file": format!("{name}.dump"), "digest": "sha256:0", "size": 1, "contents": { "version": "15.1", "tables": {} },
    });
    record.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    record.to_string()
}

fn files(report: &Report<Result<Outcome>>) -> Vec<&str> {
    report.files.keys().map(String::as_str).collect()
}

#[test]
fn the_file_and_its_record_are_stored_and_the_dump_is_removed() {
    let report = host(&json!({})).process(dumps()).run::<DbBackup>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    let name = "shop-20260131T020000.120Z";
    assert_eq!(files(&report), [format!("backups/{name}.dump"), format!("backups/{name}.json")]);
    let record: Json = serde_json::from_str(report.text(&format!("backups/{name}.json"))).unwrap();
    assert_eq!(record["contents"]["tables"]["public.orders"], json!({ "rows": 3, "digest": "42" }));
    assert_eq!(record["contents"]["settings"]["owner"], "shop");
    assert_eq!((&record["run"], &record["stage"], &record["size"]), (&json!("run-1"), &json!("stage"), &json!(5)));
    assert_eq!(report.outputs["backup"], name);
    assert_eq!(report.outputs["rows"], 3);
}

#[test]
fn the_password_is_a_variable_and_the_command_is_the_granted_one() {
    let report = host(&json!({})).process(dumps()).run::<DbBackup>();
    let psql = &report.spawned[0];
    assert_eq!(psql.secret_env["PGPASSWORD"], "password");
    assert!(psql.env.is_empty());
    let connection = psql.args.last().unwrap();
    for part in [r"user='it\'s'", "sslmode='verify-full'", "sslrootcert='/etc/ssl/certs/ca-certificates.crt'"] {
        assert!(connection.contains(part), "{connection}");
    }
    let script = String::from_utf8(psql.stdin.clone()).unwrap();
    // psql takes a quote apart by doubling it.
    assert!(script.contains(r"user=''it\\''s''"), "{script}");
    let needed = host(&json!({})).requirements::<DbBackup>();
    let process = needed.iter().find(|requirement| requirement.permission == Permission::Process).unwrap();
    let granted = stagewright_sdk::Requirement::command("psql", &psql.args);
    assert_eq!(process.entry, granted.entry);
}

#[test]
fn a_dump_that_fails_stores_nothing() {
    for (script, cause) in [
        (
            ProcessScript::new("psql", ["--no-psqlrc"])
                .stdout(format!("{SERVER}\n{{\"dumped\": 1}}\n"))
                .stderr("pg_dump: error: server version: 16.1; pg_dump version: 15.1\npg_dump: error: aborting because of server version mismatch\n"),
            "server version mismatch",
        ),
        (
            ProcessScript::new("psql", ["--no-psqlrc"]).exit(2).stderr("psql: error: connection to server failed: Connection refused\n"),
            "Connection refused",
        ),
        // It ended in the middle of the script, without an error.
        (ProcessScript::new("psql", ["--no-psqlrc"]).stdout(format!("{SERVER}\n")), "nothing"),
    ] {
        let report = host(&json!({})).process(script.writes(".database/dump", "PG")).run::<DbBackup>();
        let error = report.result.as_ref().unwrap_err();
        assert!(format!("{error:?}").contains(cause), "{error:?}");
        assert_eq!(files(&report), [""; 0], "{error:?}");
    }
    let refused = ProcessScript::new("psql", ["--no-psqlrc"]).exit(2).stderr("psql: error: Connection refused\n");
    let error = host(&json!({})).process(refused).run::<DbBackup>().result.unwrap_err();
    assert!(error.code == ErrorCode::Unavailable && error.is_retryable(), "{error:?}");
}

#[test]
fn an_encrypted_backup_has_no_plain_file() {
    let encrypt = json!({ "encrypt": [KEY] });
    let age = ProcessScript::new("age", ["--encrypt", "--recipient", KEY]).writes(".database/dump.age", "age");
    let report = host(&encrypt).process(dumps()).process(age).run::<DbBackup>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    let name = "shop-20260131T020000.120Z";
    assert_eq!(files(&report), [format!("backups/{name}.dump.age"), format!("backups/{name}.json")]);
    assert_eq!(report.text(&format!("backups/{name}.dump.age")), "age");

    let age = ProcessScript::new("age", ["--encrypt"]).exit(1).stderr("age: error: no space left on device\n");
    let report = host(&encrypt).process(dumps()).process(age).run::<DbBackup>();
    assert!(report.result.is_err());
    assert_eq!(files(&report), [""; 0]);
}

#[test]
fn backups_beyond_those_to_keep_are_deleted_and_what_was_never_completed_too() {
    let keep = json!({ "to": [{ "folder": "backups", "keep": { "last": 2 } }] });
    let report = host(&keep)
        .process(dumps())
        .file(
            "backups/shop-20230101T000000.000Z.json",
            record("shop-20230101T000000.000Z", "2023-01-01T00:00:00Z", &json!({})),
        )
        .file("backups/shop-20230101T000000.000Z.dump", "old")
        .file(
            "backups/shop-20230102T000000.000Z.json",
            record("shop-20230102T000000.000Z", "2023-01-02T00:00:00Z", &json!({})),
        )
        .file("backups/shop-20230102T000000.000Z.dump", "newer")
        // Another database's.
        .file(
            "backups/blog-20220101T000000.000Z.json",
            record("blog-20220101T000000.000Z", "2022-01-01T00:00:00Z", &json!({ "database": "blog" })),
        )
        .file("backups/blog-20220101T000000.000Z.dump", "blog")
        // Begun, and given up.
        .file("backups/shop-20230101T120000.000Z.dump.age", "half")
        .file("backups/readme.txt", "not ours")
        .run::<DbBackup>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert_eq!(report.outputs["deleted"], json!(["shop-20230101T000000.000Z"]));
    let left = files(&report);
    assert_eq!(
        left,
        [
            "backups/blog-20220101T000000.000Z.dump",
            "backups/blog-20220101T000000.000Z.json",
            "backups/readme.txt",
            "backups/shop-20230102T000000.000Z.dump",
            "backups/shop-20230102T000000.000Z.json",
            "backups/shop-20260131T020000.120Z.dump",
            "backups/shop-20260131T020000.120Z.json",
        ]
    );
}

#[test]
fn an_interrupted_backup_is_made_again_unless_each_place_has_it() {
    let two = json!({ "to": [{ "folder": "a" }, { "folder": "b" }] });
    let own =
        record("shop-20260131T020000.120Z", "2026-01-31T02:00:00.120Z", &json!({ "run": "run-1", "stage": "stage" }));
    let observe = |host: FakeHost| host.observe::<DbBackup>().result.unwrap();
    let first = host(&two).file("a/shop-20260131T020000.120Z.json", own.clone());
    assert_eq!(observe(first.clone()), Observation::NotStarted);
    let both = first.file("b/shop-20260131T020000.120Z.json", own);
    assert!(matches!(observe(both), Observation::Applied(_)));
    let other = record("shop-20260131T020000.120Z", "2026-01-31T02:00:00.120Z", &json!({}));
    let others = host(&json!({})).file("backups/shop-20260131T020000.120Z.json", other);
    assert_eq!(observe(others), Observation::NotStarted);
    // Another stage of the run has made one too.
    let other = record("shop-20260131T020000.120Z", "2026-01-31T02:00:00.120Z", &json!({ "run": "run-1" }));
    let others = host(&json!({})).file("backups/shop-20260131T020000.120Z.json", other);
    assert_eq!(observe(others), Observation::NotStarted);
}

#[test]
fn mistakes_are_named_with_their_keys() {
    for (more, key) in [
        (json!({ "to": [] }), "to"),
        (json!({ "to": [{}] }), "to[0]"),
        (json!({ "to": [{ "bucket": "b" }] }), "to[0].credential"),
        (json!({ "to": [{ "bucket": "b", "credential": "c", "prefix": "/x" }] }), "to[0].prefix"),
        (json!({ "to": [{ "folder": "b", "keep": {} }] }), "to[0].keep"),
        (json!({ "to": [{ "folder": "b", "bucket": "b" }] }), "to[0]"),
        (json!({ "database": "a b" }), "database"),
        (json!({ "database": "postgres" }), "database"),
        (json!({ "encrypt": ["ssh-ed25519 AAAA"] }), "encrypt"),
        (json!({ "server": { "postgresql": { "host": "", "user": "u" } } }), "server.postgresql.host"),
    ] {
        let found = FakeHost::new().config(with(&more)).validate::<DbBackup>();
        assert_eq!(found.iter().map(|problem| problem.key.as_deref()).collect::<Vec<_>>(), [Some(key)], "{more}");
    }
    assert_eq!(FakeHost::new().config(with(&json!({}))).validate::<DbBackup>().len(), 0);
}
