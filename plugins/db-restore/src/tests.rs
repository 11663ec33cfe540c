use serde_json::json;
use stagewright_sdk::fake::{FakeHost, ProcessScript, Report};
use stagewright_sdk::{Observation, Outcome, Result};

use crate::DbRestore;

const NAME: &str = "shop-20231114T221220.000Z";

fn host() -> FakeHost {
    let record = json!({
        "format": 1, "name": NAME, "engine": "postgresql", "database": "shop", "moment": "2023-11-14T22:12:20Z", "run": "r",
        "stage": "s", "file": format!("{NAME}.dump"), "size": 3,
        "digest": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "contents": { "version": "15.1", "settings": { "owner": "it\"s" }, "tables": {} },
    });
    let with = json!({
        "from": { "store": { "folder": "backups" } },
        "database": "shop",
        "server": { "postgresql": { "host": "127.0.0.1", "user": "admin" } },
    });
    FakeHost::new()
        .config(with)
        .environment("production")
        .fence(7)
        .file(&format!("backups/{NAME}.json"), record.to_string())
        .file(&format!("backups/{NAME}.dump"), "abc")
}

fn psql(stdout: &str) -> ProcessScript {
    ProcessScript::new("psql", ["--no-psqlrc"]).stdout(stdout)
}

fn script<T>(report: &Report<T>, index: usize) -> String {
    String::from_utf8_lossy(&report.spawned[index].stdin).into_owned()
}

fn restoring() -> FakeHost {
    host().process(psql("")).process(ProcessScript::new("pg_restore", ["--no-password"])).process(psql(""))
}

#[test]
fn a_restored_database_takes_the_place_of_the_other_under_the_token() {
    let report: Report<Result<Outcome>> = restoring().process(psql("")).run::<DbRestore>();
    assert_eq!(report.result, Ok(Outcome::Succeeded), "{report:#?}");
    assert!(script(&report, 0).contains(r#"CREATE DATABASE "shop_restored" TEMPLATE template0 OWNER "it""s";"#));
    assert!(!report.spawned[1].args.contains(&"--no-owner".to_owned()));
    let switch = script(&report, 3);
    for statement in [
        r#"ALTER DATABASE "shop" RENAME TO "shop_before_run1";"#,
        r#"ALTER DATABASE "shop_restored" RENAME TO "shop";"#,
        r#"COMMENT ON DATABASE "shop" IS 'restored by Stagewright with token 7, run run-1';"#,
    ] {
        assert!(switch.contains(statement), "{switch}");
    }
    // Before sessions are refused, and again in the transaction that changes the names.
    assert_eq!(switch.matches("::bigint > 7 THEN RAISE EXCEPTION").count(), 2, "{switch}");
    assert_eq!(report.outputs["previous"], "shop_before_run1");
}

#[test]
fn a_switch_that_fails_lets_sessions_in_again_and_leaves_no_copy() {
    let refused = ProcessScript::new("psql", ["--no-psqlrc"]).exit(3);
    let report = restoring()
        .process(refused.stderr("psql:<stdin>:3: ERROR:  a newer run has restored this database\n"))
        .process(psql(""))
        .process(psql(""))
        .run::<DbRestore>();
    let error = report.result.as_ref().unwrap_err();
    assert!(format!("{error:?}").contains("a newer run has restored this database"), "{error:?}");
    assert_eq!(script(&report, 4), "ALTER DATABASE \"shop\" ALLOW_CONNECTIONS true;\n");
    assert!(script(&report, 5).starts_with("DROP DATABASE IF EXISTS \"shop_restored\""));
}

#[test]
fn the_database_itself_says_whose_restore_it_is() {
    let observe = |answer: &str| host().process(psql(answer)).observe::<DbRestore>();
    let own = observe("run-1\n");
    assert!(matches!(own.result, Ok(Observation::Applied(_))), "{:?}", own.result);
    assert_eq!(own.outputs["previous"], "shop_before_run1");
    assert!(own.spawned[0].read_only);
    for answer in ["", "\n", "run-2\n", "run-1 (undone)\n"] {
        assert_eq!(observe(answer).result, Ok(Observation::NotStarted), "{answer:?}");
    }
}

#[test]
fn undoing_puts_the_data_of_before_back_and_keeps_what_was_restored() {
    let report = host().process(psql("run-1\n")).process(psql("")).undo::<DbRestore>();
    assert_eq!(report.result, Ok(()));
    let switch = script(&report, 1);
    assert!(switch.contains(r#"ALTER DATABASE "shop" RENAME TO "shop_undone_run1";"#), "{switch}");
    assert!(switch.contains(r#"ALTER DATABASE "shop_before_run1" RENAME TO "shop";"#), "{switch}");
    assert!(switch.contains("run run-1 (undone)'"), "{switch}");
    // An attempt that was interrupted before the switch may have shut sessions out.
    let report = host().process(psql("")).process(psql("")).undo::<DbRestore>();
    assert!(script(&report, 1).contains("ALLOW_CONNECTIONS true"), "{report:#?}");
}

#[test]
fn what_differs_from_the_backup_takes_no_place_and_leaves_no_copy() {
    let other = "{\"table\":\"public.orders\",\"rows\":1,\"digest\":\"7\"}\n";
    let restore = ProcessScript::new("pg_restore", ["--no-password"]);
    let report = host().process(psql("")).process(restore).process(psql(other)).process(psql("")).run::<DbRestore>();
    let error = report.result.as_ref().unwrap_err();
    assert_eq!(error.causes, ["public.orders: isn't in the backup"]);
    assert_eq!(report.spawned.len(), 4);
    assert!(script(&report, 3).starts_with("DROP DATABASE IF EXISTS \"shop_restored\""));
}
