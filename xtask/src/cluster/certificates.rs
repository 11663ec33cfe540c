//! Certificates of the cluster, made with `openssl` (3.0 or later): a CA, the server certificate of the API server, and a
//! client certificate for each component and user, which says by its subject who that is.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use super::folder::ClusterFolder;
use super::network::API_SERVICE_ADDRESS;
use crate::cargo::{Result, run};

/// The name of the node.
pub(super) const NODE: &str = "stagewright";

/// The user with narrow permissions.
pub(super) const DEPLOYER: &str = "deployer";

/// The cluster's CA, which signs all other certificates.
pub(super) const CA: &str = "ca";

/// The API server's certificate for its clients.
pub(super) const API_SERVER: &str = "api-server";

/// The certificate with which the API server and etcd authenticate to each other.
pub(super) const ETCD: &str = "etcd";

/// The key that signs tokens of service accounts.
pub(super) const SERVICE_ACCOUNTS: &str = "service-accounts";

/// The certificate with which the API server authenticates to the kubelet.
pub(super) const KUBELET_CLIENT: &str = "api-server-kubelet-client";

/// The user with all permissions.
pub(super) const ADMIN: &str = "admin";

/// Who authenticates with a client certificate: the names of the certificate, the user and the group. The users and groups
/// with `system:` have permissions from the start.
pub(super) const CLIENTS: [(&str, &str, Option<&str>); 7] = [
    (ADMIN, "admin", Some("system:masters")),
    (KUBELET_CLIENT, "api-server", Some("system:masters")),
    ("kube-controller-manager", "system:kube-controller-manager", None),
    ("kube-scheduler", "system:kube-scheduler", None),
    ("kube-proxy", "system:kube-proxy", None),
    ("kubelet", "system:node:stagewright", Some("system:nodes")),
    (DEPLOYER, "stagewright-deployer", None),
];

/// The names of the API server within the cluster, and its address for everything else.
const API_SERVER_NAMES: &str =
    "DNS:kubernetes, DNS:kubernetes.default, DNS:kubernetes.default.svc, DNS:localhost, IP:127.0.0.1";

/// Days. A cluster for tests lives for hours.
const LIFETIME: &str = "30";

/// Makes all certificates in the state folder.
pub(super) fn make(folder: &ClusterFolder) -> Result<()> {
    sign(folder, CA, &request("stagewright-cluster", None, "basicConstraints = critical, CA:TRUE"))?;
    let names = format!("subjectAltName = {API_SERVER_NAMES}, IP:{API_SERVICE_ADDRESS}\nextendedKeyUsage = serverAuth");
    sign(folder, API_SERVER, &request("kube-apiserver", None, &names))?;
    let both = "subjectAltName = IP:127.0.0.1\nextendedKeyUsage = serverAuth, clientAuth";
    sign(folder, ETCD, &request("etcd", None, both))?;
    sign(folder, SERVICE_ACCOUNTS, &request("service-accounts", None, ""))?;
    for (name, user, group) in CLIENTS {
        sign(folder, name, &request(user, group, "extendedKeyUsage = clientAuth"))?;
    }
    Ok(())
}

/// A request in openssl's configuration format. `extensions` has a line for each.
fn request(user: &str, group: Option<&str>, extensions: &str) -> String {
    let mut text = format!(
        "[req]\nprompt = no\ndistinguished_name = subject\nx509_extensions = extensions\n[subject]\nCN = {user}\n"
    );
    if let Some(group) = group {
        let _ = writeln!(text, "O = {group}");
    }
    let _ = writeln!(text, "[extensions]\nsubjectKeyIdentifier = hash\n{extensions}");
    text
}

/// Makes a key and a certificate. The CA signs its own.
fn sign(folder: &ClusterFolder, name: &str, request: &str) -> Result<()> {
    let config = folder.certificate(name).with_extension("cnf");
    folder.write(&config, request)?;
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", LIFETIME]);
    command.arg("-config").arg(config);
    command.arg("-keyout").arg(folder.key(name)).arg("-out").arg(folder.certificate(name));
    if name != CA {
        command.arg("-CA").arg(folder.certificate(CA)).arg("-CAkey").arg(folder.key(CA));
    }
    run(command.stdin(Stdio::null()).stderr(Stdio::null()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::capture;

    #[test]
    fn certificates_name_their_users_and_are_signed_by_the_ca() {
        let parent = tempfile::tempdir().unwrap();
        let folder = ClusterFolder::new(&parent.path().join("cluster")).unwrap();
        folder.create().unwrap();
        make(&folder).unwrap();
        for name in CLIENTS.map(|(name, ..)| name).into_iter().chain([API_SERVER, ETCD]) {
            let mut verify = Command::new("openssl");
            verify.args(["verify", "-CAfile"]).arg(folder.certificate(CA)).arg(folder.certificate(name));
            run(verify.stdout(Stdio::null())).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let shown = |name: &str| {
            let mut show = Command::new("openssl");
            show.args([
                "x509",
                "-noout",
                "-subject",
                "-ext",
                "subjectAltName,extendedKeyUsage,basicConstraints",
                "-in",
            ]);
            let text = capture(show.arg(folder.certificate(name)).stderr(Stdio::null())).unwrap();
            String::from_utf8(text).unwrap()
        };
        let kubelet = shown("kubelet");
        assert!(kubelet.starts_with("subject=CN = system:node:stagewright, O = system:nodes\n"), "{kubelet}");
        assert!(kubelet.contains("TLS Web Client Authentication") && !kubelet.contains("CA:TRUE"), "{kubelet}");
        let server = shown(API_SERVER);
        assert!(
            server.contains("DNS:kubernetes.default.svc, ") && server.contains("IP Address:10.214.0.1"),
            "{server}"
        );
        assert!(shown(CA).contains("CA:TRUE"));
    }

    #[test]
    fn the_node_is_named_in_its_user() {
        let users = CLIENTS.map(|(_, user, _)| user.to_owned());
        assert!(users.contains(&format!("system:node:{NODE}")), "{users:?}");
    }
}
