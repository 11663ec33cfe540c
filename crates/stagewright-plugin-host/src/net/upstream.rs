//! The proxies that the engine itself is configured to use.

use std::collections::{BTreeMap, BTreeSet};

use hyper::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::Url;

/// The proxies from the variables that curl defined; the process's own environment isn't read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upstream {
    /// URL of the proxy for https.
    pub(crate) https: Option<String>,
    /// URL of the proxy for http.
    pub(crate) http: Option<String>,
    /// Hosts that are reached directly, in the form of `NO_PROXY`.
    pub(crate) exceptions: String,
}

impl Upstream {
    pub(crate) fn of(environment: &BTreeMap<String, String>) -> Upstream {
        let variable = |name: &str| {
            let value = environment.get(&name.to_ascii_lowercase()).or_else(|| environment.get(name));
            value.filter(|value| !value.is_empty())
        };
        let or_all = |name: &str| variable(name).or_else(|| variable("ALL_PROXY")).cloned();
        // This machine is never reached through a proxy, since a stage's services run on it.
        let exceptions = format!("localhost,127.0.0.0/8,::1,{}", variable("NO_PROXY").map_or("", String::as_str));
        Upstream { https: or_all("HTTPS_PROXY"), http: or_all("HTTP_PROXY"), exceptions }
    }

    /// The names of the proxies' hosts, in lower case.
    pub(crate) fn hosts(&self) -> BTreeSet<String> {
        let proxies = [&self.https, &self.http].into_iter().flatten();
        let hosts = proxies.filter_map(|proxy| {
            // As in curl, a proxy without a scheme is an http one.
            let url = if proxy.contains("://") { proxy.clone() } else { format!("http://{proxy}") };
            Url::parse(&url).ok()?.host_str().map(str::to_ascii_lowercase)
        });
        hosts.collect()
    }

    pub(crate) fn matcher(&self) -> Matcher {
        let url = |url: &Option<String>| url.clone().unwrap_or_default();
        Matcher::builder().https(url(&self.https)).http(url(&self.http)).no(self.exceptions.clone()).build()
    }
}

/// The proxy for an origin, if any. `scheme`: http or https.
pub(crate) fn intercept(matcher: &Matcher, scheme: &str, host: &str, port: u16) -> Option<Intercept> {
    matcher.intercept(&format!("{scheme}://{host}:{port}/").parse::<Uri>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(variables: &[(&str, &str)]) -> Upstream {
        Upstream::of(&variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    #[test]
    fn proxies_come_from_the_environment_and_this_machine_is_exempt() {
        let upstream = upstream(&[("https_proxy", "http://u:p@one:1"), ("ALL_PROXY", "two:2"), ("NO_PROXY", "a.b")]);
        assert_eq!(upstream.hosts(), ["one", "two"].map(str::to_owned).into());
        let matcher = upstream.matcher();
        let via = |scheme, host| intercept(&matcher, scheme, host, 1).map(|proxy| proxy.uri().to_string());
        assert_eq!(via("https", "example.org").as_deref(), Some("http://one:1/"));
        assert_eq!(via("http", "example.org").as_deref(), Some("http://two:2/"));
        assert!(intercept(&matcher, "https", "example.org", 1).unwrap().basic_auth().is_some());
        for exempt in ["x.a.b", "localhost", "api.localhost", "127.0.0.1", "[::1]"] {
            assert_eq!(via("http", exempt), None, "{exempt}");
        }
        assert!(intercept(&Upstream::default().matcher(), "http", "example.org", 80).is_none());
    }
}
