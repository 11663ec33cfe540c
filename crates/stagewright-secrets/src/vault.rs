//! `vault:`: reads a field from a KV store, version 2, of HashiCorp Vault or OpenBao.
//!
//! See "Read secret version" of the KV v2 API: `GET /v1/MOUNT/data/PATH` returns `{"data": {"data": {…}}}`, or an error
//! as `{"errors": […]}`.

use reqwest::Url;
use zeroize::Zeroizing;

use crate::SourceContext;
use crate::error::Fault;
use crate::http::{SecretRequest, SecretResponse, scalar};

const SERVICE: &str = "Vault";

/// Fetches the field `field` of the newest version of the secret at `path`, in the store that is mounted at `mount`.
pub(crate) fn fetch(mount: &str, path: &str, field: &str, context: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    let address = context.variable("VAULT_ADDR").ok_or_else(|| {
        Fault::new("can't be fetched: VAULT_ADDR is not set").help("set VAULT_ADDR to the address of the Vault server")
    })?;
    let mut url: Url = address.parse().map_err(|_| {
        Fault::new("can't be fetched: VAULT_ADDR isn't a valid URL")
            .help("set VAULT_ADDR to a URL such as `https://vault.example.org:8200`")
    })?;
    match url.path_segments_mut() {
        Ok(mut segments) => {
            segments.pop_if_empty().extend(["v1", mount, "data"]).extend(path.split('/'));
        }
        Err(()) => return Err(Fault::new("can't be fetched: VAULT_ADDR isn't the URL of a server")),
    }
    let mut headers = vec![("x-vault-token", token(context)?), ("x-vault-request", "true".to_owned())];
    if let Some(namespace) = context.variable("VAULT_NAMESPACE") {
        headers.push(("x-vault-namespace", namespace.to_owned()));
    }
    let authorities = context.variable("VAULT_CACERT").map(|file| {
        stagewright_files::read(&context.root.join(file), stagewright_files::CONFIGURATION)
            .map_err(|error| Fault::new(format!("can't be fetched: {file}, from VAULT_CACERT, can't be read: {error}")))
    });
    let request = SecretRequest { headers, authorities: authorities.transpose()?, ..SecretRequest::get(SERVICE, url) };
    let response = request.send(context)?;
    if response.status != 200 {
        return Err(error_from_response(&response, mount, path));
    }
    let document = response.json();
    let data = document.as_ref().and_then(|document| document.pointer("/data/data"));
    let Some(data) = data.and_then(|data| data.as_object()) else {
        return Err(Fault::new(format!("can't be fetched: `{mount}` isn't a KV store of version 2"))
            .help(format!("upgrade the store to version 2: `vault kv enable-versioning {mount}`")));
    };
    match data.get(field).map(scalar) {
        Some(Some(value)) => Ok(value),
        Some(None) => {
            Err(Fault::new(format!("can't be used: `{field}` of {mount}/{path} isn't a string, a number or a boolean")))
        }
        None => Err(Fault::new(format!("is not in Vault: {mount}/{path} has no field `{field}`")).help(format!(
            "add it with `vault kv patch -mount={mount} {path} {field}=…`, or correct `from` in [secrets.*]"
        ))),
    }
}

/// The token from `VAULT_TOKEN`, or from the file that `vault login` writes.
fn token(context: &SourceContext) -> Result<String, Fault> {
    if let Some(token) = context.variable("VAULT_TOKEN") {
        return Ok(token.to_owned());
    }
    let file = context
        .at_home(".vault-token")
        .and_then(|file| stagewright_files::read_text(&file, stagewright_files::CONFIGURATION).ok());
    file.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()).ok_or_else(|| {
        Fault::new("can't be fetched: no token for Vault is in VAULT_TOKEN or ~/.vault-token")
            .help("log in with `vault login`, or set VAULT_TOKEN")
    })
}

fn error_from_response(response: &SecretResponse, mount: &str, path: &str) -> Fault {
    let document = response.json();
    let errors = document.as_ref().and_then(|document| document["errors"].as_array());
    let messages = errors.map(|errors| errors.iter().filter_map(|error| error.as_str()).collect::<Vec<_>>().join("; "));
    let reason = response.reason(&messages.unwrap_or_default());
    let fault = Fault::new(format!("can't be fetched from {mount}/{path}: Vault returned {reason}"));
    match response.status {
        403 => fault
            .help(format!("use a token whose policy allows reading `{mount}/data/{path}`, and check VAULT_NAMESPACE")),
        404 => fault
            .help(format!("create it with `vault kv put -mount={mount} {path} …`, or correct `from` in [secrets.*]")),
        301 | 302 | 307 | 308 => fault.help("set VAULT_ADDR to the final address: redirects are not followed"),
        _ => fault.help("check the output of `vault status`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{StubServer, respond};

    fn fetch_field(from: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let context = SourceContext { variables, ..SourceContext::default() };
        let (path, key) = from.split_once('#').unwrap();
        let value = fetch("secret", path, key, &context);
        value.map(|value| value.to_string()).map_err(|fault| fault.for_secret("x").to_string())
    }

    /// Responds in the format of the API documentation.
    fn vault() -> StubServer {
        StubServer::start(|request| {
            let allowed = request.headers.get("x-vault-token").is_some_and(|token| token == "tok-12345678");
            let namespace = request.headers.get("x-vault-namespace").map_or("", String::as_str);
            match (allowed, namespace, request.path.as_str()) {
                (false, ..) => respond(403, r#"{"errors":["permission denied"]}"#),
                (_, "", "/v1/secret/data/ci/a%20b") => respond(
                    200,
                    r#"{"data":{"data":{"token":"hunter22","port":8200,"list":[1]},"metadata":{"version":2}}}"#,
                ),
                (_, "team", "/v1/secret/data/ci/a%20b") => respond(200, r#"{"data":{"data":{"token":"of the team"}}}"#),
                (_, _, "/v1/secret/data/old") => respond(200, r#"{"data":{"token":"version 1"}}"#),
                _ => respond(404, r#"{"errors":[]}"#),
            }
        })
    }

    #[test]
    fn a_field_is_read_with_the_token_and_the_namespace() {
        let (server, token) = (vault(), ("VAULT_TOKEN", "tok-12345678"));
        let address = format!("{}/", server.url());
        let address = ("VAULT_ADDR", address.as_str());
        assert_eq!(fetch_field("ci/a b#token", &[address, token]).unwrap(), "hunter22");
        assert_eq!(fetch_field("ci/a b#port", &[address, token]).unwrap(), "8200");
        assert_eq!(fetch_field("ci/a b#token", &[address, token, ("VAULT_NAMESPACE", "team")]).unwrap(), "of the team");
    }

    #[test]
    fn errors_quote_the_service_but_no_token() {
        let (server, token) = (vault(), ("VAULT_TOKEN", "tok-12345678"));
        let url = server.url();
        let address = ("VAULT_ADDR", url.as_str());
        let refusal = |from: &str, variables: &[(&str, &str)]| fetch_field(from, variables).unwrap_err();
        assert!(refusal("ci/a b#none", &[address, token]).ends_with("secret/ci/a b has no field `none`"));
        assert!(refusal("ci/a b#list", &[address, token]).contains("isn't a string, a number or a boolean"));
        assert!(
            refusal("ci/none#a", &[address, token])
                .ends_with("can't be fetched from secret/ci/none: Vault returned status 404")
        );
        assert!(refusal("old#token", &[address, token]).contains("version 2"));
        let wrong = refusal("ci/a b#token", &[address, ("VAULT_TOKEN", "tok-wrong-one")]);
        assert!(wrong.ends_with("status 403: permission denied") && !wrong.contains("tok-"), "{wrong}");
        assert!(refusal("a#b", &[address]).contains("VAULT_TOKEN"));
        assert!(refusal("a#b", &[token]).contains("VAULT_ADDR is not set"));
    }
}
