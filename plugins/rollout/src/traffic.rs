//! What directs the requests to the versions, in front of the target.

mod caddy;
mod container;
mod envoy;
mod haproxy;
mod nginx;

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Problem, Requirement, Result, schemars};

pub use caddy::Caddy;
pub use envoy::Envoy;
pub use haproxy::Haproxy;
pub use nginx::Nginx;

/// What directs the requests to the versions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// A reverse proxy of Caddy, by its administration API.
    Caddy(Caddy),
    /// A backend of HAProxy, by its runtime API.
    Haproxy(Haproxy),
    /// Envoy in a container of the Docker engine, by a file of endpoints.
    Envoy(Envoy),
    /// nginx in a container of the Docker engine, by a file of servers and a reload.
    Nginx(Nginx),
}

/// What a version gets of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Where the version answers, as in `127.0.0.1:32768`.
    pub address: String,
    /// Percent of the requests, 0 to 100.
    pub weight: u32,
}

impl Share {
    /// All requests for one version.
    pub fn all(address: &str) -> Share {
        Share { address: address.to_owned(), weight: 100 }
    }
}

impl Traffic {
    /// Directs the requests to versions. Their weights add up to 100. Requests in flight end where they began.
    ///
    /// # Errors
    /// If the proxy refuses it. Then the requests go where they went before.
    pub fn direct(&self, shares: &[Share]) -> Result<()> {
        match self {
            Traffic::Caddy(caddy) => caddy.direct(shares),
            Traffic::Haproxy(haproxy) => haproxy.direct(shares),
            Traffic::Nginx(nginx) => nginx.direct(shares),
            Traffic::Envoy(envoy) => envoy.direct(shares),
        }
    }

    /// The grants that directing requests takes.
    pub fn requirements(&self) -> Vec<Requirement> {
        match self {
            Traffic::Caddy(caddy) => caddy.requirements(),
            Traffic::Haproxy(haproxy) => haproxy.requirements(),
            Traffic::Nginx(nginx) => nginx.requirements(),
            Traffic::Envoy(envoy) => envoy.requirements(),
        }
    }

    /// Mistakes that parsing doesn't catch, at this key of `with`.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        match self {
            Traffic::Caddy(caddy) => caddy.problems(&format!("{key}.caddy")),
            Traffic::Haproxy(haproxy) => haproxy.problems(&format!("{key}.haproxy")),
            Traffic::Nginx(nginx) => nginx.problems(&format!("{key}.nginx")),
            Traffic::Envoy(envoy) => envoy.problems(&format!("{key}.envoy")),
        }
    }
}
