//! What an attempt is given.
//!
//! Requests are data: they can be serialised, and an attempt can be run in another process or on another machine than
//! the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_model::{Limits, PathPattern, Permissions, PluginRef, RehearsalTerms, StageIndex, Trust};

use crate::event::{Capture, FailedTest, GitState, Made, Outcome, Release, Rollout, RunId, Trigger};

/// A request to capture files for a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CaptureRequest {
    /// The run.
    pub run: RunId,
    /// Unique name of the stage that has the gate.
    pub stage_id: String,
    /// The capture's [`opening`](Capture::opening).
    pub opening: u64,
    /// Globs of all files that the stages behind the gate may read, write or start.
    pub paths: Vec<PathPattern>,
    /// The state that the files must have.
    pub basis: Basis,
}

/// Which files an attempt works on, and what must be true of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Basis {
    /// The captures of the gates before it, oldest first. It works on the files of the last one, which must contain
    /// what was approved at the others. Empty if it works on the workspace itself.
    pub captures: Vec<ApprovedCapture>,
    /// The results of the stages that it needs, directly or not, in the order in which they ended.
    pub made: Vec<EarlierResult>,
    /// Globs of files that other stages of the run may be writing at the same time: changes to them are accepted.
    pub unordered: Vec<PathPattern>,
    /// Globs of all files that stages behind the last gate may write.
    pub writable: Vec<PathPattern>,
    /// Globs of its results: its `outputs`, or all that it may write when it has none.
    pub results: Vec<PathPattern>,
    /// Globs of files that later stages may read. Those of its results that match are recorded once it has succeeded.
    pub readers: Vec<PathPattern>,
}

/// A capture that was approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ApprovedCapture {
    /// Unique name of the stage that has the gate.
    pub stage_id: String,
    /// The files.
    pub capture: Capture,
    /// Globs of files that stages of the run may have written since.
    pub written_since: Vec<PathPattern>,
}

/// The result of an earlier stage of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EarlierResult {
    /// Its unique name.
    pub stage_id: String,
    /// The files that it left.
    pub made: Made,
    /// Globs of the results that `made` is about.
    pub results: Vec<PathPattern>,
    /// Globs of all files that it may have written.
    pub writable: Vec<PathPattern>,
}

/// Everything that a runner needs to run an attempt, with all expressions evaluated.
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
    /// Its table in the pipeline file, as in `stages.test`, for error messages.
    pub table: String,
    /// 1 for the first try.
    pub attempt: u32,
    /// Which of the plugin's functions is called.
    pub call: Call,
    /// The plugin to run.
    pub uses: PluginRef,
    /// Component or pinned native library.
    pub trust: Trust,
    /// The digest that the plugin must have, as `sha256:…`; none to accept any.
    pub plugin: Option<String>,
    /// The `with` table.
    pub config: Json,
    /// The `env` table.
    pub env: BTreeMap<String, String>,
    /// What the TOML grants, and the credential files that these grants would expose.
    #[serde(with = "stagewright_model::complete_permissions")]
    pub permissions: Permissions,
    /// The environment that it acts on.
    pub environment: Option<EnvironmentView>,
    /// The stages that it needs directly, in the order of the plan; for a finally stage, all stages before it.
    pub needs: Vec<Need>,
    /// Unique names of all stages that it needs, directly or not; for a finally stage, of all main stages.
    pub before: BTreeSet<String>,
    /// The commit that the run is for, and what started it; none if the stage's plugin doesn't ask for them.
    pub source: Option<Box<SourceView>>,
    /// Wall time; none for no limit.
    pub timeout: Option<Duration>,
    /// Maximum guest memory in bytes; none for the runner's default, here and below.
    pub memory: Option<u64>,
    /// Maximum size of the log in bytes.
    pub log_limit: Option<u64>,
    /// The other limits.
    pub limits: Limits,
    /// For a cached stage, globs of its declared inputs. It can read only these of the files that it is granted,
    /// because its result is stored under their digests. None if it can read everything that it is granted.
    pub declared: Option<Vec<PathPattern>>,
    /// How it uses the cache; none if it doesn't.
    pub cache: Option<CacheRequest>,
    /// The only tests that it is to run; none for all of them.
    pub failed_tests: Option<Vec<FailedTest>>,
    /// For an attempt that continues after its own gate, JSON of the last [`Decision`](crate::Decision), with all of
    /// them under `decisions`; after a [`Wait`](crate::Wait), `{"token": …, "cause": "poll" | "signal", "payload": …,
    /// "decisions": …}`, with the answers to its last gate before the wait.
    pub resumption: Option<Json>,
    /// How far the stage's rollout was when its plugin last recorded that, in this run.
    #[serde(default)]
    pub rollout: Option<Box<Rollout>>,
    /// In a rehearsal, what of it is real; none in a real run.
    pub rehearsal: Option<RehearsalTerms>,
    /// The files that it works on.
    pub basis: Basis,
    /// The folder that replaces the workspace; none for the workspace itself. It is a path on the machine that runs the
    /// attempt and therefore isn't serialised: the engine leaves it empty, and a runner that prepares files for another
    /// runner sets it.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
}

/// A stage that ended before the attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Need {
    /// The name of its table.
    pub stage: String,
    /// Unique name, matrix values included.
    pub id: String,
    /// Raw result.
    pub outcome: Outcome,
    /// Result after `continue-on-error`.
    pub conclusion: Outcome,
    /// JSON values by name.
    pub outputs: BTreeMap<String, Json>,
}

/// The commit that a run is for, and what started it, as an attempt sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SourceView {
    /// The commit, and how the working tree differed from it.
    pub git: GitState,
    /// What started the run.
    pub trigger: Trigger,
    /// See [`RunSource::base`](crate::RunSource::base).
    pub base: Option<String>,
}

/// How an attempt uses the cache: what its result depends on, and which files belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CacheRequest {
    /// Whether an earlier result may be used. False for a stage that runs again after a resume, because the resume was
    /// requested in order to run it.
    pub take: bool,
    /// Whether the result is stored.
    pub keep: bool,
    /// Globs of the files that the result depends on; empty for everything that the stage may read.
    pub inputs: Vec<PathPattern>,
    /// Globs of the files that belong to the result.
    pub outputs: Vec<PathPattern>,
    /// Earlier stages, indirect needs included, that may write to the workspace. Empty if this stage may not write:
    /// then everything that it can see of their files is among its inputs.
    pub before: Vec<EarlierStage>,
}

/// An earlier stage that may have left files for a later one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EarlierStage {
    /// Unique name, matrix values included.
    pub stage_id: String,
    /// Globs of the files that it produces.
    pub outputs: Vec<PathPattern>,
    /// Globs of everything that it may write.
    pub writes: Vec<PathPattern>,
    /// Whether its result is cached, and so has a key.
    pub is_cached: bool,
}

/// Which of a plugin's functions is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// `run`.
    #[default]
    Run,
    /// `observe`: determines the outcome of the interrupted attempt [`AttemptRequest::attempt`]. It must not change
    /// anything, and ends with [`AttemptEnd::Observed`](super::AttemptEnd::Observed) or unsuccessfully.
    Observe,
    /// `undo`: reverts the effect of the attempt. It is called again when it was interrupted.
    Undo,
    /// `compare`: how what is in place differs from the release [`EnvironmentView::restored`]. It must not change anything,
    /// and ends with [`AttemptEnd::Compared`](super::AttemptEnd::Compared) or unsuccessfully.
    Compare,
}

/// The environment as an attempt sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EnvironmentView {
    /// A key of `[environments]`.
    pub name: String,
    /// `target`; empty for an environment that the pipeline file doesn't define, as the ones below.
    #[serde(default)]
    pub target: String,
    /// `url`.
    #[serde(default)]
    pub url: Option<String>,
    /// `config`: configuration files, of which later ones override earlier ones.
    #[serde(default)]
    pub config: Vec<String>,
    /// `protected`.
    #[serde(default)]
    pub protected: bool,
    /// The fence that the attempt acts under; for `observe`, the one that it acted under. None for a stage without
    /// effects beyond this machine.
    pub fence: Option<u64>,
    /// The release that is current in the ledger.
    pub current: Option<Release>,
    /// In a rehearsal, the current release of the real environment; none otherwise.
    #[serde(default)]
    pub standing: Option<Box<Release>>,
    /// The last known-good release other than the current one, which an undo restores.
    pub last_known_good: Option<Release>,
    /// The release that the run restores, or that [`Call::Compare`] is about; none for other runs than rollbacks.
    #[serde(default)]
    pub restored: Option<Box<Release>>,
}
