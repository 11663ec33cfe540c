//! `kubernetes:`: a key of a Secret, read from the API server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use zeroize::Zeroizing;

use crate::SourceContext;
use crate::error::Fault;
use crate::http::{Answer, Call};
use crate::kubeconfig;
use crate::text::text;

const SERVICE: &str = "the Kubernetes API";

pub(crate) fn key(namespace: &str, name: &str, key: &str, around: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    let cluster = kubeconfig::cluster(around)?;
    let mut url: Url = cluster
        .server
        .parse()
        .map_err(|_| Fault::new(format!("can't be fetched: the kubeconfig's server, {}, is no URL", cluster.server)))?;
    match url.path_segments_mut() {
        Ok(mut segments) => {
            segments.pop_if_empty().extend(["api", "v1", "namespaces", namespace, "secrets", name]);
        }
        Err(()) => return Err(Fault::new("can't be fetched: the kubeconfig's server is no address of a server")),
    }
    let bearer = cluster.token.iter().map(|token| ("authorization", format!("Bearer {}", token.as_str())));
    let headers = bearer.chain([("accept", "application/json".to_owned())]).collect();
    let call =
        Call { headers, authorities: cluster.authorities, identity: cluster.identity, ..Call::get(SERVICE, url) };
    let answer = call.send(around)?;
    if answer.status != 200 {
        return Err(refused(&answer, namespace, name));
    }
    let document = answer.json().unwrap_or_default();
    let encoded = document["data"][key].as_str().ok_or_else(|| {
        Fault::new(format!("is not in Kubernetes: the Secret {namespace}/{name} has no key `{key}`"))
            .help(format!("add the key to the Secret, or correct `#{key}` in [secrets.*]"))
    })?;
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|_| Fault::new(format!("can't be used: the API gave `{key}` of {namespace}/{name} in no base64")))?;
    text(bytes, &format!("`{key}` of {namespace}/{name}"))
}

/// The API answers with a `Status`, whose `message` is for people.
fn refused(answer: &Answer, namespace: &str, name: &str) -> Fault {
    let document = answer.json().unwrap_or_default();
    let reason = answer.reason(document["message"].as_str().unwrap_or_default());
    let fault =
        Fault::new(format!("can't be fetched: {SERVICE} answered for the Secret {namespace}/{name} with {reason}"));
    match answer.status {
        401 => fault.help("renew the credentials of the kubeconfig's current context"),
        403 => {
            fault.help(format!("grant `get` on the Secret `{name}` in `{namespace}` to the user or service account"))
        }
        404 => fault.help("create the Secret, or correct `from` in [secrets.*] or the current context"),
        _ => fault.help("look at `kubectl cluster-info`"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::server::{Server, respond};

    /// As the API reference shows its answers.
    fn api() -> Server {
        Server::start(|request| {
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

    fn ask(name: &str, wanted: &str, around: &SourceContext) -> Result<String, String> {
        let answer = key("ci", name, wanted, around);
        answer.map(|value| value.to_string()).map_err(|fault| fault.of("x").message)
    }

    #[test]
    fn a_key_is_read_with_a_token() {
        let (server, folder) = (api(), tempfile::tempdir().unwrap());
        let around = kubeconfig(folder.path(), &server.url(), "token: tok-12345678");
        assert_eq!(ask("deploy", "token", &around).unwrap(), "hunter22");
        assert!(ask("deploy", "none", &around).unwrap_err().contains("has no key `none`"));
        assert!(ask("deploy", "bad", &around).unwrap_err().contains("no base64"));
        let missing = ask("none", "token", &around).unwrap_err();
        assert!(missing.ends_with("with status 404: secrets \"none\" not found"), "{missing}");
        std::fs::write(folder.path().join("token"), "tok-12345678\n").unwrap();
        let around = kubeconfig(folder.path(), &server.url(), "tokenFile: token");
        assert_eq!(ask("deploy", "token", &around).unwrap(), "hunter22");
        let around = kubeconfig(folder.path(), &server.url(), "token: tok-wrong-one");
        let wrong = ask("deploy", "token", &around).unwrap_err();
        assert!(wrong.ends_with("status 401: Unauthorized"), "{wrong}");
    }

    #[test]
    fn what_can_not_be_used_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = |user: &str| ask("a", "b", &kubeconfig(folder.path(), "https://127.0.0.1:1", user)).unwrap_err();
        assert!(refusal("exec: {command: aws}").contains("logs in through a program"));
        assert!(refusal("username: me").contains("neither token nor certificate"));
        assert!(refusal("token: [hunter22").ends_with("config is no kubeconfig"));
        let mut around =
            kubeconfig(folder.path(), "https://127.0.0.1:1\n    insecure-skip-tls-verify: true", "token: a");
        assert!(ask("a", "b", &around).unwrap_err().contains("skips the check"));
        around.variables.clear();
        assert!(ask("a", "b", &around).unwrap_err().contains("there is no kubeconfig, and this is no pod"));
    }
}
