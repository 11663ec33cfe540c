//! The text of a kubeconfig: one cluster, one user with a client certificate, one context.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::certificates::{CA, CLIENTS};
use super::folder::ClusterFolder;
use crate::cargo::Result;

/// The namespace of the context.
pub(super) const NAMESPACE: &str = "default";

/// Writes a kubeconfig for each client. They contain the certificates, so that they work wherever they are copied to.
pub(super) fn write_all(folder: &ClusterFolder, api: &str) -> Result<()> {
    let read = |path: std::path::PathBuf| {
        std::fs::read(&path).map_err(|error| format!("can't read {}: {error}", path.display()))
    };
    let ca = read(folder.certificate(CA))?;
    for (name, user, _) in CLIENTS {
        let text = text(api, user, &ca, &read(folder.certificate(name))?, &read(folder.key(name))?);
        folder.write(&folder.kubeconfig(name), &text)?;
    }
    Ok(())
}

/// The certificates and the key are PEM.
fn text(api: &str, user: &str, ca: &[u8], certificate: &[u8], key: &[u8]) -> String {
    let [ca, certificate, key] = [ca, certificate, key].map(|pem| STANDARD.encode(pem));
    format!(
        r#"apiVersion: v1
kind: Config
clusters:
- name: stagewright
  cluster:
    server: {api}
    certificate-authority-data: {ca}
users:
- name: "{user}"
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: stagewright
  context:
    cluster: stagewright
    user: "{user}"
    namespace: {NAMESPACE}
current-context: stagewright
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_contains_the_address_the_user_and_the_certificates() {
        let text = text("https://127.0.0.1:6443", "system:node:a", b"CA\n", b"CERTIFICATE\n", b"KEY\n");
        let expected = r#"apiVersion: v1
kind: Config
clusters:
- name: stagewright
  cluster:
    server: https://127.0.0.1:6443
    certificate-authority-data: Q0EK
users:
- name: "system:node:a"
  user:
    client-certificate-data: Q0VSVElGSUNBVEUK
    client-key-data: S0VZCg==
contexts:
- name: stagewright
  context:
    cluster: stagewright
    user: "system:node:a"
    namespace: default
current-context: stagewright
"#;
        assert_eq!(text, expected);
    }
}
