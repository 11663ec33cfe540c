//! The target `swarm`, with a stack from a Compose file, on a swarm of one node.

mod faults;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use super::engine::{DockerEngine, deploy, deploy_args, latest_run, releases, to_the_end};
use crate::crash::{killed, stride};
use crate::environment::{Ended, TestEnvironment, after, eventually};

const DEPLOY: &str = r#"
stack = "shop"
health = { deadline = "60s" }
"#;

/// The network of this machine has no IPVS, hence `dnsrr`.
const COMPOSE: &str = r#"
x-service: &service
  build: .
  stop_grace_period: 1s
  deploy: &deploy
    endpoint_mode: dnsrr
    restart_policy: { delay: 1s }
services:
  web:
    <<: *service
    env_file: web.env
    environment: { HOST: 0.0.0.0, PORT: 8080, EXIT: $EXIT, WAIT_FOR: $WAIT_FOR }
    healthcheck: { test: [CMD, /versioned, check], interval: 500ms, timeout: 2s, retries: 3 }
    volumes: ["data:/data"]
    configs: [app]
    depends_on: [db]
    deploy:
      <<: *deploy
      replicas: 2
      update_config: { order: start-first, monitor: 1s }
  db:
    <<: *service
    environment: { HOST: 0.0.0.0, PORT: 5432 }
  extra:
    <<: *service
    environment: { HOST: 0.0.0.0, PORT: 80 }
volumes: { data: {} }
configs: { app: { file: app.txt } }
"#;

/// A swarm, and a repository that deploys a stack to it.
struct Swarm {
    engine: DockerEngine,
    repository: TestEnvironment,
}

impl Swarm {
    fn start() -> Swarm {
        let swarm = Swarm::ungranted(COMPOSE, DEPLOY);
        swarm.repository.run(&["grant", "--yes"]).exits(0);
        swarm
    }

    fn ungranted(compose: &str, deploy: &str) -> Swarm {
        let engine = DockerEngine::start();
        engine.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
        let repository = engine.repository(r#"target = "swarm""#, compose, deploy);
        Swarm { engine, repository }
    }

    #[track_caller]
    fn deploy(&self, version: &str, more: &[&str], code: i32) -> Ended {
        deploy(&self.repository, version, more).exits(code)
    }

    fn services(&self) -> BTreeSet<String> {
        let listed = self.engine.docker(&["service", "ls", "--format", "{{.Name}}"]);
        listed.lines().map(str::to_owned).collect()
    }

    fn inspect(&self, service: &str) -> Json {
        let text = self.engine.docker(&["service", "inspect", service]);
        let found: Json = serde_json::from_str(&text).expect("JSON");
        found[0].clone()
    }

    /// What the containers of the service answer that run. Each has an address in the network of the gateway.
    fn answers(&self) -> Vec<String> {
        let text = self.engine.docker(&["network", "inspect", "docker_gwbridge", "--format", "{{json .Containers}}"]);
        let containers: BTreeMap<String, Json> = serde_json::from_str(&text).expect("JSON");
        let web = self.engine.docker(&[
            "ps",
            "--no-trunc",
            "--quiet",
            "--filter",
            "label=com.docker.swarm.service.name=shop_web",
        ]);
        let addresses = web.lines().filter_map(|id| containers.get(id)?["IPv4Address"].as_str()?.split('/').next());
        let mut answers: Vec<String> =
            addresses.filter_map(|address| self.engine.machine.get(&format!("http://{address}:8080/"))).collect();
        answers.sort_unstable();
        answers
    }

    /// Waits until the tasks of `web` answer this, and no others: those that were replaced take a while to stop.
    fn serves(&self, expected: &[&str]) {
        eventually(&format!("{expected:?} serve"), || (self.answers() == expected).then_some(()));
    }

    /// The containers of a service that run, which tell whether it was restarted.
    fn containers(&self, service: &str) -> String {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        self.engine.docker(&["ps", "--quiet", "--filter", &filter])
    }

    /// The token of the deploy that changed `web` last.
    fn fence(&self) -> String {
        let fence = self.inspect("shop_web")["Spec"]["Labels"]["stagewright.fence"].clone();
        fence.as_str().expect("a token").to_owned()
    }

    /// The text of the config that `web` has.
    fn config(&self) -> String {
        let configs = self.inspect("shop_web")["Spec"]["TaskTemplate"]["ContainerSpec"]["Configs"].clone();
        let name = configs[0]["ConfigName"].as_str().expect("a config").to_owned();
        let text = self.engine.docker(&["config", "inspect", &name, "--format", "{{json .Spec.Data}}"]);
        let data: String = serde_json::from_str(&text).expect("JSON");
        String::from_utf8(STANDARD.decode(data).expect("base64")).expect("UTF-8")
    }

    /// The releases that the swarm keeps.
    fn releases(&self) -> Vec<String> {
        let listed =
            self.engine.docker(&["config", "ls", "--format", "{{.Name}}", "--filter", "label=stagewright.stack=shop"]);
        listed.lines().map(|name| name.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")).collect()
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_stack_is_replaced_only_by_one_that_works() {
    let swarm = Swarm::start();
    swarm.deploy("1", &[], 0);
    assert_eq!(swarm.services(), names(&["shop_db", "shop_extra", "shop_web"]));
    swarm.serves(&["version 1", "version 1"]);
    let image = swarm.inspect("shop_web")["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].clone();
    assert!(image.as_str().is_some_and(|image| image.contains("@sha256:")), "{image}");

    // What the release doesn't have any more is removed, except for volumes; what didn't change isn't restarted.
    let pipeline = swarm.repository.read("stagewright.toml");
    let image = image.as_str().expect("an image");
    let pipeline = pipeline.replace("extra = \"${{ stages.push.outputs.reference }}\"", "");
    let pipeline = pipeline.replace("db = \"${{ stages.push.outputs.reference }}\"", &format!("db = \"{image}\""));
    swarm.repository.write("stagewright.toml", &pipeline);
    let extra = COMPOSE.find("  extra:").expect("a service")..COMPOSE.find("volumes: { data").expect("volumes");
    let mut compose = COMPOSE.to_owned();
    compose.replace_range(extra, "");
    swarm.repository.write("compose.yaml", &compose);
    let db = swarm.containers("shop_db");
    swarm.deploy("2", &[], 0);
    assert_eq!(swarm.services(), names(&["shop_db", "shop_web"]));
    swarm.serves(&["version 2", "version 2"]);
    assert_eq!(swarm.containers("shop_db"), db);
    assert!(swarm.engine.docker(&["volume", "ls", "--quiet"]).contains("shop_data"));

    // A release that never gets healthy leaves the earlier one serving all the time, and its log says why.
    let has_ended = AtomicBool::new(false);
    let fewest = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut fewest = usize::MAX;
            while !has_ended.load(Ordering::Relaxed) {
                fewest = fewest.min(swarm.answers().iter().filter(|answer| *answer == "version 2").count());
            }
            fewest
        });
        let failed = swarm.deploy("3", &["wait-for=/never"], 1);
        has_ended.store(true, Ordering::Relaxed);
        assert!(failed.stdout.contains("failed to update `shop_web`"), "{}", failed.stdout);
        watcher.join().expect("the watcher ends")
    });
    assert!(fewest >= 1, "the earlier release served with {fewest} tasks");
    swarm.serves(&["version 2", "version 2"]);

    let exits = swarm.deploy("4", &["exit=7"], 1);
    assert!(exits.stdout.contains("non-zero exit (7)") && exits.stdout.contains("no database"), "{}", exits.stdout);
    swarm.serves(&["version 2", "version 2"]);

    // Deployed, but found to be wrong: the deploy is compensated.
    let broken = swarm.deploy("5", &["broken=yes"], 1);
    assert!(broken.stdout.contains("rolled back to compose.yaml@sha256:"), "{}", broken.stdout);
    swarm.serves(&["version 2", "version 2"]);

    swarm.repository.run(&["rollback", "production"]).exits(0);
    swarm.serves(&["version 1", "version 1"]);
    assert_eq!(swarm.services(), names(&["shop_db", "shop_extra", "shop_web"]), "the release has its services again");
}

#[test]
fn what_was_changed_by_hand_is_named_and_overwritten_only_after_an_approval() {
    let swarm = Swarm::start();
    swarm.deploy("1", &[], 0);
    let live = |code: i32| swarm.repository.run(&["env", "status", "production", "--live"]).exits(code).stdout;
    assert!(live(0).contains("in place     as it was deployed"));
    swarm.engine.docker(&["service", "scale", "--detach", "shop_web=3"]);
    swarm.engine.docker(&["service", "update", "--detach=false", "--env-add", "VERSION=by-hand", "shop_web"]);
    swarm.serves(&["version by-hand"; 3]);
    let changed = live(8);
    for words in [
        "service shop_web: Mode.Replicated.Replicas: 3",
        "was deployed as 2",
        "service shop_web: TaskTemplate.ContainerSpec.Env: VERSION=by-hand",
    ] {
        assert!(changed.contains(words), "{words} is missing in {changed}");
    }
    let asked = swarm.deploy("2", &[], 5).stdout;
    let mark = after(&asked, "--field overwrite=", 8);
    swarm.repository.run(&["approve", "latest", "deploy", "--field", &format!("overwrite={mark}")]).exits(0);
    swarm.repository.run(&["resume", "latest"]).exits(0);
    swarm.serves(&["version 2", "version 2"]);
    live(0);
}

#[test]
fn an_older_deploy_changes_nothing_of_a_newer_one() {
    let swarm = Swarm::start();
    swarm.deploy("1", &[], 0);

    // One from another machine gets ahead while this one waits for its tasks.
    let before = swarm.fence();
    let failed = std::thread::scope(|scope| {
        let older = scope.spawn(|| deploy(&swarm.repository, "2", &["wait-for=/never"]));
        eventually("the deploy has updated the service", || (swarm.fence() != before).then_some(()));
        let newer =
            ["service", "update", "--detach", "--label-add", "stagewright.fence=1000", "--env-add", "WAIT_FOR="];
        swarm.engine.docker(&[newer.as_slice(), &["shop_web"]].concat());
        older.join().expect("the deploy ends").exits(1)
    });
    assert!(failed.stdout.contains("has the token 1000, which is newer than"), "{}", failed.stdout);
    swarm.serves(&["version 2", "version 2"]);
    assert_eq!(swarm.fence(), "1000");

    let stale = swarm.deploy("3", &[], 1);
    assert!(stale.stdout.contains("of `shop` has the token 1000, which is newer than"), "{}", stale.stdout);
    swarm.serves(&["version 2", "version 2"]);
}

#[test]
fn a_stack_is_deployed_once_whatever_kills_the_engine() {
    let swarm = secrets::start();
    swarm.deploy("0", &[], 0);
    let mut version = 0;
    for write in (1..).step_by(stride(43)) {
        version += 1;
        let text = version.to_string();
        let args = deploy_args(&text, &[]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let earlier = latest_run(&swarm.repository);
        if killed(&swarm.repository, &args, write).is_none() {
            break;
        }
        to_the_end(&swarm.repository, &args, &earlier);
        swarm.serves(&[format!("version {version}").as_str(); 2]);
        assert_eq!(swarm.releases().len(), 1, "killed at {write}");
        // That of this release, and that of the one before.
        assert_eq!((swarm.secrets().len(), swarm.read("token").as_str()), (2, "of the first day"), "killed at {write}");
        assert_eq!(
            releases(&swarm.repository),
            version + 1,
            "killed at write {write}: deployed more than once, or not at all"
        );
    }
    assert!(version > 3, "the engine was killed {version} times: is the journal still a write-ahead log?");

    // In the middle of the update, which goes on without the engine.
    version += 1;
    let text = version.to_string();
    let args = deploy_args(&text, &[]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let before = swarm.fence();
    let mut run = swarm.repository.start(&args);
    eventually("the deploy has updated the service", || (swarm.fence() != before).then_some(()));
    run.kill().expect("the engine runs");
    run.wait().expect("the engine has ended");
    swarm.repository.run(&["resume", "latest"]).exits(0);
    swarm.serves(&[format!("version {version}").as_str(); 2]);
    assert_eq!(swarm.releases().len(), 1);
}

#[test]
fn a_release_has_its_files_and_needs_what_it_names() {
    let swarm = Swarm::start();
    let rehearsed = swarm.repository.run(&["run", "--rehearse", "--input", "version=0"]).exits(0);
    assert!(rehearsed.stdout.contains("◌ deploy  rehearsed"), "{}", rehearsed.stdout);
    assert_eq!(swarm.services(), names(&[]), "{}", rehearsed.stdout);
    swarm.deploy("1", &[], 0);

    // The files alone have changed.
    let config = swarm.config();
    swarm.repository.write("web.env", "VERSION=of-the-file\n");
    swarm.repository.write("app.txt", "costs $6\n");
    swarm.deploy("1", &[], 0);
    swarm.serves(&["version of-the-file", "version of-the-file"]);
    assert_eq!((config.as_str(), swarm.config().as_str()), ("costs $5\n", "costs $6\n"));
    swarm.repository.run(&["rollback", "production"]).exits(0);
    swarm.serves(&["version 1", "version 1"]);
    assert_eq!(swarm.config(), config);

    swarm.repository.write("web.env", "VERSION=$VERSION\n");
    swarm.deploy("2", &[], 0);
    swarm.serves(&["version 2", "version 2"]);

    // What is missing is found before anything changes.
    let before = swarm.inspect("shop_web")["Version"].clone();
    let secret = "secrets: { key: { external: true } }\n";
    swarm.repository.write("compose.yaml", &format!("{COMPOSE}{secret}"));
    let missing = swarm.deploy("3", &[], 1);
    assert!(missing.stdout.contains("the swarm has no secret `key`"), "{}", missing.stdout);
    swarm.repository.write("compose.yaml", COMPOSE);
    let pipeline = swarm.repository.read("stagewright.toml");
    let gone = format!("127.0.0.1:5001/gone@sha256:{}", "1".repeat(64));
    let pipeline = pipeline.replace("db = \"${{ stages.push.outputs.reference }}\"", &format!("db = \"{gone}\""));
    swarm.repository.write("stagewright.toml", &pipeline);
    let missing = swarm.deploy("3", &[], 1);
    assert!(
        missing.stdout.contains(&format!("neither the Docker engine nor its registry has {gone}")),
        "{}",
        missing.stdout
    );
    assert_eq!(swarm.inspect("shop_web")["Version"], before);

    // Swarm's own rollback isn't a success.
    let pipeline = pipeline.replace(&gone, &image_of(&swarm));
    swarm.repository.write("stagewright.toml", &pipeline);
    swarm
        .repository
        .write("compose.yaml", &COMPOSE.replace("order: start-first", "failure_action: rollback, order: start-first"));
    let rolled_back = swarm.deploy("4", &["exit=7"], 1);
    assert!(rolled_back.stdout.contains("which Swarm rolls back (rollback_"), "{}", rolled_back.stdout);
    swarm.serves(&["version 2", "version 2"]);
}

fn image_of(swarm: &Swarm) -> String {
    let image = swarm.inspect("shop_db")["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].clone();
    image.as_str().expect("an image").to_owned()
}
