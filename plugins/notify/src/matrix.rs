//! Messages for a room of Matrix, by its client-server API.

use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use stagewright_sdk::context;

use crate::config::{Config, Matrix};

/// The URL of the request that sends the message. Its transaction is the same when the stage sends the same message again:
/// the homeserver then doesn't post it a second time.
pub(crate) fn url(config: &Config, matrix: &Matrix) -> String {
    let content = content(config, matrix).to_string();
    let digest = Sha256::digest(format!("{}\0{}\0{content}", context::run_id(), context::stage_id()));
    let transaction: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let (server, room) = (matrix.homeserver.trim_end_matches('/'), encoded(&matrix.room));
    format!("{server}/_matrix/client/v3/rooms/{room}/send/m.room.message/{transaction}")
}

/// The content of the event `m.room.message`.
pub(crate) fn content(config: &Config, matrix: &Matrix) -> Json {
    let kind = if matrix.notice { "m.notice" } else { "m.text" };
    json!({ "msgtype": kind, "body": format!("{}\n\n{}", config.title(), config.message().trim()) })
}

/// The error of a homeserver.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MatrixError {
    pub(crate) errcode: String,
    pub(crate) error: String,
    pub(crate) retry_after_ms: Option<u64>,
}

/// A segment of a path.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
