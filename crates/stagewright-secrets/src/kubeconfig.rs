//! Which API server, and as whom: kubeconfig files, or what a pod is given.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::SourceContext;
use crate::error::Fault;

/// How to reach a cluster.
pub(crate) struct Cluster {
    pub(crate) server: String,
    /// PEM.
    pub(crate) authorities: Option<Vec<u8>>,
    pub(crate) token: Option<Zeroizing<String>>,
    /// PEM: certificate and key.
    pub(crate) identity: Option<Zeroizing<Vec<u8>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Config {
    current_context: Option<String>,
    clusters: Vec<NamedCluster>,
    contexts: Vec<NamedContext>,
    users: Vec<NamedUser>,
}

#[derive(Debug, Deserialize)]
struct NamedCluster {
    name: String,
    cluster: ClusterEntry,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
}

#[derive(Debug, Deserialize)]
struct NamedContext {
    name: String,
    context: ContextEntry,
}

#[derive(Debug, Deserialize)]
struct ContextEntry {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Debug, Deserialize)]
struct NamedUser {
    name: String,
    user: UserEntry,
}

/// No `Debug` that shows: it holds tokens and keys.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserEntry {
    token: Option<Zeroizing<String>>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<Zeroizing<String>>,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

impl std::fmt::Debug for UserEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserEntry(…)")
    }
}

/// `KUBECONFIG`, or `~/.kube/config`, or what the pod that this runs in was given.
pub(crate) fn cluster(around: &SourceContext) -> Result<Cluster, Fault> {
    let files = match around.variable("KUBECONFIG") {
        Some(list) => list.split(':').filter(|file| !file.is_empty()).map(|file| around.root.join(file)).collect(),
        None => around.at_home(".kube/config").into_iter().filter(|file| file.is_file()).collect::<Vec<_>>(),
    };
    if files.is_empty() {
        return in_cluster(around);
    }
    // As kubectl does: of two entries of a name, the first file's stands. Paths are relative to the file they stand in.
    let mut current = None;
    let mut configs = Vec::new();
    for file in files.iter().filter(|file| file.exists()) {
        let config = read(file)?;
        current = current.or_else(|| config.current_context.clone().filter(|name| !name.is_empty()));
        configs.push((file.parent().unwrap_or(Path::new("/")).to_owned(), config));
    }
    let missing = |what: String| {
        Fault::new(format!("can't be fetched: the kubeconfig {what}"))
            .help("look at `kubectl config view`, and choose with `kubectl config use-context`")
    };
    let current = current.ok_or_else(|| missing("names no current context".to_owned()))?;
    let context = configs.iter().flat_map(|(_, config)| &config.contexts).find(|context| context.name == current);
    let context = &context.ok_or_else(|| missing(format!("has no context `{current}`")))?.context;
    let clusters =
        configs.iter().flat_map(|(folder, config)| config.clusters.iter().map(move |cluster| (folder, cluster)));
    let (folder, cluster) = clusters
        .clone()
        .find(|(_, cluster)| cluster.name == context.cluster)
        .ok_or_else(|| missing(format!("has no cluster `{}`", context.cluster)))?;
    let users = configs.iter().flat_map(|(folder, config)| config.users.iter().map(move |user| (folder, user)));
    let user = users.clone().find(|(_, user)| user.name == context.user);
    as_user(&cluster.cluster, folder, user.map(|(folder, user)| (folder.as_path(), &user.user)), &current)
}

fn as_user(
    cluster: &ClusterEntry,
    folder: &Path,
    user: Option<(&Path, &UserEntry)>,
    context: &str,
) -> Result<Cluster, Fault> {
    if cluster.insecure_skip_tls_verify {
        return Err(Fault::new(format!(
            "can't be fetched: the context `{context}` skips the check of the server's certificate"
        ))
        .help("set `certificate-authority` in the kubeconfig instead of `insecure-skip-tls-verify`"));
    }
    let authorities =
        either(cluster.certificate_authority_data.as_deref(), cluster.certificate_authority.as_deref(), folder)?;
    let Some((folder, user)) = user else {
        return Err(Fault::new(format!("can't be fetched: the context `{context}` names no user of the kubeconfig")));
    };
    let certificate = either(user.client_certificate_data.as_deref(), user.client_certificate.as_deref(), folder)?;
    let key = either(user.client_key_data.as_ref().map(|data| data.as_str()), user.client_key.as_deref(), folder)?;
    let identity = certificate.zip(key).map(|(mut certificate, key)| {
        certificate.push(b'\n');
        certificate.extend_from_slice(&Zeroizing::new(key));
        Zeroizing::new(certificate)
    });
    let token = match (&user.token, &user.token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(file)) => Some(trimmed(bytes(&folder.join(file))?)),
        (None, None) => None,
    };
    if token.is_none() && identity.is_none() {
        let how = match (&user.exec, &user.auth_provider) {
            (Some(_), _) => "logs in through a program (`exec`)",
            (_, Some(_)) => "logs in through an `auth-provider`",
            _ => "has neither token nor certificate",
        };
        return Err(Fault::new(format!("can't be fetched: the user of the context `{context}` {how}"))
            .help("use a token or a client certificate, or read the secret with `command:kubectl get secret …`"));
    }
    Ok(Cluster { server: cluster.server.clone(), authorities, token, identity })
}

/// See "Accessing the Kubernetes API from a Pod".
fn in_cluster(around: &SourceContext) -> Result<Cluster, Fault> {
    let host = around.variable("KUBERNETES_SERVICE_HOST").ok_or_else(|| {
        Fault::new("can't be fetched: there is no kubeconfig, and this is no pod")
            .help("set KUBECONFIG to a kubeconfig file")
    })?;
    let port = around.variable("KUBERNETES_SERVICE_PORT").unwrap_or("443");
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Ok(Cluster {
        server: format!("https://{host}:{port}"),
        authorities: Some(bytes(&around.service_account.join("ca.crt"))?),
        token: Some(trimmed(bytes(&around.service_account.join("token"))?)),
        identity: None,
    })
}

fn read(file: &Path) -> Result<Config, Fault> {
    let text = Zeroizing::new(bytes(file)?);
    // The parser's own words quote lines, and there are keys in them.
    serde_saphyr::from_slice(&text).map_err(|_| {
        Fault::new(format!("can't be fetched: {} is no kubeconfig", file.display()))
            .help("look at `kubectl config view`")
    })
}

/// What stands in the file itself, in base64, or what it points to.
fn either(data: Option<&str>, file: Option<&Path>, folder: &Path) -> Result<Option<Vec<u8>>, Fault> {
    match (data.filter(|data| !data.is_empty()), file) {
        (Some(data), _) => STANDARD
            .decode(data.trim())
            .map(Some)
            .map_err(|_| Fault::new("can't be fetched: the kubeconfig holds data that is no base64")),
        (None, Some(file)) => bytes(&folder.join(file)).map(Some),
        (None, None) => Ok(None),
    }
}

fn bytes(file: &Path) -> Result<Vec<u8>, Fault> {
    stagewright_files::read(file, stagewright_files::CONFIGURATION)
        .map_err(|error| Fault::new(format!("can't be fetched: {} can't be read: {error}", file.display())))
}

fn trimmed(token: Vec<u8>) -> Zeroizing<String> {
    let token = Zeroizing::new(token);
    Zeroizing::new(String::from_utf8_lossy(&token).trim().to_owned())
}
