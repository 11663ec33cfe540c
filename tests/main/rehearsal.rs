//! Rehearsals, observed from the outside: whatever a pipeline is granted, no external service is contacted.

mod again;
mod network;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value as Json;

use crate::environment::{Ended, TestEnvironment, eventually, outcomes, text};

/// A service that must not be contacted.
struct Witness {
    port: u16,
    heard: Arc<AtomicUsize>,
}

impl Witness {
    fn new() -> Witness {
        let heard = Arc::<AtomicUsize>::default();
        Witness { port: Witness::at(heard.clone()), heard }
    }

    /// Listens on another port.
    fn at(count: Arc<AtomicUsize>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let Ok(mut stream) = stream else { continue };
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
            }
        });
        port
    }

    fn on_socket(path: &std::path::Path) -> Witness {
        let listener = UnixListener::bind(path).expect("a socket");
        let heard = Arc::<AtomicUsize>::default();
        let count = heard.clone();
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Witness { port: 0, heard }
    }

    #[track_caller]
    fn assert_not_contacted(&self) {
        assert_eq!(self.heard.load(Ordering::SeqCst), 0, "the service was contacted");
    }
}

/// Why a stage was rehearsed.
fn reason(events: &[Json], stage: &str) -> String {
    let ended = events.iter().find(|event| event["type"] == "stage-ended" && event["stage-id"] == stage);
    text(&ended.unwrap_or_else(|| panic!("`{stage}` never ended"))["reason"])
}

/// Uses every capability and every kind of external grant. WITNESS and OTHER are ports, WITNESS_PATH is a
/// path.
const EVERYTHING: &str = r#"
schema = 1
[pipeline]
name = "everything"

[secrets.token]
from = "command:sh -c 'echo fetched >> MARK; echo real-secret-value'"
hosts = ["127.0.0.1:1"]
[secrets.key]
from = "env:REAL_KEY"
shape = "json"

[environments.production]
target = "process"
approvers = ["ada"]

[stages.image]
uses = "build-image"
with = { files = [{ from = "versioned", to = "/versioned" }], entrypoint = ["/versioned"], layout = "image", tags = ["x"] }
permissions = { read = ["versioned"], write = ["image"] }

[stages.push]
uses = "push-image"
needs = ["image"]
with = { layout = "image", image = "127.0.0.1:WITNESS/team/versioned", tags = ["1"] }
permissions = { read = ["image"], registry = ["127.0.0.1:WITNESS/team/versioned"] }

[stages.deploy]
uses = "deploy"
needs = ["push"]
environment = "production"
permissions = { registry = ["127.0.0.1:WITNESS/team/versioned"], service = ["versioned"], secrets = ["key"] }
[stages.deploy.with]
service = "versioned"
image = "${{ stages.push.outputs.reference }}"
port = WITNESS
env = { VERSION = "1", CALL = "OTHER", CALL_SOCKET = "WITNESS_PATH" }
secret-env = { KEY = "key" }

[stages.smoke]
uses = "smoke-test"
needs = ["deploy"]
environment = "production"
permissions = { net = ["http://127.0.0.1:WITNESS"] }
[stages.smoke.with]
url = "http://127.0.0.1:WITNESS"
deadline = "5s"
checks = [{ path = "/", status = 200, contains = "version 1" }]

[stages.get]
uses = "notify"
with = { url = "http://127.0.0.1:1/get", method = "GET", secret = "token", message = "m" }
permissions = { net = ["http://127.0.0.1:1"], secrets = ["token"] }

[stages.post]
uses = "notify"
with = { url = "http://api.example.org/deploy", message = "m" }
permissions = { net = ["http://api.example.org"] }

[stages.program]
uses = "command"
with = { run = "echo reached > reached" }
permissions = { process = ["sh"], write = ["."], net = ["http://127.0.0.1:WITNESS"] }

[stages.socket]
uses = "command"
with = { run = "echo reached > reached" }
permissions = { process = ["sh"], write = ["."], socket = ["WITNESS_PATH"] }

[stages.secret]
uses = "command"
with = { run = "echo reached > reached", secret-env = { TOKEN = "token" } }
permissions = { process = ["sh"], write = ["."], secrets = ["token"] }

[stages.inherits]
uses = "command"
with = { run = "echo reached > reached" }
permissions = { process = ["sh"], write = ["."], env = ["NPM_TOKEN"] }

[stages.packages]
uses = "command"
with = { run = "echo started > packages.txt" }
permissions = { process = ["sh"], write = ["packages.txt"], net = ["cargo", "npm", "pip"] }

[stages.local]
uses = "command"
with = { run = "echo done > local.txt" }
permissions = { process = ["sh"], write = ["local.txt"], env = ["LANG"] }

[stages.dry]
uses = "command"
with = { run = "exit 1" }
permissions = { process = ["sh"], secrets = ["key"], net = ["http://127.0.0.1:WITNESS"] }
[stages.dry.rehearse]
with = { run = "test \"$(echo $KEY | cut -c 3-10)\" = stand-in", secret-env = { KEY = "key" } }

[stages.uses-output]
uses = "noop"
needs = ["program"]
with = { message = "${{ stages.program.outputs.url }}" }
"#;

fn everything() -> (TestEnvironment, Witness, Witness) {
    let (mut environment, witness) = (TestEnvironment::new(), Witness::new());
    let other = Witness { port: Witness::at(witness.heard.clone()), heard: witness.heard.clone() };
    let socket = environment.root().parent().expect("a folder").join("witness.sock");
    let on_socket = Witness::on_socket(&socket);
    let pipeline = EVERYTHING
        .replace("WITNESS_PATH", &socket.display().to_string())
        .replace("WITNESS", &witness.port.to_string())
        .replace("OTHER", &other.port.to_string())
        .replace("MARK", &environment.root().join("fetched").display().to_string());
    environment.write("stagewright.toml", &pipeline);
    std::fs::copy(env!("CARGO_BIN_EXE_versioned"), environment.root().join("versioned")).expect("a copy");
    environment.set("REAL_KEY", "the-real-key-of-production");
    environment.set("NPM_TOKEN", "the-real-token-of-npm");
    (environment, witness, on_socket)
}

const REHEARSED: [&str; 7] = ["get", "inherits", "post", "program", "secret", "socket", "uses-output"];

#[test]
fn a_rehearsal_contacts_no_service_and_reports_what_it_skipped() {
    let (environment, witness, on_socket) = everything();
    let (code, events) = environment.events(&["run", "--rehearse"]);
    let ended = outcomes(&events);
    assert_eq!(code, 0, "{ended:#?} {events:#?}");
    for (stage, outcome) in &ended {
        let expected = if REHEARSED.contains(&stage.as_str()) { "rehearsed" } else { "succeeded" };
        assert_eq!(outcome, expected, "{stage}");
    }
    witness.assert_not_contacted();
    on_socket.assert_not_contacted();
    for file in ["reached", "fetched"] {
        assert!(!environment.root().join(file).exists(), "{file}");
    }
    for (stage, words) in [
        ("program", "would run `sh -eu -c 'echo reached > reached'`, reaching `http://127.0.0.1:"),
        ("socket", "witness.sock`"),
        ("secret", "with the secrets `token`"),
        ("inherits", "inheriting `NPM_TOKEN`"),
        ("get", "would send GET http://127.0.0.1:1/get"),
        ("post", "would send POST http://api.example.org/deploy"),
        ("uses-output", "needs an output of `program`"),
    ] {
        assert!(reason(&events, stage).contains(words), "{stage}: {}", reason(&events, stage));
    }
    let all = format!("{events:?}");
    assert!(!all.contains("the-real") && !all.contains("real-secret"), "{all}");
    let planned = events[0]["stages"].as_array().expect("a list");
    let planned = |id: &str| text(&planned.iter().find(|stage| stage["id"] == id).expect("a stage")["rehearsal"]);
    assert_eq!([planned("local"), planned("deploy"), planned("program")], ["real", "stand-in", "rehearsed"]);
}

#[test]
fn a_token_in_a_file_of_the_project_makes_its_package_host_one_to_publish_to() {
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        pipeline.name = "publish"
        [stages.publish]
        uses = "command"
        with = { run = "echo published > published" }
        permissions = { process = ["sh"], read = ["."], write = ["."], net = ["npm"] }
        "#,
    );
    environment.write(".npmrc", "//registry.npmjs.org/:_authToken=npm_abc\n");
    let plan = environment.run(&["plan", "--json"]).exits(0);
    assert!(plan.stdout.contains(r#""effect": "external""#), "{}", plan.stdout);
    let rehearsed = environment.run(&["run", "--rehearse"]).exits(0);
    assert!(rehearsed.stdout.contains("with the credentials in `.npmrc`"), "{}", rehearsed.stdout);
    assert!(!environment.root().join("published").exists());
    // In any folder in which a client could be started.
    std::fs::rename(environment.root().join(".npmrc"), environment.root().join("moved")).expect("it exists");
    environment.write("web/.npmrc", "//registry.npmjs.org/:_authToken=npm_abc\n");
    let rehearsed = environment.run(&["run", "--rehearse"]).exits(0);
    assert!(rehearsed.stdout.contains("with the credentials in `web/.npmrc`"), "{}", rehearsed.stdout);
    assert!(!environment.root().join("published").exists());
    std::fs::remove_dir_all(environment.root().join("web")).expect("it exists");
    environment.write(".npmrc", "save-exact=true\n");
    environment.run(&["run", "--rehearse"]).exits(0);
    assert!(environment.root().join("published").exists(), "fetching packages is allowed");
}

#[test]
fn offline_blocks_hosts_that_a_rehearsal_is_granted() {
    let (environment, witness) = (TestEnvironment::new(), Witness::new());
    let pipeline = r#"
        schema = 1
        pipeline.name = "granted"
        [stages.request]
        uses = "notify"
        with = { url = "http://127.0.0.1:WITNESS/", method = "GET", message = "m" }
        permissions = { net = ["http://127.0.0.1:WITNESS"] }
        rehearse = { permissions = { net = ["http://127.0.0.1:WITNESS"] } }
        [stages.program]
        uses = "command"
        with = { run = "echo started > started" }
        permissions = { process = ["sh"], write = ["."], net = ["http://127.0.0.1:WITNESS"] }
        rehearse = { permissions = { net = ["http://127.0.0.1:WITNESS"] } }
        "#;
    environment.write("stagewright.toml", &pipeline.replace("WITNESS", &witness.port.to_string()));
    let ends = |args: &[&str]| {
        let (code, events) = environment.events(args);
        assert_eq!(code, 0, "{events:#?}");
        ["request", "program"].map(|stage| outcomes(&events)[stage].clone())
    };
    assert_eq!(ends(&["run", "--rehearse", "--offline"]), ["rehearsed", "rehearsed"]);
    witness.assert_not_contacted();
    assert!(!environment.root().join("started").exists());
    assert_eq!(ends(&["run", "--rehearse"]), ["succeeded", "succeeded"]);
    assert!(witness.heard.load(Ordering::SeqCst) > 0 && environment.root().join("started").exists());
}

#[test]
fn real_effects_of_a_rehearsal_are_never_cached() {
    let witness = Witness::new();
    let pipeline = r#"
        schema = 1
        pipeline.name = "granted"
        [stages.check]
        uses = "command"
        inputs = ["in.txt"]
        with = { argv = ["curl", "--silent", "--fail", "http://127.0.0.1:WITNESS/"] }
        permissions = { process = ["curl"], read = ["in.txt"] }
        [stages.check.rehearse]
        permissions = { net = ["http://127.0.0.1:WITNESS"] }
        "#;
    let environment = TestEnvironment::with_pipeline(&pipeline.replace("WITNESS", &witness.port.to_string()));
    environment.write("in.txt", "in");
    for times in 1..=2 {
        let (code, events) = environment.events(&["run", "--rehearse"]);
        assert_eq!((code, outcomes(&events)["check"].as_str()), (0, "succeeded"), "{events:#?}");
        assert_eq!(witness.heard.load(Ordering::SeqCst), times);
        assert!(format!("{events:?}").contains("effect-intended"), "{events:#?}");
    }
    let plan = environment.run(&["plan", "--rehearse", "--json"]).exits(0).stdout;
    assert!(plan.contains(r#""effect": "external""#), "{plan}");
}

#[test]
fn plan_says_of_each_stage_what_a_rehearsal_does_and_the_lock_holds_its_grants() {
    let (environment, ..) = everything();
    let plan = environment.run(&["plan", "--rehearse", "--json"]).exits(0);
    let plan: Json = serde_json::from_str(&plan.stdout).expect("JSON");
    let fidelity = |id: &str| {
        let stages = plan["stages"].as_array().expect("a list");
        text(&stages.iter().find(|stage| stage["id"] == id).expect("a stage")["rehearsal"])
    };
    for (stage, expected) in [
        ("image", "real"),
        ("push", "stand-in"),
        ("deploy", "stand-in"),
        ("smoke", "stand-in"),
        ("get", "stand-in"),
        ("post", "rehearsed"),
        ("program", "rehearsed"),
        ("inherits", "rehearsed"),
        ("local", "real"),
        ("dry", "stand-in"),
    ] {
        assert_eq!(fidelity(stage), expected, "{stage}");
    }
    environment.run(&["lock"]).exits(0);
    let wider = environment.read("stagewright.toml").replace(
        "[stages.dry.rehearse]\n",
        "[stages.dry.rehearse]\npermissions = { net = [\"https://dry.example.org\"] }\n",
    );
    environment.write("stagewright.toml", &wider);
    let refused = environment.run(&["run", "--rehearse", "--locked"]).exits(4);
    let words = "a rehearsal of `dry` may now call https://dry.example.org";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);
}

const SERVICE: &str = r#"
schema = 1
pipeline.name = "NAME"
[environments.production]
target = "process"
[stages.image]
uses = "build-image"
with = { files = [{ from = "versioned", to = "/versioned" }], entrypoint = ["/versioned"], layout = "image-NAME", tags = ["x"] }
permissions = { read = ["versioned"], write = ["image-NAME"] }
[stages.push]
uses = "push-image"
needs = ["image"]
with = { layout = "image-NAME", image = "local/versioned", tags = ["1"] }
permissions = { read = ["image-NAME"], registry = ["local/versioned"] }
[stages.deploy]
uses = "deploy"
needs = ["push"]
environment = "production"
with = { service = "versioned", image = "${{ stages.push.outputs.reference }}", env = { VERSION = "NAME" } }
permissions = { registry = ["local/versioned"], service = ["versioned"] }
[stages.wait]
uses = "command"
needs = ["deploy"]
with = { run = "touch there-NAME; until test -e go-NAME; do sleep 0.05; done" }
permissions = { process = ["sh", "touch", "sleep"], write = ["."] }
[stages.smoke]
uses = "smoke-test"
needs = ["wait"]
environment = "production"
with = { url = "${{ stages.deploy.outputs.url }}", checks = [{ path = "/", status = 200, contains = "version NAME" }] }
permissions = { net = ["http://127.0.0.1:*"] }
"#;

#[test]
fn two_rehearsals_at_once_have_environments_and_services_of_their_own() {
    let environment = TestEnvironment::new();
    for name in ["one", "two"] {
        environment.write(&format!("pipelines/{name}.toml"), &SERVICE.replace("NAME", name));
    }
    std::fs::copy(env!("CARGO_BIN_EXE_versioned"), environment.root().join("versioned")).expect("a copy");
    let first = environment.start(&["run", "one", "--rehearse"]);
    eventually("the first rehearsal's deploy", || environment.root().join("there-one").exists().then_some(()));
    environment.write("go-two", "");
    environment.run(&["run", "two", "--rehearse", "--keep-services"]).exits(0);
    environment.write("go-one", "");
    Ended::of(&first.wait_with_output().expect("an end")).exits(0);

    let running = || environment.run(&["service", "status", "--rehearsal", "--json"]).exits(0).stdout;
    assert_eq!(running().matches("\"running\"").count(), 1, "{}", running());
    environment.run(&["run", "one", "--rehearse"]).exits(0);
    assert_eq!(running().matches("\"running\"").count(), 1, "the services of the other rehearsal keep running");
    environment.run(&["service", "stop", "--rehearsal"]).exits(0);
    assert_eq!(running().matches("\"running\"").count(), 0, "{}", running());
}

#[test]
fn a_local_stage_that_names_an_environment_waits_for_its_approvers() {
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        pipeline.name = "site"
        [environments.production]
        target = "process"
        approvers = ["ada"]
        [stages.deploy]
        uses = "command"
        environment = "production"
        with = { run = "echo v > public/index.html" }
        permissions = { process = ["sh"], write = ["public"] }
        "#,
    );
    let waits = environment.run(&["run"]).exits(5);
    assert!(!environment.root().join("public/index.html").exists(), "{}", waits.stdout);
    let rehearsed = environment.run(&["run", "--rehearse"]).exits(0);
    assert!(rehearsed.stdout.contains("on the environment `production`"), "{}", rehearsed.stdout);
    assert!(!environment.root().join("public/index.html").exists(), "a rehearsal deployed for real");
}
