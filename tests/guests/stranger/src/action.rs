//! The actions that the guest can try: one for each function of the host, or each way out of the stage.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::process::Command;
use stagewright_sdk::service::Release;
use stagewright_sdk::test_reports::{self, TestCase, TestOutcome};
use stagewright_sdk::{
    Error, Finding, JsonSchema, Outcome, Result, Suspension, artifacts, clock, context, environment, gate, http, log,
    metrics, outputs, poll, random, registry, schemars, secrets, source, workspace,
};

use crate::flood::Flood;
use crate::request::{call, call_endpoint};
use crate::spelling::Spelling;
use crate::suspend::Suspend;

/// An action. What it returns becomes an entry of the output `answers`.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub(crate) enum Action {
    /// Start a program; returns its output.
    Start {
        program: String,
        #[serde(default)]
        args: Vec<String>,
        /// Variables to secrets.
        #[serde(default)]
        secret_env: BTreeMap<String, String>,
    },
    /// Read a file; returns its text.
    Read { path: String },
    /// Read the first bytes of a file.
    ReadAt { path: String },
    /// Compute a file's digest.
    Digest { path: String },
    /// Replace a file.
    Write { path: String, text: String },
    /// Append to a file.
    Append { path: String, text: String },
    /// Remove a file or a folder.
    Remove { path: String },
    /// List files; returns their paths.
    Glob { pattern: String },
    /// Read `path` up to `times` times, until its content isn't `but`.
    Race { path: String, but: String, times: u32 },
    /// Call a URL; returns the status, the header `x-echo` and the body.
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
    /// Call a path of a credential's server; returns what `call` returns.
    CallEndpoint {
        credential: String,
        path: String,
        #[serde(default = "get")]
        method: String,
        /// The body; with `@` before it, a file of the workspace.
        #[serde(default)]
        body: String,
    },
    /// Return the URL of a credential's server.
    Endpoint { credential: String },
    /// Call a URL `times` times without reading the responses; returns how many requests were accepted.
    Hoard { url: String, times: u32 },
    /// Call a URL; returns the response or the error with blanks between all letters, which masking doesn't recognise.
    Spell {
        url: String,
        /// Headers to secrets.
        secret_headers: BTreeMap<String, String>,
    },
    /// Save the response of a URL to a file.
    Save { url: String, path: String },
    /// Get a secret's handle.
    Hold { secret: String },
    /// Reveal a secret; returns its length in bytes.
    Reveal { secret: String },
    /// Resolve a digest in a registry.
    Resolve { reference: String },
    /// Push an image.
    Push { layout: String, reference: String },
    /// Pull an image.
    Pull { reference: String, layout: String },
    /// Start a service.
    Serve { service: String, image: String },
    /// Get a service's current release.
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
    /// List the artifacts of earlier stages; returns each as its name, its stage and whether it is a folder.
    Published,
    /// Set an output.
    Output { name: String, value: Json },
    /// Set a metric.
    Metric { name: String, value: f64, unit: String },
    /// List the stages that this one needs; returns each as its id, its outcome and its outputs.
    Needs,
    /// Return a property of the run's source, or `none`.
    Source { property: SourceProperty },
    /// List the changed files since a commit; returns their paths.
    Changes {
        #[serde(default)]
        since: Option<String>,
    },
    /// List the newest commits; returns why there are no more, and their subjects with authors and numbers of parents.
    Commits {
        #[serde(default)]
        since: Option<String>,
        most: u32,
    },
    /// Return the web address of the repository, or `none`.
    Repository,
    /// Return the artifact and the commit of an environment's known-good release, or `none`.
    GoodRelease { environment: String },
    /// Return the environment's settings as JSON, or `none`.
    Settings,
    /// Return the number of different values among random bytes.
    Random { length: u32 },
    /// Call URLs, several at a time; returns their statuses in the order of the URLs.
    CallAll { urls: Vec<String>, at_most: usize },
    /// Read a body until it contains the text, and then for 50 ms; returns what was read, and whether more came.
    Listen { url: String, until: String },
    /// List the tests that failed before; returns their names.
    FailedBefore,
    /// Wait until a program ends or the time is over; returns which of them came first.
    FirstOf { program: String, args: Vec<String>, after_ms: u64 },
    /// Start a program as it is built here; returns what it printed, as far as it is captured.
    Build {
        program: String,
        #[serde(default)]
        args: Vec<String>,
        #[serde(default)]
        current_dir: Option<String>,
        #[serde(default)]
        capture: Option<u64>,
        #[serde(default)]
        quiet: bool,
        #[serde(default)]
        timeout_ms: Option<u64>,
    },
    /// Open a gate, without waiting for it.
    Open {
        message: String,
        #[serde(default)]
        approvals: Option<u32>,
        #[serde(default)]
        approvers: Vec<String>,
        #[serde(default)]
        expires_ms: Option<u64>,
        /// The names of fields, and the texts of those that are choices.
        #[serde(default)]
        fields: Vec<(String, Option<Vec<String>>)>,
    },
    /// Write a text to where people or machines read it. `{}` in it is replaced by a secret, or by the content of a file.
    Say {
        place: Place,
        text: String,
        #[serde(default)]
        secret: Option<String>,
        /// The file in which another stage left the secret.
        #[serde(default)]
        file: Option<String>,
        #[serde(default)]
        spelling: Spelling,
        /// How many letters to put before the text.
        #[serde(default)]
        padding: u32,
    },
    /// Wait, in milliseconds.
    Wait { for_ms: u64 },
    /// Wait between two calls; returns what ended the wait.
    Suspend(Suspend),
    /// Exceed a limit.
    Flood { with: Flood },
}

/// A property of the run's source.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SourceProperty {
    Commit,
    Reference,
    Branch,
    Tag,
    Dirty,
    Trigger,
    Actor,
}

/// Where to write a text.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Place {
    Log,
    /// In two pieces, split within the text.
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
    TestCase,
    Metric,
    Token,
}

fn get() -> String {
    "GET".to_owned()
}

impl Action {
    /// Performs the action and returns its result. `end` is the stage's own result, which an action can replace.
    pub(crate) fn perform(self, end: &mut Result<Outcome>) -> Result<String> {
        let done = |()| "done".to_owned();
        match self {
            Action::Start { program, args, secret_env } => start(&program, args, &secret_env),
            Action::Read { path } => workspace::read_text(&path),
            Action::ReadAt { path } => Ok(String::from_utf8_lossy(&workspace::read_at(&path, 0, 1000)?).into_owned()),
            Action::Suspend(suspend) => suspend.perform(end),
            Action::Digest { path } => workspace::digest(&path),
            Action::Write { path, text } => workspace::write(&path, text).map(done),
            Action::Append { path, text } => workspace::append(&path, text).map(done),
            Action::Remove { path } => workspace::remove(&path).map(done),
            Action::Glob { pattern } => {
                Ok(workspace::glob(&pattern)?.into_iter().map(|entry| entry.path).collect::<Vec<_>>().join(" "))
            }
            Action::Race { path, but, times } => Ok(race(&path, &but, times)),
            Action::Call { url, method, headers, secret_headers } => call(&method, &url, &headers, &secret_headers),
            Action::CallEndpoint { credential, path, method, body } => {
                call_endpoint(&credential, &path, &method, &body)
            }
            Action::Endpoint { credential } => http::endpoint(&credential),
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
            Action::Publish { name, path, media_type } => {
                Ok(artifacts::publish(&name, &path, Some(&media_type))?.digest)
            }
            Action::Fetch { name, path } => Ok(artifacts::fetch(&name, &path)?.digest),
            Action::Published => {
                let shown = |artifact: artifacts::Artifact| {
                    format!("{} {} {}", artifact.name, artifact.stage_id, artifact.folder)
                };
                Ok(artifacts::published()?.into_iter().map(shown).collect::<Vec<_>>().join(", "))
            }
            Action::Output { name, value } => outputs::set(&name, &value).map(done),
            Action::Metric { name, value, unit } => metrics::set(&name, value, &unit).map(done),
            Action::Needs => {
                let shown = |need: context::Need| format!("{} {:?} {}", need.stage_id, need.outcome, need.outputs);
                Ok(context::needs()?.into_iter().map(shown).collect::<Vec<_>>().join(", "))
            }
            Action::Source { property } => Ok(property.get().unwrap_or_else(|| "none".to_owned())),
            Action::Listen { url, until } => listen(&url, &until),
            Action::FailedBefore => Ok(failed_before()),
            Action::Changes { since } => source::changed_files(since.as_deref()).map(|paths| paths.join(" ")),
            Action::Commits { since, most } => {
                source::commits(since.as_deref(), most).map(|history| shown_history(&history))
            }
            Action::Repository => Ok(source::repository()?.unwrap_or_else(|| "none".to_owned())),
            Action::GoodRelease { environment } => Ok(environment::good_release(&environment)?
                .map_or("none".to_owned(), |release| format!("{} {}", release.artifact, release.commit))),
            Action::Settings => {
                Ok(environment::settings()?.map_or("none".to_owned(), |settings| format!("{settings:?}")))
            }
            Action::Random { length } => {
                Ok(random::bytes(length).into_iter().collect::<BTreeSet<_>>().len().to_string())
            }
            Action::CallAll { urls, at_most } => call_all(&urls, at_most),
            Action::FirstOf { program, args, after_ms } => first_of(&program, args, Duration::from_millis(after_ms)),
            Action::Build { program, args, current_dir, capture, quiet, timeout_ms } => {
                let mut command = Command::new(program);
                command.args(args);
                if let Some(path) = &current_dir {
                    command.current_dir(path);
                }
                build(command, capture, quiet, timeout_ms)
            }
            Action::Open { message, approvals, approvers, expires_ms, fields } => {
                let mut approval = gate::Approval::new(message);
                for (name, choices) in &fields {
                    match choices {
                        Some(choices) => approval.choice(name, choices, "", false),
                        None => approval.field(name, gate::FieldKind::Text, "", false),
                    };
                }
                open(approval, approvals, &approvers, expires_ms).map(done)
            }
            Action::Say { place, text, secret, file, spelling, padding } => {
                let value = match (secret, file) {
                    (Some(secret), _) => secrets::get(&secret)?.reveal()?,
                    (None, Some(file)) => workspace::read_text(&file)?,
                    (None, None) => String::new(),
                };
                let text = text.replace("{}", &spelling.write(&value));
                place.say(&format!("{}{text}", "x".repeat(padding as usize)), end).map(done)
            }
            Action::Wait { for_ms } => clock::sleep(Duration::from_millis(for_ms)).map(done),
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
            Place::Problem => {
                Finding::error(text, text).file(text, None).help(text).suggestion(text).fingerprint(text).report();
            }
            Place::Output => outputs::set("said", text)?,
            Place::OutputName => outputs::set(text, "x")?,
            Place::ArtifactName => artifacts::publish(text, "to-publish.txt", Some("text/plain")).map(drop)?,
            Place::MediaType => artifacts::publish("published", "to-publish.txt", Some(text)).map(drop)?,
            Place::FileName => workspace::read(text).map(drop)?,
            Place::Header => {
                http::Request::get(text).header(text, text).send()?;
            }
            Place::Failure => *end = Err(Error::failed(text).cause(text).help(text)),
            Place::Skip => *end = Ok(Outcome::Skipped(text.to_owned())),
            Place::Gate => {
                let mut approval = gate::Approval::new(text);
                // An approver's name can't contain blanks, so it can't be an arbitrary text.
                approval.field(text, gate::FieldKind::Text, text, false);
                *end = Ok(Outcome::Suspended(approval.open()?));
            }
            Place::Release => environment::released(text, Some(text))?,
            Place::TestCase => {
                let case = TestCase::new(text, text, TestOutcome::Failed).message(text).output(text);
                case.file(text, None).report();
            }
            Place::Metric => metrics::set(text, 1.0, text)?,
            Place::Token => *end = Ok(Outcome::Suspended(Suspension::new(text, text))),
        }
        Ok(())
    }
}

impl SourceProperty {
    fn get(self) -> Option<String> {
        match self {
            SourceProperty::Commit => source::commit(),
            SourceProperty::Reference => source::reference(),
            SourceProperty::Branch => source::branch(),
            SourceProperty::Tag => source::tag(),
            SourceProperty::Dirty => Some(source::dirty().to_string()),
            SourceProperty::Trigger => Some(source::trigger()),
            SourceProperty::Actor => source::actor(),
        }
    }
}

/// The tests to run, as in `suite: name, suite: name`.
fn failed_before() -> String {
    let Some(tests) = test_reports::failed_before() else { return "all".to_owned() };
    tests.into_iter().map(|test| format!("{}: {}", test.suite, test.name)).collect::<Vec<_>>().join(", ")
}

fn call_all(urls: &[String], at_most: usize) -> Result<String> {
    let mut statuses = vec![String::new(); urls.len()];
    let requests = urls.iter().map(|url| http::Request::get(url));
    http::send_all(requests, at_most, |index, response| {
        statuses[index] =
            response.map_or_else(|error| format!("{:?}", error.code), |response| response.status().to_string());
        Ok(())
    })?;
    Ok(statuses.join(" "))
}

fn listen(url: &str, until: &str) -> Result<String> {
    let mut response = http::Request::get(url).send()?;
    let mut heard = String::new();
    while !heard.contains(until) {
        poll::wait_any(&[&response.readable()])?;
        match response.next_chunk()? {
            Some(chunk) => heard += &String::from_utf8_lossy(&chunk),
            None => return Ok(heard + ", and its end"),
        }
    }
    let first = poll::wait_any(&[&response.readable(), &clock::timer(Duration::from_millis(50))])?;
    Ok(heard + if first == 0 { ", and more" } else { ", and silence" })
}

fn build(mut command: Command, capture: Option<u64>, quiet: bool, timeout_ms: Option<u64>) -> Result<String> {
    if let Some(bytes) = capture {
        command.capture_limit(bytes);
    }
    if quiet {
        command.quiet();
    }
    if let Some(timeout) = timeout_ms {
        command.timeout(Duration::from_millis(timeout));
    }
    let mut child = command.spawn()?;
    let mut printed = Vec::new();
    while let Some((_, data)) = child.next_chunk()? {
        printed.extend(data);
    }
    child.wait()?;
    Ok(String::from_utf8_lossy(&printed).into_owned())
}

fn open(
    mut approval: gate::Approval,
    approvals: Option<u32>,
    approvers: &[String],
    expires_ms: Option<u64>,
) -> Result<()> {
    if let Some(count) = approvals {
        approval.approvals(count);
    }
    for who in approvers {
        approval.approver(who);
    }
    if let Some(duration) = expires_ms {
        approval.expires(Duration::from_millis(duration));
    }
    approval.open().map(drop)
}

fn first_of(program: &str, args: Vec<String>, after: Duration) -> Result<String> {
    let child = Command::new(program).args(args).spawn()?;
    let first = poll::wait_any(&[&child.ended(), &clock::timer(after)])?;
    Ok(["program", "timer"][first].to_owned())
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

fn hoard(url: &str, times: u32) -> String {
    let kept: Vec<_> = (0..times).map_while(|_| http::Request::get(url).send().ok()).collect();
    kept.len().to_string()
}

fn race(path: &str, but: &str, times: u32) -> String {
    let other = (0..times).find_map(|_| workspace::read_text(path).ok().filter(|text| text != but));
    other.unwrap_or_else(|| "never".to_owned())
}

fn shown_history(history: &source::History) -> String {
    let shown = history.commits.iter().map(|commit| {
        let subject = commit.message.lines().next().unwrap_or_default();
        format!("{subject} ({}, {} parents, {})", commit.author, commit.parents.len(), commit.time_ms > 0)
    });
    let diverged = if history.diverged { ", diverged" } else { "" };
    format!("{:?}{diverged}: {}", history.end, shown.collect::<Vec<_>>().join("; "))
}
