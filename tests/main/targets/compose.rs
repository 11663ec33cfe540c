//! The target `compose`, with a project on an engine of the test's own.

mod faults;

use std::collections::BTreeMap;

use super::engine::{DockerEngine, deploy, deploy_args, latest_run, releases, to_the_end};
use super::load::Load;
use crate::crash::{killed, stride};
use crate::environment::{Ended, TestEnvironment, eventually};

const DEPLOY: &str = r#"
project = "shop"
url = "http://127.0.0.1:8080"
deadline = "20s"
secrets = { KEY = "key" }
"#;

const COMPOSE: &str = r#"
x-service: &service
  build: .
  stop_grace_period: 1s
services:
  web:
    <<: *service
    env_file: web.env
    environment: { HOST: 0.0.0.0, PORT: 8080, EXIT: $EXIT, WAIT_FOR: $WAIT_FOR, API_KEY: "$KEY" }
    ports: ["127.0.0.1:8080:8080"]
    healthcheck: { test: [CMD, /versioned, check], interval: 500ms, timeout: 2s, retries: 3 }
    configs: [app]
    secrets: [key]
    depends_on: { db: { condition: service_started } }
  db:
    <<: *service
    environment: { HOST: 0.0.0.0, PORT: 5432 }
    volumes: ["data:/data"]
  extra:
    <<: *service
    environment: { HOST: 0.0.0.0, PORT: 80 }
volumes: { data: {} }
configs: { app: { file: app.txt } }
secrets: { key: { environment: KEY } }
"#;

/// An engine, and a repository that deploys a project to it.
struct Composed {
    engine: DockerEngine,
    repository: TestEnvironment,
}

impl Composed {
    fn start() -> Composed {
        let engine = DockerEngine::start();
        let mut repository = engine.repository(r#"target = "compose""#, COMPOSE, DEPLOY);
        let pipeline = repository.read("stagewright.toml");
        let pipeline =
            pipeline.replace("[stages.release.with.images]", "secrets = [\"KEY\"]\n[stages.release.with.images]");
        repository.write("stagewright.toml", &format!("{pipeline}\n[secrets.key]\nfrom = \"env:SHOP_KEY\"\n"));
        repository.set("SHOP_KEY", "sk-of-the-shop");
        repository.run(&["grant", "--yes"]).exits(0);
        Composed { engine, repository }
    }

    #[track_caller]
    fn deploy(&self, version: &str, more: &[&str], code: i32) -> Ended {
        deploy(&self.repository, version, more).exits(code)
    }

    fn serves(&self) -> Option<String> {
        self.engine.machine.get("http://127.0.0.1:8080/")
    }

    /// The containers by name, which tell whether they were started again.
    fn containers(&self) -> BTreeMap<String, String> {
        let listed = self.engine.docker(&["ps", "--all", "--format", "{{.Names}} {{.ID}}"]);
        listed
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, id)| (name.to_owned(), id.to_owned()))
            .collect()
    }

    fn names(&self) -> Vec<String> {
        self.containers().into_keys().collect()
    }

    /// A file of the container `web`, in an archive.
    fn file(&self, path: &str) -> String {
        self.engine.docker(&["cp", &format!("shop-web-1:{path}"), "-"])
    }

    /// The releases that the engine keeps.
    fn releases(&self) -> Vec<String> {
        let listed = self.engine.docker(&["volume", "ls", "--quiet", "--filter", "label=stagewright.project=shop"]);
        listed.lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_project_is_replaced_only_by_one_that_works() {
    let shop = Composed::start();
    let rehearsed = shop.repository.run(&["run", "--rehearse", "--input", "version=0"]).exits(0);
    assert!(rehearsed.stdout.contains("◌ deploy  rehearsed"), "{}", rehearsed.stdout);
    assert!(shop.names().is_empty() && shop.releases().is_empty(), "{}", rehearsed.stdout);

    // A first release that fails leaves nothing.
    let first = shop.deploy("0", &["exit=7"], 1);
    assert!(first.stdout.contains("exited (7)") && first.stdout.contains("no database"), "{}", first.stdout);
    assert!(shop.names().is_empty() && shop.releases().is_empty());

    shop.deploy("1", &[], 0);
    assert_eq!(shop.names(), ["shop-db-1", "shop-extra-1", "shop-web-1"]);
    assert_eq!(shop.serves().as_deref(), Some("version 1"));
    let rehearsed = shop.repository.run(&["run", "--rehearse", "--input", "version=2"]).exits(0);
    for line in ["~ with", "VERSION", "would deploy shop to production: 1 changed"] {
        assert!(rehearsed.stdout.contains(line), "{line}: {}", rehearsed.stdout);
    }
    assert_eq!(shop.serves().as_deref(), Some("version 1"));
    let web = shop.engine.docker(&["inspect", "shop-web-1", "--format", "{{.Config.Image}} {{.Config.Env}}"]);
    assert!(web.contains("@sha256:") && web.contains("API_KEY=sk-of-the-shop"), "{web}");
    let kept = shop.engine.docker(&["volume", "inspect", &shop.releases().join(" ")]);
    assert!(!kept.contains("sk-of-the-shop"), "the engine keeps no value of a secret");

    // What the release doesn't have any more is removed, except for volumes; what didn't change isn't started again.
    let pipeline = shop.repository.read("stagewright.toml");
    let image = shop.engine.docker(&["inspect", "shop-db-1", "--format", "{{.Config.Image}}"]);
    let pipeline = pipeline.replace("extra = \"${{ stages.push.outputs.reference }}\"", "");
    let pipeline =
        pipeline.replace("db = \"${{ stages.push.outputs.reference }}\"", &format!("db = \"{}\"", image.trim()));
    shop.repository.write("stagewright.toml", &pipeline);
    let extra = COMPOSE.find("  extra:").expect("a service")..COMPOSE.find("volumes: { data").expect("volumes");
    let mut compose = COMPOSE.to_owned();
    compose.replace_range(extra, "");
    shop.repository.write("compose.yaml", &compose);
    let db = shop.containers()["shop-db-1"].clone();
    shop.deploy("2", &[], 0);
    assert_eq!(
        (shop.names(), shop.serves().as_deref()),
        (vec!["shop-db-1".into(), "shop-web-1".into()], Some("version 2"))
    );
    assert_eq!(shop.containers()["shop-db-1"], db);
    assert_eq!(shop.releases().len(), 1);

    let unhealthy = shop.deploy("3", &["wait-for=/never"], 1);
    assert!(unhealthy.stdout.contains("shop-web-1 is unhealthy"), "{}", unhealthy.stdout);
    assert!(unhealthy.stdout.contains("its health check ended with code 1: Error"), "{}", unhealthy.stdout);
    assert_eq!((shop.serves().as_deref(), shop.releases().len()), (Some("version 2"), 1));

    // Deployed, but found to be wrong: the deploy is compensated.
    let broken = shop.deploy("5", &["broken=yes"], 1);
    assert!(broken.stdout.contains("rolled back to compose.yaml@sha256:"), "{}", broken.stdout);
    assert_eq!((shop.serves().as_deref(), shop.releases().len()), (Some("version 2"), 1));

    shop.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!(shop.serves().as_deref(), Some("version 1"));
    assert_eq!(shop.names(), ["shop-db-1", "shop-extra-1", "shop-web-1"], "the release has its services again");
}

#[test]
fn a_file_of_the_release_is_a_part_of_it_and_a_registry_that_is_down_stops_nothing() {
    let shop = Composed::start();
    shop.deploy("1", &[], 0);
    assert!(shop.file("/run/secrets/key").contains("sk-of-the-shop"));
    shop.repository.write("web.env", "VERSION=of-the-file\n");
    shop.repository.write("app.txt", "costs $6\n");
    shop.deploy("1", &[], 0);
    assert_eq!(shop.serves().as_deref(), Some("version of-the-file"));
    assert!(shop.file("/app").contains("costs $6\n"));
    shop.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!(shop.serves().as_deref(), Some("version 1"));
    assert!(shop.file("/app").contains("costs $5\n"));

    // Changed by hand, it is what the release says again.
    shop.engine.docker(&["rm", "--force", "shop-web-1"]);
    shop.repository.write("web.env", "VERSION=$VERSION\n");
    shop.deploy("2", &[], 0);
    assert_eq!(shop.serves().as_deref(), Some("version 2"));

    let before = shop.containers();
    let pipeline = shop.repository.read("stagewright.toml");
    let gone = format!("127.0.0.1:5001/gone@sha256:{}", "1".repeat(64));
    let down = pipeline.replace("extra = \"${{ stages.push.outputs.reference }}\"", &format!("extra = \"{gone}\""));
    shop.repository.write("stagewright.toml", &down);
    let failed = shop.deploy("3", &[], 1);
    assert!(failed.stdout.contains(&format!("the Docker engine can't pull {gone}")), "{}", failed.stdout);
    assert_eq!((shop.containers(), shop.serves().as_deref()), (before.clone(), Some("version 2")));
    shop.repository.write("stagewright.toml", &pipeline);

    // A file with mistakes is refused as a whole, by another stage.
    let wrong = COMPOSE
        .replace("$EXIT", "$UNSET")
        .replace("extra:\n    <<: *service", "extra:\n    image: postgres:15\n    privileged: true");
    shop.repository.write("compose.yaml", &wrong);
    shop.repository
        .write("stagewright.toml", &pipeline.replace("extra = \"${{ stages.push.outputs.reference }}\"", ""));
    let refused = shop.deploy("3", &[], 1);
    for mistake in [
        "compose.yaml:9: services.web.environment.EXIT: the variable `UNSET` has no value",
        "compose.yaml:20: services.extra.image: `postgres:15` has no digest",
        "compose.yaml:21: services.extra.privileged: a privileged container controls the whole machine",
    ] {
        assert!(refused.stdout.contains(mistake), "{mistake}: {}", refused.stdout);
    }
    shop.repository.write("compose.yaml", COMPOSE);
    shop.repository.write("stagewright.toml", &pipeline);

    // A release that was deployed under a newer token, for example from another machine.
    let labels = ["project=shop", "release=shop.1000", "artifact=x", "fence=1000", "run=other", "state=applying"];
    let labels = labels.map(|label| format!("--label=stagewright.{label}"));
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    shop.engine.docker(&[["volume", "create"].as_slice(), &labels, &["foreign"]].concat());
    let stale = shop.deploy("3", &[], 1);
    assert!(
        stale.stdout.contains("release shop.1000 of `shop` has the token 1000, which is newer"),
        "{}",
        stale.stdout
    );
    assert_eq!((shop.containers(), shop.serves().as_deref()), (before, Some("version 2")));
}

#[test]
fn a_project_is_deployed_once_whatever_kills_the_engine() {
    let shop = Composed::start();
    shop.deploy("0", &[], 0);
    let mut load = Load::on(&shop.engine.machine, 8080, "/");
    let mut version = 0;
    for write in (1..).step_by(stride(43)) {
        version += 1;
        let args = deploy_args(&version.to_string(), &[]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let earlier = latest_run(&shop.repository);
        if killed(&shop.repository, &args, write).is_none() {
            break;
        }
        to_the_end(&shop.repository, &args, &earlier);
        assert_eq!(shop.serves(), Some(format!("version {version}")), "killed at {write}");
        assert_eq!((shop.names().len(), shop.releases().len()), (3, 1), "killed at {write}");
        assert_eq!(
            releases(&shop.repository),
            version + 1,
            "killed at write {write}: deployed more than once, or not at all"
        );
    }
    assert!(version > 3, "the engine was killed {version} times: is the journal still a write-ahead log?");

    // While Compose replaces a container.
    version += 1;
    let args = deploy_args(&version.to_string(), &[]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let web = shop.containers()["shop-web-1"].clone();
    let mut run = shop.repository.start(&args);
    eventually("Compose replaces the container", || (shop.containers().get("shop-web-1") != Some(&web)).then_some(()));
    run.kill().expect("the engine runs");
    run.wait().expect("the engine has ended");
    shop.repository.run(&["resume", "latest"]).exits(0);
    assert_eq!(shop.serves(), Some(format!("version {version}")));
    assert_eq!((shop.names().len(), shop.releases().len()), (3, 1));

    // One container has the port: while it is replaced, requests fail.
    let answers = load.answers();
    assert!(answers.keys().any(|answer| answer.starts_with("failed")), "{answers:?}");
    assert!((0..=version).all(|version| answers.contains_key(&format!("version {version}"))), "{answers:?}");
}
