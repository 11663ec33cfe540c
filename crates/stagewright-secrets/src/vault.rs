//! `vault:`: the KV store, version 2, of HashiCorp Vault or OpenBao.
//!
//! See "Read secret version" of the KV v2 API: `GET /v1/MOUNT/data/PATH` answers `{"data": {"data": {…}}}`, and
//! `{"errors": […]}` when it can't.

use reqwest::Url;
use zeroize::Zeroizing;

use crate::SourceContext;
use crate::error::Fault;
use crate::http::{Answer, Call, scalar};

const SERVICE: &str = "Vault";

pub(crate) fn field(mount: &str, path: &str, field: &str, around: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    let address = around.variable("VAULT_ADDR").ok_or_else(|| {
        Fault::new("can't be fetched: VAULT_ADDR is not set").help("set VAULT_ADDR to the address of your Vault")
    })?;
    let mut url: Url = address.parse().map_err(|_| {
        Fault::new("can't be fetched: VAULT_ADDR is no URL").help("write it as in `https://vault.example.org:8200`")
    })?;
    match url.path_segments_mut() {
        Ok(mut segments) => {
            segments.pop_if_empty().extend(["v1", mount, "data"]).extend(path.split('/'));
        }
        Err(()) => return Err(Fault::new("can't be fetched: VAULT_ADDR is no address of a server")),
    }
    let mut headers = vec![("x-vault-token", token(around)?), ("x-vault-request", "true".to_owned())];
    if let Some(namespace) = around.variable("VAULT_NAMESPACE") {
        headers.push(("x-vault-namespace", namespace.to_owned()));
    }
    let authorities = around.variable("VAULT_CACERT").map(|file| {
        stagewright_files::read(&around.root.join(file), stagewright_files::CONFIGURATION)
            .map_err(|error| Fault::new(format!("can't be fetched: VAULT_CACERT, {file}, can't be read: {error}")))
    });
    let call = Call { headers, authorities: authorities.transpose()?, ..Call::get(SERVICE, url) };
    let answer = call.send(around)?;
    if answer.status != 200 {
        return Err(refused(&answer, mount, path));
    }
    let document = answer.json();
    let data = document.as_ref().and_then(|document| document.pointer("/data/data"));
    let Some(data) = data.and_then(|data| data.as_object()) else {
        return Err(Fault::new(format!("can't be fetched: `{mount}` answers as no KV store of version 2 does"))
            .help("move the store to version 2: `vault kv enable-versioning`"));
    };
    match data.get(field).map(scalar) {
        Some(Some(value)) => Ok(value),
        Some(None) => Err(Fault::new(format!("can't be used: `{field}` of {mount}/{path} is no single value"))),
        None => Err(Fault::new(format!("is not in Vault: {mount}/{path} has no field `{field}`")).help(format!(
            "store it: `vault kv patch -mount={mount} {path} {field}=…`, or correct `from` in [secrets.*]"
        ))),
    }
}

fn token(around: &SourceContext) -> Result<String, Fault> {
    if let Some(token) = around.variable("VAULT_TOKEN") {
        return Ok(token.to_owned());
    }
    let file = around
        .at_home(".vault-token")
        .and_then(|file| stagewright_files::read_text(&file, stagewright_files::CONFIGURATION).ok());
    file.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()).ok_or_else(|| {
        Fault::new("can't be fetched: there is no token for Vault, in VAULT_TOKEN or ~/.vault-token")
            .help("log in with `vault login`, or set VAULT_TOKEN")
    })
}

fn refused(answer: &Answer, mount: &str, path: &str) -> Fault {
    let document = answer.json();
    let errors = document.as_ref().and_then(|document| document["errors"].as_array());
    let words = errors.map(|errors| errors.iter().filter_map(|error| error.as_str()).collect::<Vec<_>>().join("; "));
    let reason = answer.reason(&words.unwrap_or_default());
    let fault = Fault::new(format!("can't be fetched: Vault answered for {mount}/{path} with {reason}"));
    match answer.status {
        403 => {
            fault.help(format!("use a token whose policy can read `{mount}/data/{path}`, and look at VAULT_NAMESPACE"))
        }
        404 => fault
            .help(format!("store it with `vault kv put -mount={mount} {path} …`, or correct `from` in [secrets.*]")),
        301 | 302 | 307 | 308 => fault.help("set VAULT_ADDR to the server that answers: redirects are not followed"),
        _ => fault.help("look at `vault status`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Server, respond};

    fn ask(from: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let around = SourceContext { variables, ..SourceContext::default() };
        let (path, key) = from.split_once('#').unwrap();
        let answer = field("secret", path, key, &around);
        answer.map(|value| value.to_string()).map_err(|fault| fault.of("x").to_string())
    }

    /// As the API documentation shows its answers.
    fn vault() -> Server {
        Server::start(|request| {
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
    fn a_field_is_read_under_token_and_namespace() {
        let (server, token) = (vault(), ("VAULT_TOKEN", "tok-12345678"));
        let address = format!("{}/", server.url());
        let address = ("VAULT_ADDR", address.as_str());
        assert_eq!(ask("ci/a b#token", &[address, token]).unwrap(), "hunter22");
        assert_eq!(ask("ci/a b#port", &[address, token]).unwrap(), "8200");
        assert_eq!(ask("ci/a b#token", &[address, token, ("VAULT_NAMESPACE", "team")]).unwrap(), "of the team");
    }

    #[test]
    fn what_goes_wrong_is_told_in_the_services_words() {
        let (server, token) = (vault(), ("VAULT_TOKEN", "tok-12345678"));
        let url = server.url();
        let address = ("VAULT_ADDR", url.as_str());
        let refusal = |from: &str, variables: &[(&str, &str)]| ask(from, variables).unwrap_err();
        assert!(refusal("ci/a b#none", &[address, token]).ends_with("secret/ci/a b has no field `none`"));
        assert!(refusal("ci/a b#list", &[address, token]).contains("no single value"));
        assert!(refusal("ci/none#a", &[address, token]).ends_with("Vault answered for secret/ci/none with status 404"));
        assert!(refusal("old#token", &[address, token]).contains("version 2"));
        let wrong = refusal("ci/a b#token", &[address, ("VAULT_TOKEN", "tok-wrong-one")]);
        assert!(wrong.ends_with("status 403: permission denied") && !wrong.contains("tok-"), "{wrong}");
        assert!(refusal("a#b", &[address]).contains("VAULT_TOKEN"));
        assert!(refusal("a#b", &[token]).contains("VAULT_ADDR is not set"));
    }
}
