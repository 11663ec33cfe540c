use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, Report};
use stagewright_sdk::{Outcome, Result};

use crate::Render;

const BASE: &str = "\
database:
  pool: 10
  ssl: require
  hosts: [a, b]
redis:
  pool: 20
debug: false
";
const PRODUCTION: &str = "[database]\npool = 50\nhosts = [\"c\"]\n\n[server]\nport = 8080\n";

fn host(mut with: Json) -> FakeHost {
    if with.get("layers").is_none() {
        with["layers"] = json!(["base.yaml", "production.toml"]);
    }
    FakeHost::new().config(with).file("base.yaml", BASE).file("production.toml", PRODUCTION)
}

fn merged(report: &Report<Result<Outcome>>, path: &str) -> String {
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    String::from_utf8(report.files[path].clone()).unwrap()
}

fn refused(host: FakeHost) -> Vec<String> {
    let report = host.run::<Render>();
    let error = report.result.unwrap_err();
    assert!(report.outputs.is_empty() && report.files.keys().all(|path| !path.starts_with("out")), "{error}");
    if error.causes.is_empty() { vec![error.message] } else { error.causes }
}

#[test]
fn later_layers_override_earlier_ones_and_each_value_has_its_origin() {
    let with = json!({ "values": { "image": "app@sha256:1", "redis": null }, "merged": [{ "to": "out/all.yaml" }] });
    let report = host(with).run::<Render>();
    let expected = "\
database:
  hosts:
  - c
  pool: 50
  ssl: require
debug: false
image: app@sha256:1
server:
  port: 8080
";
    assert_eq!(merged(&report, "out/all.yaml"), expected);
    let origins = json!({
        "database.hosts": "production.toml:3",
        "database.pool": "production.toml:2",
        "database.ssl": "base.yaml:3",
        "debug": "base.yaml:7",
        "image": "values",
        "server.port": "production.toml:6",
    });
    assert_eq!(report.outputs["origins"], origins);
    assert_eq!(report.outputs["values"]["database"]["pool"], 50);
    assert_eq!(report.outputs["files"], json!(["out/all.yaml"]));
    let row = "| database.pool | 50 | production.toml:2 | base.yaml:2 |\n";
    assert!(report.summaries.concat().contains(row), "{:?}", report.summaries);
}

#[test]
fn the_same_values_have_the_same_digest_and_others_another() {
    let digest = |pool: u8| {
        let with = json!({ "values": { "database": { "pool": pool } }, "merged": [{ "to": "out/a.json" }] });
        host(with).run::<Render>().outputs["digest"].clone()
    };
    assert_eq!(digest(1), digest(1));
    assert_ne!(digest(1), digest(2));
}

#[test]
fn every_format_is_read_and_written() {
    let values =
        json!({ "server": { "name": "a b", "on": true, "port": 80, "quoted": "it's \"$HOME\"\n", "text": "yes" } });
    for name in ["a.yaml", "a.yml", "a.json", "a.toml", "a.env", ".env.production"] {
        let to = format!("out/{name}");
        let with = json!({ "layers": [], "values": values, "merged": [{ "to": to, "key": "server" }] });
        let text = merged(&host(with).run::<Render>(), &to);
        let again = json!({ "layers": [to], "merged": [{ "to": "again.json" }] });
        let read = host(again).file(&to, text.as_str()).run::<Render>();
        let mut expected = values["server"].clone();
        if name.contains("env") {
            // Variables are texts.
            expected["on"] = json!("true");
            expected["port"] = json!("80");
        }
        assert_eq!(read.outputs["values"], expected, "{name}: {text}");
    }
}

#[test]
fn templates_are_filled_in_and_keep_their_paths_below_the_folder_of_the_glob() {
    let with = json!({ "templates": [{ "from": "deploy/**/*.yaml", "to": "out" }] });
    let app = "pool: {{ database.pool }}\n{% for host in database.hosts %}\n- {{ host }}\n{% endfor %}\n";
    let report = host(with)
        .file("deploy/app.yaml", "pool: {{ database.pool }}\nhosts: {{ database.hosts | tojson }}\n")
        .file("deploy/jobs/list.yaml", app.split_once('\n').unwrap().1)
        .run::<Render>();
    assert_eq!(merged(&report, "out/app.yaml"), "pool: 50\nhosts: [\"c\"]\n");
    assert_eq!(merged(&report, "out/jobs/list.yaml"), "- c\n");
}

#[test]
fn other_delimiters_leave_the_usual_ones_alone() {
    let with = json!({ "templates": [{ "from": "rules.txt", "to": "out.txt" }], "delimiters": ["[[", "]]"] });
    let report = host(with).file("rules.txt", "{{ $labels.pod }} [[ redis.pool ]]").run::<Render>();
    assert_eq!(merged(&report, "out.txt"), "{{ $labels.pod }} 20");
    let keys = |delimiters: Json| {
        let with = json!({ "templates": [{ "from": "a", "to": "b" }], "delimiters": delimiters });
        host(with).validate::<Render>().into_iter().filter_map(|problem| problem.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(json!(["{%", "%}"])), ["delimiters"]);
    assert_eq!(keys(json!(["", "]]"])), ["delimiters"]);
}

#[test]
fn a_placeholder_that_no_layer_fills_is_named_with_its_line() {
    let with = json!({ "templates": [{ "from": "a.txt", "to": "out.txt" }, { "from": "b.txt", "to": "out2.txt" }] });
    let causes = refused(host(with).file("a.txt", "one\n{{ database.user }}\n").file("b.txt", "{{ missing }}\n"));
    assert!(causes[0].starts_with("a.txt:2: `database.user`: no layer has a value for it"), "{causes:?}");
    assert!(causes[1].starts_with("b.txt:1: `missing`: no layer has a value for it"), "{causes:?}");
    // A table in place of a text, a syntax error, and a loop without end.
    for (text, said) in [
        ("{{ oops", "a.txt:1"),
        ("{% for x in range(99999) %}{% for y in range(99999) %}x{% endfor %}{% endfor %}", "a.txt"),
    ] {
        let with = json!({ "templates": [{ "from": "a.txt", "to": "out.txt" }] });
        let causes = refused(host(with).file("a.txt", text));
        assert!(causes[0].starts_with(said), "{causes:?}");
    }
}

#[test]
fn what_is_rendered_has_to_be_valid() {
    let with = json!({ "values": { "name": "a: b" }, "templates": [{ "from": "a.yaml", "to": "out.yaml" }] });
    let causes = refused(host(with.clone()).file("a.yaml", "x: 1\nname: {{ name }}\n"));
    assert!(causes[0].starts_with("a.yaml: the rendered `out.yaml` is invalid in line 2:"), "{causes:?}");
    let report = host(with).file("a.yaml", "name: {{ name | tojson }}\n").run::<Render>();
    assert_eq!(merged(&report, "out.yaml"), "name: \"a: b\"\n");
}

#[test]
fn mistakes_in_layers_are_named_with_their_lines() {
    let layer = |name: &str, text: &str| {
        let with = json!({ "layers": ["base.yaml", name], "merged": [{ "to": "out.json" }] });
        refused(host(with).file(name, text)).remove(0)
    };
    for (name, text, said) in [
        ("a.yaml", "debug: true\ndatabase: 3\n", "a.yaml:2: `database` is a value here and a table in base.yaml:1"),
        ("a.yaml", "debug: { a: 1 }\n", "a.yaml:1: `debug` is a table here and a value in base.yaml:7"),
        ("a.yaml", "a: 1\na: 2\n", "a.yaml:2: "),
        ("a.yaml", "- a\n", "a.yaml:1: a layer must be a table"),
        ("a.yaml", "a: 1\n---\nb: 1\n", "a.yaml:3: a layer must be one document"),
        ("a.toml", "a = 1\nb = \n", "a.toml:2: "),
        ("a.toml", "a = 1\nb = [nan]\n", "a.toml:2: a number must be finite"),
        ("a.json", "{\n\"a\": }\n", "a.json:2: "),
        ("a.env", "A=1\nB\n", "a.env:2: the line has no `=`"),
        ("a.env", "A=1\nA=2\n", "a.env:2: `A` was set before, in a.env:1"),
        ("a.env", "A=\"1\n", "a.env:1: the value of `A` isn't closed"),
        ("a.yaml", "database:\n  password: hunter2\n", "a.yaml:2: `database.password` is a secret as plain text"),
        ("a.env", "URL=postgres://app:pw@db/app\n", "a.env:1: `URL` is a secret as plain text"),
    ] {
        let cause = layer(name, text);
        assert!(cause.starts_with(said), "{said}: {cause}");
    }
    let with = json!({ "values": { "password": "x" }, "allow": ["plain-secrets"], "merged": [{ "to": "out.json" }] });
    assert!(host(with).run::<Render>().result.is_ok());
}

#[test]
fn required_keys_need_a_value() {
    let with = json!({ "required": ["database.pool", "database", "database.user"], "merged": [{ "to": "out.json" }] });
    assert_eq!(refused(host(with)), ["no layer has a value for: database.user"]);
}

#[test]
fn a_file_is_rendered_once_and_a_table_or_glob_that_is_missing_is_named() {
    for (with, said) in [
        (json!({ "merged": [{ "to": "out.json" }, { "to": "out.json" }] }), "`out.json` is rendered twice"),
        (json!({ "merged": [{ "to": "out.json", "key": "debug" }] }), "there is no table `debug`"),
        (json!({ "merged": [{ "to": "out.env" }] }), "`out.env` can't be written: `database` isn't a single value"),
        (json!({ "templates": [{ "from": "none/*", "to": "out" }] }), "`none/*` matches no file"),
    ] {
        let message = refused(host(with)).remove(0);
        assert!(message.starts_with(said), "{said}: {message}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_its_key_and_grants_are_known() {
    let keys = |with: Json| -> Vec<String> {
        host(with).validate::<Render>().into_iter().filter_map(|problem| problem.key).collect()
    };
    assert_eq!(keys(json!({ "layers": [] })), ["layers", "templates"]);
    assert_eq!(keys(json!({ "layers": ["a.ini"], "merged": [{ "to": "b.xml" }] })), ["layers[0]", "merged[0].to"]);
    let with = json!({ "templates": [{ "from": "deploy/*", "to": "out" }], "merged": [{ "to": "a.json" }] });
    let granted: Vec<String> = host(with)
        .requirements::<Render>()
        .into_iter()
        .map(|requirement| format!("{} {}", requirement.permission.key(), requirement.entry))
        .collect();
    assert_eq!(granted, ["read base.yaml", "read production.toml", "read deploy/*", "write out", "write a.json"]);
}

#[test]
fn texts_that_readers_of_yaml_could_take_for_something_else_are_quoted() {
    for text in [
        "yes",
        "off",
        "y",
        "null",
        "~",
        "0123",
        "0o17",
        "1e3",
        "1_000",
        "2026-01-01",
        "12:30:45",
        ".inf",
        "",
        "a: b",
        "# c",
        "- d",
    ] {
        let with = json!({ "layers": [], "values": { "text": text }, "merged": [{ "to": "out.yaml" }] });
        let written = merged(&host(with).run::<Render>(), "out.yaml");
        let quoted = [format!("text: \"{text}\"\n"), format!("text: '{text}'\n")];
        assert!(quoted.contains(&written), "{written}");
    }
}
