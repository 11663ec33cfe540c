//! Sends one request to a service that stores secrets: over TLS, with a limited time and response size, without
//! redirects.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Method, NoProxy, Proxy, Url, redirect};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use crate::SourceContext;
use crate::error::Fault;

/// How long a request may take, from resolving the name to the last byte of the response.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest body of a response, in bytes: enough for the largest Secret of Kubernetes, 1 MiB, in base64.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;
/// How much of a service's message an error quotes, in characters.
const MAX_QUOTED_CHARS: usize = 300;

/// A request that is about to be sent.
pub(crate) struct SecretRequest {
    /// The name of the service for messages, as in "Vault".
    pub(crate) service: &'static str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Names in lower case, and values, all of which are treated as credentials.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// The certificates, as PEM, that the server's is checked against; none for those that the machine trusts.
    pub(crate) authorities: Option<Vec<u8>>,
    /// The client certificates and their key, as PEM.
    pub(crate) identity: Option<Zeroizing<Vec<u8>>>,
    /// Parts of the body that no message may contain.
    pub(crate) confidential: Vec<Zeroizing<String>>,
}

/// The response of a service, with any status.
pub(crate) struct SecretResponse {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// The words of the request's headers and the confidential parts of its body, which no message may contain: a service may repeat a token in its error.
    confidential: Vec<Zeroizing<String>>,
}

impl SecretRequest {
    /// A GET request without headers and body.
    pub(crate) fn get(service: &'static str, url: Url) -> SecretRequest {
        SecretRequest {
            service,
            method: Method::GET,
            url,
            headers: Vec::new(),
            body: Vec::new(),
            authorities: None,
            identity: None,
            confidential: Vec::new(),
        }
    }

    /// Sends the request. Blocks for at most [`TIMEOUT`], so it must not be called on an async thread.
    ///
    /// An error when no complete response arrives. A response with an error status isn't one.
    pub(crate) fn send(self, context: &SourceContext) -> Result<SecretResponse, Fault> {
        let (service, host) = (self.service, self.url.origin().ascii_serialization());
        if self.url.scheme() != "https" && !(self.url.scheme() == "http" && is_loopback(&self.url)) {
            return Err(Fault::new(format!("can't be fetched: the address of {service}, {host}, doesn't use TLS"))
                .help("use an address that begins with `https://`; `http://` is allowed for this machine only"));
        }
        let failed = |error: &dyn std::error::Error| {
            Fault::new(format!("can't be fetched: {service} at {host} can't be reached: {}", root_cause(error)))
                .help("check the address, the network and the service")
        };
        let client = self.client(context).map_err(|error| match error {
            ClientFault::Build(error) => failed(&error),
            ClientFault::Pem(what) => Fault::new(format!("can't be fetched: {what} isn't valid PEM")),
        })?;
        let mut request = client.request(self.method, self.url).body(self.body);
        let mut confidential = self.confidential;
        for (name, value) in self.headers {
            let mut header = HeaderValue::from_str(&value).map_err(|_| {
                Fault::new(format!(
                    "can't be fetched: the credentials for {service} contain characters that aren't allowed in a header"
                ))
            })?;
            header.set_sensitive(true);
            request = request.header(HeaderName::from_static(name), header);
            confidential.extend(value.split_whitespace().map(|word| Zeroizing::new(word.to_owned())));
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
        runtime.block_on(async {
            let mut response = request.send().await.map_err(|error| failed(&error.without_url()))?;
            let status = response.status().as_u16();
            let mut body = Zeroizing::new(Vec::new());
            while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error.without_url()))? {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_BODY_BYTES {
                    return Err(Fault::new(format!(
                        "can't be fetched: {service} at {host} returned more than {MAX_BODY_BYTES} bytes"
                    )));
                }
            }
            Ok(SecretResponse { status, body, confidential })
        })
    }

    fn client(&self, context: &SourceContext) -> Result<Client, ClientFault> {
        // Fails if a provider has been installed already; all code of this program installs the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // reqwest removes standard headers such as `authorization` when it follows a redirect to another host, but not
        // `x-vault-token`. A redirect is therefore returned like any other status, and the token stays with the
        // configured address. `no_proxy` disables the variables of this process: `with_proxy` uses those of the context
        // instead.
        let mut builder = Client::builder()
            .user_agent(concat!("stagewright/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .no_proxy();
        if let Some(pem) = &self.authorities {
            let certificates =
                Certificate::from_pem_bundle(pem).map_err(|_| ClientFault::Pem("the authority's certificate"))?;
            builder = builder.tls_certs_only(certificates);
        }
        if let Some(pem) = &self.identity {
            builder =
                builder.identity(Identity::from_pem(pem).map_err(|_| ClientFault::Pem("the client's certificate"))?);
        }
        with_proxy(builder, context).and_then(ClientBuilder::build).map_err(ClientFault::Build)
    }
}

enum ClientFault {
    Build(reqwest::Error),
    Pem(&'static str),
}

/// Sets the proxy of the variables `HTTPS_PROXY`, or else `ALL_PROXY`, except for the hosts of `NO_PROXY`. As in curl,
/// the names in lower case take precedence. Requests to this machine never use a proxy.
fn with_proxy(builder: ClientBuilder, context: &SourceContext) -> reqwest::Result<ClientBuilder> {
    let variable = |name: &str| context.variable(&name.to_ascii_lowercase()).or_else(|| context.variable(name));
    let Some(url) = variable("HTTPS_PROXY").or_else(|| variable("ALL_PROXY")) else { return Ok(builder) };
    let exceptions = format!("localhost,127.0.0.0/8,::1,{}", variable("NO_PROXY").unwrap_or_default());
    Ok(builder.proxy(Proxy::https(url)?.no_proxy(NoProxy::from_string(&exceptions))))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The innermost cause of an error, on one line. The outer errors of reqwest only say that sending the request failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    one_line(&innermost.to_string())
}

/// At most [`MAX_QUOTED_CHARS`] characters of a text, on one line and without control characters.
fn one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|letter| !letter.is_control())
        .take(MAX_QUOTED_CHARS)
        .collect()
}

impl SecretResponse {
    /// The body as JSON; none if it isn't valid JSON.
    pub(crate) fn json(&self) -> Option<Json> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The status for a message, with the service's own error `message`, if there is one and it repeats no credential.
    pub(crate) fn reason(&self, message: &str) -> String {
        // The message is shown to the user and may end in a log of a CI system. If it repeats a credential, all of it
        // is dropped, because a service may also repeat it in part or in another encoding. Words of fewer than 8 bytes,
        // such as `Bearer` or `true`, aren't credentials and occur in messages by chance.
        let repeats = |word: &Zeroizing<String>| word.len() >= 8 && message.contains(word.as_str());
        let message = if self.confidential.iter().any(repeats) { String::new() } else { one_line(message) };
        match message.is_empty() {
            true => format!("status {}", self.status),
            false => format!("status {}: {message}", self.status),
        }
    }
}

/// A JSON value as the value of a secret: a string unchanged, a number or a boolean as JSON spells it. None for null,
/// arrays and objects.
pub(crate) fn scalar(value: &Json) -> Option<Zeroizing<String>> {
    match value {
        Json::String(text) => Some(Zeroizing::new(text.clone())),
        Json::Number(_) | Json::Bool(_) => Some(Zeroizing::new(value.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{StubServer, respond};

    fn send(url: &str) -> Result<SecretResponse, String> {
        let request = SecretRequest {
            headers: vec![("x-vault-token", "tok-12345678".to_owned())],
            ..SecretRequest::get("Vault", url.parse().unwrap())
        };
        request.send(&SourceContext::default()).map_err(|fault| fault.for_secret("x").message)
    }

    #[test]
    fn requests_without_tls_to_another_machine_are_refused() {
        let error = send("http://vault.example.org:8200/v1/x").err().unwrap();
        assert_eq!(
            error,
            "the secret `x` can't be fetched: the address of Vault, http://vault.example.org:8200, doesn't use TLS"
        );
    }

    #[test]
    fn redirects_are_not_followed_and_large_responses_are_refused() {
        let server = StubServer::start(|request| match request.path.as_str() {
            "/large" => respond(200, &"x".repeat(MAX_BODY_BYTES + 1)),
            _ => respond(307, "").with_header("location", "http://127.0.0.1:1/elsewhere"),
        });
        assert_eq!(send(&format!("{}/away", server.url())).ok().unwrap().status, 307);
        assert!(send(&format!("{}/large", server.url())).err().unwrap().contains("more than"));
    }

    #[test]
    fn a_message_that_repeats_the_token_is_not_quoted() {
        let server = StubServer::start(|_| respond(403, "no"));
        let response = send(&server.url()).ok().unwrap();
        assert_eq!(response.reason("permission\n denied"), "status 403: permission denied");
        assert_eq!(response.reason("token tok-12345678 is wrong"), "status 403");
    }

    #[test]
    fn an_unreachable_service_is_named() {
        let error = send("http://127.0.0.1:1/").err().unwrap();
        assert!(
            error.starts_with("the secret `x` can't be fetched: Vault at http://127.0.0.1:1 can't be reached"),
            "{error}"
        );
    }
}
