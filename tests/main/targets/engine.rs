//! A Docker engine of the test's own, with a registry.

use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

use super::machine::Machine;
use crate::environment::{Ended, TestEnvironment};

/// Where the registry answers.
pub(crate) const REGISTRY: &str = "127.0.0.1:5000";

/// Stages that build an image of the service `versioned`, and push it. `env` are the image's variables, as entries of a table.
pub(crate) fn image_stages(registry: &str, env: &str) -> String {
    format!(
        r#"
[stages.image]
uses = "build-image"
permissions = {{ read = ["versioned"], write = ["image"] }}
[stages.image.with]
files = [{{ from = "versioned", to = "/versioned" }}]
entrypoint = ["/versioned"]
env = {{ VERSION = "${{{{ inputs.version }}}}"{env} }}
layout = "image"
tags = ["x"]

[stages.push]
uses = "push-image"
needs = ["image"]
with = {{ layout = "image", image = "{registry}/versioned", tags = ["v${{{{ inputs.version }}}}"] }}
permissions = {{ read = ["image"], registry = ["{registry}/versioned"] }}
"#
    )
}

/// Deploys a Compose file. TARGET, SOCKET, IMAGE_STAGES and DEPLOY are replaced.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "compose"

[inputs.version]
[inputs.exit]
default = ""
[inputs.wait-for]
default = ""
[inputs.broken]
default = ""

[environments.production]
TARGET

IMAGE_STAGES

[stages.release]
uses = "compose-release"
needs = ["push"]
permissions = { read = ["compose.yaml", "web.env", "app.txt"] }
[stages.release.with]
TARGET
[stages.release.with.images]
web = "${{ stages.push.outputs.reference }}"
db = "${{ stages.push.outputs.reference }}"
extra = "${{ stages.push.outputs.reference }}"
[stages.release.with.variables]
VERSION = "${{ inputs.version }}"
EXIT = "${{ inputs.exit }}"
WAIT_FOR = "${{ inputs.wait-for }}"
BROKEN = "${{ inputs.broken }}"

[stages.deploy]
uses = "deploy"
needs = ["release"]
environment = "production"
[stages.deploy.with]
release = "${{ stages.release.outputs.release }}"
socket = "SOCKET"
DEPLOY

[stages.verify]
uses = "command"
needs = ["deploy"]
environment = "production"
compensate = ["deploy"]
env = { BROKEN = "${{ inputs.broken }}" }
with = { run = 'test -z "$BROKEN"' }
permissions = { process = ["sh"] }
"#;

/// An engine and a registry on a machine of the test's own.
pub(crate) struct DockerEngine {
    pub(crate) machine: Machine,
    pub(crate) socket: String,
}

impl DockerEngine {
    pub(crate) fn start() -> DockerEngine {
        let machine = Machine::start();
        let socket = machine.path("docker.sock").display().to_string();
        let (data, exec) = (machine.path("data").display().to_string(), machine.path("exec").display().to_string());
        let (pid, host) = (machine.path("pid").display().to_string(), format!("unix://{socket}"));
        let args = ["--data-root", &data, "--exec-root", &exec, "--pidfile", &pid, "--host", &host];
        machine.serve("dockerd", &args, |machine| answers(machine, &socket));
        start_registry(&machine, "");
        DockerEngine { machine, socket }
    }

    /// A repository that deploys a Compose file to a target, given as a line of TOML. `with` are more keys of the deploy.
    pub(crate) fn repository(&self, target: &str, compose: &str, with: &str) -> TestEnvironment {
        let text = PIPELINE
            .replace("TARGET", target)
            .replace("SOCKET", &self.socket)
            .replace("IMAGE_STAGES", &image_stages(REGISTRY, ""));
        let repository = self.machine.repository(&text.replace("DEPLOY", with));
        compile_service(&repository);
        repository.write("compose.yaml", compose);
        repository.write("web.env", "VERSION=$VERSION\n");
        repository.write("app.txt", "costs $5\n");
        repository
    }

    #[track_caller]
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        let host = format!("unix://{}", self.socket);
        self.machine.run("docker", &[["--host", &host].as_slice(), args].concat())
    }
}

/// Starts a registry on the machine, which keeps what an earlier one had. `more`: lines of its configuration.
pub(crate) fn start_registry(machine: &Machine, more: &str) {
    let folder = machine.path("registry").display().to_string();
    let config = format!(
        "version: 0.1\nstorage: {{ filesystem: {{ rootdirectory: {folder} }} }}\nhttp: {{ addr: \"{REGISTRY}\" }}\n{more}"
    );
    let config = machine.write("registry.yml", &config).display().to_string();
    let answers = |machine: &Machine| {
        let output = machine.command("curl").args(["-s", &format!("http://{REGISTRY}/v2/")]).output();
        output.is_ok_and(|output| output.status.success())
    };
    machine.serve("docker-registry", &["serve", &config], answers);
}

/// Ends the registry.
pub(crate) fn stop_registry(machine: &Machine) {
    machine.stop("docker-registry");
}

/// A stage that takes the deploy back unless the release answers with the input `smoke`.
pub(crate) const SMOKE_STAGE: &str = r#"
[stages.smoke]
uses = "smoke-test"
needs = ["deploy"]
environment = "production"
compensate = ["deploy"]
[stages.smoke.with]
url = "${{ stages.deploy.outputs.url }}"
checks = [{ path = "/", status = 200, contains = "${{ inputs.smoke }}" }]
deadline = "5s"
[stages.smoke.permissions]
net = ["http://127.0.0.1:*"]
"#;

/// The command line that deploys a version, with more inputs.
pub(crate) fn deploy_args(version: &str, more: &[&str]) -> Vec<String> {
    let version = format!("version={version}");
    let inputs = std::iter::once(version.as_str()).chain(more.iter().copied());
    std::iter::once("run").chain(inputs.flat_map(|input| ["--input", input])).map(str::to_owned).collect()
}

pub(crate) fn deploy(repository: &TestEnvironment, version: &str, more: &[&str]) -> Ended {
    let args = deploy_args(version, more);
    repository.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// How far the environment's rollout is.
pub(crate) fn rollout(repository: &TestEnvironment) -> Json {
    let status = repository.run(&["rollout", "status", "--json"]).exits(0);
    let found: Json = serde_json::from_str(&status.stdout).expect("JSON");
    found[0]["rollout"].clone()
}

/// The id of the last run; null for none.
pub(crate) fn latest_run(repository: &TestEnvironment) -> Json {
    let runs = repository.run(&["runs", "--json"]).exits(0);
    let runs: Json = serde_json::from_str(&runs.stdout).expect("JSON");
    runs[0]["run"].clone()
}

/// How many releases the ledger has.
pub(crate) fn releases(repository: &TestEnvironment) -> usize {
    let history = repository.run(&["env", "history", "production", "--json"]).exits(0);
    let history: Vec<Json> = serde_json::from_str(&history.stdout).expect("JSON");
    history.len()
}

/// Completes a deploy that was killed. Killed before the run was recorded, it is started again. Killed after its end, there
/// is nothing left to do.
#[track_caller]
pub(crate) fn to_the_end(repository: &TestEnvironment, deploy: &[&str], earlier: &Json) {
    let resumed = repository.run(&["resume", "latest"]);
    let has_ended = latest_run(repository) != *earlier && resumed.stderr.contains("has succeeded");
    match resumed.code {
        4 if has_ended => {}
        2 if resumed.stderr.contains("no run \"latest\"") => drop(repository.run(deploy).exits(0)),
        4 => drop(repository.run(deploy).exits(0)),
        _ => drop(resumed.exits(0)),
    }
}

/// Deploys again and again, and kills the engine at a later write to its journal each time. `check` is called with the number
/// of each version that was deployed after the kill.
pub(crate) fn kill_at_every_write(repository: &TestEnvironment, stride: usize, check: impl Fn(usize)) {
    let before = releases(repository);
    let mut version = 0;
    for write in (1..).step_by(crate::crash::stride(stride)) {
        version += 1;
        let input = format!("version={version}");
        let deploy = ["run", "--input", &input];
        let earlier = latest_run(repository);
        if crate::crash::killed(repository, &deploy, write).is_none() {
            break;
        }
        to_the_end(repository, &deploy, &earlier);
        check(version);
        assert_eq!(releases(repository), before + version, "killed at {write}: deployed more than once, or not at all");
    }
    assert!(version > 3, "the engine was killed {version} times: is the journal still a write-ahead log?");
}

fn answers(machine: &Machine, socket: &str) -> bool {
    let status = machine.command("curl").args(["-sf", "--unix-socket", socket, "http://docker/_ping"]).output();
    status.is_ok_and(|output| output.status.success())
}

/// Compiles the service for an image that contains nothing else.
pub(crate) fn compile_service(repository: &TestEnvironment) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/versioned.rs");
    let compiled = Command::new("rustc")
        .args(["--edition", "2024", "-C", "target-feature=+crt-static", "-o"])
        .arg(repository.root().join("versioned"))
        .arg(source)
        .status()
        .expect("rustc starts");
    assert!(compiled.success());
}
