//! A server of a database.

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, schemars};

use crate::Postgresql;

/// A server, by what it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// PostgreSQL, of version 13 or later.
    Postgresql(Postgresql),
}

impl Server {
    /// Its name in records, which is the key.
    pub fn engine(&self) -> &'static str {
        match self {
            Server::Postgresql(_) => "postgresql",
        }
    }

    /// The server, as what it is.
    pub fn postgresql(&self) -> &Postgresql {
        let Server::Postgresql(server) = self;
        server
    }
}
