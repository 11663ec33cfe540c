//! Whole files. Those of the first test have the mistakes of real ones.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

fn resolved(text: &str, inputs: &Inputs) -> Result<Release, Vec<Mistake>> {
    resolve("compose.yaml", text, inputs, &|path| match path {
        "app.toml" => Ok("cost = \"$5\"\n".to_owned()),
        "app.env" => Ok("# defaults\nLEVEL=info\nMODE='$raw'\n".to_owned()),
        _ => Err("no such file".to_owned()),
    })
}

/// Each mistake as `LINE KEY`.
fn mistakes(text: &str, inputs: &Inputs) -> Vec<String> {
    let found = resolved(text, inputs).unwrap_err();
    assert!(found.iter().all(|mistake| !mistake.message.is_empty() && !mistake.help.is_empty()));
    found.into_iter().map(|mistake| format!("{} {}", mistake.line, mistake.key)).collect()
}

fn inputs(runtime: Runtime) -> Inputs {
    let image = |image: &str| serde_json::from_value(json!(format!("{image}@{DIGEST}"))).expect("an image");
    Inputs { runtime, images: [("web".to_owned(), image("acme/web"))].into(), ..Inputs::default() }
}

/// A service that is only built, keys that are deployed blank, folders beside the file, moving tags, a plain password.
const BUILT: &str = "\
version: '3.8'
services:
  assistant:
    build: .
    ports: ['8080:8080']
    environment:
      - OPENAI_API_KEY=${OPENAI_API_KEY}
      - ANTHROPIC_API_KEY=${ANTHROPIC_API_KEY}
    volumes:
      - ./config:/etc/assistant
    depends_on: [postgres]
  postgres:
    image: postgres:15
    environment:
      - POSTGRES_DB=assistant
      - POSTGRES_PASSWORD=password
    volumes:
      - postgres_data:/var/lib/postgresql/data
volumes:
  postgres_data:
";

/// `replicas` where it has no effect, a password in a URL, a volume that isn't declared, `latest`.
const SCALED: &str = "\
services:
  server:
    image: acme/server:latest
    replicas: 3
    environment:
      - DATABASE_URL=postgresql://postgres:password@postgres:5432/app
    depends_on: [postgres, cache]
  postgres:
    image: postgres:15
    volumes:
      - postgres_data:/var/lib/postgresql/data
";

#[test]
fn mistakes_of_real_files_are_refused_with_their_lines() {
    assert_eq!(
        mistakes(BUILT, &Inputs::default()),
        [
            "3 services.assistant",
            "7 services.assistant.environment.OPENAI_API_KEY",
            "8 services.assistant.environment.ANTHROPIC_API_KEY",
            "10 services.assistant.volumes[0]",
            "13 services.postgres.image",
            "16 services.postgres.environment.POSTGRES_PASSWORD",
        ]
    );
    assert_eq!(
        mistakes(SCALED, &Inputs::default()),
        [
            "3 services.server.image",
            "4 services.server.replicas",
            "6 services.server.environment.DATABASE_URL",
            "7 services.server.depends_on",
            "9 services.postgres.image",
            "11 services.postgres.volumes[0]",
        ]
    );
    let unset = resolved(BUILT, &Inputs::default()).unwrap_err().remove(1);
    assert_eq!(unset.message, "the variable `OPENAI_API_KEY` has no value");
    assert!(unset.help.starts_with("set it: variables = { OPENAI_API_KEY = "), "{}", unset.help);
}

#[test]
fn a_release_says_all_that_is_deployed() {
    let text = format!(
        "services:\n  web:\n    build: .\n    env_file: app.env\n    environment: {{ LEVEL: '${{LEVEL:-debug}}', KEY: '${{KEY}}', PRICE: $$1 }}\n    \
         command: serve --name 'two words'\n    ports: ['127.0.0.1:8080:80']\n    volumes: ['data:/data:ro']\n    \
         networks: [front]\n    configs: [app]\n    healthcheck: {{ test: 'true', interval: 5s }}\n    \
         depends_on: [db]\n    deploy: {{ replicas: 2, labels: [a=b] }}\n    labels: [tier=front]\n\
         \x20 db: {{ image: 'db@{DIGEST}', x-note: own }}\n  tool: {{ image: tool, profiles: [debug] }}\n\
         networks: {{ front: }}\nvolumes: {{ data: }}\nconfigs: {{ app: {{ file: app.toml }} }}\nx-own: 1\n"
    );
    let mut inputs = inputs(Runtime::Compose);
    inputs.secrets = BTreeSet::from(["KEY".to_owned()]);
    let release = resolved(&text, &inputs).unwrap();
    let web = json!({
        "image": format!("acme/web@{DIGEST}"),
        "environment": { "LEVEL": "debug", "MODE": "$$raw", "KEY": "${KEY}", "PRICE": "$$1" },
        "command": ["serve", "--name", "two words"],
        "ports": [{ "target": 80, "protocol": "tcp", "published": "8080", "host_ip": "127.0.0.1" }],
        "volumes": [{ "type": "volume", "source": "data", "target": "/data", "read_only": true }],
        "networks": { "front": {} },
        "configs": [{ "source": "app" }],
        "healthcheck": { "test": ["CMD-SHELL", "true"], "interval": "5s" },
        "depends_on": { "db": { "condition": "service_started" } },
        "deploy": { "replicas": 2, "labels": { "a": "b" } },
        "labels": { "tier": "front" },
    });
    let compose = json!({
        "services": { "web": web, "db": { "image": format!("db@{DIGEST}") } },
        "networks": { "front": {} },
        "volumes": { "data": {} },
        "configs": { "app": { "content": "cost = \"$$5\"\n" } },
    });
    assert_eq!(release.compose(), &compose);
    assert_eq!(release.secrets(), ["KEY"]);
    assert!(release.artifact().starts_with("compose.yaml@sha256:"));

    let read: Release = serde_json::from_value(release.to_json()).unwrap();
    assert_eq!((read.artifact(), read.problem("release", Runtime::Compose)), (release.artifact(), None));
    assert!(read.problem("release", Runtime::Swarm).is_some());
    let mut reordered = release.to_json();
    let sections = reordered["compose"].as_object().expect("a table").clone().into_iter().rev();
    reordered["compose"] = serde_json::Value::from_iter(sections);
    let reordered = Release::from(reordered);
    assert_eq!(reordered.artifact(), release.artifact());
    let changed = resolved(&text.replace("5s", "6s"), &inputs).unwrap();
    assert_ne!(changed.artifact(), release.artifact());
    let unpinned: Release = serde_json::from_value(json!("${{ stages.release.outputs.release }}")).unwrap();
    assert!(unpinned.problem("release", Runtime::Compose).is_some());
}

#[test]
fn what_goes_beyond_a_container_has_to_be_allowed() {
    let text = format!(
        "services:\n  web:\n    image: web@{DIGEST}\n    privileged: true\n    network_mode: host\n    \
         volumes: ['/var/run/docker.sock:/s']\n    devices: ['/dev/kvm']\n    cap_add: [NET_ADMIN]\n    \
         environment: {{ DB_PASSWORD: x }}\nvolumes:\n  disk: {{ driver_opts: {{ type: none, o: bind, device: /etc }} }}\n"
    );
    let mut inputs = Inputs::default();
    let refused = [
        "4 services.web.privileged",
        "5 services.web.network_mode",
        "6 services.web.volumes[0]",
        "7 services.web.devices",
        "8 services.web.cap_add",
        "9 services.web.environment.DB_PASSWORD",
        "11 volumes.disk",
    ];
    assert_eq!(mistakes(&text, &inputs), refused);
    let powers = [
        Power::Privileged,
        Power::HostNamespaces,
        Power::HostMounts,
        Power::Devices,
        Power::Capabilities,
        Power::PlainSecrets,
    ];
    inputs.allow = powers.into();
    assert!(resolved(&text, &inputs).is_ok());
    // What isn't a part of the release can't be allowed.
    assert_eq!(mistakes(&text.replace("/var/run/docker.sock", "./run"), &inputs), ["6 services.web.volumes[0]"]);
    for power in powers {
        inputs.allow = powers.into_iter().filter(|other| *other != power).collect();
        assert!(!mistakes(&text, &inputs).is_empty(), "{power} isn't needed");
    }
}

#[test]
fn what_swarm_ignores_is_refused() {
    let text = format!(
        "services:\n  web:\n    image: web@{DIGEST}\n    restart: always\n    container_name: web\n    networks: [front]\n\
         \x20   secrets: [key]\n    ports: ['127.0.0.1:80:80']\nnetworks: {{ front: {{ driver: overlay }} }}\nsecrets: {{ key: {{ external: true }} }}\n"
    );
    assert_eq!(
        mistakes(&text, &Inputs { runtime: Runtime::Swarm, ..Inputs::default() }),
        ["4 services.web.restart", "5 services.web.container_name", "8 services.web.ports[0]"]
    );
    assert_eq!(mistakes(&text, &Inputs::default()), ["10 secrets.key"]);
}

#[test]
fn values_that_would_be_read_as_something_else_are_refused() {
    let text = format!(
        "services:\n  web:\n    image: web@{DIGEST}\n    deploy:\n      mode: replicated-job\n      replicas: many\n      \
         update_config: {{ parallelism: -1, delay: 10, max_failure_ratio: half }}\n      \
         resources: {{ limits: {{ memory: lots, cpus: 1x, pids: a }} }}\n    healthcheck: {{ interval: 5, retries: x }}\n    \
         ports: [{{ target: 80, published: 80-90 }}]\n"
    );
    assert_eq!(
        mistakes(&text, &Inputs { runtime: Runtime::Swarm, ..Inputs::default() }),
        [
            "5 services.web.deploy.mode",
            "6 services.web.deploy.replicas",
            "7 services.web.deploy.update_config.parallelism",
            "7 services.web.deploy.update_config.delay",
            "7 services.web.deploy.update_config.max_failure_ratio",
            "8 services.web.deploy.resources.limits.memory",
            "8 services.web.deploy.resources.limits.cpus",
            "8 services.web.deploy.resources.limits.pids",
            "9 services.web.healthcheck.interval",
            "9 services.web.healthcheck.retries",
            "10 services.web.ports[0]",
        ]
    );
}

#[test]
fn what_is_not_declared_or_not_known_is_refused() {
    let text = format!(
        "services:\n  web:\n    image: web@{DIGEST}\n    imagee: x\n    networks: [missing]\n    configs: [missing]\n    \
         secrets: [{{ source: missing }}]\n    deploy: {{ replica: 1 }}\n    ports: ['80-90:80-90']\n    \
         stop_grace_period: soon\n    command: \"a 'b\"\nextra: 1\nconfigs: {{ none: }}\n"
    );
    assert_eq!(
        mistakes(&text, &inputs(Runtime::Compose)),
        [
            "4 services.web.imagee",
            "5 services.web.networks",
            "6 services.web.configs[0]",
            "7 services.web.secrets[0]",
            "8 services.web.deploy.replica",
            "9 services.web.ports[0]",
            "10 services.web.stop_grace_period",
            "11 services.web.command",
            "12 extra",
            "13 configs.none",
        ]
    );
    assert_eq!(
        mistakes("services: {}", &inputs(Runtime::Compose)).len(),
        2,
        "no services, and none that `images` names"
    );
}
