//! A record, as the stage's `with` table has it.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, schemars};

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

    pub(crate) fn problems(&self, key: &str) -> Vec<Problem> {
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
