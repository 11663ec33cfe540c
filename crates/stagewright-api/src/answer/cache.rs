//! `explain --json`: a list of [`ExplainEntry`], one for each stage that the name fits.

use serde::{Deserialize, Serialize};

/// Why a stage ran, or came from the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExplainEntry {
    /// Unique name of the stage.
    pub stage: String,
    /// Whether it ran in this run.
    pub ran: bool,
    /// Why.
    pub why: ExplainReason,
    /// Id of the run that made the result which was taken or compared with.
    pub since: Option<String>,
    /// What has changed since; none for reasons other than `changed`. Empty when the earlier result was no longer kept.
    pub changed: Option<Vec<Difference>>,
}

/// Why a stage ran, or didn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExplainReason {
    /// It was not part of the run, or the run ended before.
    NotRun,
    /// Its result doesn't go through the cache.
    NotCached,
    /// Nothing that it depends on has changed: it came from the cache.
    Unchanged,
    /// What its result depended on is no longer kept.
    Unknown,
    /// There was no earlier result.
    First,
    /// Something that its result depends on has changed.
    Changed,
}

/// Something that a result depends on, and that has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// What it is.
    pub part: DifferencePart,
    /// Its name, as in `src/main.rs`.
    pub name: String,
    /// Its earlier value, or the value's digest; none when it is new.
    pub then: Option<String>,
    /// Its value, or the value's digest; none when it was removed.
    pub now: Option<String>,
}

/// What a result depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DifferencePart {
    /// The format in which results are kept.
    Format,
    /// Whether programs are confined.
    Sandbox,
    /// The plugin.
    Plugin,
    /// The stage's name, and whether the run is a rehearsal.
    Stage,
    /// A value of `with`.
    Config,
    /// A variable of `env`, or one that programs inherit.
    Variable,
    /// An entry of `permissions`.
    Permission,
    /// A limit.
    Limit,
    /// A glob of `inputs` or `outputs`.
    Glob,
    /// A program or toolchain of the machine.
    Tool,
    /// The outcome of a stage that it needs, or one of its outputs.
    Need,
    /// The commit or the trigger of the run.
    Source,
    /// An artifact of an earlier stage.
    Artifact,
    /// A file.
    File,
    /// An earlier stage that may have left files where this one may write.
    Before,
}
