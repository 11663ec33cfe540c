//! Finds the API server of a cluster and the credentials for it: in kubeconfig files, in the text of one, or in the files
//! of a pod.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::SourceContext;
use crate::error::Fault;
use crate::login::Login;

/// A cluster and the credentials for it: a token or a password, a client certificate, or both.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The URL of the API server.
    pub(crate) server: String,
    /// The certificates, as PEM, that the server's is checked against; none for those that the machine trusts.
    pub(crate) authorities: Option<Vec<u8>>,
    /// How the user logs in by a header; none for a client certificate alone.
    pub(crate) login: Option<Login>,
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
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
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
    username: Option<String>,
    password: Option<Zeroizing<String>>,
    #[serde(rename = "as")]
    impersonates: Option<String>,
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
    let mut configs = Vec::new();
    for file in files.iter().filter(|file| file.exists()) {
        configs.push((Some(file.parent().unwrap_or(Path::new("/"))), read_config(file)?));
    }
    select(&configs, None)
}

/// The cluster of a context in the text of a kubeconfig, or else of its current one. The text can't refer to files, since
/// it has no folder.
pub(crate) fn in_text(text: &str, context: Option<&str>) -> Result<Cluster, Fault> {
    select(&[(None, parse(text.as_bytes(), "its secret")?)], context)
}

/// Finds a context, or else the current one, with its cluster and its user.
///
/// Files are merged as kubectl does it: if several files define an entry of the same name, the first one counts, and so
/// does the first current context. A relative path in an entry begins at the folder of the file that contains the entry,
/// so every file comes with its folder.
fn select(configs: &[(Option<&Path>, Config)], context: Option<&str>) -> Result<Cluster, Fault> {
    let missing = |what: String| {
        Fault::new(format!("can't be fetched: the kubeconfig {what}"))
            .help("check the output of `kubectl config view`, and select a context with `kubectl config use-context`")
    };
    let current =
        configs.iter().find_map(|(_, config)| config.current_context.as_deref().filter(|name| !name.is_empty()));
    let current = context.or(current).ok_or_else(|| missing("has no current context".to_owned()))?;
    let context = configs.iter().flat_map(|(_, config)| &config.contexts).find(|context| context.name == current);
    let context = &context.ok_or_else(|| missing(format!("has no context `{current}`")))?.context;
    let mut clusters =
        configs.iter().flat_map(|(folder, config)| config.clusters.iter().map(move |cluster| (*folder, cluster)));
    let (folder, cluster) = clusters
        .find(|(_, cluster)| cluster.name == context.cluster)
        .ok_or_else(|| missing(format!("has no cluster `{}`", context.cluster)))?;
    let mut users = configs.iter().flat_map(|(folder, config)| config.users.iter().map(move |user| (*folder, user)));
    let (users_folder, user) = users.find(|(_, user)| user.name == context.user).ok_or_else(|| {
        Fault::new(format!("can't be fetched: the context `{current}` has no user that the kubeconfig defines"))
    })?;
    let authorities = authorities(&cluster.cluster, folder, current)?;
    let server = cluster.cluster.server.clone();
    let (login, identity) = (login(&user.user, users_folder, current)?, identity(&user.user, users_folder)?);
    if login.is_none() && identity.is_none() {
        return refused_user(current, "has neither a token, a password nor a certificate");
    }
    Ok(Cluster { server, authorities, login, identity })
}

/// The certificates of a cluster's entry. What the entry says about connections and isn't supported is refused: without it,
/// a request could reach another server, or trust the wrong one.
fn authorities(cluster: &ClusterEntry, folder: Option<&Path>, context: &str) -> Result<Option<Vec<u8>>, Fault> {
    let refused = |what: &str, help: &str| {
        Err(Fault::new(format!("can't be fetched: the context `{context}` {what}")).help(help))
    };
    if cluster.insecure_skip_tls_verify {
        return refused(
            "doesn't verify the server's certificate",
            "set `certificate-authority` in the kubeconfig instead of `insecure-skip-tls-verify`",
        );
    }
    if cluster.tls_server_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return refused(
            "sets `tls-server-name`, which isn't supported",
            "use a server whose certificate is for its own name, and remove `tls-server-name`",
        );
    }
    if cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty()) {
        return refused(
            "sets `proxy-url`, which isn't supported",
            "set the variable HTTPS_PROXY of the engine instead, and remove `proxy-url`",
        );
    }
    data_or_file(cluster.certificate_authority_data.as_deref(), cluster.certificate_authority.as_deref(), folder)
}

fn refused_user<T>(context: &str, how: &str) -> Result<T, Fault> {
    Err(Fault::new(format!("can't be fetched: the user of the context `{context}` {how}"))
        .help("use a token or a client certificate, such as those of a service account"))
}

/// The token or the password of a user's entry, if it has one. What it says beyond that and isn't supported is refused:
/// without it, a request would have other rights than those of the entry.
fn login(user: &UserEntry, folder: Option<&Path>, context: &str) -> Result<Option<Login>, Fault> {
    if user.exec.is_some() {
        return refused_user(context, "logs in through a program (`exec`)");
    }
    if user.auth_provider.is_some() {
        return refused_user(context, "logs in through an `auth-provider`");
    }
    if user.impersonates.is_some() {
        return refused_user(context, "acts as another user (`as`), which isn't supported");
    }
    let token = match (&user.token, &user.token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(file)) => Some(read_token(&in_folder(folder, file)?)?),
        (None, None) => None,
    };
    Ok(match (token, &user.username, &user.password) {
        (Some(_), _, Some(_)) => return refused_user(context, "has both a token and a password"),
        (Some(token), ..) => Some(Login::Bearer(token)),
        (None, Some(username), Some(password)) => {
            Some(Login::Basic { username: username.clone(), password: password.clone() })
        }
        (None, ..) => None,
    })
}

/// The client certificate of a user's entry and its key, if it has them.
fn identity(user: &UserEntry, folder: Option<&Path>) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
    let certificate =
        data_or_file(user.client_certificate_data.as_deref(), user.client_certificate.as_deref(), folder)?;
    let key =
        data_or_file(user.client_key_data.as_ref().map(|data| data.as_str()), user.client_key.as_deref(), folder)?;
    Ok(certificate.zip(key).map(|(mut certificate, key)| {
        certificate.push(b'\n');
        certificate.extend_from_slice(&Zeroizing::new(key));
        Zeroizing::new(certificate)
    }))
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
        login: Some(Login::Bearer(read_token(&source.service_account.join("token"))?)),
        identity: None,
    })
}

fn read_config(file: &Path) -> Result<Config, Fault> {
    parse(&Zeroizing::new(read_file(file)?), &file.display().to_string())
}

/// `place`: where the text is, for the error.
fn parse(text: &[u8], place: &str) -> Result<Config, Fault> {
    // The parser's error is dropped: it quotes the invalid line, which can contain a token or a key.
    serde_saphyr::from_slice(text).map_err(|_| {
        Fault::new(format!("can't be fetched: {place} isn't a valid kubeconfig"))
            .help("check the output of `kubectl config view`")
    })
}

/// The decoded base64 of an entry's `…-data` key, or else the content of the file that the entry names.
fn data_or_file(data: Option<&str>, file: Option<&Path>, folder: Option<&Path>) -> Result<Option<Vec<u8>>, Fault> {
    match (data.filter(|data| !data.is_empty()), file) {
        (Some(data), _) => STANDARD
            .decode(data.trim())
            .map(Some)
            .map_err(|_| Fault::new("can't be fetched: the kubeconfig contains invalid base64")),
        (None, Some(file)) => read_file(&in_folder(folder, file)?).map(Some),
        (None, None) => Ok(None),
    }
}

fn in_folder(folder: Option<&Path>, file: &Path) -> Result<PathBuf, Fault> {
    let folder = folder.ok_or_else(|| {
        Fault::new(format!("can't be fetched: its kubeconfig refers to the file `{}`", file.display()))
            .help("store a kubeconfig that contains everything: `kubectl config view --flatten --minify --raw`")
    })?;
    Ok(folder.join(file))
}

fn read_file(file: &Path) -> Result<Vec<u8>, Fault> {
    stagewright_files::read(file, stagewright_files::CONFIGURATION)
        .map_err(|error| Fault::new(format!("can't be fetched: {} can't be read: {error}", file.display())))
}

fn read_token(file: &Path) -> Result<Zeroizing<String>, Fault> {
    let token = Zeroizing::new(read_file(file)?);
    Ok(Zeroizing::new(String::from_utf8_lossy(&token).trim().to_owned()))
}
