//! The target `docker`, on an engine of the test's own.

mod edge;
mod envoy;
mod faults;
mod nginx;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;

use super::engine::{
    DockerEngine, REGISTRY, SMOKE_STAGE, compile_service, deploy, image_stages, latest_run, releases, rollout,
    to_the_end,
};
use super::load::{Load, bound};
use crate::crash::{killed, stride};
use crate::environment::{Ended, TestEnvironment, eventually};

/// SOCKET, IMAGE_STAGES, DEPLOY and SMOKE_STAGE are replaced.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "docker"

[inputs.version]
[inputs.broken]
default = ""
[inputs.exit]
default = ""
[inputs.smoke]
default = "version"

[environments.production]
target = "docker"

IMAGE_STAGES

[stages.deploy]
uses = "deploy"
needs = ["push"]
environment = "production"
[stages.deploy.with]
service = "versioned"
image = "${{ stages.push.outputs.reference }}"
socket = "SOCKET"
port = 8080
env = { HOST = "0.0.0.0", PORT = "8080", VERSION = "${{ inputs.version }}", BROKEN = "${{ inputs.broken }}", EXIT = "${{ inputs.exit }}" }
health = { deadline = "20s" }
stop-grace = "0s"
DEPLOY

SMOKE_STAGE
"#;

const CADDY: &str = r#"
traffic = { caddy = { admin = "unix://CADDY", id = "app" } }
drain = "500ms"
"#;

/// An engine, a registry, and a repository that deploys to the engine.
struct Docker {
    engine: DockerEngine,
    repository: TestEnvironment,
}

impl Docker {
    fn with(deploy: &str) -> Docker {
        let engine = DockerEngine::start();
        let (machine, socket) = (&engine.machine, &engine.socket);
        let deploy = deploy.replace("CADDY", &machine.path("caddy.sock").display().to_string());
        let deploy = deploy.replace("HAPROXY", &machine.path("haproxy.sock").display().to_string());
        let text = PIPELINE
            .replace("IMAGE_STAGES", &image_stages(REGISTRY, ""))
            .replace("DEPLOY", &deploy)
            .replace("SOCKET", socket)
            .replace("SMOKE_STAGE", SMOKE_STAGE);
        let repository = machine.repository(&text);
        compile_service(&repository);
        repository.run(&["grant", "--yes"]).exits(0);
        Docker { engine, repository }
    }

    /// With Caddy in front, which serves on port 8000.
    fn behind_caddy(deploy: &str) -> Docker {
        let docker = Docker::with(&format!("{CADDY}{deploy}"));
        let socket = docker.engine.machine.path("caddy.sock").display().to_string();
        let proxy = r#"{ "@id": "app", "handler": "reverse_proxy", "upstreams": [{ "dial": "127.0.0.1:1" }] }"#;
        let config = format!(
            r#"{{ "admin": {{ "listen": "unix/{socket}" }}, "apps": {{ "http": {{ "servers": {{ "front": {{
                "listen": ["127.0.0.1:8000"], "automatic_https": {{ "disable": true }},
                "routes": [{{ "handle": [{proxy}] }}] }} }} }} }} }}"#
        );
        let config = docker.engine.machine.write("caddy.json", &config).display().to_string();
        docker.engine.machine.serve("caddy", &["run", "--config", &config], |_| std::path::Path::new(&socket).exists());
        docker
    }

    #[track_caller]
    fn deploy(&self, version: &str, more: &[&str], code: i32) -> Ended {
        deploy(&self.repository, version, more).exits(code)
    }

    fn docker(&self, args: &[&str]) -> String {
        self.engine.docker(args)
    }

    /// The names of all containers, sorted.
    fn containers(&self) -> Vec<String> {
        let listed = self.docker(&["ps", "--all", "--format", "{{.Names}}"]);
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort_unstable();
        names
    }

    /// What the container that serves answers.
    fn serves(&self) -> String {
        let port = self.docker(&["port", "versioned", "8080/tcp"]);
        self.engine.machine.get(&format!("http://{}/", port.lines().next().expect("a port").trim())).expect("an answer")
    }

    fn rollout(&self) -> Json {
        rollout(&self.repository)
    }
}

#[test]
fn a_container_gets_secrets_from_the_host() {
    let mut docker = Docker::with("");
    let text = docker.repository.read("stagewright.toml");
    let text = text.replace("stop-grace", "secret-env = { TOKEN = \"token\" }\nstop-grace");
    let declared =
        |hosts: &str| format!("[secrets.token]\nfrom = \"env:APP_TOKEN\"\nhosts = [{hosts}]\n[stages.image]");
    docker.repository.set("APP_TOKEN", "correct \"horse\" battery");
    docker.repository.write("stagewright.toml", &text.replace("[stages.image]", &declared("")));
    docker.repository.run(&["grant", "--yes"]).exits(0);
    let refused = docker.deploy("1", &[], 1).stdout;
    assert!(refused.contains("the secret `token` may not be sent to the socket"), "{refused}");
    assert!(refused.contains("change in [secrets.token]: hosts = "), "{refused}");
    let text = docker.repository.read("stagewright.toml");
    let hosts = format!("hosts = [\"unix://{}\"]\n[stages.image]", docker.engine.socket);
    docker.repository.write("stagewright.toml", &text.replace("hosts = []\n[stages.image]", &hosts));
    let ended = docker.deploy("1", &[], 0);
    assert!(!ended.stdout.contains("battery"), "{}", ended.stdout);
    let environment = docker.docker(&["inspect", "--format", "{{json .Config.Env}}", "versioned"]);
    assert!(environment.contains(r#""TOKEN=correct \"horse\" battery""#), "{environment}");
}

#[test]
fn a_release_replaces_the_one_before_it_only_when_it_works() {
    let docker = Docker::with("");
    docker.deploy("1", &[], 0);
    assert_eq!((docker.containers(), docker.serves()), (vec!["versioned".to_owned()], "version 1".to_owned()));
    docker.deploy("2", &[], 0);
    assert_eq!((docker.containers(), docker.serves()), (vec!["versioned".to_owned()], "version 2".to_owned()));
    assert_eq!(
        docker.docker(&["inspect", "--format", "{{.HostConfig.RestartPolicy.Name}}", "versioned"]).trim(),
        "unless-stopped"
    );

    let exits = docker.deploy("3", &["exit=7"], 1);
    assert!(exits.stdout.contains("the release exited with code 7 before its health check passed"), "{}", exits.stdout);
    assert!(exits.stdout.contains("no database"), "{}", exits.stdout);
    assert_eq!((docker.containers(), docker.serves()), (vec!["versioned".to_owned()], "version 2".to_owned()));

    // Healthy, but the smoke test fails: the deploy is compensated.
    let broken = docker.deploy("4", &["broken=yes"], 1);
    assert!(broken.stdout.contains("rolled back to 127.0.0.1:5000/versioned@sha256:"), "{}", broken.stdout);
    assert_eq!((docker.containers(), docker.serves()), (vec!["versioned".to_owned()], "version 2".to_owned()));

    docker.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!(docker.serves(), "version 1");

    // A release that was deployed under a newer token, for example from another machine.
    let image = docker.docker(&["inspect", "--format", "{{.Config.Image}}", "versioned"]);
    let labels = ["--label", "stagewright.service=versioned", "--label", "stagewright.fence=1000"];
    docker.docker(&[["create", "--name", "foreign"].as_slice(), &labels, &[image.trim()]].concat());
    let stale = docker.deploy("5", &[], 1);
    assert!(
        stale.stdout.contains("release foreign of `versioned` has the token 1000, which is newer"),
        "{}",
        stale.stdout
    );
    assert_eq!((docker.containers().len(), docker.serves()), (2, "version 1".to_owned()));
}

#[test]
fn a_fixed_port_has_one_release_at_a_time() {
    let docker = Docker::with("publish = 8080");
    docker.deploy("1", &[], 0);
    docker.deploy("2", &[], 0);
    assert_eq!(docker.engine.machine.get("http://127.0.0.1:8080/").as_deref(), Some("version 2"));
    docker.deploy("3", &["exit=1"], 1);
    assert_eq!(docker.engine.machine.get("http://127.0.0.1:8080/").as_deref(), Some("version 2"));
    assert_eq!(docker.containers(), ["versioned"]);
}

const CANARY: &str = r#"
strategy = { canary = { steps = [{ set-weight = 20 }, { pause = {} }, { set-weight = 60 }, { pause = { duration = "1s" } }] } }
"#;

/// Every request was answered by a release. Caddy 2.6 reopens its ports whenever its configuration changes, and resets
/// connections that it hasn't accepted yet: at most some of one for each change.
fn check_answers(answers: &BTreeMap<String, u64>, changes: u64) {
    let is_answer = |answer: &str| answer.starts_with("version ") || answer == "reset";
    assert!(answers.keys().all(|answer| is_answer(answer)), "{answers:?}");
    assert!(*answers.get("reset").unwrap_or(&0) <= changes, "{answers:?}");
}

#[test]
fn a_canary_gets_its_share_of_the_requests_and_all_of_them_are_answered() {
    let docker = Docker::behind_caddy(CANARY);
    docker.deploy("1", &[], 5);
    docker.repository.run(&["rollout", "promote", "production", "--full"]).exits(0);
    assert_eq!(docker.engine.machine.get("http://127.0.0.1:8000/").as_deref(), Some("version 1"));

    let mut load = Load::on(&docker.engine.machine, 8000, "/");
    docker.deploy("2", &[], 5);
    let rollout = docker.rollout();
    assert_eq!((rollout["phase"].as_str(), rollout["weight"].as_u64()), (Some("paused"), Some(20)));
    load.check_share(Duration::from_secs(3), 20);

    // Another deploy waits until this one is decided about.
    let waiting = docker.repository.start(&["run", "--input", "version=3"]);
    eventually("the other deploy waits", || {
        let shown = docker.repository.run(&["show", latest_run(&docker.repository).as_str()?]);
        shown.stdout.contains("which holds production").then_some(())
    });
    drop(Killed(waiting));

    docker.repository.run(&["rollout", "abort", "production", "--by", "ada"]).exits(1);
    let rollout = docker.rollout();
    assert_eq!(rollout["phase"], "aborted");
    assert_eq!(rollout["message"], "the rollout was aborted by ada");
    assert_eq!(docker.containers(), ["versioned"]);
    let before = load.answers();
    docker.deploy("4", &[], 5);
    docker.repository.run(&["rollout", "promote", "production"]).exits(0);
    std::thread::sleep(Duration::from_millis(300));
    let after = load.answers();
    assert_eq!(docker.engine.machine.get("http://127.0.0.1:8000/").as_deref(), Some("version 4"));
    assert_eq!(after.get("version 2"), before.get("version 2"), "nothing went to the aborted version");
    // What was good before is restored without pauses.
    docker.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!(docker.engine.machine.get("http://127.0.0.1:8000/").as_deref(), Some("version 1"));
    check_answers(&load.answers(), 16);
}

const MEASURED: &str = r#"
strategy = { canary = { steps = [{ set-weight = 10 }, { pause = { duration = "2s" } }, { analysis = { metrics = [
  { name = "answers", http = { url = "$address/" }, success-condition = "result.startsWith('version ')", consecutive-error-limit = 0 },
] } }] } }
"#;

#[test]
fn a_bad_release_is_caught_by_its_analysis_and_never_gets_more_than_its_share() {
    let docker = Docker::behind_caddy(MEASURED);
    docker.deploy("1", &[], 0);
    let mut load = Load::on(&docker.engine.machine, 8000, "/");
    let bad = docker.deploy("2", &["broken=yes"], 1);
    assert!(bad.stdout.contains("the analysis could not be carried out"), "{}", bad.stdout);
    let rollout = docker.rollout();
    assert_eq!((rollout["phase"].as_str(), rollout["weight"].as_u64()), (Some("aborted"), Some(0)));
    let answers = load.answers();
    let (good, bad) = (answers.get("version 1").unwrap_or(&0), answers.get("status 500").unwrap_or(&0));
    assert!(*bad > 0 && *bad <= bound(good + bad, 10), "{answers:?}");
    let others = answers.keys().filter(|answer| !["version 1", "status 500", "reset"].contains(&answer.as_str()));
    assert_eq!(others.count(), 0, "{answers:?}");
    assert_eq!(docker.containers(), ["versioned"]);
}

const SHORT: &str = r#"
strategy = { canary = { steps = [{ set-weight = 30 }, { pause = { duration = "1s" } }, { set-weight = 60 }] } }
"#;

#[test]
fn a_canary_survives_a_kill_at_any_write_to_the_journal() {
    let docker = Docker::behind_caddy(SHORT);
    docker.deploy("0", &[], 0);
    let mut load = Load::on(&docker.engine.machine, 8000, "/");
    let mut version = 0;
    for write in (1..).step_by(stride(13)) {
        version += 1;
        let input = format!("version={version}");
        let deploy = ["run", "--input", &input];
        let earlier = latest_run(&docker.repository);
        if killed(&docker.repository, &deploy, write).is_none() {
            break;
        }
        to_the_end(&docker.repository, &deploy, &earlier);
        let expected = format!("version {version}");
        assert_eq!(
            (docker.containers(), docker.serves()),
            (vec!["versioned".to_owned()], expected),
            "killed at {write}"
        );
        let rollout = docker.rollout();
        assert_eq!((rollout["phase"].as_str(), rollout["weight"].as_u64()), (Some("completed"), Some(100)), "{write}");
        let deployed = releases(&docker.repository);
        assert_eq!(deployed, version + 1, "killed at write {write}: deployed more than once, or not at all");
    }
    assert!(version > 3, "the engine was killed {version} times: is the journal still a write-ahead log?");
    check_answers(&load.answers(), 5 * version as u64);
}

#[test]
fn only_an_approver_promotes_and_a_freeze_prevents_no_abort() {
    let docker = Docker::behind_caddy(CANARY);
    let text = docker.repository.read("stagewright.toml");
    let text = text.replace("target = \"docker\"", "target = \"docker\"\napprovers = [\"team:release\"]");
    docker.repository.write("stagewright.toml", &format!("{text}\n[teams]\nrelease = [\"ada\"]\n"));
    docker.deploy("1", &[], 5);
    docker.repository.run(&["approve", "latest", "--by", "ada"]).exits(0);
    docker.repository.run(&["resume", "latest"]).exits(5);
    let refused = docker.repository.run(&["rollout", "promote", "production", "--by", "eve"]).exits(2);
    assert!(refused.stderr.contains("eve may not promote to production"), "{}", refused.stderr);
    assert_eq!(docker.rollout()["phase"], "paused");
    docker.repository.run(&["rollout", "promote", "production", "--by", "Ada", "--full"]).exits(0);

    docker.deploy("2", &[], 5);
    docker.repository.run(&["approve", "latest", "--by", "ada"]).exits(0);
    docker.repository.run(&["resume", "latest"]).exits(5);
    docker.repository.run(&["env", "freeze", "production", "--reason", "stocktaking"]).exits(0);
    docker.repository.run(&["rollout", "abort", "production", "--by", "eve"]).exits(1);
    assert_eq!(docker.rollout()["phase"], "aborted");
    assert_eq!((docker.containers(), docker.serves()), (vec!["versioned".to_owned()], "version 1".to_owned()));
}

/// A backend of HAProxy with two servers, of which the deploy sets the addresses.
const HAPROXY: &str = r#"
traffic = { haproxy = { socket = "HAPROXY", backend = "app", servers = ["blue", "green"] } }
drain = "500ms"
strategy = { blue-green = { auto-promotion-enabled = false, scale-down-delay = "1s" } }
"#;

#[test]
fn blue_green_behind_haproxy_fails_no_request() {
    let docker = Docker::with(HAPROXY);
    let socket = docker.engine.machine.path("haproxy.sock").display().to_string();
    let config = format!(
        "global\n  stats socket {socket} mode 600 level admin\n\
         defaults\n  mode http\n  timeout connect 1s\n  timeout client 10s\n  timeout server 10s\n\
         frontend front\n  bind 127.0.0.1:8000\n  default_backend app\n\
         backend app\n  balance roundrobin\n  server blue 127.0.0.1:1 disabled\n  server green 127.0.0.1:1 disabled\n"
    );
    let config = docker.engine.machine.write("haproxy.cfg", &config).display().to_string();
    docker.engine.machine.serve("haproxy", &["-f", &config], |_| std::path::Path::new(&socket).exists());
    docker.deploy("1", &[], 5);
    docker.repository.run(&["rollout", "promote", "production"]).exits(0);
    let mut load = Load::on(&docker.engine.machine, 8000, "/");
    docker.deploy("2", &[], 5);
    let preview = load.answers();
    assert_eq!(
        preview.keys().collect::<Vec<_>>(),
        ["version 1"],
        "the new version gets no requests before it is promoted"
    );
    docker.repository.run(&["rollout", "promote", "production"]).exits(0);
    assert_eq!(docker.engine.machine.get("http://127.0.0.1:8000/").as_deref(), Some("version 2"));
    let answers = load.answers();
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["version 1", "version 2"], "{answers:?}");
    assert_eq!(docker.containers(), ["versioned"]);
}

/// A process that is killed when it goes out of scope.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
