//! Envoy in a container of the Docker engine. The endpoints of a cluster are a file, which Envoy reads again when another one
//! is moved there; see <https://www.envoyproxy.io/docs/envoy/latest/configuration/overview/xds_api#filesystem-subscriptions>.

use std::time::Duration;

use docker_engine::{Archive, Ended, Engine};
use serde::Deserialize;
use serde_json::json;
use stagewright_sdk::http::Request;
use stagewright_sdk::{Error, JsonSchema, Problem, Requirement, Result, schemars};

use super::Share;
use super::container::{self, default_socket};

/// How long Envoy may take to use new endpoints. It does so within milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);

/// The time between two looks at the endpoints.
const INTERVAL: Duration = Duration::from_millis(50);

/// Envoy in a container of the Docker engine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Envoy {
    /// The name of Envoy's container, which has the program `mv`. It reaches the addresses of the releases when it has the
    /// network `host`.
    container: String,
    /// The cluster, of type `EDS`.
    cluster: String,
    /// The absolute path in the container of the file that the deploy replaces: that of the cluster's `path_config_source`.
    endpoints: String,
    /// Where Envoy's administration interface answers: `http://127.0.0.1:9901`, or `unix:///run/envoy/admin.sock`.
    #[serde(default = "local")]
    admin: String,
    /// The absolute path of the engine's socket.
    #[serde(default = "default_socket")]
    socket: String,
}

fn local() -> String {
    "http://127.0.0.1:9901".to_owned()
}

/// The answer to `GET /clusters?format=json`.
#[derive(Deserialize)]
struct Clusters {
    #[serde(default)]
    cluster_statuses: Vec<ClusterStatus>,
}

#[derive(Deserialize)]
struct ClusterStatus {
    name: String,
    #[serde(default)]
    host_statuses: Vec<HostStatus>,
}

#[derive(Deserialize)]
struct HostStatus {
    address: Address,
    #[serde(default)]
    weight: u32,
}

#[derive(Deserialize)]
struct Address {
    #[serde(default)]
    socket_address: Option<SocketAddress>,
}

#[derive(Deserialize)]
struct SocketAddress {
    address: String,
    port_value: u16,
}

impl Envoy {
    /// Replaces the endpoints, and returns when Envoy uses them. If it doesn't, the file is replaced by the old one.
    pub(super) fn direct(&self, shares: &[Share]) -> Result<()> {
        let earlier = self.read()?;
        if self.in_use()?.is_none() {
            return Err(Error::failed(format!("Envoy in {} has no cluster `{}`", self.container, self.cluster)).help(
                format!("add a cluster with the name {:?} and the type EDS to Envoy's configuration", self.cluster),
            ));
        }
        let mut expected: Vec<(String, u32)> =
            shares.iter().filter(|share| share.weight > 0).map(|share| (share.address.clone(), share.weight)).collect();
        expected.sort_unstable();
        self.replace(&assignment(&self.cluster, shares)?)?;
        self.wait_until_used(&expected).map_err(|error| match self.replace(&earlier) {
            Ok(()) => error,
            Err(failure) => error.cause(format!("restoring {} failed: {failure}", self.endpoints)),
        })
    }

    pub(super) fn requirements(&self) -> Vec<Requirement> {
        let (engine, container) = (self.engine(), &self.container);
        let requirement =
            |method: &str, path: &str, reason: &str| engine.requirement(method, path).because(reason.to_owned());
        let admin = if self.is_socket() { format!("GET {}:/clusters", self.admin()) } else { self.admin().to_owned() };
        vec![
            requirement("GET", &format!("/containers/{container}/archive"), "keeps Envoy's endpoints, to restore them"),
            requirement("PUT", &format!("/containers/{container}/archive"), "writes Envoy's endpoints"),
            requirement("POST", &format!("/containers/{container}/exec"), "moves Envoy's endpoints into place"),
            requirement("POST", "/exec/*/start", "moves Envoy's endpoints into place"),
            requirement("GET", "/exec/*/json", "looks whether Envoy's endpoints are in place"),
            Requirement::net(admin).because("waits until Envoy uses its endpoints"),
        ]
    }

    pub(super) fn problems(&self, key: &str) -> Vec<Problem> {
        let name = container::name_problem(format!("{key}.container"), &self.container);
        let file = container::file_problem(format!("{key}.endpoints"), &self.endpoints, "/etc/envoy/traffic/app.json");
        let socket = container::socket_problem(format!("{key}.socket"), &self.socket);
        let cluster = self.cluster.is_empty().then(|| Problem::at(format!("{key}.cluster"), "must not be empty"));
        let is_admin = self.is_socket() || self.admin.starts_with("http://") || self.admin.starts_with("https://");
        let admin = (!is_admin).then(|| {
            let message = format!("`{}` isn't the address of an administration interface", self.admin);
            Problem::at(format!("{key}.admin"), message)
                .help("write it as in \"http://127.0.0.1:9901\" or \"unix:///run/envoy/admin.sock\"")
        });
        name.into_iter().chain(cluster).chain(file).chain(admin).chain(socket).collect()
    }

    fn engine(&self) -> Engine {
        Engine::at(&self.socket)
    }

    fn is_socket(&self) -> bool {
        self.admin.starts_with("unix://")
    }

    fn admin(&self) -> &str {
        self.admin.trim_end_matches('/')
    }

    fn read(&self) -> Result<String> {
        let help = format!(
            "create {} in the container once by hand, with `{{\"resources\": []}}`, and write in the cluster: \
             eds_cluster_config: {{ eds_config: {{ path_config_source: {{ path: {} }} }} }}",
            self.endpoints, self.endpoints
        );
        let archive = self.engine().read_archive(&self.container, &self.endpoints).map_err(|error| {
            error.context(format!("can't read Envoy's endpoints in the container {}", self.container)).help(&help)
        })?;
        let content = archive.content().and_then(|content| String::from_utf8(content.to_vec()).ok());
        content.ok_or_else(|| {
            Error::failed(format!("{} in the container {} isn't a text file", self.endpoints, self.container))
                .help(help)
        })
    }

    /// Envoy notices only files that are moved, and reads none that is half written.
    fn replace(&self, content: &str) -> Result<()> {
        let (folder, name) = container::split(&self.endpoints);
        let (engine, moved) = (self.engine(), format!("{}.new", self.endpoints));
        engine.write_archive(&self.container, folder, &Archive::of_file(&format!("{name}.new"), content))?;
        let Ended { code, output } = engine.exec(&self.container, &["mv", "-f", &moved, &self.endpoints])?;
        if code == 0 {
            return Ok(());
        }
        Err(Error::failed(format!("can't move {moved} in the container {}: {}", self.container, output.trim()))
            .help("use an image of Envoy that has `mv`, and mount the folder of the file, not the file itself"))
    }

    fn wait_until_used(&self, expected: &[(String, u32)]) -> Result<()> {
        let mut used = None;
        let is_used = || {
            used = self.in_use()?;
            Ok(used.as_deref() == Some(expected))
        };
        if container::wait_until(INTERVAL, DEADLINE, is_used)? {
            return Ok(());
        }
        let show = |hosts: &[(String, u32)]| {
            let hosts: Vec<String> = hosts.iter().map(|(host, weight)| format!("{host} with {weight}")).collect();
            if hosts.is_empty() { "none".to_owned() } else { hosts.join(", ") }
        };
        let used = show(&used.unwrap_or_default());
        let (cluster, seconds, expected) = (&self.cluster, DEADLINE.as_secs(), show(expected));
        let message =
            format!("Envoy doesn't use the endpoints of `{cluster}` after {seconds} s: {expected}; it has {used}");
        Err(Error::failed(message).help(format!(
            "check that `path_config_source` of the cluster is {}, that a cluster with `health_checks` has \
             `ignore_health_on_host_removal: true`, and the reason in: docker logs {}",
            self.endpoints, self.container
        )))
    }

    /// The addresses to which Envoy sends requests, with their weights, sorted; none if it doesn't have the cluster.
    fn in_use(&self) -> Result<Option<Vec<(String, u32)>>> {
        let colon = if self.is_socket() { ":" } else { "" };
        let url = format!("{}{colon}/clusters?format=json", self.admin());
        let mut response = Request::get(&url).send()?;
        if !response.is_success() {
            return Err(Error::failed(format!("Envoy refused GET {url} with {}", response.status())));
        }
        let clusters: Clusters = response.json()?;
        let Some(found) = clusters.cluster_statuses.into_iter().find(|found| found.name == self.cluster) else {
            return Ok(None);
        };
        let host = |host: HostStatus| {
            let address = host.address.socket_address;
            (address.map_or_else(String::new, |at| format!("{}:{}", at.address, at.port_value)), host.weight)
        };
        let mut hosts: Vec<(String, u32)> = found.host_statuses.into_iter().map(host).collect();
        hosts.sort_unstable();
        Ok(Some(hosts))
    }
}

/// The file with the endpoints: a `DiscoveryResponse` with a `ClusterLoadAssignment`. A weight of 0 is invalid in Envoy.
fn assignment(cluster: &str, shares: &[Share]) -> Result<String> {
    let endpoint = |share: &Share| {
        let (host, port) = share.address.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let address = json!({ "socket_address": { "address": host, "port_value": port } });
        Some(json!({ "endpoint": { "address": address }, "load_balancing_weight": share.weight }))
    };
    let shares = shares.iter().filter(|share| share.weight > 0);
    let endpoints = shares
        .map(|share| {
            endpoint(share).ok_or_else(|| Error::internal(format!("no port in the address `{}`", share.address)))
        })
        .collect::<Result<Vec<_>>>()?;
    let resource = json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster,
        "endpoints": [{ "lb_endpoints": endpoints }],
    });
    Ok(serde_json::to_string_pretty(&json!({ "resources": [resource] }))?)
}

#[cfg(test)]
mod tests {
    use stagewright_sdk::fake::{FakeHost, HttpScript};

    use super::*;

    const SOCKET: &str = "unix:///run/docker.sock:";
    const OLD: &str = r#"{"resources":[]}"#;

    fn envoy() -> Envoy {
        Envoy {
            container: "edge".to_owned(),
            cluster: "app".to_owned(),
            endpoints: "/etc/envoy/traffic/app.json".to_owned(),
            admin: local(),
            socket: default_socket(),
        }
    }

    fn share(address: &str, weight: u32) -> Share {
        Share::new(address, weight)
    }

    fn clusters(host: FakeHost, hosts: &[(u16, u32)]) -> FakeHost {
        let hosts: Vec<_> = hosts
            .iter()
            .map(|(port, weight)| {
                json!({ "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } }, "weight": weight })
            })
            .collect();
        let other = json!({ "name": "other" });
        let body = json!({ "cluster_statuses": [other, { "name": "app", "host_statuses": hosts }] });
        host.http(HttpScript::get("http://127.0.0.1:9901/clusters?format=json").body(body.to_string()))
    }

    /// The engine, in which `mv` ends with this code.
    fn engine(code: i64) -> FakeHost {
        let archive = format!("{SOCKET}/containers/edge/archive");
        let old = Archive::of_file("app.json", OLD).as_bytes().to_vec();
        FakeHost::new()
            .http(HttpScript::get(&format!("{archive}?path=%2Fetc%2Fenvoy%2Ftraffic%2Fapp%2Ejson")).body(old))
            .http(HttpScript::new("PUT", &format!("{archive}?path=%2Fetc%2Fenvoy%2Ftraffic&noOverwriteDirNonDir=1")))
            .http(HttpScript::post(&format!("{SOCKET}/containers/edge/exec")).status(201).body(r#"{"Id":"1"}"#))
            .http(HttpScript::post(&format!("{SOCKET}/exec/1/start")).body("mv: busy"))
            .http(
                HttpScript::get(&format!("{SOCKET}/exec/1/json"))
                    .body(format!(r#"{{"Running":false,"ExitCode":{code}}}"#)),
            )
    }

    #[test]
    fn new_endpoints_count_when_envoy_uses_them() {
        let host = clusters(clusters(engine(0), &[(1, 100)]), &[(1, 100)]);
        let host = clusters(host, &[(2, 25), (1, 75)]);
        let shares = [share("127.0.0.1:1", 75), share("127.0.0.1:2", 25), share("127.0.0.1:3", 0)];
        let (result, report) = host.with(|| envoy().direct(&shares));
        assert_eq!(result, Ok(()));
        let written = report.sent.iter().find(|sent| sent.method == "PUT").unwrap();
        let text = String::from_utf8_lossy(&written.body);
        assert!(text.starts_with("app.json.new\0"));
        let at = |text: &str, from: char, to: char| text[text.find(from).unwrap()..=text.rfind(to).unwrap()].to_owned();
        let file: serde_json::Value = serde_json::from_str(&at(&text, '{', '}')).unwrap();
        let endpoints = file["resources"][0]["endpoints"][0]["lb_endpoints"].as_array().unwrap();
        let weights: Vec<_> = endpoints.iter().map(|endpoint| endpoint["load_balancing_weight"].as_u64()).collect();
        assert_eq!(weights, [Some(75), Some(25)]);
    }

    #[test]
    fn endpoints_that_envoy_does_not_use_are_replaced_by_the_old_ones() {
        let host = clusters(engine(0), &[(1, 100)]);
        let (result, report) = host.with(|| envoy().direct(&[share("127.0.0.1:2", 100)]));
        let error = result.unwrap_err();
        let expected = "after 10 s: 127.0.0.1:2 with 100; it has 127.0.0.1:1 with 100";
        assert!(error.message.contains(expected), "{error}");
        let last = report.sent.iter().rfind(|sent| sent.method == "PUT").unwrap();
        assert!(String::from_utf8_lossy(&last.body).contains(OLD));
    }

    #[test]
    fn a_deploy_that_is_asked_to_stop_still_waits_until_the_requests_are_directed() {
        let host = clusters(clusters(engine(0), &[(1, 100)]), &[(1, 100)]);
        let (result, report) =
            clusters(host, &[(2, 100)]).cancelled().with(|| envoy().direct(&[share("127.0.0.1:2", 100)]));
        assert_eq!(result, Ok(()));
        assert_eq!(report.sent.iter().filter(|sent| sent.method == "PUT").count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_moved_changes_nothing() {
        let host = clusters(engine(1), &[(1, 100)]);
        let (result, report) = host.with(|| envoy().direct(&[share("127.0.0.1:2", 100)]));
        assert!(result.unwrap_err().message.ends_with("mv: busy"));
        assert_eq!(report.sent.iter().filter(|sent| sent.method == "PUT").count(), 1);
    }

    #[test]
    fn a_missing_cluster_is_named() {
        let body = r#"{"cluster_statuses":[{"name":"other"}]}"#;
        let host = engine(0).http(HttpScript::get("http://127.0.0.1:9901/clusters?format=json").body(body));
        let (result, _) = host.with(|| envoy().direct(&[share("127.0.0.1:2", 100)]));
        assert_eq!(result.unwrap_err().message, "Envoy in edge has no cluster `app`");
    }

    #[test]
    fn mistakes_name_their_key() {
        let broken = Envoy {
            container: "a/b".to_owned(),
            cluster: String::new(),
            endpoints: "app.json".to_owned(),
            admin: "localhost:9901".to_owned(),
            socket: "docker.sock".to_owned(),
        };
        let keys: Vec<_> = broken.problems("traffic.envoy").into_iter().filter_map(|problem| problem.key).collect();
        let expected = ["container", "cluster", "endpoints", "admin", "socket"];
        assert_eq!(keys, expected.map(|key| format!("traffic.envoy.{key}")));
        assert!(envoy().problems("x").is_empty());
        let on_socket = Envoy { admin: "unix:///run/envoy.sock".to_owned(), ..envoy() };
        assert_eq!(on_socket.requirements().last().unwrap().entry, "GET unix:///run/envoy.sock:/clusters");
    }
}
