//! What a stranger's stage may try, one host function or one way out of the stage each.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::process::Command;
use stagewright_sdk::service::Release;
use stagewright_sdk::{
    Diagnostic, Error, JsonSchema, Outcome, Result, artifacts, gate, http, log, outputs, registry, secrets, workspace,
};

use crate::flood::Flood;
use crate::spelling::Spelling;

/// One try.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
#[schemars(crate = "stagewright_sdk::schemars")]
pub(crate) enum Action {
    /// Start a program; the answer is what it printed.
    Start {
        program: String,
        #[serde(default)]
        args: Vec<String>,
        /// Variables to secrets.
        #[serde(default)]
        secret_env: BTreeMap<String, String>,
    },
    /// Read a file; the answer is its text.
    Read { path: String },
    /// The first bytes of a file.
    ReadAt { path: String },
    /// A file's digest.
    Digest { path: String },
    /// Replace a file.
    Write { path: String, text: String },
    /// Add to a file.
    Append { path: String, text: String },
    /// Remove a file or a folder.
    Remove { path: String },
    /// List files; the answer is their paths.
    Glob { pattern: String },
    /// Read `path` until it says something other than `but`, so many times.
    Race { path: String, but: String, times: u32 },
    /// Call a URL; the answer is the status, the header `x-echo` and the body.
    Call {
        url: String,
        #[serde(default = "get")]
        method: String,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Headers to secrets.
        #[serde(default)]
        secret_headers: BTreeMap<String, String>,
    },
    /// Ask a URL so many times, and read no answer; the answer is how many requests were let in.
    Hoard { url: String, times: u32 },
    /// Call a URL; the answer is what came of it or what is said of it, letter by letter, which no mask knows.
    Spell {
        url: String,
        /// Headers to secrets.
        secret_headers: BTreeMap<String, String>,
    },
    /// Save what a URL answers.
    Save { url: String, path: String },
    /// Take a secret's handle.
    Hold { secret: String },
    /// Read a secret; the answer is the number of its bytes.
    Reveal { secret: String },
    /// Ask a registry for a digest.
    Resolve { reference: String },
    /// Push an image.
    Push { layout: String, reference: String },
    /// Pull an image.
    Pull { reference: String, layout: String },
    /// Start a service.
    Serve { service: String, image: String },
    /// Ask for a service's current release.
    Current { service: String },
    /// Publish an artifact.
    Publish {
        name: String,
        path: String,
        #[serde(default)]
        media_type: String,
    },
    /// Fetch an artifact.
    Fetch { name: String, path: String },
    /// Set an output.
    Output { name: String, value: Json },
    /// Say something where people or machines read it; `{}` in the text stands for a secret, or what a file says.
    Say {
        place: Place,
        text: String,
        #[serde(default)]
        secret: Option<String>,
        /// Where it was left by another stage.
        #[serde(default)]
        file: Option<String>,
        #[serde(default)]
        spelling: Spelling,
        /// So many letters before it.
        #[serde(default)]
        padding: u32,
    },
    /// Wait, in milliseconds.
    Wait { for_ms: u64 },
    /// Ask for too much.
    Flood { with: Flood },
}

/// Where something is said.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(crate = "stagewright_sdk::schemars")]
pub(crate) enum Place {
    Log,
    /// In two pieces, the border within what is said.
    Field,
    Progress,
    Summary,
    Problem,
    Output,
    OutputName,
    ArtifactName,
    MediaType,
    FileName,
    Header,
    Failure,
    Skip,
    Gate,
    Release,
}

fn get() -> String {
    "GET".to_owned()
}

impl Action {
    /// Gives the answer; `end` is how the stage is going to end.
    pub(crate) fn perform(self, end: &mut Result<Outcome>) -> Result<String> {
        let done = |()| "done".to_owned();
        match self {
            Action::Start { program, args, secret_env } => start(&program, args, &secret_env),
            Action::Read { path } => workspace::read_text(&path),
            Action::ReadAt { path } => Ok(String::from_utf8_lossy(&workspace::read_at(&path, 0, 1000)?).into_owned()),
            Action::Digest { path } => workspace::digest(&path),
            Action::Write { path, text } => workspace::write(&path, text).map(done),
            Action::Append { path, text } => workspace::append(&path, text).map(done),
            Action::Remove { path } => workspace::remove(&path).map(done),
            Action::Glob { pattern } => {
                Ok(workspace::glob(&pattern)?.into_iter().map(|entry| entry.path).collect::<Vec<_>>().join(" "))
            }
            Action::Race { path, but, times } => Ok(race(&path, &but, times)),
            Action::Call { url, method, headers, secret_headers } => call(&method, &url, &headers, &secret_headers),
            Action::Hoard { url, times } => Ok(hoard(&url, times)),
            Action::Spell { url, secret_headers } => {
                let came = call("GET", &url, &BTreeMap::new(), &secret_headers).unwrap_or_else(|error| error.message);
                Ok(came.chars().map(|letter| format!("{letter} ")).collect())
            }
            Action::Save { url, path } => Ok(http::Request::get(&url).send()?.save(&path)?.to_string()),
            Action::Hold { secret } => secrets::get(&secret).map(|_| "held".to_owned()),
            Action::Reveal { secret } => Ok(secrets::get(&secret)?.reveal()?.len().to_string()),
            Action::Resolve { reference } => Ok(registry::resolve(&reference)?.digest),
            Action::Push { layout, reference } => Ok(registry::push(&layout, &reference)?.digest),
            Action::Pull { reference, layout } => Ok(registry::pull(&reference, &layout)?.digest),
            Action::Serve { service, image } => {
                let instance = Release::new(&service, &image).start()?;
                instance.discard().map(done)
            }
            Action::Current { service } => {
                stagewright_sdk::service::current(&service).map(|current| current.map_or("none", |_| "some").to_owned())
            }
            Action::Publish { name, path, media_type } => Ok(artifacts::publish(&name, &path, &media_type)?.digest),
            Action::Fetch { name, path } => Ok(artifacts::fetch(&name, &path)?.digest),
            Action::Output { name, value } => outputs::set(&name, &value).map(done),
            Action::Say { place, text, secret, file, spelling, padding } => {
                let value = match (secret, file) {
                    (Some(secret), _) => secrets::get(&secret)?.reveal()?,
                    (None, Some(file)) => workspace::read_text(&file)?,
                    (None, None) => String::new(),
                };
                let text = text.replace("{}", &spelling.write(&value));
                place.say(&format!("{}{text}", "x".repeat(padding as usize)), end).map(done)
            }
            Action::Wait { for_ms } => stagewright_sdk::clock::sleep(Duration::from_millis(for_ms)).map(done),
            Action::Flood { with } => with.pour(end),
        }
    }
}

impl Place {
    fn say(self, text: &str, end: &mut Result<Outcome>) -> Result<()> {
        match self {
            Place::Log => log::info(text),
            Place::Field => log::fields(log::Level::Error, text, &[("value", text)]),
            Place::Progress => log::progress(text, 1, None),
            Place::Summary => outputs::summary(text),
            Place::Problem => outputs::report(Diagnostic::error(text, text).at(text).help(text)),
            Place::Output => outputs::set("said", text)?,
            Place::OutputName => outputs::set(text, "x")?,
            Place::ArtifactName => artifacts::publish(text, "to-publish.txt", "text/plain").map(drop)?,
            Place::MediaType => artifacts::publish("published", "to-publish.txt", text).map(drop)?,
            Place::FileName => workspace::read(text).map(drop)?,
            Place::Header => {
                http::Request::get(text).header(text, text).send()?;
            }
            Place::Failure => *end = Err(Error::failed(text).cause(text).help(text)),
            Place::Skip => *end = Ok(Outcome::Skipped(text.to_owned())),
            Place::Gate => {
                let mut approval = gate::Approval::new(text);
                // An approver's name has no blanks, and so can't be any text.
                approval.field(text, gate::FieldKind::Text, text, false);
                *end = Ok(Outcome::Suspended(approval.open()?));
            }
            Place::Release => stagewright_sdk::environment::released(text, Some(text))?,
        }
        Ok(())
    }
}

fn start(program: &str, args: Vec<String>, secret_env: &BTreeMap<String, String>) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args);
    for (name, secret) in secret_env {
        command.secret_env(name, &secrets::get(secret)?);
    }
    let output = command.output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

fn call(
    method: &str,
    url: &str,
    headers: &BTreeMap<String, String>,
    secret_headers: &BTreeMap<String, String>,
) -> Result<String> {
    let mut request = http::Request::new(method, url);
    for (name, value) in headers {
        request.header(name, value);
    }
    for (name, secret) in secret_headers {
        request.secret_header(name, "Bearer ", &secrets::get(secret)?);
    }
    let mut response = request.send()?;
    let echo = response.header("x-echo").unwrap_or_default();
    Ok(format!("{} {echo} {}", response.status(), response.text()?))
}

fn hoard(url: &str, times: u32) -> String {
    let kept: Vec<_> = (0..times).map_while(|_| http::Request::get(url).send().ok()).collect();
    kept.len().to_string()
}

fn race(path: &str, but: &str, times: u32) -> String {
    let other = (0..times).find_map(|_| workspace::read_text(path).ok().filter(|text| text != but));
    other.unwrap_or_else(|| "never".to_owned())
}
