//! What a test has to know about a running cluster, as JSON or as variables for a shell.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::certificates::{ADMIN, DEPLOYER};
use super::folder::ClusterFolder;
use super::kubeconfig::NAMESPACE;
use super::network::{ClusterPorts, POD_NETWORK, PortOptions, SERVICE_NETWORK};
use super::programs::{Programs, VERSION};
use crate::cargo::Result;

/// Variables for a shell, and the keys that have their values.
const VARIABLES: [(&str, &str); 8] = [
    ("KUBECONFIG", "kubeconfig"),
    ("DEPLOYER_KUBECONFIG", "deployer-kubeconfig"),
    ("KUBE_API", "api"),
    ("KUBE_VERSION", "version"),
    ("KUBECTL", "kubectl"),
    ("DOCKER_HOST", "docker-host"),
    ("REGISTRY", "registry"),
    ("CLUSTER_FOLDER", "folder"),
];

const COMMENT: &str = "\
# To use an image: docker build --tag $REGISTRY/app . && docker push $REGISTRY/app
# To end the cluster: cargo xtask cluster down
";

/// A JSON object of strings.
pub(super) struct ClusterDetails(Json);

impl ClusterDetails {
    pub(super) fn new(folder: &ClusterFolder, programs: &Programs, ports: &ClusterPorts) -> ClusterDetails {
        ClusterDetails(json!({
            "version": VERSION,
            "api": format!("https://127.0.0.1:{}", ports.api),
            "kubeconfig": folder.kubeconfig(ADMIN),
            "deployer-kubeconfig": folder.kubeconfig(DEPLOYER),
            "namespace": NAMESPACE,
            "kubectl": programs.kubectl(),
            "docker-host": format!("unix://{}", folder.docker_socket().display()),
            "registry": format!("127.0.0.1:{}", ports.registry),
            "pod-network": POD_NETWORK,
            "service-network": SERVICE_NETWORK,
            "folder": folder.path(),
        }))
    }

    /// The address of the API.
    pub(super) fn api(&self) -> String {
        self.text("api").to_owned()
    }

    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// An error if the options name other ports than the cluster has.
    pub(super) fn require(&self, options: &PortOptions) -> Result<()> {
        for (key, port) in [("api", options.api_port), ("registry", options.registry_port)] {
            if port.is_some_and(|port| !self.text(key).ends_with(&format!(":{port}"))) {
                return Err(format!(
                    "the cluster runs already, and its {key} is at {}\n  help: to choose another port, first run: \
                     cargo xtask cluster down",
                    self.text(key)
                ));
            }
        }
        Ok(())
    }

    /// Reads what [`write`](ClusterDetails::write) has written.
    pub(super) fn read(folder: &ClusterFolder) -> Result<ClusterDetails> {
        let path = folder.details();
        let text = std::fs::read(&path).map_err(|error| format!("can't read {}: {error}", path.display()))?;
        let details = serde_json::from_slice(&text);
        details.map(ClusterDetails).map_err(|error| format!("{} contains invalid JSON: {error}", path.display()))
    }

    pub(super) fn write(&self, folder: &ClusterFolder) -> Result<()> {
        folder.write(&folder.details(), &self.as_json())
    }

    #[expect(clippy::print_stdout, reason = "the details are the output of the command")]
    pub(super) fn print(&self, as_json: bool) {
        print!("{}", if as_json { self.as_json() } else { self.as_variables() });
    }

    fn as_json(&self) -> String {
        format!("{:#}\n", self.0)
    }

    pub(super) fn variables(&self) -> Vec<(&'static str, &str)> {
        VARIABLES.into_iter().map(|(variable, key)| (variable, self.text(key))).collect()
    }

    fn as_variables(&self) -> String {
        let mut text = String::new();
        for (variable, value) in self.variables() {
            let _ = writeln!(text, "export {variable}={}", quoted(value));
        }
        text + COMMENT
    }
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/.:_-".contains(letter);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn details(folder: &Path) -> ClusterDetails {
        let ports = ClusterPorts { api: 6443, registry: 5000, etcd: 1, etcd_peer: 2, kubelet: 3, proxy_metrics: 4 };
        ClusterDetails::new(&ClusterFolder::new(folder).unwrap(), &Programs::new(Path::new("/cache")), &ports)
    }

    #[test]
    fn the_variables_are_valid_for_a_shell() {
        let text = details(Path::new("/it's here")).as_variables();
        let expected = r"export KUBECONFIG='/it'\''s here/config/admin.kubeconfig'
export DEPLOYER_KUBECONFIG='/it'\''s here/config/deployer.kubeconfig'
export KUBE_API=https://127.0.0.1:6443
export KUBE_VERSION=v1.20.2
export KUBECTL=/cache/v1.20.2-2/kubectl
export DOCKER_HOST='unix:///it'\''s here/docker.sock'
export REGISTRY=127.0.0.1:5000
export CLUSTER_FOLDER='/it'\''s here'
";
        assert_eq!(text, format!("{expected}{COMMENT}"));
        let script = format!("{text}printf %s \"$KUBECONFIG\"");
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "/it's here/config/admin.kubeconfig");
    }

    #[test]
    fn other_ports_than_those_of_the_running_cluster_are_refused() {
        let details = details(Path::new("/here"));
        let require = |api_port, registry_port| details.require(&PortOptions { api_port, registry_port });
        for (api, registry) in [(None, None), (Some(6443), None), (Some(6443), Some(5000))] {
            require(api, registry).expect("they are the same");
        }
        let error = require(Some(443), None).expect_err("a part of the number is another port");
        assert!(error.contains("its api is at https://127.0.0.1:6443"), "{error}");
        require(Some(6443), Some(5001)).expect_err("the registry's is another");
    }

    #[test]
    fn what_was_printed_can_be_printed_again() {
        let parent = tempfile::tempdir().unwrap();
        let folder = ClusterFolder::new(&parent.path().join("cluster")).unwrap();
        folder.create().unwrap();
        let details = details(folder.path());
        details.write(&folder).unwrap();
        assert_eq!(ClusterDetails::read(&folder).unwrap().as_json(), details.as_json());
        let parsed: Json = serde_json::from_str(&details.as_json()).unwrap();
        assert_eq!(parsed["registry"], "127.0.0.1:5000");
    }
}
