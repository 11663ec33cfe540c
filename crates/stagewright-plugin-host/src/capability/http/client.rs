//! The client that all attempts share.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, NoProxy, Proxy, redirect};

/// To get a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// Between two pieces of an answer.
const SILENCE: Duration = Duration::from_secs(300);

/// Proxies are taken from `environment`, by the names that curl gave them; the process's own environment isn't read.
pub(crate) fn client(environment: &BTreeMap<String, String>) -> reqwest::Result<Client> {
    // Fails when somebody has chosen a provider before, and then there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("stagewright/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .no_proxy();
    let variable = |name: &str| {
        let value = environment.get(&name.to_ascii_lowercase()).or_else(|| environment.get(name));
        value.filter(|value| !value.is_empty())
    };
    // This machine is never reached through a proxy: services of a stage live there.
    let exceptions = format!("localhost,127.0.0.0/8,::1,{}", variable("NO_PROXY").map_or("", String::as_str));
    let exceptions = || NoProxy::from_string(&exceptions);
    if let Some(url) = variable("HTTPS_PROXY").or_else(|| variable("ALL_PROXY")) {
        builder = builder.proxy(Proxy::https(url)?.no_proxy(exceptions()));
    }
    if let Some(url) = variable("HTTP_PROXY").or_else(|| variable("ALL_PROXY")) {
        builder = builder.proxy(Proxy::http(url)?.no_proxy(exceptions()));
    }
    builder.build()
}
