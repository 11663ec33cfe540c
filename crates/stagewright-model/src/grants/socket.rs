//! Entries of `permissions.socket`: Unix sockets of this machine.

use crate::entry::entry;
use crate::format_error::{FormatError, refuse};

/// The code of diagnostics about invalid entries.
const CODE: &str = "stagewright::bad-socket";

/// One entry: the absolute path of a socket, or `docker` for the container engine's socket, wherever it is.
#[derive(Clone, Debug)]
pub struct SocketRule(String);

/// Stands for the socket of the container engine.
const DOCKER: &str = "docker";

impl SocketRule {
    /// Parses an entry.
    pub fn parse(entry: &str) -> Result<SocketRule, FormatError> {
        const HELP: &str = "write the absolute path of the socket, as in `/run/postgresql/.s.PGSQL.5432`, or `docker`";
        if entry == DOCKER {
            return Ok(SocketRule(entry.to_owned()));
        }
        let Some(path) = entry.strip_prefix('/') else { return refuse(CODE, "isn't an absolute path", HELP) };
        // Grants are compared as text, so a path must be in normal form.
        if path.contains(char::is_control) || path.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return refuse(CODE, "isn't a normalised path", HELP);
        }
        Ok(SocketRule(entry.to_owned()))
    }

    /// The entry as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for the container engine's socket.
    pub fn is_docker(&self) -> bool {
        self.0 == DOCKER
    }
}

entry!(SocketRule, FormatError);
