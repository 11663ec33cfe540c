//! The bodies of the requests that bring code to Lambda.
//!
//! An archive can be 50 MB, and Base64 a third more: a body is written to a file piece by piece, so that neither is in memory
//! as a whole.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};
use stagewright_sdk::{Result, workspace};

use crate::config::{Config, Create};

/// Read at a time; a multiple of 3, so that the pieces of Base64 follow each other without padding.
const PIECE: u32 = 3 << 20;

/// Stands for the archive in a body until it is written.
const ARCHIVE: &str = "{archive}";

/// Writes the body of `UpdateFunctionCode`, for a function that is at this revision, and calls `send` with its path.
pub(crate) fn with_update<T>(config: &Config, revision: &str, send: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let mut body = code(config);
    body.insert("RevisionId".to_owned(), revision.into());
    with_body(config, &body.into(), send)
}

/// Writes the body of `CreateFunction`, and calls `send` with its path.
pub(crate) fn with_creation<T>(config: &Config, create: &Create, send: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    with_body(config, &creation(config, create), send)
}

fn creation(config: &Config, create: &Create) -> Json {
    let mut body = json!({
        "FunctionName": config.function,
        "Role": create.role,
        "Code": code(config),
        "PackageType": if config.image.is_some() { "Image" } else { "Zip" },
        "Environment": { "Variables": create.env },
    });
    if config.image.is_none() {
        body["Handler"] = create.handler.as_deref().unwrap_or("bootstrap").into();
    }
    let optional = [
        ("Runtime", create.runtime.as_ref().map(|runtime| json!(runtime))),
        ("Architectures", create.architecture.as_ref().map(|architecture| json!([architecture]))),
        ("MemorySize", create.memory.map(|memory| json!(memory))),
        ("Timeout", create.timeout.map(|timeout| json!(timeout.0.as_secs().max(1)))),
    ];
    for (key, value) in optional.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        body[key] = value;
    }
    body
}

fn code(config: &Config) -> Map<String, Json> {
    let (key, value) = match config.image {
        Some(_) => ("ImageUri", config.artifact()),
        None => ("ZipFile", ARCHIVE),
    };
    Map::from_iter([(key.to_owned(), value.into())])
}

fn with_body<T>(config: &Config, body: &Json, send: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let (archive, file) = (format!("{}/function.zip", config.scratch), format!("{}/request.json", config.scratch));
    let body = body.to_string();
    let sent = write(config, &body, &archive, &file).and_then(|()| send(&file));
    for path in [&archive, &file] {
        workspace::remove(path)?;
    }
    sent
}

fn write(config: &Config, body: &str, archive: &str, file: &str) -> Result<()> {
    let Some(zip) = &config.zip else { return workspace::write(file, body) };
    let (before, after) = body.split_once(ARCHIVE).unwrap_or((body, ""));
    workspace::remove(archive)?;
    zip.fetch(archive)?;
    workspace::write(file, before)?;
    for at in (0..).step_by(PIECE as usize) {
        let piece = workspace::read_at(archive, at, PIECE)?;
        workspace::append(file, STANDARD.encode(&piece))?;
        if piece.len() < PIECE as usize {
            break;
        }
    }
    workspace::append(file, after)
}
