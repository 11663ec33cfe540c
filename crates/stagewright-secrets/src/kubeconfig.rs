//! Finds the API server of a cluster and the credentials for it, in kubeconfig files or in the files of a pod.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::SourceContext;
use crate::error::Fault;

/// A cluster and the credentials for it: a token, a client certificate, or both.
pub(crate) struct Cluster {
    /// The URL of the API server.
    pub(crate) server: String,
    /// The certificates, as PEM, that the server's is checked against; none for those that the machine trusts.
    pub(crate) authorities: Option<Vec<u8>>,
    /// The bearer token.
    pub(crate) token: Option<Zeroizing<String>>,
    /// The client certificate and its key, as PEM.
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

/// `Debug` shows no fields, because they contain tokens and keys.
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

/// The cluster of the current context of `KUBECONFIG`, or else of `~/.kube/config`; if neither is there, the cluster
/// whose pod this process runs in.
pub(crate) fn cluster(source: &SourceContext) -> Result<Cluster, Fault> {
    let files = match source.variable("KUBECONFIG") {
        Some(list) => list.split(':').filter(|file| !file.is_empty()).map(|file| source.root.join(file)).collect(),
        None => source.at_home(".kube/config").into_iter().filter(|file| file.is_file()).collect::<Vec<_>>(),
    };
    if files.is_empty() {
        return in_cluster(source);
    }
    // Files are merged as kubectl does it: if several files define an entry of the same name, the first one counts, and
    // so does the first current context. A relative path in an entry begins at the folder of the file that contains the
    // entry, so every file keeps its folder.
    let mut current = None;
    let mut configs = Vec::new();
    for file in files.iter().filter(|file| file.exists()) {
        let config = read_config(file)?;
        current = current.or_else(|| config.current_context.clone().filter(|name| !name.is_empty()));
        configs.push((file.parent().unwrap_or(Path::new("/")).to_owned(), config));
    }
    let missing = |what: String| {
        Fault::new(format!("can't be fetched: the kubeconfig {what}"))
            .help("check the output of `kubectl config view`, and select a context with `kubectl config use-context`")
    };
    let current = current.ok_or_else(|| missing("has no current context".to_owned()))?;
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
    connection(&cluster.cluster, folder, user.map(|(folder, user)| (folder.as_path(), &user.user)), &current)
}

/// Combines the entries of a cluster and a user. `folder`, and the folder of `user`, are those of the files that
/// contain the entries.
fn connection(
    cluster: &ClusterEntry,
    folder: &Path,
    user: Option<(&Path, &UserEntry)>,
    context: &str,
) -> Result<Cluster, Fault> {
    if cluster.insecure_skip_tls_verify {
        return Err(Fault::new(format!(
            "can't be fetched: the context `{context}` doesn't verify the server's certificate"
        ))
        .help("set `certificate-authority` in the kubeconfig instead of `insecure-skip-tls-verify`"));
    }
    let authorities =
        data_or_file(cluster.certificate_authority_data.as_deref(), cluster.certificate_authority.as_deref(), folder)?;
    let Some((folder, user)) = user else {
        return Err(Fault::new(format!(
            "can't be fetched: the context `{context}` has no user that the kubeconfig defines"
        )));
    };
    let certificate =
        data_or_file(user.client_certificate_data.as_deref(), user.client_certificate.as_deref(), folder)?;
    let key =
        data_or_file(user.client_key_data.as_ref().map(|data| data.as_str()), user.client_key.as_deref(), folder)?;
    let identity = certificate.zip(key).map(|(mut certificate, key)| {
        certificate.push(b'\n');
        certificate.extend_from_slice(&Zeroizing::new(key));
        Zeroizing::new(certificate)
    });
    let token = match (&user.token, &user.token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(file)) => Some(read_token(&folder.join(file))?),
        (None, None) => None,
    };
    if token.is_none() && identity.is_none() {
        let how = match (&user.exec, &user.auth_provider) {
            (Some(_), _) => "logs in through a program (`exec`)",
            (_, Some(_)) => "logs in through an `auth-provider`",
            _ => "has neither a token nor a certificate",
        };
        return Err(Fault::new(format!("can't be fetched: the user of the context `{context}` {how}"))
            .help("use a token or a client certificate, or read the secret with `command:kubectl get secret …`"));
    }
    Ok(Cluster { server: cluster.server.clone(), authorities, token, identity })
}

/// The cluster whose pod this process runs in, with the credentials of its service account. See "Accessing the
/// Kubernetes API from a Pod".
fn in_cluster(source: &SourceContext) -> Result<Cluster, Fault> {
    let host = source.variable("KUBERNETES_SERVICE_HOST").ok_or_else(|| {
        Fault::new("can't be fetched: found neither a kubeconfig nor the credentials of a pod")
            .help("set KUBECONFIG to a kubeconfig file")
    })?;
    let port = source.variable("KUBERNETES_SERVICE_PORT").unwrap_or("443");
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Ok(Cluster {
        server: format!("https://{host}:{port}"),
        authorities: Some(read_file(&source.service_account.join("ca.crt"))?),
        token: Some(read_token(&source.service_account.join("token"))?),
        identity: None,
    })
}

fn read_config(file: &Path) -> Result<Config, Fault> {
    let text = Zeroizing::new(read_file(file)?);
    // The parser's error is dropped: it quotes the invalid line, which can contain a token or a key.
    serde_saphyr::from_slice(&text).map_err(|_| {
        Fault::new(format!("can't be fetched: {} isn't a valid kubeconfig", file.display()))
            .help("check the output of `kubectl config view`")
    })
}

/// The decoded base64 of an entry's `…-data` key, or else the content of the file that the entry names.
fn data_or_file(data: Option<&str>, file: Option<&Path>, folder: &Path) -> Result<Option<Vec<u8>>, Fault> {
    match (data.filter(|data| !data.is_empty()), file) {
        (Some(data), _) => STANDARD
            .decode(data.trim())
            .map(Some)
            .map_err(|_| Fault::new("can't be fetched: the kubeconfig contains invalid base64")),
        (None, Some(file)) => read_file(&folder.join(file)).map(Some),
        (None, None) => Ok(None),
    }
}

fn read_file(file: &Path) -> Result<Vec<u8>, Fault> {
    stagewright_files::read(file, stagewright_files::CONFIGURATION)
        .map_err(|error| Fault::new(format!("can't be fetched: {} can't be read: {error}", file.display())))
}

fn read_token(file: &Path) -> Result<Zeroizing<String>, Fault> {
    let token = Zeroizing::new(read_file(file)?);
    Ok(Zeroizing::new(String::from_utf8_lossy(&token).trim().to_owned()))
}
