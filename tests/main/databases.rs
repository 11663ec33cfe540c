//! Backups of databases, on real servers.

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::crash::{killed, stride};
use crate::environment::{TestEnvironment, failure, outcomes};
use crate::targets::aws::{SECRETS_OF_KEYS, credential, keys, start_seaweed};
use crate::targets::engine::{latest_run, to_the_end};
use server::{ADDRESS, PASSWORD, Server};

mod migrations;
mod server;

/// Tables whose names, values and kinds are what breaks comparisons and scripts.
const SCHEMA: &str = r#"
    CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL, price numeric(10, 2),
                         ordered timestamptz DEFAULT now(), tags text[], data jsonb, weight float8, label bytea);
    INSERT INTO orders (item, price, tags, data, weight, label)
        SELECT 'it''s "item" \ ' || i, i * 1.5, ARRAY['a', NULL, 'b,c'], jsonb_build_object('n', i), sqrt(i), decode('00ff', 'hex')
        FROM generate_series(1, 2000) AS i;
    CREATE SCHEMA "weird schema";
    CREATE TABLE "weird schema"."a""b'c" (x float8, y interval);
    INSERT INTO "weird schema"."a""b'c" VALUES ('NaN', '1 mon 2 days'), (0.1, NULL), (0.1, NULL);
    CREATE TABLE parts (k int) PARTITION BY RANGE (k);
    CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10);
    INSERT INTO parts VALUES (3);
    CREATE UNLOGGED TABLE sessions (id int);
    CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS number FROM orders;
    CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42';
    CREATE ROLE shop; GRANT SELECT ON orders TO shop; ALTER TABLE parts OWNER TO shop;
"#;

/// All rows of the table, in an order.
const ORDERS: &str = "SELECT md5(string_agg(o::text, E'\\n' ORDER BY id)) FROM orders AS o";

const BACKUP: &str = r#"
schema = 1
[pipeline]
name = "backup"

[secrets.db]
from = "env:DB_PASSWORD"
hosts = ["10.77.0.1"]

[stages.backup]
uses = "db-backup"
[stages.backup.with]
server = { postgresql = { host = "10.77.0.1", user = "postgres", secret = "db", tls = "disable" } }
database = "shop"
to = [PLACES]
MORE

[stages.verify]
uses = "db-verify"
needs = ["backup"]
[stages.verify.with]
from = { store = PLACE, backup = "${{ stages.backup.outputs.backup }}" IDENTITY }
database = "shop"
server = { postgresql = { host = "10.77.0.1", user = "postgres", secret = "db", tls = "disable" } }
checks = ["SELECT count(*) >= 2000 FROM orders", "SELECT answer() = 42"]
recovery-time-goal = "5m"
recovery-point-goal = "5m"
"#;

const RESTORE: &str = r#"
schema = 1
[pipeline]
name = "restore"

[environments.production]
target = "process"

[secrets.db]
from = "env:DB_PASSWORD"
hosts = ["10.77.0.1"]

[stages.restore]
uses = "db-restore"
environment = "production"
[stages.restore.with]
from = { store = { folder = "backups" } }
database = "shop"
server = { postgresql = { host = "10.77.0.1", user = "postgres", secret = "db", tls = "disable" } }
"#;

/// With a store in a folder, without encryption.
fn backup() -> String {
    BACKUP
        .replace("PLACES", "{ folder = \"backups\" }")
        .replace("PLACE", "{ folder = \"backups\" }")
        .replace("MORE", "")
        .replace("IDENTITY", "")
}

/// Granted what its stages need.
fn repository(server: &Server, pipeline: &str) -> TestEnvironment {
    let mut repository = server.machine.repository(pipeline);
    repository.set("DB_PASSWORD", PASSWORD);
    repository.write("restore.toml", RESTORE);
    repository.run(&["grant", "--yes"]).exits(0);
    repository.run(&["grant", "-p", "restore.toml", "--yes"]).exits(0);
    repository
}

fn shop() -> Server {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", SCHEMA);
    server
}

/// The outputs of a stage.
fn outputs(events: &[Json], stage: &str) -> Json {
    let ended = events.iter().rev().find(|event| event["type"] == "attempt-ended" && event["stage-id"] == stage);
    ended.unwrap_or_else(|| panic!("`{stage}` never ended: {events:#?}"))["outputs"].clone()
}

/// The files in the folder of backups.
fn stored(repository: &TestEnvironment) -> Vec<String> {
    let entries = std::fs::read_dir(repository.root().join("backups")).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn a_dropped_table_comes_back_row_by_row_and_goes_again_when_it_is_undone() {
    let server = shop();
    let repository = repository(&server, &backup());
    let (code, events) = repository.events(&["run"]);
    assert_eq!((code, outcomes(&events)["verify"].as_str()), (0, "succeeded"), "{events:#?}");
    assert_eq!(outputs(&events, "verify")["rows"], 2004, "{events:#?}");
    assert_eq!(server.databases(), ["shop"], "the scratch database is gone");
    assert_eq!(stored(&repository).len(), 2);
    let record = stored(&repository).into_iter().find(|name| name.ends_with(".json")).expect("a record");
    let record: Json = serde_json::from_str(&repository.read(&format!("backups/{record}"))).expect("JSON");
    assert_eq!(record["contents"]["tables"]["\"weird schema\".\"a\"\"b'c\""]["rows"], 3);
    assert!(record["verified"]["recovery-time-ms"].as_u64().is_some(), "{record}");

    let before = server.sql("shop", ORDERS);
    server.sql("shop", "DROP TABLE orders CASCADE; INSERT INTO parts VALUES (4)");
    let (code, events) = repository.events(&["run", "restore.toml"]);
    assert_eq!(code, 0, "{events:#?}");
    assert_eq!(server.sql("shop", ORDERS), before);
    assert_eq!(server.sql("shop", "SELECT has_table_privilege('shop', 'orders', 'SELECT')"), "t");
    assert_eq!(server.sql("shop", "SELECT tableowner FROM pg_tables WHERE tablename = 'parts'"), "shop");
    assert_eq!(server.sql("shop", "SELECT number FROM totals"), "2000");
    let previous = outputs(&events, "restore")["previous"].as_str().expect("a name").to_owned();
    assert_eq!(server.databases(), ["shop", &previous]);
    assert_eq!(server.sql(&previous, "SELECT count(*) FROM parts"), "2", "the data of before is kept");
    assert!(repository.run(&["show", "latest"]).exits(0).stdout.contains("Recovery time"));
    assert!(!repository.root().join(".database").exists());
}

#[test]
fn what_can_not_be_restored_is_found_before_the_database_is_touched() {
    let server = shop();
    let repository = repository(&server, &backup());
    repository.run(&["run"]).exits(0);
    let names = stored(&repository);
    let (dump, record) = (format!("backups/{}", names[0]), format!("backups/{}", names[1]));
    let (path, whole) = (repository.root().join(&dump), std::fs::read(repository.root().join(&dump)).expect("a file"));
    let before = server.sql("shop", ORDERS);
    let fails = |says: &str| {
        let (code, events) = repository.events(&["run", "restore.toml"]);
        let said = failure(&events, "restore").to_string();
        assert_eq!(code, 1, "{events:#?}");
        assert!(said.contains(says), "{said}");
        assert_eq!((server.databases(), server.sql("shop", ORDERS)), (vec!["shop".to_owned()], before.clone()));
    };
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("a file");
    fails("is damaged");
    // As if it had been truncated before it was stored: its record says that it is whole.
    let half = Sha256::digest(&whole[..whole.len() / 2]);
    let digest: String = half.iter().map(|byte| format!("{byte:02x}")).collect();
    let digest = format!("sha256:{digest}");
    let text = repository.read(&record);
    let parsed: Json = serde_json::from_str(&text).expect("JSON");
    let damaged = text.replace(parsed["digest"].as_str().expect("a digest"), &digest);
    repository.write(&record, &damaged);
    fails("can't restore the backup");
    // A row that isn't there.
    std::fs::write(&path, &whole).expect("a file");
    repository.write(&record, &text.replace("\"rows\": 2000", "\"rows\": 2001"));
    fails("public.orders: 2000 rows instead of 2001");
    repository.write(&record, &text);
    repository.run(&["run", "restore.toml"]).exits(0);
}

#[test]
fn a_backup_without_its_server_or_without_space_stores_nothing_and_says_why() {
    let server = shop();
    let mut repository = repository(&server, &backup());
    repository.run(&["run"]).exits(0);
    let earlier = stored(&repository);
    repository.set("DB_PASSWORD", "wrong-password");
    let refused = repository.run(&["run"]).exits(1).stdout;
    assert!(refused.contains("password authentication failed") && refused.contains("check `user`"), "{refused}");
    repository.set("DB_PASSWORD", PASSWORD);
    server.stop();
    let down = repository.run(&["run"]).exits(1).stdout;
    assert!(
        down.contains("could not connect to tcp://10.77.0.1:5432")
            || down.contains("could not connect to 10.77.0.1:5432"),
        "{down}"
    );
    assert!(down.contains("check that the server runs"), "{down}");
    assert_eq!(stored(&repository), earlier);
}

#[test]
fn an_encrypted_backup_in_a_bucket_is_kept_as_long_as_it_is_told() {
    let server = shop();
    start_seaweed(&server.machine);
    let identity = server.machine.run("age-keygen", &[]);
    let line = |start: &str| identity.lines().find_map(|line| line.strip_prefix(start)).expect("a key").to_owned();
    let (public, private) = (line("# public key: "), format!("AGE-SECRET-KEY-1{}", line("AGE-SECRET-KEY-1")));
    let bucket = "bucket = \"www\", prefix = \"backups/\", credential = \"s3\"";
    let pipeline = BACKUP
        .replace("PLACES", &format!("{{ {bucket}, keep = {{ last = 2 }} }}, {{ folder = \"backups\" }}"))
        .replace("PLACE", &format!("{{ {bucket} }}"))
        .replace("MORE", &format!("encrypt = [\"{public}\"]"))
        .replace("IDENTITY", ", identity = \"age\"");
    let secrets = "[secrets.age]\nfrom = \"env:AGE\"\n";
    let pipeline = format!("{pipeline}\n{}\n{SECRETS_OF_KEYS}\n{secrets}", credential("s3", "s3", "127.0.0.1:8333"));
    let mut repository = repository(&server, &pipeline);
    keys(&mut repository);
    repository.set("AGE", &private);
    for _ in 0..3 {
        repository.run(&["run"]).exits(0);
    }
    assert_eq!(stored(&repository).iter().filter(|name| name.ends_with(".dump.age")).count(), 3);
    let listed = server.machine.get("http://127.0.0.1:8333/www/?list-type=2&prefix=backups/").expect("a list");
    assert_eq!(listed.matches("<Key>").count(), 4, "{listed}");
    // Neither the store nor the log has a row, and the key is nowhere.
    let name = stored(&repository).into_iter().find(|name| name.ends_with(".age")).expect("a file");
    let content = std::fs::read(repository.root().join("backups").join(name)).expect("a file");
    assert!(content.starts_with(b"age-encryption.org/v1"));
    repository.set("AGE", "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ");
    let refused = repository.run(&["run"]).exits(1).stdout;
    assert!(refused.contains("can't decrypt the backup") && !refused.contains(&private), "{refused}");
}

#[test]
fn a_restore_that_is_killed_anywhere_leaves_the_one_data_or_the_other() {
    let server = shop();
    let repository = repository(&server, &backup());
    repository.run(&["run"]).exits(0);
    let before = server.sql("shop", ORDERS);
    let restore =
        repository.read("restore.toml").replace("schema = 1", "schema = 1\n[inputs.version]\ndefault = \"1\"");
    repository.write("stagewright.toml", &restore);
    let mut kills = 0;
    for write in (1..).step_by(stride(5)) {
        server.sql("shop", "DELETE FROM orders WHERE id = 1");
        let earlier = latest_run(&repository);
        if killed(&repository, &["run"], write).is_none() {
            break;
        }
        kills += 1;
        to_the_end(&repository, &["run"], &earlier);
        assert_eq!(server.sql("shop", ORDERS), before, "killed at {write}");
        let left = server.databases();
        // Once: a second restore would have kept what the first one restored.
        let [previous] = &left[1..] else { panic!("killed at {write}: {left:?}") };
        assert!(left[0] == "shop" && previous.starts_with("shop_before_"), "killed at {write}: {left:?}");
        assert_eq!(server.sql(previous, "SELECT count(*) FROM orders"), "1999", "killed at {write}");
        server.sql("postgres", &format!("DROP DATABASE {previous}"));
    }
    assert!(kills > 3, "the engine was killed {kills} times");
}

#[test]
fn a_server_is_found_by_its_name_and_an_older_restore_is_refused_by_the_server() {
    let server = shop();
    let mut repository = repository(&server, &backup());
    repository.run(&["run"]).exits(0);
    // The engine's own view of names: the sandbox has none but those that are granted.
    let hosts = server.machine.write("hosts", &format!("127.0.0.1 localhost\n{ADDRESS} db.example.org\n"));
    let with_hosts = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
    let mut entry: Vec<String> = ["unshare", "--mount", "sh", "-c", &with_hosts, "sh"].map(str::to_owned).to_vec();
    entry.extend(server.machine.entry());
    repository.enter_network(&entry);
    let named = repository.read("restore.toml").replace("10.77.0.1", "db.example.org");
    repository.write("restore.toml", &named);
    repository.run(&["run", "restore.toml"]).exits(0);
    // A newer run of another machine, whose journal isn't here.
    server.sql("postgres", "COMMENT ON DATABASE shop IS 'restored by Stagewright with token 99, run other'");
    let before = server.databases();
    let refused = repository.run(&["run", "restore.toml"]).exits(1).stdout;
    assert!(refused.contains("a newer run has restored this database"), "{refused}");
    assert_eq!(server.databases(), before);
    assert_eq!(server.sql("shop", "SELECT count(*) FROM orders"), "2000", "sessions are let in");
}
