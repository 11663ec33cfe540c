//! What a stage did to the fake host.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;

use crate::Diagnostic;
use crate::gate::FieldKind;
use crate::log::Level;

/// All that a stage did, in order.
#[derive(Clone, Debug)]
pub struct Report<T> {
    /// What it returned.
    pub result: T,
    /// Its outputs.
    pub outputs: BTreeMap<String, Json>,
    /// Its log, output of programs not included.
    pub logs: Vec<LogLine>,
    /// Its findings.
    pub problems: Vec<Diagnostic>,
    /// Its summaries.
    pub summaries: Vec<String>,
    /// The programs that it started.
    pub spawned: Vec<Spawned>,
    /// The requests that it sent.
    pub sent: Vec<Sent>,
    /// The workspace as it left it.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The artifacts that it published.
    pub published: Vec<Published>,
    /// The gates that it opened.
    pub gates: Vec<OpenedGate>,
    /// The releases that it started.
    pub releases: Vec<Release>,
    /// What it told the ledger last: artifact and URL.
    pub recorded: Option<(String, Option<String>)>,
}

impl<T> Report<T> {
    /// A file of the workspace as text.
    ///
    /// # Panics
    /// When there is no such file, or it isn't UTF-8.
    pub fn text(&self, path: &str) -> &str {
        let content = self.files.get(path).unwrap_or_else(|| panic!("no file `{path}` in the workspace"));
        std::str::from_utf8(content).unwrap_or_else(|_| panic!("`{path}` isn't UTF-8"))
    }

    /// Whether a log line holds the text.
    pub fn logged(&self, text: &str) -> bool {
        self.logs.iter().any(|line| line.message.contains(text))
    }
}

/// A line of the plugin's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How bad.
    pub level: Level,
    /// The text.
    pub message: String,
    /// Values by name.
    pub fields: Vec<(String, String)>,
}

/// A program that was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spawned {
    /// Its name.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables that were set.
    pub env: BTreeMap<String, String>,
    /// Variables that were set to a secret: the secret's name.
    pub secret_env: BTreeMap<String, String>,
    /// Where.
    pub current_dir: Option<String>,
    /// What it was given to read.
    pub stdin: Vec<u8>,
    /// Its timeout.
    pub timeout: Option<Duration>,
    /// How many bytes of its output the guest asked for.
    pub capture: Option<u32>,
    /// Whether its output stayed out of the log.
    pub quiet: bool,
    /// Whether it was stopped.
    pub killed: bool,
}

/// A request that was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// As in `GET`.
    pub method: String,
    /// With its scheme.
    pub url: String,
    /// In order.
    pub headers: Vec<(String, String)>,
    /// Header, prefix and the secret's name.
    pub secret_headers: Vec<(String, String, String)>,
    /// The body, read from the workspace when it was a file.
    pub body: Vec<u8>,
    /// Its timeout.
    pub timeout: Option<Duration>,
    /// How many redirects it follows.
    pub max_redirects: Option<u32>,
}

impl Sent {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// An artifact that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its name.
    pub name: String,
    /// The file.
    pub path: String,
    /// What it is.
    pub media_type: String,
    /// Its bytes at that moment.
    pub content: Vec<u8>,
}

/// A gate that was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpenedGate {
    /// What is asked.
    pub message: String,
    /// Of whom.
    pub approvers: Vec<String>,
    /// How many must say yes, when it was set.
    pub approvals: Option<u32>,
    /// Name, kind, description, whether it must be filled in.
    pub fields: Vec<(String, FieldKind, String, bool)>,
    /// When it lapses, in milliseconds.
    pub expires_ms: Option<u64>,
}

/// A release of a service that was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// The service.
    pub service: String,
    /// `REFERENCE@DIGEST`.
    pub image: String,
    /// Arguments of its program.
    pub args: Vec<String>,
    /// Variables that were set.
    pub env: BTreeMap<String, String>,
    /// Variables that were set to a secret: the secret's name.
    pub secret_env: BTreeMap<String, String>,
    /// 0: a free one.
    pub port: u16,
    /// How many releases are kept, when it was set.
    pub keep: Option<u32>,
    /// Before the kill, when it was set.
    pub stop_grace: Option<Duration>,
    /// Whether it became the current one.
    pub promoted: bool,
    /// Whether it was given up.
    pub discarded: bool,
}
