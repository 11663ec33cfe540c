//! `kubernetes:`: reads a key of a Secret from the API server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use zeroize::Zeroizing;

use crate::SourceContext;
use crate::error::Fault;
use crate::http::{SecretRequest, SecretResponse};
use crate::kubeconfig;
use crate::text::into_text;

const SERVICE: &str = "the Kubernetes API";

/// Fetches the value of the key `key` of the Secret `name` in `namespace`.
pub(crate) fn fetch(
    namespace: &str,
    name: &str,
    key: &str,
    context: &SourceContext,
) -> Result<Zeroizing<String>, Fault> {
    let cluster = kubeconfig::cluster(context)?;
    let mut url: Url = cluster.server.parse().map_err(|_| {
        Fault::new(format!("can't be fetched: the kubeconfig's server, {}, isn't a valid URL", cluster.server))
    })?;
    match url.path_segments_mut() {
        Ok(mut segments) => {
            segments.pop_if_empty().extend(["api", "v1", "namespaces", namespace, "secrets", name]);
        }
        Err(()) => return Err(Fault::new("can't be fetched: the kubeconfig's server isn't the URL of a server")),
    }
    let login = cluster.login.iter().map(|login| ("authorization", login.authorization().to_string()));
    let headers = login.chain([("accept", "application/json".to_owned())]).collect();
    let request = SecretRequest {
        headers,
        authorities: cluster.authorities,
        identity: cluster.identity,
        ..SecretRequest::get(SERVICE, url)
    };
    let response = request.send(context)?;
    if response.status != 200 {
        return Err(error_from_response(&response, namespace, name));
    }
    let document = response.json().unwrap_or_default();
    let encoded = document["data"][key].as_str().ok_or_else(|| {
        Fault::new(format!("is not in Kubernetes: the Secret {namespace}/{name} has no key `{key}`"))
            .help(format!("add the key to the Secret, or correct `#{key}` in [secrets.*]"))
    })?;
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|_| Fault::new(format!("can't be used: `{key}` of {namespace}/{name} is invalid base64")))?;
    into_text(bytes, &format!("`{key}` of {namespace}/{name}"))
}

/// The error that the API returned: a `Status` with a `message` for people.
fn error_from_response(response: &SecretResponse, namespace: &str, name: &str) -> Fault {
    let document = response.json().unwrap_or_default();
    let reason = response.reason(document["message"].as_str().unwrap_or_default());
    let fault = Fault::new(format!("can't be fetched from the Secret {namespace}/{name}: {SERVICE} returned {reason}"));
    match response.status {
        401 => fault.help("renew the credentials of the kubeconfig's current context"),
        403 => {
            fault.help(format!("grant `get` on the Secret `{name}` in `{namespace}` to the user or service account"))
        }
        404 => fault.help("create the Secret, or correct `from` in [secrets.*] or the current context"),
        _ => fault.help("check the output of `kubectl cluster-info`"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::server::{StubServer, respond};

    /// Responds in the format of the API reference.
    fn api() -> StubServer {
        StubServer::start(|request| {
            let allowed = request.headers.get("authorization").is_some_and(|value| value == "Bearer tok-12345678");
            match (allowed, request.path.as_str()) {
                (false, _) => respond(401, r#"{"kind":"Status","message":"Unauthorized","code":401}"#),
                (_, "/api/v1/namespaces/ci/secrets/deploy") => {
                    respond(200, r#"{"kind":"Secret","data":{"token":"aHVudGVyMjI=","bad":"%"}}"#)
                }
                _ => respond(404, r#"{"kind":"Status","message":"secrets \"none\" not found","code":404}"#),
            }
        })
    }

    fn kubeconfig(folder: &Path, server: &str, user: &str) -> SourceContext {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             clusters:\n- name: local\n  cluster:\n    server: {server}\n\
             contexts:\n- name: here\n  context:\n    cluster: local\n    user: me\n\
             users:\n- name: me\n  user:\n    {user}\n"
        );
        std::fs::write(folder.join("config"), text).unwrap();
        let variables = [("KUBECONFIG".to_owned(), "nowhere:config".to_owned())].into();
        SourceContext { variables, root: folder.to_owned(), ..SourceContext::default() }
    }

    fn fetch_key(name: &str, key: &str, context: &SourceContext) -> Result<String, String> {
        let value = fetch("ci", name, key, context);
        value.map(|value| value.to_string()).map_err(|fault| fault.for_secret("x").message)
    }

    #[test]
    fn a_key_is_read_with_a_token() {
        let (server, folder) = (api(), tempfile::tempdir().unwrap());
        let context = kubeconfig(folder.path(), &server.url(), "token: tok-12345678");
        assert_eq!(fetch_key("deploy", "token", &context).unwrap(), "hunter22");
        assert!(fetch_key("deploy", "none", &context).unwrap_err().contains("has no key `none`"));
        assert!(fetch_key("deploy", "bad", &context).unwrap_err().contains("is invalid base64"));
        let missing = fetch_key("none", "token", &context).unwrap_err();
        assert!(missing.ends_with("returned status 404: secrets \"none\" not found"), "{missing}");
        std::fs::write(folder.path().join("token"), "tok-12345678\n").unwrap();
        let context = kubeconfig(folder.path(), &server.url(), "tokenFile: token");
        assert_eq!(fetch_key("deploy", "token", &context).unwrap(), "hunter22");
        let context = kubeconfig(folder.path(), &server.url(), "token: tok-wrong-one");
        let wrong = fetch_key("deploy", "token", &context).unwrap_err();
        assert!(wrong.ends_with("status 401: Unauthorized"), "{wrong}");
    }

    #[test]
    fn an_unusable_kubeconfig_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refusal =
            |user: &str| fetch_key("a", "b", &kubeconfig(folder.path(), "https://127.0.0.1:1", user)).unwrap_err();
        assert!(refusal("exec: {command: aws}").contains("logs in through a program"));
        assert!(refusal("username: me").contains("neither a token, a password nor a certificate"));
        assert!(refusal("token: [hunter22").ends_with("config isn't a valid kubeconfig"));
        let mut context =
            kubeconfig(folder.path(), "https://127.0.0.1:1\n    insecure-skip-tls-verify: true", "token: a");
        assert!(fetch_key("a", "b", &context).unwrap_err().contains("doesn't verify the server's certificate"));
        context.variables.clear();
        assert!(
            fetch_key("a", "b", &context)
                .unwrap_err()
                .contains("found neither a kubeconfig nor the credentials of a pod")
        );
    }
}
