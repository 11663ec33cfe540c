//! What a stage did on the fake host.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;

use crate::Finding;
use crate::field_kind::FieldKind;
use crate::log::Level;
use crate::rollout::Rollout;
use crate::test_case::TestCase;

/// Everything that a stage did, in order.
#[derive(Clone, Debug)]
pub struct Report<T> {
    /// The returned value.
    pub result: T,
    /// The outputs that it set.
    pub outputs: BTreeMap<String, Json>,
    /// The lines that it logged, without the output of programs.
    pub logs: Vec<LogLine>,
    /// The findings that it reported.
    pub findings: Vec<Finding>,
    /// The results of tests that it reported.
    pub test_cases: Vec<TestCase>,
    /// The metrics that it set.
    pub metrics: BTreeMap<String, Metric>,
    /// The summaries that it reported.
    pub summaries: Vec<String>,
    /// The programs that it started.
    pub spawned: Vec<Spawned>,
    /// The requests that it sent.
    pub sent: Vec<Sent>,
    /// The commands that it ran on hosts.
    pub remote_commands: Vec<RemoteCommand>,
    /// The workspace's files at the end.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The artifacts that it published.
    pub published: Vec<Published>,
    /// The gates that it opened.
    pub gates: Vec<OpenedGate>,
    /// The wait that it returned, of a gate or of its own.
    pub suspended: Option<Wait>,
    /// The releases that it started.
    pub releases: Vec<Release>,
    /// The last release that it recorded in the ledger: artifact and URL.
    pub recorded: Option<(String, Option<String>)>,
    /// What that release consists of.
    pub recorded_parts: BTreeMap<String, String>,
    /// What it would do, as it said in a rehearsal.
    pub would: Option<String>,
    /// The records of its rollout, oldest first.
    pub rollouts: Vec<Rollout>,
}

impl<T> Report<T> {
    /// A file of the workspace as text.
    ///
    /// # Panics
    /// When the file doesn't exist, or isn't UTF-8.
    pub fn text(&self, path: &str) -> &str {
        let content = self.files.get(path).unwrap_or_else(|| panic!("`{path}` does not exist in the workspace"));
        std::str::from_utf8(content).unwrap_or_else(|_| panic!("`{path}` isn't UTF-8"))
    }

    /// Whether a log line contains the text.
    pub fn logged(&self, text: &str) -> bool {
        self.logs.iter().any(|line| line.message.contains(text))
    }
}

/// A line that the plugin logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The severity.
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
    /// The working folder, relative to the workspace.
    pub current_dir: Option<String>,
    /// Its standard input. Where the host writes a secret, it has `{secret NAME}` or `{quoted secret NAME}`.
    pub stdin: Vec<u8>,
    /// Its timeout.
    pub timeout: Option<Duration>,
    /// The limit of captured output in bytes; none if it wasn't captured.
    pub capture: Option<u64>,
    /// Whether its output was kept out of the log.
    pub quiet: bool,
    /// Whether the plugin promised that it only reads.
    pub read_only: bool,
    /// Whether the stage killed it.
    pub killed: bool,
}

/// A request that was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The method, as in `GET`.
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// The headers, in order.
    pub headers: Vec<(String, String)>,
    /// Headers with a secret: the header, the prefix and the secret's name.
    pub secret_headers: Vec<(String, String, String)>,
    /// The body; for a body from a file, the file's content. Where the host writes a secret, it has `{secret NAME}`, or
    /// `{base64 of secret NAME}`.
    pub body: Vec<u8>,
    /// The names of the secrets in the body.
    pub body_secrets: Vec<String>,
    /// The name of the secret in its URL.
    pub url_secret: Option<String>,
    /// Its timeout.
    pub timeout: Option<Duration>,
    /// The limit of redirects; none if it wasn't set.
    pub max_redirects: Option<u32>,
    /// The credential with which the host signs it.
    pub credential: Option<String>,
}

impl Sent {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A command that was run on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteCommand {
    /// The credential with which the host was reached.
    pub credential: String,
    /// The host's name.
    pub host: String,
    /// The program's name.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its standard input; for one from a file or an artifact, the content. Where the host writes a secret, it has
    /// `{secret NAME}`.
    pub input: Vec<u8>,
    /// The names of the secrets in the input.
    pub secrets: Vec<String>,
    /// Its timeout.
    pub timeout: Option<Duration>,
    /// Whether the plugin promised that it only reads.
    pub read_only: bool,
}

/// An artifact that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its name.
    pub name: String,
    /// The path in the workspace.
    pub path: String,
    /// The media type.
    pub media_type: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// The content at that time: of a folder, the files by their path in it; of a file, one entry without a path.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Published {
    /// The content of a file.
    ///
    /// # Panics
    /// When it is a folder.
    pub fn content(&self) -> &[u8] {
        self.files.get("").unwrap_or_else(|| panic!("the artifact `{}` is a folder", self.name))
    }
}

/// A gate that was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenedGate {
    /// The message for approvers.
    pub message: String,
    /// Teams and users who may approve; everyone if it is empty.
    pub approvers: Vec<String>,
    /// The number of required approvals; none if it wasn't set.
    pub approvals: Option<u32>,
    /// The form's fields.
    pub fields: Vec<GateField>,
    /// The time until it expires, in milliseconds.
    pub expires_ms: Option<u64>,
}

/// A field of a gate's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateField {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: FieldKind,
    /// The texts of a choice; none for another field.
    pub choices: Option<Vec<String>>,
    /// The text shown next to it.
    pub description: String,
    /// Whether a value is required.
    pub required: bool,
}

/// A wait that `run` returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Its token; `gate-1` and so on for gates.
    pub token: String,
    /// What it waits for.
    pub reason: String,
    /// The time after which it ends; none without one.
    pub poll_after: Option<Duration>,
    /// The time after which the stage ends as timed out.
    pub expires: Option<Duration>,
}

/// A figure that was set.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// The value.
    pub value: f64,
    /// As in `bytes`, `ms` or `%`; empty for a count.
    pub unit: String,
}

/// What the run is for, and what started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The full id of the commit.
    pub commit: Option<String>,
    /// As in `refs/heads/main`.
    pub reference: Option<String>,
    /// The branch.
    pub branch: Option<String>,
    /// A tag of the commit.
    pub tag: Option<String>,
    /// Whether the files differ from the commit.
    pub dirty: bool,
    /// What started the run.
    pub trigger: String,
    /// Who started it.
    pub actor: Option<String>,
    /// The full id of the commit where `commit` diverged from the main branch.
    pub base: Option<String>,
}

/// Outside of a repository, started manually.
impl Default for Source {
    fn default() -> Source {
        let trigger = "manual".to_owned();
        Source {
            commit: None,
            reference: None,
            branch: None,
            tag: None,
            dirty: false,
            trigger,
            actor: None,
            base: None,
        }
    }
}

/// A release of a service that was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// The service's name.
    pub service: String,
    /// `REFERENCE@DIGEST`.
    pub image: String,
    /// Arguments of its program.
    pub args: Vec<String>,
    /// Variables that were set.
    pub env: BTreeMap<String, String>,
    /// Variables that were set to a secret: the secret's name.
    pub secret_env: BTreeMap<String, String>,
    /// The port; 0 for a free one.
    pub port: u16,
    /// How many earlier releases are kept; none if it wasn't set.
    pub keep: Option<u32>,
    /// The time between SIGTERM and SIGKILL; none if it wasn't set.
    pub stop_grace: Option<Duration>,
    /// Where its proxy accepts requests; none without a proxy.
    pub proxy: Option<String>,
    /// How long requests in flight may take; none if it wasn't set.
    pub drain: Option<Duration>,
    /// How many replicas it starts with; none if it wasn't set.
    pub replicas: Option<u32>,
    /// Whether the current release is stopped first.
    pub stop_first: bool,
    /// `image` or `host`; none if it wasn't set.
    pub root: Option<String>,
    /// Named folders, each with its path in the image's root.
    pub volumes: BTreeMap<String, String>,
    /// The shares of the requests that it was given, in percent.
    pub weights: Vec<u32>,
    /// The conditions on headers that were set last, as in `X-Canary = always`, `X-Canary ^= v2` and `X-Canary ~ v[0-9]+`.
    pub header_matches: Vec<String>,
    /// The numbers of replicas that it was scaled to, each with that of the current release.
    pub scaled: Vec<(u32, u32)>,
    /// Whether the stage promoted it.
    pub promoted: bool,
    /// Whether the stage discarded it.
    pub discarded: bool,
}
