//! Images: builds are reproducible, and another registry accepts them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::environment::{TestEnvironment, failure, outcomes, text};

/// `REGISTRY` is replaced by a registry's address.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "images"

[stages.compile]
uses = "command"
with = { argv = ["rustc", "-C", "target-feature=+crt-static", "-C", "panic=abort", "-o", "out/hello", "hello.rs"] }
[stages.compile.permissions]
process = ["rustc"]
read = ["hello.rs"]
write = ["out"]
env = ["RUSTUP_HOME", "RUSTUP_TOOLCHAIN"]

[stages.first]
uses = "build-image"
needs = ["compile"]
[stages.first.with]
files = [{ from = "out/hello", to = "/hello" }, { from = "assets", to = "/assets" }]
entrypoint = ["/hello"]
tags = ["1.0"]
layout = "images/first"
strict = true
[stages.first.permissions]
read = ["out", "assets"]
write = ["images/first"]

[stages.disturb]
uses = "command"
needs = ["first"]
with = { run = "touch -d 2001-02-03 out/hello assets/*; chmod g+w,o-r assets/*; mv assets/a assets/x; mv assets/x assets/a" }
[stages.disturb.permissions]
process = ["sh"]
write = ["out", "assets"]

[stages.second]
uses = "build-image"
needs = ["disturb"]
[stages.second.with]
files = [{ from = "out/hello", to = "/hello" }, { from = "assets", to = "/assets" }]
entrypoint = ["/hello"]
tags = ["1.0"]
layout = "images/second"
strict = true
[stages.second.permissions]
read = ["out", "assets"]
write = ["images/second"]

[stages.push]
uses = "push-image"
needs = ["second"]
with = { layout = "images/second", image = "REGISTRY/team/hello", tags = ["1.0", "refs/heads/new/thing"] }
[stages.push.permissions]
read = ["images/second"]
registry = ["REGISTRY/team/hello"]
"#;

/// A running registry: `docker-registry` from Debian's package of that name.
struct Registry {
    process: Child,
    address: String,
    _folder: TempDir,
}

impl Registry {
    fn start() -> Registry {
        let folder = tempfile::tempdir().expect("a folder");
        let (config, data) = (folder.path().join("config.yml"), folder.path().join("data"));
        let text = format!(
            "version: 0.1\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: \"127.0.0.1:0\" }}\n",
            data.display()
        );
        std::fs::write(&config, text).expect("a file");
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tests need a registry: install Debian's package `docker-registry`");
        let mut log = BufReader::new(process.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let address = log.find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split('"').next()?.to_owned())
        });
        // Keep reading the log, or the registry blocks once the pipe is full.
        std::thread::spawn(move || log.count());
        Registry { process, address: address.expect("the registry logs its address"), _folder: folder }
    }

    /// The digest of a tag.
    fn digest(&self, repository: &str, tag: &str) -> String {
        let mut connection = TcpStream::connect(&self.address).expect("a connection");
        let request = format!(
            "HEAD /v2/{repository}/manifests/{tag} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             accept: application/vnd.oci.image.manifest.v1+json\r\n\r\n",
            self.address
        );
        connection.write_all(request.as_bytes()).expect("the request is sent");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let mut headers = answer.lines().filter_map(|line| line.split_once(": "));
        let digest = headers.find(|(name, _)| name.eq_ignore_ascii_case("docker-content-digest"));
        digest.unwrap_or_else(|| panic!("no digest: {answer}")).1.to_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// All files below a folder.
fn files(folder: &Path, found: &mut BTreeMap<String, Vec<u8>>, prefix: &str) {
    for entry in folder.read_dir().expect("a folder").flatten() {
        let name = format!("{prefix}/{}", entry.file_name().display());
        match entry.file_type().expect("a type").is_dir() {
            true => files(&entry.path(), found, &name),
            false => drop(found.insert(name, std::fs::read(entry.path()).expect("a file"))),
        }
    }
}

fn outputs(events: &[Json], stage: &str) -> Json {
    let ended = events.iter().find(|event| event["type"] == "attempt-ended" && event["stage-id"] == stage);
    ended.unwrap_or_else(|| panic!("`{stage}` never ended: {events:#?}"))["outputs"].clone()
}

#[test]
fn the_same_files_give_the_same_image_and_a_registry_confirms_its_digest() {
    let registry = Registry::start();
    let environment = TestEnvironment::with_pipeline(&PIPELINE.replace("REGISTRY", &registry.address));
    environment.write("hello.rs", "fn main() { println!(\"hello\") }");
    for asset in ["a", "b", "c"] {
        environment.write(&format!("assets/{asset}"), asset);
    }
    let (code, events) = environment.events(&["run"]);
    let outcomes = outcomes(&events);
    let unsuccessful = outcomes.iter().find(|(_, outcome)| *outcome != "succeeded");
    assert!(
        unsuccessful.is_none(),
        "{:#?}",
        events.iter().filter(|event| !event["failure"].is_null()).collect::<Vec<_>>()
    );
    assert_eq!((code, outcomes.len()), (0, 5));

    let [first, second] = ["images/first", "images/second"].map(|layout| {
        let mut found = BTreeMap::new();
        files(&environment.root().join(layout), &mut found, "");
        found
    });
    assert!(first.len() > 4, "{:?}", first.keys());
    assert!(first == second, "two builds differ: {:?} and {:?}", first.keys(), second.keys());

    let digest = text(&outputs(&events, "push")["digest"]);
    assert_eq!(digest, text(&outputs(&events, "first")["digest"]));
    for tag in ["1.0", "new-thing"] {
        assert_eq!(registry.digest("team/hello", tag), digest, "{tag}");
    }
    assert_eq!(text(&outputs(&events, "push")["reference"]), format!("{}/team/hello@{digest}", registry.address));

    let inspected = inspect(&environment.root().join("images/first"));
    assert_eq!(text(&inspected["Digest"]), digest);
    assert_eq!((text(&inspected["Os"]), text(&inspected["Architecture"])), ("linux".to_owned(), "amd64".to_owned()));
    assert_eq!(inspected["Layers"].as_array().unwrap().len(), 1);
}

/// Reads a layout with another tool.
fn inspect(layout: &Path) -> Json {
    let output = Command::new("skopeo").arg("inspect").arg(format!("oci:{}:1.0", layout.display())).output();
    let output = output.expect("the tests need a reader of images: install Debian's package `skopeo`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_program_that_cannot_start_in_its_image_is_reported() {
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        [pipeline]
        name = "dynamic"
        [stages.image]
        uses = "build-image"
        with = { files = [{ from = "program", to = "/program", executable = true }], entrypoint = ["/program"], strict = true }
        [stages.image.permissions]
        read = ["program"]
        write = ["target/image"]
        "#,
    );
    std::fs::copy("/bin/sh", environment.root().join("program")).unwrap();
    let (code, events) = environment.events(&["run"]);
    assert_eq!(code, 1);
    let failure = failure(&events, "image");
    assert!(text(&failure["message"]).contains("linked dynamically"), "{failure:#}");
    assert!(text(&failure["help"]).contains("statically"), "{failure:#}");
}

/// Unpacks the layer with the system's tar into an empty folder, as a container runtime would.
#[test]
fn links_and_long_names_of_a_layer_are_unpacked_unchanged() {
    let environment = TestEnvironment::with_pipeline(
        "schema = 1\n[pipeline]\nname = \"links\"\n[stages.image]\nuses = \"build-image\"\n\
         with = { files = [\"app\"], layout = \"img\", compression = \"none\" }\n\
         permissions = { read = [\"app\"], write = [\"img\"] }\n",
    );
    let root = environment.root();
    let long = format!("{}/{}-ü", "folder-of-a-long-name".repeat(6), "n".repeat(200));
    environment.write(&format!("app/lib/{long}"), "long");
    std::fs::create_dir_all(root.join("app/empty")).unwrap();
    let far = format!("../{}", "elsewhere/".repeat(30));
    let links = [
        (long.as_str(), "lib/so"),
        ("lib", "lib64"),
        ("nowhere", "dangling"),
        ("/etc/hosts", "absolute"),
        (&far, "far"),
    ];
    for (target, link) in links {
        std::os::unix::fs::symlink(target, root.join("app").join(link)).unwrap();
    }
    std::fs::hard_link(root.join("app/lib").join(&long), root.join("app/second")).unwrap();
    let ended = environment.run(&["run"]).exits(0);
    assert!(ended.stdout.contains("/app/dangling is a link to `nowhere`"), "{}", ended.stdout);

    let unpacked = TempDir::new().unwrap();
    let blobs = std::fs::read_dir(root.join("img/blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let layer = blobs.max_by_key(|blob| blob.metadata().unwrap().len()).unwrap();
    let done = Command::new("tar").arg("-xf").arg(layer).arg("-C").arg(unpacked.path()).output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    let app = unpacked.path().join("app");
    for (target, link) in links {
        assert_eq!(std::fs::read_link(app.join(link)).unwrap(), Path::new(target), "{link}");
    }
    assert_eq!(std::fs::read_to_string(app.join("lib64").join(&long)).unwrap(), "long");
    assert_eq!(std::fs::read_to_string(app.join("second")).unwrap(), "long");
    assert!(app.join("empty").is_dir());
}

/// WASM modules and files, in the embedded registry and in another one.
#[test]
fn artifacts_that_are_no_images_are_pushed_with_their_media_types() {
    let registry = Registry::start();
    let pipeline = r#"
        schema = 1
        [pipeline]
        name = "artifacts"
        [stages.module]
        uses = "oci-artifact"
        with = { wasm = "analyzer.wasm", layout = "out/module", tags = ["1.0"] }
        [stages.policies]
        uses = "oci-artifact"
        [stages.policies.with]
        files = [{ path = "a.json", media-type = "application/json" }, { path = "b.json", media-type = "application/json" }]
        artifact-type = "application/vnd.acme.policy.v1"
        layout = "out/policies"
        tags = ["1.0"]
        [stages.push-module]
        uses = "push-image"
        needs = ["module"]
        with = { layout = "out/module", images = ["REGISTRY/acme/analyzer", "local/analyzer"] }
        [stages.push-policies]
        uses = "push-image"
        needs = ["policies"]
        with = { layout = "out/policies", images = ["REGISTRY/acme/policies", "local/policies"] }
    "#;
    let repository = TestEnvironment::with_pipeline(&pipeline.replace("REGISTRY", &registry.address));
    std::fs::write(repository.root().join("analyzer.wasm"), b"\0asm\x0d\0\x01\0").expect("a file");
    repository.write("a.json", "{}");
    repository.write("b.json", "[]");
    repository.run(&["grant", "--yes"]).exits(0);
    let (code, events) = repository.events(&["run"]);
    assert_eq!(code, 0, "{events:#?}");
    let inspect = |name: &str| -> Json {
        let reference = format!("docker://{}/acme/{name}:1.0", registry.address);
        let output = Command::new("skopeo")
            .args(["inspect", "--tls-verify=false", "--raw", &reference])
            .output()
            .expect("skopeo");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let module = inspect("analyzer");
    assert_eq!(module["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(module["layers"][0]["mediaType"], "application/wasm");
    let policies = inspect("policies");
    assert_eq!(policies["artifactType"], "application/vnd.acme.policy.v1");
    assert_eq!(policies["layers"][1]["annotations"]["org.opencontainers.image.title"], "b.json");
}
