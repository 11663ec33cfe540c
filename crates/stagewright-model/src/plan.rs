//! The validated plan: what a pipeline file says once every name in it has been resolved.

use crate::pattern::PathPattern;
use crate::span::SourceSpan;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use petgraph::graph::{DiGraph, NodeIndex};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::expression::{Expression, JsonTemplate, Template};
use crate::freeze::{self, Freeze, Frozen};
use crate::grants::{Bounds, Limits, NetRule, PackageManager, Permissions, Sandbox};
use crate::reach::{Code, EffectClass, Reaches};
use crate::rehearse::Rehearse;
use crate::secret::SecretDeclaration;

/// Position of a stage in [`Plan::stages`]; stable for one plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StageIndex(pub u32);

impl StageIndex {
    /// The index for use with slices.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

/// A pipeline, ready to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `[pipeline] name`.
    pub name: String,
    /// `[pipeline] description`.
    pub description: Option<String>,
    /// `[pipeline] sandbox`.
    pub sandbox: Sandbox,
    /// `[on]`.
    pub triggers: Triggers,
    /// `[inputs.*]`.
    pub inputs: BTreeMap<String, InputDeclaration>,
    /// Pipeline-wide `[env]`; a stage's own `env` wins.
    pub env: BTreeMap<String, Template>,
    /// `[secrets.*]`.
    pub secrets: BTreeMap<String, SecretDeclaration>,
    /// `[environments.*]`.
    pub environments: BTreeMap<String, Environment>,
    /// `[teams]`: the members of each, user names; never empty.
    pub teams: BTreeMap<String, Vec<String>>,
    /// `[concurrency]`.
    pub concurrency: Option<Concurrency>,
    /// Every matrix cell is a stage of its own. In topological order; finally stages come last.
    pub stages: Vec<Stage>,
    /// Edges run from a stage to those that need it. Node weights equal node indices.
    pub graph: DiGraph<StageIndex, ()>,
    /// Which stages come from a table: its cells stand side by side.
    pub(crate) names: HashMap<String, Range<u32>>,
}

impl Plan {
    /// The words for package hosts that stages are granted, in rehearsals too.
    pub fn package_managers(&self) -> BTreeSet<PackageManager> {
        self.stages.iter().flat_map(Stage::package_managers).collect()
    }

    /// A plan that was not read from a file. The stages are in topological order, cells of one matrix side by side,
    /// finally stages last; nothing of that is checked.
    pub fn of_stages(name: &str, stages: Vec<Stage>) -> Plan {
        let mut graph = DiGraph::with_capacity(stages.len(), 0);
        let mut names: HashMap<String, Range<u32>> = HashMap::new();
        for (index, stage) in (0..).zip(&stages) {
            graph.add_node(StageIndex(index));
            names.entry(stage.name.clone()).or_insert(index..index).end = index + 1;
        }
        for (index, stage) in (0..).zip(&stages) {
            for need in &stage.needs {
                graph.add_edge(NodeIndex::from(need.0), NodeIndex::from(index), ());
            }
        }
        Plan {
            name: name.to_owned(),
            description: None,
            sandbox: Sandbox::default(),
            triggers: Triggers::default(),
            inputs: BTreeMap::new(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            environments: BTreeMap::new(),
            teams: BTreeMap::new(),
            concurrency: None,
            stages,
            graph,
            names,
        }
    }

    /// The stage at `index`.
    pub fn stage(&self, index: StageIndex) -> &Stage {
        &self.stages[index.get()]
    }

    /// Indices in topological order.
    pub fn indices(&self) -> impl Iterator<Item = StageIndex> + use<> {
        (0..u32::try_from(self.stages.len()).unwrap_or(u32::MAX)).map(StageIndex)
    }

    /// The stages that come from the table `[stages.NAME]`: one, or a cell each of a matrix.
    pub fn named(&self, name: &str) -> impl Iterator<Item = StageIndex> + use<> {
        self.names.get(name).cloned().unwrap_or_default().map(StageIndex)
    }
}

/// Whether a stage belongs to the DAG proper or runs once the rest has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageKind {
    /// From `[stages.NAME]`.
    Main,
    /// From `[finally.NAME]`: runs after all main stages ended, whatever became of them.
    Finally,
}

/// One node of the DAG. There may be very many: what most of them leave out is there once, and shared.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Unique: the table's name, and for a matrix cell its values, as in `test (os=linux, rust=stable)`.
    pub id: String,
    /// The table's name.
    pub name: String,
    /// Main or finally.
    pub kind: StageKind,
    /// `uses`.
    pub uses: PluginRef,
    /// `with`.
    pub with: Arc<JsonTemplate>,
    /// Direct needs; a need on a matrix stage is a need on each of its cells.
    pub needs: Vec<StageIndex>,
    /// `if`; none means: when every need succeeded.
    pub condition: Option<Expression>,
    /// The values of this matrix cell.
    pub matrix: Option<MatrixCell>,
    /// Wall time for one attempt.
    pub timeout: Option<Duration>,
    /// `retry`.
    pub retry: Arc<Retry>,
    /// A failure of this stage concludes as success.
    pub continue_on_error: bool,
    /// `env`, pipeline-wide entries included.
    pub env: BTreeMap<String, Template>,
    /// `environment`.
    pub environment: Option<EnvironmentRef>,
    /// `[stages.NAME.permissions]`.
    pub permissions: Arc<Permissions>,
    /// `[stages.NAME.rehearse]`.
    pub rehearse: Option<Arc<Rehearse>>,
    /// `inputs`: globs of the files that the stage depends on.
    pub inputs: Vec<PathPattern>,
    /// `outputs`: globs of the files that the stage makes.
    pub outputs: Vec<PathPattern>,
    /// `cache`, or what it is when it isn't given.
    pub cache: CacheUse,
    /// `compensate`: stages before this one whose effect is taken back when this one fails; of a matrix, all cells.
    pub compensate: Vec<StageIndex>,
    /// `trust`.
    pub trust: Trust,
    /// Linear memory of the guest, bytes (`memory`, as in `"256MiB"`).
    pub memory: Option<u64>,
    /// The log's size, bytes (`log-limit`); what comes after ends the stage.
    pub log_limit: Option<u64>,
    /// `[stages.NAME.limits]`.
    pub limits: Limits,
    /// Where the table's header stands.
    pub location: SourceSpan,
    /// 1-based line of `location`.
    pub line: usize,
}

impl Stage {
    /// The words for package hosts that the stage is granted, in a rehearsal or else.
    pub fn package_managers(&self) -> BTreeSet<PackageManager> {
        let granted = [Some(&*self.permissions), self.rehearsal_grants()].into_iter().flatten();
        granted.flat_map(|granted| &granted.net).filter_map(NetRule::packages).collect()
    }

    /// All of its limits.
    pub fn bounds(&self) -> Bounds {
        Bounds { timeout: self.timeout, memory: self.memory, log_limit: self.log_limit, limits: self.limits }
    }

    /// What a rehearsal of it may reach for real, if the pipeline says anything of that.
    pub fn rehearsal_grants(&self) -> Option<&Permissions> {
        self.rehearse.as_ref()?.permissions.as_deref()
    }

    /// All that it could reach beyond itself with this code.
    pub fn reaches(&self, code: Code<'_>) -> Reaches<'_> {
        let environment = self.environment.as_ref().map(|environment| environment.name.as_str());
        Reaches::of(environment, &self.permissions, code)
    }

    /// How far its effects can reach. One that names an environment is external, whatever it imports: what people see is
    /// what is there.
    pub fn effect_class(&self, code: Code<'_>) -> EffectClass {
        self.reaches(code).effect_class()
    }

    /// Sets all of its limits.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        Bounds { timeout: self.timeout, memory: self.memory, log_limit: self.log_limit, limits: self.limits } = bounds;
    }

    /// The environments that an approval at this stage's own gate is for: those that its `with` table names as
    /// `environments`, and for the stage `approve` its own.
    pub fn approves(&self) -> impl Iterator<Item = &str> {
        let named = self
            .with
            .source()
            .get("environments")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str);
        let own = self.environment.as_ref().filter(|_| self.uses == PluginRef::Builtin("approve".to_owned()));
        named.chain(own.map(|own| own.name.as_str()))
    }

    /// The header of its table, as in `stages.test`.
    pub fn table(&self) -> String {
        match self.kind {
            StageKind::Main => format!("stages.{}", self.name),
            StageKind::Finally => format!("finally.{}", self.name),
        }
    }
}

/// `cache`: whether a stage's result is taken from the cache, and kept there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// Neither: `false`.
    #[default]
    Never,
    /// What others kept is taken: `"read"`.
    Read,
    /// Both: `true`.
    ReadWrite,
}

/// One combination of a stage's matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatrixCell {
    /// Axis to value.
    pub values: BTreeMap<String, Json>,
    /// Stop the other cells of the same stage when one fails.
    pub fail_fast: bool,
    /// How many cells of the stage may run at a time.
    pub max_parallel: Option<u32>,
}

/// `uses`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginRef {
    /// A built-in, by name.
    Builtin(String),
    /// `path:…`, relative to the pipeline file's repository: a component, a plugin's folder, or a native library.
    Path(String),
    /// `oci:…`, by digest.
    Oci(String),
}

impl std::fmt::Display for PluginRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PluginRef::Builtin(name) => f.write_str(name),
            PluginRef::Path(path) => write!(f, "path:{path}"),
            PluginRef::Oci(reference) => write!(f, "oci:{reference}"),
        }
    }
}

/// `trust`: what kind of code a plugin may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Trust {
    /// A WASM component, with the powers that were granted and no other.
    #[default]
    Component,
    /// `trust = "native"`: a shared library with the full powers of the engine's process, pinned by `digest`.
    Native {
        /// `sha256:…` of the library.
        digest: String,
    },
}

/// `retry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries after the first.
    pub max: u32,
    /// Which causes of failure are tried again. An attempt that ended while an effect of it beyond the machine may have
    /// happened is in doubt: whatever this says, its plugin or a person is asked what became of it before another one.
    pub on: Vec<RetryCause>,
    /// How long to wait.
    pub backoff: Backoff,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { max: 0, on: RetryCause::DEFAULT.to_vec(), backoff: Backoff::default() }
    }
}

/// A cause of failure by which `retry.on` chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryCause {
    /// The stage did its work and the answer was no.
    Failed,
    /// The stage could not do its work: trap, out of memory, a log or artifact limit, an internal error.
    Errored,
    /// The stage's `timeout` passed.
    Timeout,
    /// The worker or the process went away; see [`Retry::on`] for what it may have done by then.
    Lost,
}

impl RetryCause {
    /// All but none: what `retry.on` means when it isn't given.
    pub const DEFAULT: [RetryCause; 4] =
        [RetryCause::Failed, RetryCause::Errored, RetryCause::Timeout, RetryCause::Lost];
}

/// `retry.backoff`: the n-th retry waits `initial × factor^(n-1)`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first retry.
    pub initial: Duration,
    /// 1 keeps the wait constant.
    pub factor: u32,
    /// Upper bound.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { initial: Duration::from_secs(1), factor: 2, max: Duration::from_secs(60) }
    }
}

/// `environment`, as in `"staging"` or `{ name = "staging", url = "${{ … }}" }`.
#[derive(Clone, Debug)]
pub struct EnvironmentRef {
    /// A key of `[environments]`.
    pub name: String,
    /// Shown for the deploy; overrides the environment's own.
    pub url: Option<Template>,
}

/// `[environments.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Environment {
    /// `process` is the only one that this version runs.
    pub target: String,
    /// Where people reach it.
    pub url: Option<String>,
    /// Who may approve of a deploy, without which there is none: users, and teams as `team:NAME`; empty means that none
    /// is asked for.
    pub approvers: Vec<String>,
    /// Configuration files, later ones win.
    pub config: Vec<String>,
    /// Deploys to it must name an image by digest.
    pub protected: bool,
    /// When it takes no deploys.
    pub freeze: Vec<Freeze>,
}

impl Environment {
    /// The freeze that is in force at a time (milliseconds since the Unix epoch), if one is: of several, the one that
    /// ends last.
    pub fn frozen(&self, at: u64) -> Option<Frozen> {
        freeze::in_force(&self.freeze, at)
    }
}

/// `[inputs.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct InputDeclaration {
    /// `type`.
    pub kind: InputKind,
    /// `default`; an input without one must be given.
    pub default: Option<Json>,
    /// Shown by `plan` and in errors.
    pub description: Option<String>,
}

/// The type of a pipeline input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Text.
    String,
    /// Integer or float.
    Number,
    /// `true` or `false`.
    Boolean,
    /// One of these.
    Choice(Vec<String>),
}

/// `[concurrency]`.
#[derive(Clone, Debug)]
pub struct Concurrency {
    /// Runs of one group don't overlap.
    pub group: Template,
    /// A newer run cancels the one under way.
    pub cancel_in_progress: bool,
    /// Which waiting runs are kept.
    pub queue: Queue,
    /// Whether the run keeps others out while it waits at a gate.
    pub hold_at_gates: bool,
}

/// `concurrency.queue`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Queue {
    /// The newest waiting run replaces an older waiting one.
    #[default]
    Single,
    /// Every run waits its turn.
    Max,
}

/// `[on]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Triggers {
    /// Whether pushes start it. Without `branches` and `tags`, all of them do.
    pub push: bool,
    /// `push.branches`, globs.
    pub branches: Vec<String>,
    /// `push.tags`, globs.
    pub tags: Vec<String>,
    /// `push.paths`, globs, one of which a changed file must match; empty means any.
    pub paths: Vec<String>,
    /// `pull-request.branches`, globs; none when the trigger is absent.
    pub pull_request: Option<Vec<String>>,
    /// `pull-request.paths`, as `paths`.
    pub pull_request_paths: Vec<String>,
    /// Cron lines, UTC.
    pub schedule: Vec<String>,
    /// Whether a person may start it; so unless the file says no.
    pub manual: bool,
}
