//! The stage's `with` table.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, Requirement, schemars};

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
    /// The server that is told.
    pub(crate) server: Server,
    /// The records. They change together.
    pub(crate) records: Vec<Record>,
    /// Whether the stage ends only when the lifetime of the replaced records is over, after which nobody uses them any more.
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

/// A name's values of a type.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Record {
    /// The whole name, as in `www.example.org`.
    pub(crate) name: String,
    /// What the values are.
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    /// The values, which replace all that the name has of the type.
    pub(crate) values: Vec<String>,
    /// How long others may keep the values, in whole seconds.
    #[serde(default = "DurationText::seconds::<60>")]
    pub(crate) ttl: DurationText,
}

/// The type of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    #[serde(rename = "AAAA")]
    Aaaa,
    /// Another name.
    #[serde(rename = "CNAME")]
    Cname,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::A => "A",
            Kind::Aaaa => "AAAA",
            Kind::Cname => "CNAME",
        }
    }
}

impl Record {
    /// With a dot at the end, in lower case: names of the DNS have no case.
    pub(crate) fn full_name(&self) -> String {
        full(&self.name)
    }

    /// The values as servers show them.
    pub(crate) fn data(&self) -> Vec<String> {
        let normal = |value: &String| match self.kind {
            Kind::A => value.clone(),
            Kind::Aaaa => value.parse::<Ipv6Addr>().map_or_else(|_| value.clone(), |address| address.to_string()),
            Kind::Cname => full(value),
        };
        let mut data: Vec<String> = self.values.iter().map(normal).collect();
        data.sort();
        data.dedup();
        data
    }

    fn problems(&self, key: &str) -> Vec<Problem> {
        let mut found = Vec::new();
        if !is_name(&self.name) {
            found.push(Problem::at(format!("{key}.name"), format!("`{}` isn't a name of the DNS", self.name)));
        }
        let fits = |value: &String| match self.kind {
            Kind::A => value.parse::<Ipv4Addr>().is_ok(),
            Kind::Aaaa => value.parse::<Ipv6Addr>().is_ok(),
            Kind::Cname => is_name(value),
        };
        for (index, value) in self.values.iter().enumerate().filter(|(_, value)| !fits(value)) {
            let message = format!("`{value}` isn't a value of the type {}", self.kind.name());
            found.push(Problem::at(format!("{key}.values[{index}]"), message));
        }
        if self.values.is_empty() || (self.kind == Kind::Cname && self.values.len() > 1) {
            let help = if self.kind == Kind::Cname { "name one" } else { "name at least one" };
            found.push(Problem::at(format!("{key}.values"), "has a wrong number of values").help(help));
        }
        found
    }
}

fn full(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.').to_ascii_lowercase())
}

/// Letters, digits, `-` and `_` between dots.
pub(crate) fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.len() <= 240 && name.split('.').all(|label| (1..=63).contains(&label.len()) && label.chars().all(fits))
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
            Server::Rfc2136(server) => server.requirements(self),
            Server::Route53(zone) => zone.requirements(),
        }
    }
}
