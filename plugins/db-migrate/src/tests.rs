use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, ProcessScript, Report};
use stagewright_sdk::{Observation, Outcome, Result};

use crate::DbMigrate;

const FIRST: &str = "CREATE TABLE orders (id int);\n";
const SECOND: &str = "-- stagewright: compatible\nALTER TABLE orders ADD item text;\n";

fn host(more: &Json) -> FakeHost {
    let mut with = json!({
        "server": { "postgresql": { "host": "127.0.0.1", "user": "shop" } },
        "database": "shop",
        "files": "migrations/*.sql",
    });
    with.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    FakeHost::new()
        .config(with)
        .environment("production")
        .fence(7)
        .file("migrations/9_orders.sql", FIRST)
        .file("migrations/10_item.sql", SECOND)
}

fn psql(stdout: &str) -> ProcessScript {
    ProcessScript::new("psql", ["--no-psqlrc"]).stdout(stdout)
}

fn applied(name: &str, text: &str, more: &Json) -> String {
    use sha2::{Digest as _, Sha256};
    let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut row = json!({
        "name": name, "digest": format!("sha256:{digest}"), "compatible": false, "finished": true, "run": "other",
    });
    row.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    format!("{row}\n")
}

fn carried_out(names: &[&str]) -> String {
    names.iter().map(|name| format!("{}\n", json!({ "carried-out": name }))).collect()
}

fn script(report: &Report<Result<Outcome>>) -> String {
    String::from_utf8_lossy(&report.spawned[1].stdin).into_owned()
}

#[test]
fn files_are_carried_out_by_number_each_with_its_note_in_one_transaction() {
    let report = host(&json!({}))
        .process(psql(""))
        .process(psql(&carried_out(&["9_orders.sql", "10_item.sql"])))
        .run::<DbMigrate>();
    assert_eq!(report.result, Ok(Outcome::Succeeded), "{report:#?}");
    assert!(report.spawned[0].read_only && !report.spawned[1].read_only);
    let script = script(&report);
    let at = |text: &str| script.find(text).unwrap_or_else(|| panic!("no {text} in {script}"));
    let order = [
        "pg_advisory_lock",
        "THEN RAISE EXCEPTION 'a newer run has migrated this database'",
        "INSERT INTO stagewright.fence (token, run) VALUES (7, 'run-1')",
        "BEGIN;\nSELECT set_config",
        FIRST,
        "VALUES ('9_orders.sql', 'sha256:",
        "COMMIT;",
        SECOND,
        "VALUES ('10_item.sql', 'sha256:",
    ];
    assert!(order.is_sorted_by_key(|text| at(text)), "{script}");
    assert_eq!(report.outputs["schema"], "10_item.sql");
    assert_eq!(report.outputs["applied"], json!(["9_orders.sql", "10_item.sql"]));
    assert_eq!(report.outputs["compatible"], false);
}

#[test]
fn what_the_database_has_been_through_is_left_out() {
    let known = applied("9_orders.sql", FIRST, &json!({}));
    let report =
        host(&json!({})).process(psql(&known)).process(psql(&carried_out(&["10_item.sql"]))).run::<DbMigrate>();
    assert_eq!(report.result, Ok(Outcome::Succeeded), "{report:#?}");
    assert!(!script(&report).contains(FIRST));
    assert_eq!((&report.outputs["compatible"], &report.outputs["applied"]), (&json!(true), &json!(["10_item.sql"])));

    // Up to date; the token is raised all the same.
    let known = known + &applied("10_item.sql", SECOND, &json!({ "compatible": true }));
    let report = host(&json!({})).process(psql(&known)).process(psql("")).run::<DbMigrate>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert!(script(&report).contains("INSERT INTO stagewright.fence"));
    assert_eq!(report.outputs["applied"], json!([]));
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_carried_out() {
    let first = applied("9_orders.sql", FIRST, &json!({}));
    let cases = [
        (
            host(&json!({})),
            applied("9_orders.sql", "CREATE TABLE x ();", &json!({})),
            "has changed since it was carried out",
        ),
        (host(&json!({})).file("migrations/8_late.sql", "SELECT 1"), first.clone(), "comes before a migration"),
        (host(&json!({})).file("migrations/09_twice.sql", "SELECT 1"), String::new(), "have the same number"),
        (host(&json!({})).file("migrations/late.sql", "SELECT 1"), String::new(), "doesn't begin with a number"),
        (
            host(&json!({})).file("migrations/11_x.sql", "\n\\! rm -rf /\n"),
            String::new(),
            "has a command of psql: `\\! rm -rf /`",
        ),
        (
            host(&json!({})).file("migrations/11_x.sql", "-- stagewright: compatable\n"),
            String::new(),
            "unknown marker `compatable`",
        ),
        (
            host(&json!({})),
            first.clone() + &applied("12_drop.sql", "x", &json!({})),
            "`12_drop.sql`, which this release doesn't know",
        ),
        (host(&json!({})), applied("9_orders.sql", FIRST, &json!({ "finished": false })), "was interrupted"),
        (host(&json!({ "files": "nothing/*.sql" })), String::new(), "no file matches"),
    ];
    for (host, known, expected) in cases {
        let report = host.process(psql(&known)).run::<DbMigrate>();
        let error = report.result.as_ref().unwrap_err();
        assert!(error.message.contains(expected) && error.help.is_some(), "{expected}: {error:?}");
        assert!(report.spawned.len() <= 1, "{expected}");
    }
    // A later release's migration that this one can live with.
    let later = first + &applied("12_add.sql", "x", &json!({ "compatible": true }));
    let report =
        host(&json!({})).process(psql(&later)).process(psql(&carried_out(&["10_item.sql"]))).run::<DbMigrate>();
    assert_eq!(report.result, Ok(Outcome::Succeeded), "{report:#?}");
}

#[test]
fn an_error_has_the_file_and_its_line() {
    let dry = host(&json!({})).process(psql("")).process(psql("")).run::<DbMigrate>();
    let lines: Vec<String> = script(&dry).lines().map(str::to_owned).collect();
    let line = lines.iter().position(|line| line.starts_with("ALTER TABLE orders")).unwrap() + 1;
    let fails = ProcessScript::new("psql", ["--no-psqlrc"])
        .exit(3)
        .stderr(format!("psql:<stdin>:{line}: ERROR:  column \"item\" of relation \"orders\" already exists\n"));
    let error = host(&json!({})).process(psql("")).process(fails).run::<DbMigrate>().result.unwrap_err();
    assert!(error.message.contains("migrations/10_item.sql, line 2"), "{error:?}");
    assert!(error.causes[0].contains("already exists"));
}

#[test]
fn a_migration_without_a_transaction_is_noted_before_it_begins() {
    let concurrently = "-- stagewright: no-transaction\nCREATE INDEX CONCURRENTLY i ON orders (id);\n";
    let report = host(&json!({}))
        .file("migrations/11_index.sql", concurrently)
        .process(psql(""))
        .process(psql(&carried_out(&["9_orders.sql", "10_item.sql", "11_index.sql"])))
        .run::<DbMigrate>();
    let script = script(&report);
    let (_, own) = script.split_once("carried-out', '10_item.sql'").unwrap();
    let at = |text: &str| own.find(text).unwrap_or_else(|| panic!("no {text} in {own}"));
    assert!(at("false, 'run-1'") < at("CONCURRENTLY") && at("CONCURRENTLY") < at("SET finished = true"));
    assert!(!own.contains("BEGIN;\n"), "{own}");
}

#[test]
fn seed_data_is_for_environments_that_are_not_protected() {
    let seeds = json!({ "seeds": "seeds/*.sql" });
    let seeded = || host(&seeds).file("seeds/people.sql", "INSERT INTO people VALUES (1);");
    let protected = json!({ "name": "production", "protected": true });
    let report = seeded().settings(protected).process(psql("")).run::<DbMigrate>();
    assert!(report.result.unwrap_err().message.contains("protected"));
    let names = carried_out(&["9_orders.sql", "10_item.sql", "seed: people.sql"]);
    let report = seeded().process(psql("")).process(psql(&names)).run::<DbMigrate>();
    assert_eq!(report.result, Ok(Outcome::Succeeded), "{report:#?}");
    assert_eq!(report.outputs["schema"], "10_item.sql");
}

#[test]
fn an_interrupted_attempt_goes_on_and_only_what_is_compatible_can_be_undone() {
    let first = applied("9_orders.sql", FIRST, &json!({ "run": "run-1" }));
    let observe = |known: &str| host(&json!({})).process(psql(known)).observe::<DbMigrate>();
    assert_eq!(observe(&first).result, Ok(Observation::NotStarted));
    let both = first.clone() + &applied("10_item.sql", SECOND, &json!({ "run": "run-1", "compatible": true }));
    let report = observe(&both);
    assert!(matches!(report.result, Ok(Observation::Applied(_))), "{:?}", report.result);
    assert_eq!(report.outputs["applied"], json!(["9_orders.sql", "10_item.sql"]));

    let undo = |known: &str| host(&json!({})).process(psql(known)).undo::<DbMigrate>().result;
    let error = undo(&both).unwrap_err();
    assert!(error.message.contains("9_orders.sql") && error.help.unwrap().contains("db-restore"));
    let second = applied("9_orders.sql", FIRST, &json!({}))
        + &applied("10_item.sql", SECOND, &json!({ "run": "run-1", "compatible": true }));
    assert_eq!(undo(&second), Ok(()));
}
