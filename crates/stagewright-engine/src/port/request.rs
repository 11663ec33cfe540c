//! What an attempt is given.
//!
//! Requests are data: they can be serialised, and an attempt can be run in another process or on another machine than
//! the engine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_model::{Limits, PathPattern, Permissions, PluginRef, RehearsalTerms, StageIndex, Trust};

use crate::event::{Capture, Made, Release, RunId};

/// Which files are to be captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CaptureRequest {
    /// The run.
    pub run: RunId,
    /// Unique name of the stage at whose gate it is.
    pub stage_id: String,
    /// The capture's [`opening`](Capture::opening).
    pub opening: u64,
    /// Globs of all that the stages behind the gate may read, write or start.
    pub paths: Vec<PathPattern>,
    /// What the files are to be now.
    pub basis: Basis,
}

/// Which files an attempt is given, and what has to hold of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Basis {
    /// The captures of the gates that it comes after, oldest first. It is given the last one, which must hold what was
    /// approved at the others. Empty: it works on the workspace itself.
    pub captures: Vec<Approved>,
    /// What the stages that it needs, directly or not, have made; in the order in which they ended.
    pub made: Vec<MadeBefore>,
    /// Globs of what other stages of the run may have written meanwhile: changes there are not refused.
    pub unordered: Vec<PathPattern>,
    /// Globs of all that stages behind the last gate may write.
    pub writable: Vec<PathPattern>,
    /// Globs of its results: its `outputs`, else all that it may write.
    pub results: Vec<PathPattern>,
    /// Globs of what later stages may read. What of its results matches is recorded once it has succeeded.
    pub readers: Vec<PathPattern>,
}

/// A capture that people approved of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Approved {
    /// Unique name of the stage at whose gate that was.
    pub stage_id: String,
    /// The files.
    pub capture: Capture,
    /// Globs of what stages of the run may have written since.
    pub written_since: Vec<PathPattern>,
}

/// What an earlier stage of the run made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MadeBefore {
    /// Its unique name.
    pub stage_id: String,
    /// What it left.
    pub made: Made,
    /// Globs of the results that `made` is about.
    pub results: Vec<PathPattern>,
    /// Globs of all that it may have written.
    pub writable: Vec<PathPattern>,
}

/// All that an attempt is given. Expressions are evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttemptRequest {
    /// The run.
    pub run: RunId,
    /// `[pipeline] name`.
    pub pipeline: String,
    /// Position in the plan.
    pub stage: StageIndex,
    /// Unique name, matrix values included.
    pub stage_id: String,
    /// The table of the pipeline file that it comes from, as in `stages.test`; for errors that name a place.
    pub table: String,
    /// 1 for the first try.
    pub attempt: u32,
    /// What the plugin is called for.
    pub call: Call,
    /// Which plugin.
    pub uses: PluginRef,
    /// Component or pinned native library.
    pub trust: Trust,
    /// `sha256:…` that the plugin must have; none when any will do.
    pub plugin: Option<String>,
    /// The `with` table.
    pub config: Json,
    /// The `env` table.
    pub env: BTreeMap<String, String>,
    /// What the TOML grants, and which credential files were found in reach of it.
    #[serde(with = "stagewright_model::complete_permissions")]
    pub permissions: Permissions,
    /// The environment that it acts on.
    pub environment: Option<EnvironmentView>,
    /// The outputs of the stage's direct needs, by stage name.
    pub needs: BTreeMap<String, Json>,
    /// Wall time.
    pub timeout: Option<Duration>,
    /// Bytes of guest memory.
    pub memory: Option<u64>,
    /// Bytes of log.
    pub log_limit: Option<u64>,
    /// The other bounds.
    pub limits: Limits,
    /// Globs of the only files of those it may read that it is to read, since its result counts as made from them
    /// alone; none for all.
    pub declared: Option<Vec<PathPattern>>,
    /// Whether an earlier result may stand for this attempt; none when it may not.
    pub cache: Option<CacheRequest>,
    /// JSON of the [`Decision`](crate::Decision) when the stage goes on after a gate.
    pub resumption: Option<Json>,
    /// In a rehearsal, what it may reach for real; none in a real run.
    pub rehearsal: Option<RehearsalTerms>,
    /// Which files it is given.
    pub basis: Basis,
    /// The folder whose files stand for those of the workspace; none for the workspace itself. The engine never sets it:
    /// a runner that prepares files for another one does, on the machine where the attempt runs.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
}

/// What the result of an attempt depends on, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CacheRequest {
    /// Whether one is taken; not when the stage is run again after a resume: whoever asks for that wants it done.
    pub take: bool,
    /// Whether a result is kept.
    pub keep: bool,
    /// Globs of the files that it depends on; none: all that may be read.
    pub inputs: Vec<PathPattern>,
    /// Globs of the files that it makes.
    pub outputs: Vec<PathPattern>,
    /// Stages before it, needs of its needs included, that may write to the workspace; none when this one may not: then
    /// all that it sees of what they left is among its inputs.
    pub before: Vec<StageBefore>,
}

/// A stage that comes before another one, as far as it may have left something for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StageBefore {
    /// Unique name, matrix values included.
    pub stage_id: String,
    /// Globs of the files that it makes.
    pub outputs: Vec<PathPattern>,
    /// Globs of all that it may write.
    pub writes: Vec<PathPattern>,
    /// Whether its result has a key.
    pub is_cached: bool,
}

/// What a plugin is called for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// To do what it is for.
    #[default]
    Run,
    /// To say what became of an attempt that was left in doubt: the one of [`AttemptRequest::attempt`]. It must not
    /// change anything, and ends with [`AttemptEnd::Observed`] or unsuccessfully.
    Observe,
    /// To take back what the attempt did. It may be asked for again when it was interrupted.
    Undo,
}

/// An environment, as an attempt on it sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EnvironmentView {
    /// A key of `[environments]`.
    pub name: String,
    /// The token that the attempt acts under, or acted under when it is asked about; none for a stage without effects
    /// beyond this machine.
    pub fence: Option<u64>,
    /// What runs there by the ledger.
    pub current: Option<Release>,
    /// What to go back to: the last release that proved good and is not the current one.
    pub last_known_good: Option<Release>,
}
