//! The stage's `with` table.

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Problem, Requirement, Result, schemars};

use crate::change::{Change, Known};
use crate::record::{Kind, Record};
use crate::{rfc2136, route53};

/// The records to change, and whose server has them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "server": { "rfc2136": {
        "host": "ns1.example.org", "zone": "example.org", "key": { "name": "deploy", "secret": "dns-key" } } },
    "records": [{ "name": "www.example.org", "type": "A", "values": ["192.0.2.9"], "ttl": "1m" }],
}))]
pub struct Config {
    /// The server to update.
    pub(crate) server: Server,
    /// The records. They change together.
    pub(crate) records: Vec<Record>,
    /// Whether the stage ends only when the lifetime of the replaced records is over, after which they aren't used any more.
    #[serde(default)]
    pub(crate) wait: bool,
}

/// A server, by its protocol.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Server {
    /// One that takes dynamic updates: BIND, Knot, PowerDNS.
    Rfc2136(rfc2136::Server),
    /// A hosted zone of Route 53.
    Route53(route53::Zone),
}

impl Config {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = match &self.server {
            Server::Rfc2136(server) => server.problems(),
            Server::Route53(zone) => zone.problems(),
        };
        if self.records.is_empty() {
            found.push(Problem::at("records", "there are no records to change"));
        }
        for (index, record) in self.records.iter().enumerate() {
            found.extend(record.problems(&format!("records[{index}]")));
            let is_twin = |other: &&Record| other.full_name() == record.full_name() && other.kind == record.kind;
            if self.records[..index].iter().any(|other| is_twin(&other)) {
                let message = format!("`{}` has two records of the type {}", record.name, record.kind.name());
                found.push(Problem::at(format!("records[{index}]"), message).help("put all values into one"));
            }
        }
        found
    }

    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        match &self.server {
            Server::Rfc2136(server) => server.requirements(&self.records),
            Server::Route53(zone) => zone.requirements(),
        }
    }
}

impl Server {
    pub(crate) fn known(&self, name: &str, kind: Kind) -> Result<Known> {
        match self {
            Server::Rfc2136(server) => server.known(name, kind),
            Server::Route53(zone) => zone.known(name, kind),
        }
    }

    pub(crate) fn update(&self, changes: &[Change]) -> Result<()> {
        match self {
            Server::Rfc2136(server) => server.update(changes),
            Server::Route53(zone) => zone.update(changes),
        }
    }
}
