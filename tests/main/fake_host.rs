//! The SDK's fake host answers like the engine: the same plugin makes the same calls on both, chosen at random from a seed.

use fastrand::Rng;
use serde_json::{Value as Json, json};
use stagewright_sdk::Permission;
use stagewright_sdk::fake::FakeHost;
use stranger::Stranger;

use crate::environment::TestEnvironment;

/// How many series of calls are compared.
const SERIES: u64 = 12;
/// How many calls each of them has.
const CALLS: usize = 300;

/// The files of the workspace on both hosts.
const FILES: [(&str, &str); 4] =
    [("w/a.txt", "one"), ("w/b/c.txt", "two"), ("w/b/d e.txt", ""), ("w/[x].txt", "brackets")];

fn one<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.usize(..of.len())]
}

fn path(rng: &mut Rng) -> &'static str {
    const PATHS: [&str; 21] = [
        "w/a.txt",
        "w/a.txt",
        "w/b/c.txt",
        "w/b",
        "w",
        "./w/a.txt",
        "w//a.txt",
        "w/./b/c.txt",
        "w/a.txt/",
        "w/b/d e.txt",
        "../x",
        "/etc/passwd",
        "w/../w/a.txt",
        "",
        "w/new.txt",
        "w/new/deep.txt",
        "w/a.txt/x",
        "w/ü.txt",
        "w/[x].txt",
        "other.txt",
        "w/.hidden",
    ];
    one(rng, &PATHS)
}

fn text(rng: &mut Rng) -> String {
    format!("text {}", rng.u32(..3)).repeat(rng.usize(..2))
}

/// A value of an output: now and then so long that two of them exceed the limit.
fn value(rng: &mut Rng) -> String {
    if rng.u32(..6) == 0 { "x".repeat(600 * 1024) } else { text(rng) }
}

fn name(rng: &mut Rng) -> String {
    const NAMES: [&str; 10] = ["a", "b", "app.tar", "a b", "", "ü", "../a", ".a", "a/b", "A_b-c.9"];
    match rng.u32(..20) {
        0 => "n".repeat(129),
        _ => one(rng, &NAMES).to_owned(),
    }
}

/// A call that both hosts can answer without anything outside of them.
fn call(rng: &mut Rng) -> Json {
    const PATTERNS: [&str; 16] = [
        "w/**",
        "w/*",
        "w/*.txt",
        "**/*.txt",
        "w/{a,b}*",
        "w/[ab].txt",
        "w/?.txt",
        "../**",
        "/x",
        "w/**/c.txt",
        "",
        "[",
        "w/{a",
        "**",
        "./w/*",
        "w/b/",
    ];
    const URLS: [&str; 14] = [
        "http://127.0.0.1:1/",
        "https://example.org/x?y",
        "no url",
        "ftp://x/",
        "http://user:pw@example.org/",
        "http://",
        "HTTP://EXAMPLE.org:80",
        "",
        "unix:///run/x.sock:/a/b?c",
        "unix:///run/x.sock:/a/../b",
        "unix:///run/x.sock:/a%2Fb/",
        "unix:///run/x.sock",
        "unix://run/x.sock:/a",
        "unix:/run/x.sock:/a",
    ];
    const HEADERS: [(&str, &str); 6] =
        [("x-a", "b"), ("bad name", "v"), ("host", "x"), ("x-b", "a\nb"), ("", "x"), ("Transfer-Encoding", "chunked")];
    match rng.u32(..18) {
        0 => json!({ "do": "read", "path": path(rng) }),
        1 => json!({ "do": "read-at", "path": path(rng) }),
        2 => json!({ "do": "digest", "path": path(rng) }),
        3 => json!({ "do": "write", "path": path(rng), "text": text(rng) }),
        4 => json!({ "do": "append", "path": path(rng), "text": text(rng) }),
        5 => json!({ "do": "remove", "path": path(rng) }),
        6 | 7 => json!({ "do": "glob", "pattern": one(rng, &PATTERNS) }),
        8 => json!({ "do": "publish", "name": name(rng), "path": path(rng), "media-type": "text/plain" }),
        9 => json!({ "do": "fetch", "name": name(rng), "path": path(rng) }),
        10 | 11 => json!({ "do": "output", "name": name(rng), "value": value(rng) }),
        12 => {
            let value = [0.0, -1.5, 1e300][rng.usize(..3)];
            json!({ "do": "metric", "name": name(rng), "value": value, "unit": one(rng, &["", "ms", "a\nb", "%"]) })
        }
        13 => json!({ "do": "hold", "secret": one(rng, &["token", "none", ""]) }),
        14 => {
            let (header, value) = HEADERS[rng.usize(..HEADERS.len())];
            let method = one(rng, &["GET", "get", "POST", "BAD METHOD", ""]);
            json!({ "do": "call", "url": one(rng, &URLS), "method": method, "headers": { header: value } })
        }
        15 => {
            let choices = [json!([]), json!(["x", "y"]), json!(["x", "y"]), json!(["x", "x"]), json!([" "])];
            let expires = [json!(null), json!(0), json!(60_000), json!(u64::from(u32::MAX) * 1000)];
            let field = |rng: &mut Rng| json!([one(rng, &["f", "g", ""]), choices[rng.usize(..choices.len())]]);
            json!({
                "do": "open",
                "message": one(rng, &["Deploy?", " ", ""]),
                "approvals": rng.u32(..4),
                "approvers": vec!["ada"; [0, 1, 101][rng.usize(..3)]],
                "expires-ms": expires[rng.usize(..4)],
                "fields": [field(rng), field(rng)],
            })
        }
        16 => json!({ "do": "changes", "since": one(rng, &["", "main", "0123456789abcdef0123456789abcdef01234567"]) }),
        _ => json!({ "do": "build", "program": one(rng, &["sh", "./w/tool", "none"]), "quiet": rng.bool() }),
    }
}

fn on_fake_host(calls: &[Json]) -> Json {
    let host = FILES.into_iter().fold(FakeHost::new(), |host, (path, content)| host.file(path, content));
    let host = host.secret("token", "hunter2hunter2").deny(Permission::Net, "*").deny(Permission::Process, "*");
    let host = host.deny(Permission::Read, "other.txt").deny(Permission::Write, "other.txt");
    let report = host.config(json!({ "messages": true, "actions": calls })).run::<Stranger>();
    report.outputs.get("answers").cloned().unwrap_or_else(|| json!(format!("{:?}", report.result)))
}

fn on_engine(calls: &[Json]) -> Json {
    let mut environment = TestEnvironment::with_pipeline(&format!(
        "schema = 1\npipeline.name = \"calls\"\n[secrets.token]\nfrom = \"env:TOKEN\"\n[stages.stage]\n\
         uses = \"stranger\"\npermissions = {{ read = [\"w\"], write = [\"w\"], secrets = [\"token\"] }}\n\
         memory = \"1GiB\"\n[stages.stage.with]\nmessages = true\nactions = {}\n",
        toml(&json!(calls))
    ));
    environment.set("TOKEN", "hunter2hunter2");
    FILES.into_iter().for_each(|(path, content)| environment.write(path, content));
    environment.write("other.txt", "x");
    let (_, events) = environment.events(&["run"]);
    let ended = events.iter().find(|event| event["type"] == "attempt-ended").unwrap_or_else(|| panic!("{events:#?}"));
    ended["outputs"]["answers"].clone()
}

/// JSON as TOML: tables and lists in one line. Null has no form in TOML, and stands for a missing key.
fn toml(value: &Json) -> String {
    match value {
        Json::Object(entries) => {
            let entries = entries.iter().filter(|(_, value)| !value.is_null());
            let entries = entries.map(|(key, value)| format!("{} = {}", json!(key), toml(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Json::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[test]
fn the_fake_host_answers_like_the_engine() {
    let mut differences = Vec::new();
    for seed in 71..71 + SERIES {
        let mut rng = Rng::with_seed(seed);
        let calls: Vec<Json> = (0..CALLS).map(|_| call(&mut rng)).collect();
        let (fake, real) = (on_fake_host(&calls), on_engine(&calls));
        for (at, call) in calls.iter().enumerate() {
            if fake[at] != real[at] {
                let shown = |text: &Json| text.to_string().chars().take(200).collect::<String>();
                differences.push(format!(
                    "{seed}/{at} {}\n  fake {}\n  real {}",
                    shown(call),
                    shown(&fake[at]),
                    shown(&real[at])
                ));
                break;
            }
        }
    }
    assert!(differences.is_empty(), "{} series differ:\n{}", differences.len(), differences.join("\n"));
}
