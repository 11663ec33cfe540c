//! Migrations of the schema.

use crate::crash::{killed, stride};
use crate::databases::server::{PASSWORD, Server};
use crate::environment::TestEnvironment;
use crate::targets::engine::{latest_run, to_the_end};

const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "migrate"

[environments.production]
target = "process"

[secrets.db]
from = "env:DB_PASSWORD"
hosts = ["10.77.0.1"]

[stages.migrate]
uses = "db-migrate"
environment = "production"
[stages.migrate.with]
server = { postgresql = { host = "10.77.0.1", user = "postgres", secret = "db", tls = "disable" } }
database = "shop"
files = "migrations/*.sql"
"#;

/// What migrations do that breaks scripts: bodies with semicolons and quotes, settings, and a file without a line end.
const FILES: [(&str, &str); 3] = [
    (
        "migrations/0001_orders.sql",
        "SET search_path = public;\nCREATE TABLE orders (id int, item text DEFAULT 'it''s; \\ done');\n\
         CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN\n  -- a 'quote\n  RETURN 1;\nEND; $$;",
    ),
    (
        "migrations/0002_index.sql",
        "-- stagewright: compatible\n-- stagewright: no-transaction\nCREATE INDEX CONCURRENTLY orders_id ON orders (id)",
    ),
    (
        "migrations/0003_rows.sql",
        "-- stagewright: compatible\nINSERT INTO orders (id) SELECT generate_series(1, 10) -- ten",
    ),
];

fn repository(server: &Server) -> TestEnvironment {
    server.sql("postgres", "CREATE DATABASE shop");
    let mut repository = server.machine.repository(PIPELINE);
    repository.set("DB_PASSWORD", PASSWORD);
    for (path, text) in FILES {
        repository.write(path, text);
    }
    repository.run(&["grant", "--yes"]).exits(0);
    repository
}

/// How often each file was carried out, by what it leaves.
fn left(server: &Server) -> String {
    server.sql("shop", "SELECT count(*) || ' ' || f() FROM orders")
}

#[test]
fn files_are_carried_out_once_and_in_their_order() {
    let server = Server::start();
    let repository = repository(&server);
    let first = repository.run(&["run"]).exits(0).stdout;
    assert!(first.contains("carrying out `migrations/0003_rows.sql`"), "{first}");
    repository.run(&["run"]).exits(0);
    assert_eq!(left(&server), "10 1");
    assert_eq!(
        server.sql("shop", "SELECT string_agg(name, ' ' ORDER BY name) FROM stagewright.migrations WHERE finished"),
        "0001_orders.sql 0002_index.sql 0003_rows.sql"
    );

    // It fails in its second statement, and leaves nothing of the first.
    repository.write("migrations/0004_wrong.sql", "CREATE TABLE half ();\n\nALTER TABLE missing ADD x int;\n");
    let failed = repository.run(&["run"]).exits(1).stdout;
    assert!(
        failed.contains("migrations/0004_wrong.sql, line 3") && failed.contains("\"missing\" does not exist"),
        "{failed}"
    );
    assert_eq!(server.sql("shop", "SELECT to_regclass('half') IS NULL"), "t");
    repository.write("migrations/0004_wrong.sql", "CREATE TABLE half ();\nCOMMIT;\n");
    let failed = repository.run(&["run"]).exits(1).stdout;
    assert!(
        failed.contains("the migration ends its transaction itself") && failed.contains("no-transaction"),
        "{failed}"
    );
    std::fs::remove_file(repository.root().join("migrations/0004_wrong.sql")).expect("a file");
    repository.write("migrations/0001_orders.sql", "SELECT 1");
    let failed = repository.run(&["run"]).exits(1).stdout;
    assert!(failed.contains("`migrations/0001_orders.sql` has changed since it was carried out"), "{failed}");
    assert_eq!(left(&server), "10 1");
}

#[test]
fn a_migration_that_is_killed_anywhere_goes_on_where_it_was() {
    let server = Server::start();
    let repository = repository(&server);
    let mut kills = 0;
    for write in (1..).step_by(stride(5)) {
        let earlier = latest_run(&repository);
        if killed(&repository, &["run"], write).is_none() {
            break;
        }
        kills += 1;
        to_the_end(&repository, &["run"], &earlier);
        assert_eq!(left(&server), "10 1", "killed at {write}");
        server.sql("postgres", "DROP DATABASE shop WITH (FORCE)");
        server.sql("postgres", "CREATE DATABASE shop");
    }
    assert!(kills > 3, "the engine was killed {kills} times");
}

#[test]
fn an_older_run_is_refused_by_the_database() {
    let server = Server::start();
    let repository = repository(&server);
    repository.run(&["run"]).exits(0);
    server.sql("shop", "UPDATE stagewright.fence SET token = 99, run = 'another machine'");
    repository.write("migrations/0004_more.sql", "CREATE TABLE more ()");
    let refused = repository.run(&["run"]).exits(1).stdout;
    assert!(refused.contains("a newer run has migrated this database"), "{refused}");
    assert_eq!(server.sql("shop", "SELECT to_regclass('more') IS NULL"), "t");
}
