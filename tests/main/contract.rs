//! Plugins that were built for other versions of the contract than this engine's.

use std::path::Path;

use serde_json::Value as Json;

use crate::environment::{TestEnvironment, plugins};
use crate::production::Production;

/// Plugins as they were built when a version was published, one folder for each version. They are never built again.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contract");

/// The versions. Since 0.2 each package has its own; these are those of `stage`, which is raised with any of them.
const VERSIONS: [&str; 5] = ["0.1", "0.2.0", "0.2.1", "0.2.2", "0.2.3"];

const PIPELINE: &str = "schema = 1\npipeline.name = \"old\"\n[stages.old]\nuses = \"path:old.wasm\"\n";

/// A repository whose only stage runs `noop`, with some bytes of the component replaced by as many others. That is how
/// names of other versions get in.
fn with_noop(replaced: &[(&str, &str)]) -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    let folder = std::env::split_paths(&plugins()).next().expect("a folder of plugins");
    let mut component = std::fs::read(folder.join("noop.wasm")).expect("a built plugin");
    for (name, other) in replaced {
        assert_eq!(name.len(), other.len(), "{name}");
        component = replace(&component, name.as_bytes(), other.as_bytes());
    }
    std::fs::write(environment.root().join(Path::new("old.wasm")), component).expect("a component");
    environment
}

fn replace(bytes: &[u8], name: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let found: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(name)).collect();
    assert!(!found.is_empty(), "the component doesn't contain {}", String::from_utf8_lossy(name));
    found.into_iter().for_each(|at| bytes[at..at + name.len()].copy_from_slice(other));
    bytes
}

#[test]
fn a_plugin_for_another_patch_version_passes_check_and_validate_and_runs() {
    let environment = with_noop(&[("@0.2.0", "@0.2.9"), ("@0.2.3", "@0.2.9")]);
    environment.run(&["plugin", "check", "old.wasm"]).exits(0);
    environment.run(&["validate"]).exits(0);
    environment.run(&["run"]).exits(0);
}

#[test]
fn check_validate_and_run_alike_name_a_missing_function_and_its_version() {
    let environment = with_noop(&[("@0.2.0", "@0.2.9"), ("@0.2.3", "@0.2.9"), ("config", "konfig")]);
    for command in [&["plugin", "check", "old.wasm"][..], &["validate"], &["run"]] {
        let refused = environment.run(command);
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert_ne!(refused.code, 0, "{command:?}: {said}");
        assert!(said.contains("needs `context.konfig` from 0.2.9; this engine has 0.2.0"), "{command:?}: {said}");
    }
}

/// A repository with a kept plugin as `old.wasm`.
fn with_kept(plugin: &str, pipeline: &str) -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(pipeline);
    std::fs::copy(Path::new(KEPT).join(plugin), environment.root().join("old.wasm")).expect("a kept plugin");
    environment
}

/// Calls that all versions have.
const CALLS: &str = r#"
schema = 1
pipeline.name = "old"
[secrets.token]
from = "env:TOKEN"
[stages.old]
uses = "path:old.wasm"
env = { MODE = "fast" }
with.actions = [
    { do = "write", path = "out/a", text = "hello" },
    { do = "append", path = "out/a", text = " again" },
    { do = "read", path = "out/a" },
    { do = "read-at", path = "out/a" },
    { do = "glob", pattern = "out/**" },
    { do = "start", program = "sh", args = ["-c", "echo $MODE $T"], secret-env = { T = "token" } },
    { do = "publish", name = "app", path = "out/a" },
    { do = "fetch", name = "app", path = "out/b" },
    { do = "read", path = "out/b" },
    { do = "reveal", secret = "token" },
    { do = "call", url = "http://127.0.0.1:9" },
    { do = "read", path = "../secret" },
    { do = "output", name = "a b", value = 1 },
    { do = "output", name = "n", value = 7 },
    { do = "say", place = "summary", text = "done" },
    { do = "wait", for-ms = 1 },
]
[stages.old.permissions]
write = ["out"]
process = ["sh"]
secrets = ["token"]
reveal = ["token"]
[stages.next]
uses = "command"
needs = ["old"]
with.run = "test ${{ int(stages.old.outputs.n) }} = 7"
permissions = { process = ["sh"] }
"#;

#[test]
fn plugins_of_every_version_call_the_host_as_before() {
    for version in VERSIONS {
        let mut environment = with_kept(&format!("{version}/stranger.wasm"), CALLS);
        environment.set("TOKEN", "hunter2hunter2");
        environment.run(&["plugin", "check", "old.wasm"]).exits(0);
        environment.run(&["validate"]).exits(0);
        let (code, events) = environment.events(&["run"]);
        assert_eq!(code, 0, "{version}: {events:#?}");
        let is_end = |event: &&Json| event["type"] == "attempt-ended" && event["stage-id"] == "old";
        let answers = events.iter().find(is_end).expect("an end")["outputs"]["answers"].to_string();
        for expected in ["hello again", "out/a", "fast", "PermissionDenied", "InvalidArgument"] {
            assert!(answers.contains(expected), "{version} {expected}: {answers}");
        }
    }
}

#[test]
fn plugins_of_every_version_deploy_and_roll_back() {
    for version in VERSIONS {
        let production = Production::deployed_by(&Path::new(KEPT).join(version).join("deploy.wasm"));
        let checked = production.0.run(&["plugin", "check", "deploy.wasm"]).exits(0);
        assert!(checked.stdout.contains("reconcile"), "{version}: {}", checked.stdout);
        production.0.run(&["validate"]).exits(0);
        production.deploy("1", 0);
        production.deploy("2", 0);
        assert_eq!(production.serves(), "version 2", "{version}");
        production.0.run(&["rollback", "production"]).exits(0);
        assert_eq!(production.serves(), "version 1", "{version}");
    }
}

#[test]
fn an_output_that_no_plugin_sets_is_found_before_anything_runs() {
    let pipeline = |output: &str| {
        format!(
            r#"
            schema = 1
            pipeline.name = "typo"
            [stages.test]
            uses = "cargo-test"
            permissions = {{ process = ["cargo"], read = ["."] }}
            [stages.tell]
            uses = "command"
            needs = ["test"]
            with.argv = ["echo", "${{{{ stages.test.outputs.{output} }}}}"]
            permissions = {{ process = ["echo"] }}
            "#
        )
    };
    let environment = TestEnvironment::with_pipeline(&pipeline("pased"));
    for command in ["validate", "run"] {
        let refused = environment.run(&[command]).exits(3);
        assert!(refused.stderr.contains("the stage `test` has no output `pased`"), "{}", refused.stderr);
        assert!(refused.stderr.contains("did you mean `passed`?"), "{}", refused.stderr);
    }
    environment.write("stagewright.toml", &pipeline("passed"));
    environment.run(&["validate"]).exits(0);
}

/// Answers each request after half a second, all at the same time.
fn slow_server() -> (std::net::SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::io::{Read as _, Write as _};
    use std::sync::atomic::{AtomicUsize, Ordering};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (open, most) = (std::sync::Arc::new(AtomicUsize::new(0)), std::sync::Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, open, most) = (stream.expect("a connection"), open.clone(), most.clone());
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(500));
                open.fetch_sub(1, Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            });
        }
    });
    (address, seen)
}

#[test]
fn a_guest_sends_several_requests_at_once() {
    let (address, most) = slow_server();
    let urls = (1..=3).map(|number| format!("\"http://{address}/{number}\"")).collect::<Vec<_>>().join(", ");
    let environment = TestEnvironment::with_pipeline(&format!(
        r#"
        schema = 1
        pipeline.name = "several"
        [stages.ask]
        uses = "stranger"
        with.actions = [
            {{ do = "call-all", urls = [{urls}], at-most = 3 }},
            {{ do = "first-of", program = "sleep", args = ["60"], after-ms = 10 }},
            {{ do = "first-of", program = "true", args = [], after-ms = 60000 }},
        ]
        [stages.ask.permissions]
        net = ["http://{address}"]
        process = ["sleep", "true"]
        "#
    ));
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 0, "{events:#?}");
    let ended = events.iter().find(|event| event["type"] == "attempt-ended").unwrap();
    let answers = serde_json::to_string(&ended["outputs"]["answers"]).expect("JSON");
    assert!(answers.contains("200"), "{answers}");
    assert_eq!(most.load(std::sync::atomic::Ordering::SeqCst), 3, "the server had all of them at the same time");
}

/// Sends a body in two pieces, and then leaves the connection open.
fn endless_server() -> std::net::SocketAddr {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none \r\n");
            std::thread::sleep(std::time::Duration::from_millis(100));
            let _ = stream.write_all(b"3\r\ntwo\r\n");
            open.push(stream);
        }
    });
    address
}

#[test]
fn a_guest_reads_a_body_without_an_end_together_with_a_time() {
    let address = endless_server();
    let environment = TestEnvironment::with_pipeline(&format!(
        r#"
        schema = 1
        pipeline.name = "watch"
        [stages.watch]
        uses = "stranger"
        with.actions = [{{ do = "listen", url = "http://{address}/", until = "two" }}]
        permissions = {{ net = ["http://{address}"] }}
        "#
    ));
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 0, "{events:#?}");
    let ended = events.iter().find(|event| event["type"] == "attempt-ended").expect("an end");
    assert_eq!(ended["outputs"]["answers"][0], "one two, and silence");
}
