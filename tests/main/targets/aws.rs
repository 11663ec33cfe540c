//! Services of AWS for tests: `ministack` keeps objects, functions and services of ECS, runs functions as processes and tasks
//! as containers, and checks access keys. It doesn't check signatures, nor share calls of an alias by its weights.

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::machine::Machine;
use crate::environment::{Ended, TestEnvironment};

mod front;

const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const KEY: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";

/// Where the services answer; the same port of `localhost` is another origin, for another credential.
const ENDPOINT: &str = "http://127.0.0.1:4566";

/// The services, and the machine in which they run.
pub(crate) struct Aws {
    pub(crate) machine: Machine,
}

/// An answer of a service.
pub(crate) struct Answer {
    pub(crate) status: String,
    /// In lower case, a line each.
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(super) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.body))
    }

    #[track_caller]
    pub(super) fn ok(self) -> Answer {
        assert!(self.status.starts_with('2'), "{} {}", self.status, self.body);
        self
    }
}

/// A credential in a pipeline file, for `service` at a host and port.
pub(crate) fn credential(name: &str, service: &str, origin: &str) -> String {
    format!(
        "[credentials.{name}]\ntype = \"aws-sigv4\"\naccess-key-id = \"key-id\"\nsecret-access-key = \"key\"\n\
         region = \"us-east-1\"\nservice = \"{service}\"\norigins = [\"http://{origin}\"]\n"
    )
}

/// The secrets of the credentials.
pub(crate) const SECRETS_OF_KEYS: &str = "[secrets.key-id]\nfrom = \"env:KEY_ID\"\nhosts = [\"127.0.0.1\", \"localhost\"]\n\
                       [secrets.key]\nfrom = \"env:KEY\"\nhosts = [\"127.0.0.1\", \"localhost\"]\n";

/// A program of the Python packages that `cargo xtask test` installs.
pub(crate) fn program(name: &str) -> String {
    let this = std::env::current_exe().expect("a test binary");
    let target = this.ancestors().nth(3).expect("…/debug/deps/main");
    let program = target.join("stagewright/python/bin").join(name);
    assert!(program.is_file(), "{} isn't installed: run `cargo xtask test`", program.display());
    program.display().to_string()
}

impl Aws {
    pub(crate) fn start() -> Aws {
        Aws::on(Machine::start(), "/nonexistent.sock")
    }

    /// `socket`: the engine that runs tasks.
    pub(super) fn on(machine: Machine, socket: &str) -> Aws {
        let ministack = program("ministack");
        let (temporary, id, key) = (
            machine.path("").display().to_string(),
            format!("AWS_ACCESS_KEY_ID={KEY_ID}"),
            format!("AWS_SECRET_ACCESS_KEY={KEY}"),
        );
        let (docker, temporary) = (format!("DOCKER_HOST=unix://{socket}"), format!("TMPDIR={temporary}"));
        let args = ["AUTH=true", "BIND_HOST=127.0.0.1", &docker, &id, &key, &temporary, &ministack];
        machine.serve("env", &args, |machine| machine.get(&format!("{ENDPOINT}/_ministack/health")).is_some());
        Aws { machine }
    }

    pub(super) fn repository(&self, pipeline: &str, files: &[(&str, &str)]) -> TestEnvironment {
        repository(&self.machine, pipeline, files)
    }

    /// Sends a request as the owner of the account.
    pub(crate) fn send(&self, service: &str, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let digest = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (scope, user) = (format!("aws:amz:us-east-1:{service}"), format!("{KEY_ID}:{KEY}"));
        let (digest, url) = (format!("x-amz-content-sha256: {digest}"), format!("{ENDPOINT}{path}"));
        let mut args =
            vec!["-si", "--max-time", "20", "--aws-sigv4", &scope, "--user", &user, "-X", method, "-H", &digest];
        args.extend(headers.iter().flat_map(|header| ["-H", *header]));
        if !body.is_empty() {
            args.extend(["--data-binary", body]);
        }
        args.push(&url);
        let answer = self.machine.run("curl", &args);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).unwrap_or_default().trim().to_owned();
        Answer { status, headers: head.to_ascii_lowercase(), body: body.to_owned() }
    }
}

/// Sets the secrets of the credentials.
pub(crate) fn keys(repository: &mut TestEnvironment) {
    repository.set("KEY_ID", KEY_ID);
    repository.set("KEY", KEY);
}

/// A repository with the secrets of the credentials, whose stages are granted what they use.
pub(super) fn repository(machine: &Machine, pipeline: &str, files: &[(&str, &str)]) -> TestEnvironment {
    let mut repository = machine.repository(&format!("{pipeline}\n{SECRETS_OF_KEYS}"));
    keys(&mut repository);
    for (path, text) in files {
        repository.write(path, text);
    }
    repository.run(&["grant", "--yes"]).exits(0);
    repository
}

/// SeaweedFS, an S3 server on port 8333 that checks signatures. Requests without one may do everything, so that a test can
/// look at the bucket.
pub(crate) fn start_seaweed(machine: &Machine) {
    let keys = format!(r#"[{{ "accessKey": "{KEY_ID}", "secretKey": "{KEY}" }}]"#);
    let rights = r#""actions": ["Admin", "Read", "Write", "List"]"#;
    let identities = format!(
        r#"{{ "identities": [{{ "name": "deploy", "credentials": {keys}, {rights} }}, {{ "name": "anonymous", {rights} }}] }}"#
    );
    // It has sockets with fixed names in /tmp, which has to be one of its own.
    let temporary = machine.path("tmp");
    std::fs::create_dir_all(temporary.join("data")).expect("a folder");
    machine.write("tmp/s3.json", &identities);
    let weed = format!(
        "mount --bind {} /tmp && exec {} server -dir=/tmp/data -ip=127.0.0.1 -ip.bind=127.0.0.1 -volume.max=100 \
         -volume.preStopSeconds=0 -master.volumeSizeLimitMB=64 -s3 -s3.port=8333 -s3.config=/tmp/s3.json",
        temporary.display(),
        program("weed")
    );
    machine.serve("unshare", &["--mount", "sh", "-c", &weed], |machine| {
        let bucket = ["-sf", "--max-time", "5", "-X", "PUT", "http://127.0.0.1:8333/www", "-o", "/dev/null"];
        let object = ["-sf", "--max-time", "5", "-X", "PUT", "http://127.0.0.1:8333/www/ready", "--data", "yes"];
        [&bucket[..], &object]
            .iter()
            .all(|args| machine.command("curl").args(*args).status().is_ok_and(|status| status.success()))
    });
}

/// Runs the pipeline with inputs.
#[track_caller]
pub(super) fn deploy(repository: &TestEnvironment, inputs: &[&str], code: i32) -> Ended {
    let mut args = vec!["run"];
    for input in inputs {
        args.extend(["--input", input]);
    }
    repository.run(&args).exits(code)
}
