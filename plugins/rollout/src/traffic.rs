//! What directs the requests to the versions, in front of the target.

mod caddy;
mod container;
mod envoy;
mod haproxy;
mod nginx;

use serde::Deserialize;
use stagewright_sdk::{Error, JsonSchema, Problem, Requirement, Result, schemars};

use crate::header_route::HeaderMatch;

pub use caddy::Caddy;
pub use envoy::Envoy;
pub use haproxy::Haproxy;
pub use nginx::{Nginx, NginxRoutes};

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
    /// It also gets all requests that meet one of these conditions. Only for what [`Traffic::header_obstacle`] allows.
    pub conditions: Vec<HeaderMatch>,
}

impl Share {
    /// All requests for one version.
    pub fn all(address: &str) -> Share {
        Share::new(address, 100)
    }

    /// This percentage of the requests for one version.
    pub fn new(address: &str, weight: u32) -> Share {
        Share { address: address.to_owned(), weight, conditions: Vec::new() }
    }
}

impl Traffic {
    /// Directs the requests to versions. Their weights add up to 100. Requests in flight end where they began.
    ///
    /// # Errors
    /// If the proxy refuses it. Then the requests go where they went before.
    pub fn direct(&self, shares: &[Share]) -> Result<()> {
        let has_conditions = shares.iter().any(|share| !share.conditions.is_empty());
        if let Some((reason, _)) = self.header_obstacle().filter(|_| has_conditions) {
            return Err(Error::invalid(reason));
        }
        match self {
            Traffic::Caddy(caddy) => caddy.direct(shares),
            Traffic::Haproxy(haproxy) => haproxy.direct(shares),
            Traffic::Nginx(nginx) => nginx.direct(shares),
            Traffic::Envoy(envoy) => envoy.direct(shares),
        }
    }

    /// Why requests can't be directed by their headers, and what helps.
    pub fn header_obstacle(&self) -> Option<(&'static str, &'static str)> {
        let help = "use `nginx` with `routes`, or the target `process` with `proxy`";
        match self {
            Traffic::Nginx(nginx) => nginx.header_obstacle(),
            Traffic::Caddy(_) => Some((
                "only the list of upstreams of Caddy is changed, and what decides by headers are routes around it",
                help,
            )),
            Traffic::Haproxy(_) => {
                Some(("HAProxy's runtime API changes servers, and not the rules that look at headers", help))
            }
            Traffic::Envoy(_) => Some((
                "only the endpoints of Envoy's cluster are changed, and what decides by headers are routes to clusters",
                help,
            )),
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
