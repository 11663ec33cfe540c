//! Entries of `permissions.socket`: Unix sockets of this machine.

use crate::entry::entry;
use crate::format_error::{FormatError, refuse};

/// The code of the diagnostic about an entry that can't be read.
const CODE: &str = "stagewright::bad-socket";

/// One entry: the absolute path of a socket, or `docker` for the engine's, wherever it is.
#[derive(Clone, Debug)]
pub struct SocketRule(String);

/// Stands for the socket of the container engine.
const DOCKER: &str = "docker";

impl SocketRule {
    /// Reads an entry.
    pub fn parse(entry: &str) -> Result<SocketRule, FormatError> {
        const HELP: &str = "write the absolute path of the socket, as in `/run/postgresql/.s.PGSQL.5432`, or `docker`";
        if entry == DOCKER {
            return Ok(SocketRule(entry.to_owned()));
        }
        let Some(path) = entry.strip_prefix('/') else { return refuse(CODE, "isn't an absolute path", HELP) };
        // Grants are compared as text: each path has one spelling.
        if path.contains(char::is_control) || path.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return refuse(CODE, "isn't the plain path of a socket", HELP);
        }
        Ok(SocketRule(entry.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for the container engine's socket.
    pub fn is_docker(&self) -> bool {
        self.0 == DOCKER
    }
}

entry!(SocketRule, FormatError);
