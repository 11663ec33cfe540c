//! Entries of `permissions.socket`: Unix sockets of this machine.

use crate::entry::entry;
use crate::format_error::{FormatError, refuse};

/// The code of diagnostics about invalid entries.
const CODE: &str = "stagewright::bad-socket";

const HELP: &str = "write the absolute path of the socket, as in `/run/postgresql/.s.PGSQL.5432`, or `docker`";

/// One entry: the absolute path of a socket, or `docker` for the container engine's socket, wherever it is.
#[derive(Clone, Debug)]
pub struct SocketRule(String);

/// Stands for the socket of the container engine.
const DOCKER: &str = "docker";

impl SocketRule {
    /// Parses an entry.
    pub fn parse(entry: &str) -> Result<SocketRule, FormatError> {
        if entry == DOCKER {
            return Ok(SocketRule(entry.to_owned()));
        }
        check_socket_path(entry)?;
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

/// Checks the absolute path of a socket. Grants are compared as text, so it must be in normal form.
pub(super) fn check_socket_path(text: &str) -> Result<(), FormatError> {
    let Some(path) = text.strip_prefix('/') else { return refuse(CODE, "isn't an absolute path", HELP) };
    if path.contains(char::is_control) || path.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return refuse(CODE, "isn't a normalised path", HELP);
    }
    Ok(())
}

entry!(SocketRule, FormatError);
