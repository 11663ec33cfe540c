use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, ProcessScript, Report};
use stagewright_sdk::{Outcome, Result};

use crate::DbVerify;

const NAME: &str = "shop-20231114T221220.000Z";

fn host(more: &Json) -> FakeHost {
    let mut with = json!({
        "from": { "store": { "folder": "backups" } },
        "database": "shop",
        "server": { "postgresql": { "host": "127.0.0.1", "user": "verify" } },
    });
    with.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let record = json!({
        "format": 1, "name": NAME, "engine": "postgresql", "database": "shop", "moment": "2023-11-14T22:12:20Z", "run": "r",
        "stage": "s", "file": format!("{NAME}.dump"), "size": 3,
        // That of `abc`.
        "digest": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "contents": {
            "version": "15.1", "settings": { "encoding": "UTF8", "owner": "shop" },
            "tables": { "public.orders": { "rows": 3, "digest": "42" } },
        },
    });
    FakeHost::new()
        .config(with)
        .file(&format!("backups/{NAME}.json"), record.to_string())
        .file(&format!("backups/{NAME}.dump"), "abc")
}

fn psql(stdout: &str) -> ProcessScript {
    ProcessScript::new("psql", ["--no-psqlrc"]).stdout(stdout)
}

fn restores(rows: u32) -> FakeHost {
    let table = format!("{{\"table\":\"public.orders\",\"rows\":{rows},\"digest\":\"42\"}}\n");
    scripts(host(&json!({})), &table)
}

fn scripts(host: FakeHost, contents: &str) -> FakeHost {
    host.process(psql("")).process(ProcessScript::new("pg_restore", ["--no-password"])).process(psql(contents))
}

fn scripts_of(report: &Report<Result<Outcome>>) -> Vec<String> {
    report.spawned.iter().map(|spawned| String::from_utf8_lossy(&spawned.stdin).into_owned()).collect()
}

#[test]
fn a_backup_is_restored_compared_and_noted_and_the_scratch_database_removed() {
    let report = restores(3).process(psql("")).run::<DbVerify>();
    assert_eq!(report.result, Ok(Outcome::Succeeded), "{report:#?}");
    let scripts = scripts_of(&report);
    assert!(
        scripts[0].contains(r#"CREATE DATABASE "shop_verify" TEMPLATE template0 ENCODING 'UTF8';"#),
        "{}",
        scripts[0]
    );
    assert!(report.spawned[1].args.contains(&"--no-owner".to_owned()));
    assert_eq!(report.spawned[1].args.last().unwrap(), ".database/dump");
    assert!(scripts[3].starts_with(r#"DROP DATABASE IF EXISTS "shop_verify""#), "{}", scripts[3]);
    let record: Json = serde_json::from_str(report.text(&format!("backups/{NAME}.json"))).unwrap();
    assert_eq!(record["verified"]["run"], "run-1");
    // The fake clock stands at one minute after the backup.
    assert_eq!(report.outputs["recovery-point-ms"], 60_000);
    assert!(!report.files.keys().any(|path| path.starts_with(".database")));
}

#[test]
fn what_differs_fails_and_the_scratch_database_is_removed_all_the_same() {
    let report = restores(2).process(psql("")).run::<DbVerify>();
    let error = report.result.as_ref().unwrap_err();
    assert!(format!("{error:?}").contains("public.orders: 2 rows instead of 3"), "{error:?}");
    assert!(scripts_of(&report)[3].starts_with("DROP DATABASE"));
    let record: Json = serde_json::from_str(report.text(&format!("backups/{NAME}.json"))).unwrap();
    assert_eq!(record.get("verified"), None);

    let restore = ProcessScript::new("pg_restore", ["--no-password"]).exit(1);
    let report = host(&json!({}))
        .process(psql(""))
        .process(restore.stderr("pg_restore: error: could not read from input file: end of file\n"))
        .process(psql(""))
        .run::<DbVerify>();
    assert!(format!("{:?}", report.result).contains("end of file"), "{:?}", report.result);
    assert!(scripts_of(&report)[2].starts_with("DROP DATABASE"));
}

#[test]
fn a_damaged_file_is_found_before_anything_is_restored() {
    let report = restores(3).file(&format!("backups/{NAME}.dump"), "abd").process(psql("")).run::<DbVerify>();
    let error = report.result.as_ref().unwrap_err();
    assert!(error.message.contains("is damaged"), "{error:?}");
    assert!(!error.is_retryable());
    assert_eq!(scripts_of(&report).len(), 1, "the scratch database is removed alone");
    let report = host(&json!({ "from": { "store": { "folder": "elsewhere" } } })).run::<DbVerify>();
    assert!(report.result.unwrap_err().help.unwrap().contains("db-backup"));
}

#[test]
fn goals_and_queries_decide_too() {
    let contents = "{\"table\":\"public.orders\",\"rows\":3,\"digest\":\"42\"}\n";
    let goal = scripts(host(&json!({ "recovery-point-goal": "59s" })), contents).process(psql("")).run::<DbVerify>();
    let error = format!("{:?}", goal.result);
    assert!(error.contains("the data has an age of 1 min 0 s, and the goal is 59.0 s"), "{error}");
    let met = scripts(host(&json!({ "recovery-point-goal": "60s", "recovery-time-goal": "1h" })), contents);
    assert_eq!(met.process(psql("")).run::<DbVerify>().result, Ok(Outcome::Succeeded));

    for (answer, says) in [("f\n", "returns f"), ("", "returns nothing"), ("t\nt\n", "returns t")] {
        let checked = scripts(host(&json!({ "checks": ["SELECT count(*) > 5 FROM orders;"] })), contents);
        let report = checked.process(psql(answer)).process(psql("")).run::<DbVerify>();
        let error = format!("{:?}", report.result);
        assert!(error.contains("`SELECT count(*) > 5 FROM orders`") && error.contains(says), "{error}");
    }
}

#[test]
fn an_encrypted_backup_takes_the_private_key_from_the_host() {
    let record = |host: FakeHost| {
        let path = format!("backups/{NAME}.json");
        let text = json!({
            "format": 1, "name": NAME, "engine": "postgresql", "database": "shop", "moment": "2023-11-14T22:12:20Z",
            "run": "r", "stage": "s", "file": format!("{NAME}.dump"), "size": 3, "encrypted-to": ["age1x"],
            "digest": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "contents": { "version": "15.1", "tables": {} },
        });
        host.file(&path, text.to_string())
    };
    let without = record(host(&json!({}))).process(psql("")).run::<DbVerify>();
    assert!(without.result.unwrap_err().help.unwrap().contains("from.identity"));
    let from = json!({ "from": { "store": { "folder": "backups" }, "identity": "age-key" } });
    let age = ProcessScript::new("age", ["--decrypt"]).writes(".database/dump", "PGDMP");
    let report = record(host(&from)).secret("age-key", "AGE-SECRET-KEY-1X").process(age);
    let report = scripts(report, "").process(psql("")).run::<DbVerify>();
    assert_eq!(report.result, Ok(Outcome::Succeeded), "{report:#?}");
    assert_eq!(report.spawned[0].stdin, b"{secret age-key}\n");
}

#[test]
fn the_scratch_database_is_never_the_database_itself() {
    let found = host(&json!({ "scratch-database": "shop" })).validate::<DbVerify>();
    assert_eq!(found[0].key.as_deref(), Some("scratch-database"));
    let keep = json!({ "from": { "store": { "folder": "b", "keep": { "last": 1 } } } });
    assert_eq!(host(&keep).validate::<DbVerify>()[0].key.as_deref(), Some("from.store.keep"));
}
