//! The stage's `with` table.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::{DurationText, JsonSchema, Problem, Requirement, Statuses, WorkspacePath, context, schemars};

use crate::email::address;

/// The notification, and where to send it: to one of `url`, `slack`, `matrix` and `email`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "url": "https://hooks.example.org/builds", "message": "${{ git.branch }} was deployed" }))]
pub struct Config {
    /// The URL of the web hook.
    pub(crate) url: Option<String>,
    /// An incoming webhook of Slack or a compatible service.
    pub(crate) slack: Option<Slack>,
    /// A room of Matrix.
    pub(crate) matrix: Option<Matrix>,
    /// An e-mail, sent by the program `curl`.
    pub(crate) email: Option<Email>,
    /// The message. Its template are the expressions of the pipeline file, as in `${{ run.result }}`.
    pub(crate) message: Option<String>,
    /// The heading in Slack, the first line in Matrix, and the subject of an e-mail. Default: the names of the pipeline and of
    /// the environment.
    pub(crate) title: Option<String>,
    /// The HTTP method of the web hook. Default: `POST`.
    #[serde(default = "post")]
    pub(crate) method: String,
    /// What the other side of the web hook understands.
    #[serde(default)]
    pub(crate) format: Format,
    /// The whole body for the web hook, instead of one that `format` makes from the message.
    pub(crate) body: Option<Json>,
    /// Additional headers for the web hook.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// The secret to authenticate with at the web hook. The plugin doesn't see its value.
    pub(crate) secret: Option<String>,
    /// The header for the secret.
    #[serde(default = "authorization")]
    pub(crate) secret_header: String,
    /// Text before the secret in the header.
    #[serde(default = "bearer")]
    pub(crate) secret_prefix: String,
    /// The expected statuses of the web hook. Default: `2xx`.
    #[serde(default)]
    pub(crate) expect: Statuses,
    /// How long to wait for the response. Default: `10s`.
    #[serde(default = "DurationText::seconds::<10>")]
    pub(crate) timeout: DurationText,
    /// Succeed even if the notification fails. After a crash of the engine, send it again, at the risk of sending it
    /// twice, instead of asking a person whether it was sent.
    #[serde(default)]
    pub(crate) best_effort: bool,
}

/// An incoming webhook of Slack.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Slack {
    /// The secret with the URL of the webhook. The plugin doesn't see its value.
    pub(crate) secret: String,
    /// The origin of that URL. Default: `https://hooks.slack.com`.
    #[serde(default = "slack_origin")]
    pub(crate) origin: String,
    /// Whether the message is Slack's markup, in which text can mention people and be a link. Otherwise it is shown as it is.
    #[serde(default)]
    pub(crate) markup: bool,
}

/// A room of Matrix.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Matrix {
    /// The URL of the homeserver, as in `https://matrix.example.org`.
    pub(crate) homeserver: String,
    /// The room's internal id, as in `!abc:example.org`. The account must be in the room.
    pub(crate) room: String,
    /// The secret with the account's access token. The plugin doesn't see its value.
    pub(crate) secret: String,
    /// Whether it is a notice, which clients show without an alert.
    #[serde(default)]
    pub(crate) notice: bool,
}

/// An e-mail, and the server that takes it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Email {
    /// The submission server, as in `smtp.example.org`, with a port if it isn't the usual one.
    pub(crate) server: String,
    /// How the connection is encrypted.
    #[serde(default)]
    pub(crate) security: Security,
    /// The sender's address.
    pub(crate) from: String,
    /// The recipients' addresses.
    pub(crate) to: Vec<String>,
    /// The name to log in with, together with `secret`.
    pub(crate) user: Option<String>,
    /// The secret with the password. It is passed to `curl` on its standard input; the plugin doesn't see its value.
    pub(crate) secret: Option<String>,
    /// A file of the workspace with the certificates of the authorities that may vouch for the server, in PEM. Default: those of
    /// the machine.
    pub(crate) ca: Option<WorkspacePath>,
}

/// How the connection to a submission server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Security {
    /// By STARTTLS, at port 587. A server without it gets nothing.
    #[default]
    Starttls,
    /// By TLS from the beginning, at port 465.
    Tls,
    /// Not at all, at port 25. Only for a server on this machine, and without a password.
    None,
}

/// What the other side understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// An object with `pipeline`, `stage`, `run`, `environment`, `rehearsal` and `message`.
    #[default]
    Json,
    /// The format of Slack and compatible services: an object with `text`.
    Slack,
    /// The message as plain text.
    Text,
}

impl Config {
    /// The title, or the default. One line.
    pub(crate) fn title(&self) -> String {
        let own = self.title.as_deref().filter(|title| !title.trim().is_empty());
        let title = own.map_or_else(default_title, str::to_owned);
        title.split(|c: char| c.is_control()).collect::<Vec<_>>().join(" ").trim().to_owned()
    }

    pub(crate) fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }
}

fn default_title() -> String {
    match context::environment() {
        Some(environment) => format!("{} ({environment})", context::pipeline()),
        None => context::pipeline(),
    }
}

fn post() -> String {
    "POST".to_owned()
}

fn authorization() -> String {
    "authorization".to_owned()
}

fn bearer() -> String {
    "Bearer ".to_owned()
}

fn slack_origin() -> String {
    "https://hooks.slack.com".to_owned()
}

/// Mistakes that parsing doesn't catch.
pub(crate) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    let targets = [
        ("url", config.url.is_some()),
        ("slack", config.slack.is_some()),
        ("matrix", config.matrix.is_some()),
        ("email", config.email.is_some()),
    ];
    let named: Vec<&str> = targets.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
    match named[..] {
        [] => found.push(Problem::at("url", "is missing").help("add `url`, `slack`, `matrix` or `email`")),
        [_] => {}
        [first, second, ..] => {
            let message = format!("can't be combined with `{first}`");
            found.push(Problem::at(second, message).help("use a stage for each notification"));
        }
    }
    if config.url.is_some() {
        web_hook(config, &mut found);
    } else if config.message().trim().is_empty() {
        found.push(Problem::at("message", "is missing").help("add the text of the notification"));
    }
    if config.url.is_none() && !named.is_empty() {
        let of_web_hook = [
            ("body", config.body.is_some()),
            ("headers", !config.headers.is_empty()),
            ("secret", config.secret.is_some()),
        ];
        for (key, _) in of_web_hook.iter().filter(|(_, is_set)| *is_set) {
            found.push(
                Problem::at(*key, "is for a web hook alone")
                    .help(format!("remove it, or use `url`; `{}` has its own keys", named[0])),
            );
        }
    }
    config.slack.iter().for_each(|slack| url("slack.origin", &slack.origin, &mut found));
    config.matrix.iter().for_each(|matrix| self::matrix(matrix, &mut found));
    config.email.iter().for_each(|email| self::email(email, &mut found));
    found
}

fn web_hook(config: &Config, found: &mut Vec<Problem>) {
    config.url.iter().for_each(|address| url("url", address, found));
    if config.message.is_none() && config.body.is_none() {
        found.push(Problem::error("neither `message` nor `body` is set").help("set `message` or `body`"));
    }
}

fn url(key: &str, url: &str, found: &mut Vec<Problem>) {
    if Requirement::url(url).is_none() {
        let message = format!("`{url}` isn't an http or https URL");
        found.push(Problem::at(key, message).help("start it with `https://`"));
    }
}

fn matrix(matrix: &Matrix, found: &mut Vec<Problem>) {
    url("matrix.homeserver", &matrix.homeserver, found);
    if !matrix.room.starts_with('!') {
        let message = format!("`{}` isn't the internal id of a room", matrix.room);
        found.push(Problem::at("matrix.room", message).help("copy it from the room's settings: it begins with `!`"));
    }
}

fn email(email: &Email, found: &mut Vec<Problem>) {
    if let Err(message) = email.host_and_port() {
        found.push(
            Problem::at("email.server", message)
                .help("write a name, as in \"smtp.example.org\" or \"smtp.example.org:2525\""),
        );
    }
    let from = std::iter::once(("email.from".to_owned(), &email.from));
    let to = email.to.iter().enumerate().map(|(index, to)| (format!("email.to[{index}]"), to));
    for (key, text) in from.chain(to).filter(|(_, text)| !address::is_valid(text)) {
        let message = format!("`{text}` isn't an address");
        found.push(Problem::at(key, message).help("write it without a name, as in \"ada@example.org\""));
    }
    if email.to.is_empty() {
        found.push(Problem::at("email.to", "is empty").help("add a recipient"));
    }
    match (&email.user, &email.secret) {
        (Some(_), None) => found.push(
            Problem::at("email.secret", "is missing, and `user` is set").help("add the secret with the password"),
        ),
        (None, Some(_)) => {
            found
                .push(Problem::at("email.user", "is missing, and `secret` is set").help("add the name to log in with"));
        }
        _ => {}
    }
    if email.security == Security::None {
        let is_local = email.host_and_port().is_ok_and(|(host, _)| matches!(host, "127.0.0.1" | "localhost"));
        if !is_local || email.secret.is_some() {
            let message = "is only for a server on this machine, and without a password";
            found.push(Problem::at("email.security", message).help("use \"starttls\" or \"tls\""));
        }
    }
}
