//! One request to a service that keeps secrets: TLS, a bounded time, a bounded answer, no redirects.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Method, NoProxy, Proxy, Url, redirect};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use crate::SourceContext;
use crate::error::Fault;

/// From the name lookup to the last byte.
const LIMIT: Duration = Duration::from_secs(30);
/// Of an answer: the largest that Kubernetes keeps, in base64.
const ANSWER: usize = 2 * 1024 * 1024;
/// What is shown of a service's own words.
const WORDS: usize = 300;

/// A request to be.
pub(crate) struct Call {
    /// Who is asked, for errors: "Vault".
    pub(crate) service: &'static str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// PEM; instead of what the machine trusts.
    pub(crate) authorities: Option<Vec<u8>>,
    /// PEM: certificates and a key.
    pub(crate) identity: Option<Zeroizing<Vec<u8>>>,
}

/// What a service said.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// What the service must not be quoted with.
    confidential: Vec<Zeroizing<String>>,
}

impl Call {
    pub(crate) fn get(service: &'static str, url: Url) -> Call {
        Call {
            service,
            method: Method::GET,
            url,
            headers: Vec::new(),
            body: Vec::new(),
            authorities: None,
            identity: None,
        }
    }

    /// Blocks.
    pub(crate) fn send(self, around: &SourceContext) -> Result<Answer, Fault> {
        let (service, host) = (self.service, self.url.origin().ascii_serialization());
        if self.url.scheme() != "https" && !(self.url.scheme() == "http" && is_loopback(&self.url)) {
            return Err(Fault::new(format!("can't be fetched: {service} at {host} would be spoken to without TLS"))
                .help("use an address that begins with `https://`; only this machine itself is reached without"));
        }
        let cannot = |error: &dyn std::error::Error| {
            Fault::new(format!("can't be fetched: {service} at {host} {}", explained(error)))
                .help("check the address, the network and the service")
        };
        let client = self.client(around).map_err(|error| match error {
            ClientFault::Build(error) => cannot(&error),
            ClientFault::Pem(what) => Fault::new(format!("can't be fetched: {what} is no PEM that can be used")),
        })?;
        let mut request = client.request(self.method, self.url).body(self.body);
        let mut confidential = Vec::new();
        for (name, value) in self.headers {
            let mut header = HeaderValue::from_str(&value).map_err(|_| {
                Fault::new(format!(
                    "can't be fetched: the credentials for {service} hold characters that no header can carry"
                ))
            })?;
            header.set_sensitive(true);
            request = request.header(HeaderName::from_static(name), header);
            confidential.extend(value.split_whitespace().map(|word| Zeroizing::new(word.to_owned())));
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| cannot(&error))?;
        runtime.block_on(async {
            let mut response = request.send().await.map_err(|error| cannot(&error.without_url()))?;
            let status = response.status().as_u16();
            let mut body = Zeroizing::new(Vec::new());
            while let Some(chunk) = response.chunk().await.map_err(|error| cannot(&error.without_url()))? {
                body.extend_from_slice(&chunk);
                if body.len() > ANSWER {
                    return Err(Fault::new(format!(
                        "can't be fetched: {service} at {host} answered with more than {ANSWER} bytes"
                    )));
                }
            }
            Ok(Answer { status, body, confidential })
        })
    }

    fn client(&self, around: &SourceContext) -> Result<Client, ClientFault> {
        // Fails if a provider has been installed already; all code of this program installs the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("stagewright/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(LIMIT)
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
        with_proxy(builder, around).and_then(ClientBuilder::build).map_err(ClientFault::Build)
    }
}

enum ClientFault {
    Build(reqwest::Error),
    Pem(&'static str),
}

/// By the names that curl gave them; this machine is never reached through a proxy.
fn with_proxy(builder: ClientBuilder, around: &SourceContext) -> reqwest::Result<ClientBuilder> {
    let variable = |name: &str| around.variable(&name.to_ascii_lowercase()).or_else(|| around.variable(name));
    let Some(url) = variable("HTTPS_PROXY").or_else(|| variable("ALL_PROXY")) else { return Ok(builder) };
    let exceptions = format!("localhost,127.0.0.0/8,::1,{}", variable("NO_PROXY").unwrap_or_default());
    Ok(builder.proxy(Proxy::https(url)?.no_proxy(NoProxy::from_string(&exceptions))))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The innermost cause says what happened; what is around it repeats that something did.
fn explained(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    format!("can't be reached: {}", tidied(&innermost.to_string()))
}

/// On one line, and not too long.
fn tidied(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|letter| !letter.is_control())
        .take(WORDS)
        .collect()
}

impl Answer {
    /// The body, of a service that said yes.
    pub(crate) fn json(&self) -> Option<Json> {
        serde_json::from_slice(&self.body).ok()
    }

    /// What a service that said no gave as its reason: `words`, or nothing if they hold what it was sent.
    pub(crate) fn reason(&self, words: &str) -> String {
        let quotes = self.confidential.iter().any(|text| text.len() >= 8 && words.contains(text.as_str()));
        let words = if quotes { String::new() } else { tidied(words) };
        if words.is_empty() { format!("status {}", self.status) } else { format!("status {}: {words}", self.status) }
    }
}

/// The value that a JSON document keeps under a key: text as it is, numbers and truth values as JSON writes them.
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
    use crate::server::{Server, respond};

    fn send(url: &str) -> Result<Answer, String> {
        let call = Call {
            headers: vec![("x-vault-token", "tok-12345678".to_owned())],
            ..Call::get("Vault", url.parse().unwrap())
        };
        call.send(&SourceContext::default()).map_err(|fault| fault.of("x").message)
    }

    #[test]
    fn nothing_is_sent_in_plain_text_to_another_machine() {
        let error = send("http://vault.example.org:8200/v1/x").err().unwrap();
        assert_eq!(
            error,
            "the secret `x` can't be fetched: Vault at http://vault.example.org:8200 would be spoken to without TLS"
        );
    }

    #[test]
    fn a_redirect_is_an_answer_and_a_large_answer_none() {
        let server = Server::start(|request| match request.path.as_str() {
            "/large" => respond(200, &"x".repeat(ANSWER + 1)),
            _ => respond(307, "").with_header("location", "http://127.0.0.1:1/elsewhere"),
        });
        assert_eq!(send(&format!("{}/away", server.url())).ok().unwrap().status, 307);
        assert!(send(&format!("{}/large", server.url())).err().unwrap().contains("more than"));
    }

    #[test]
    fn a_service_is_not_quoted_with_the_token_that_it_was_sent() {
        let server = Server::start(|_| respond(403, "no"));
        let answer = send(&server.url()).ok().unwrap();
        assert_eq!(answer.reason("permission\n denied"), "status 403: permission denied");
        assert_eq!(answer.reason("token tok-12345678 is wrong"), "status 403");
    }

    #[test]
    fn who_is_not_there_is_named() {
        let error = send("http://127.0.0.1:1/").err().unwrap();
        assert!(
            error.starts_with("the secret `x` can't be fetched: Vault at http://127.0.0.1:1 can't be reached"),
            "{error}"
        );
    }
}
