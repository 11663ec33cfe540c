//! The validated plan: the content of a pipeline file with all names resolved.

mod environment;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use petgraph::graph::{DiGraph, NodeIndex};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub(crate) use self::environment::environment_of_region;
pub use self::environment::{Environment, EnvironmentRef, Region, Wave, environment_values, lock_of};
use crate::credential::CredentialDeclaration;
use crate::expression::{Expression, JsonTemplate, Template};
use crate::grants::{Bounds, Limits, NetRule, PackageManager, Permissions, Sandbox, UsedPermissionSet};
use crate::pattern::PathPattern;
use crate::reach::{EffectClass, PluginCode, Reaches};
use crate::rehearse::Rehearse;
use crate::secret::SecretDeclaration;
use crate::span::SourceSpan;
use crate::triggers::Triggers;

/// The position of a stage in [`Plan::stages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StageIndex(pub u32);

impl StageIndex {
    /// The position as an index into slices.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

/// A pipeline that is ready to run.
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
    /// Pipeline-wide `[env]`; a stage's own `env` overrides it.
    pub env: BTreeMap<String, Template>,
    /// `[secrets.*]`.
    pub secrets: BTreeMap<String, SecretDeclaration>,
    /// `[credentials.*]`.
    pub credentials: BTreeMap<String, CredentialDeclaration>,
    /// `[environments.*]`.
    pub environments: BTreeMap<String, Environment>,
    /// `[teams]`: the user names of each team's members. No team is empty.
    pub teams: BTreeMap<String, Vec<String>>,
    /// `[concurrency]`.
    pub concurrency: Option<Concurrency>,
    /// The stages in topological order, finally stages last. Each matrix cell is a stage of its own.
    pub stages: Vec<Stage>,
    /// The needs: an edge leads from a stage to each stage that needs it. The weight of a node is its index.
    pub graph: DiGraph<StageIndex, ()>,
    /// The outputs that expressions read, in the order of the file's stages.
    pub(crate) output_reads: Vec<OutputRead>,
    /// The stages of each table by name, in their order.
    pub(crate) names: HashMap<String, Vec<StageIndex>>,
}

/// An output that an expression reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputRead {
    /// The name of the stage's table.
    pub(crate) stage: String,
    /// The output's name.
    pub(crate) output: String,
    /// The place of the reference.
    pub(crate) place: SourceSpan,
}

impl Plan {
    /// The package managers that stages are granted in `net`, in runs or in rehearsals.
    pub fn package_managers(&self) -> BTreeSet<PackageManager> {
        self.stages.iter().flat_map(Stage::package_managers).collect()
    }

    /// The names of the secrets that these permissions give access to, directly or through credentials.
    pub fn secrets_of(&self, granted: &Permissions) -> BTreeSet<String> {
        let own = granted.secrets.iter().map(|rule| rule.name().to_owned());
        let credentials = granted.credentials.iter().filter_map(|rule| self.credentials.get(rule.name()));
        own.chain(credentials.flat_map(CredentialDeclaration::secrets)).collect()
    }

    /// Makes a plan without a file. The stages must be in topological order, finally stages last. This isn't checked.
    pub fn of_stages(name: &str, stages: Vec<Stage>) -> Plan {
        Plan {
            name: name.to_owned(),
            description: None,
            sandbox: Sandbox::default(),
            triggers: Triggers::default(),
            inputs: BTreeMap::new(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            credentials: BTreeMap::new(),
            environments: BTreeMap::new(),
            teams: BTreeMap::new(),
            concurrency: None,
            stages: Vec::new(),
            graph: DiGraph::new(),
            output_reads: Vec::new(),
            names: HashMap::new(),
        }
        .with_stages(stages)
    }

    /// The same plan with these stages instead of its own, in topological order.
    pub(crate) fn with_stages(self, stages: Vec<Stage>) -> Plan {
        let edges = stages.iter().map(|stage| stage.needs.len()).sum();
        let mut graph = DiGraph::with_capacity(stages.len(), edges);
        let mut names: HashMap<String, Vec<StageIndex>> = HashMap::new();
        for (index, stage) in (0..).map(StageIndex).zip(&stages) {
            graph.add_node(index);
            names.entry(stage.name.clone()).or_default().push(index);
        }
        for (index, stage) in (0..).zip(&stages) {
            for need in &stage.needs {
                graph.add_edge(NodeIndex::from(need.0), NodeIndex::from(index), ());
            }
        }
        Plan { stages, graph, names, ..self }
    }

    /// The stage at `index`.
    pub fn stage(&self, index: StageIndex) -> &Stage {
        &self.stages[index.get()]
    }

    /// All indices, in topological order.
    pub fn indices(&self) -> impl Iterator<Item = StageIndex> + use<> {
        (0..u32::try_from(self.stages.len()).unwrap_or(u32::MAX)).map(StageIndex)
    }

    /// The stages of the table with this name: one stage, or one for each cell of its matrix and each region.
    pub fn named(&self, name: &str) -> impl Iterator<Item = StageIndex> + use<'_> {
        self.names.get(name).into_iter().flatten().copied()
    }
}

/// Whether a stage runs when its needs have ended, or after all other stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageKind {
    /// From `[stages.NAME]`.
    Main,
    /// From `[finally.NAME]`: runs after all main stages have ended, whatever their results.
    Finally,
}

/// One node of the DAG. A plan can have very many: large values that most stages have in common are shared.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Unique in the plan: the table's name, the values of a matrix cell and the region, as in
    /// `test (os=linux, rust=stable)` and `deploy (region=eu)`.
    pub id: String,
    /// The table's name.
    pub name: String,
    /// The table that the stage is from.
    pub kind: StageKind,
    /// `uses`.
    pub uses: PluginRef,
    /// `with`.
    pub with: Arc<JsonTemplate>,
    /// `needs`; a need on a stage with a matrix is a need on each of its cells. Includes [`Wave::after`].
    pub needs: Vec<StageIndex>,
    /// `if`; none means that the stage runs if every need succeeded.
    pub condition: Option<Expression>,
    /// The values of the matrix cell, if the stage is one.
    pub matrix: Option<MatrixCell>,
    /// Its place in the waves over the regions of its environment.
    pub wave: Option<Box<Wave>>,
    /// `timeout`: wall time of one attempt.
    pub timeout: Option<Duration>,
    /// `retry`.
    pub retry: Arc<Retry>,
    /// `continue-on-error`: whether a failure of this stage concludes as success.
    pub continue_on_error: bool,
    /// `env`, including the pipeline-wide variables.
    pub env: BTreeMap<String, Template>,
    /// `environment`.
    pub environment: Option<EnvironmentRef>,
    /// `[stages.NAME.permissions]`, or those of `[defaults]`, with all entries of the sets that they use.
    pub permissions: Arc<Permissions>,
    /// `permissions.use`: the sets whose entries `permissions` includes.
    pub permission_sets: Vec<UsedPermissionSet>,
    /// `[stages.NAME.rehearse]`.
    pub rehearse: Option<Arc<Rehearse>>,
    /// `inputs`: globs of the files that the stage depends on.
    pub inputs: Vec<PathPattern>,
    /// `outputs`: globs of the files that the stage creates.
    pub outputs: Vec<PathPattern>,
    /// `cache`, or its default.
    pub cache: CacheUse,
    /// `compensate`: earlier stages to compensate if this one fails. All cells of a matrix are compensated. Includes
    /// [`Wave::undo`].
    pub compensate: Vec<StageIndex>,
    /// `trust`.
    pub trust: Trust,
    /// `memory`: linear memory of the guest, in bytes.
    pub memory: Option<u64>,
    /// `log-limit`: size of the log, in bytes. Exceeding it ends the stage.
    pub log_limit: Option<u64>,
    /// `[stages.NAME.limits]`.
    pub limits: Limits,
    /// The place of the table's header in the file's text.
    pub location: SourceSpan,
    /// 1-based line of `location`.
    pub line: usize,
}

impl Stage {
    /// The package managers that the stage is granted in `net`, in runs or in rehearsals.
    pub fn package_managers(&self) -> BTreeSet<PackageManager> {
        let granted = [Some(&*self.permissions), self.rehearsal_grants()].into_iter().flatten();
        granted.flat_map(|granted| &granted.net).filter_map(NetRule::packages).collect()
    }

    /// All limits of the stage.
    pub fn bounds(&self) -> Bounds {
        Bounds { timeout: self.timeout, memory: self.memory, log_limit: self.log_limit, limits: self.limits }
    }

    /// `rehearse.permissions`: what a rehearsal of the stage may really access.
    pub fn rehearsal_grants(&self) -> Option<&Permissions> {
        self.rehearse.as_ref()?.permissions.as_deref()
    }

    /// Everything outside of the run that the stage can reach with this plugin.
    pub fn reaches(&self, code: PluginCode<'_>) -> Reaches<'_> {
        let environment = self.environment.as_ref().map(|environment| environment.name.as_str());
        Reaches::of(environment, &self.permissions, code)
    }

    /// How far the effects of the stage can reach with this plugin. A stage that names an environment is always
    /// external, even if its plugin could reach nothing: users see its result as the state of the environment.
    pub fn effect_class(&self, code: PluginCode<'_>) -> EffectClass {
        self.reaches(code).effect_class()
    }

    /// Sets all limits of the stage.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        Bounds { timeout: self.timeout, memory: self.memory, log_limit: self.log_limit, limits: self.limits } = bounds;
    }

    /// The environments that an approval at this stage's gate applies to: those in `with.environments` and, if the
    /// plugin is `approve`, the stage's own.
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

    /// The table's header without brackets, as in `stages.test`.
    pub fn table(&self) -> String {
        match self.kind {
            StageKind::Main => format!("stages.{}", self.name),
            StageKind::Finally => format!("finally.{}", self.name),
        }
    }
}

/// `cache`: whether a stage's result is restored from the cache, and stored there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// `false`: neither.
    #[default]
    Never,
    /// `"read"`: results are restored but not stored.
    Read,
    /// `true`: both.
    ReadWrite,
}

/// One combination of a stage's matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatrixCell {
    /// The value of each axis.
    pub values: BTreeMap<String, Json>,
    /// `fail-fast`: whether a failure of one cell stops the others.
    pub fail_fast: bool,
    /// `max-parallel`: how many cells of the stage may run at the same time.
    pub max_parallel: Option<u32>,
}

/// `uses`: where a stage's plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginRef {
    /// A built-in plugin, by name.
    Builtin(String),
    /// `path:…`, relative to the pipeline file's repository: a component, a plugin's folder, or a native library.
    Path(String),
    /// `oci:…`, by digest.
    Oci(String),
}

impl PluginRef {
    /// The plugin that a value of `uses` names.
    pub fn parse(uses: &str) -> PluginRef {
        match uses.split_once(':') {
            Some(("path", path)) => PluginRef::Path(path.to_owned()),
            Some(("oci", reference)) => PluginRef::Oci(reference.to_owned()),
            _ => PluginRef::Builtin(uses.to_owned()),
        }
    }
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
    /// A WASM component, which can access only what is granted.
    #[default]
    Component,
    /// `trust = "native"`: a shared library with all privileges of the engine's process, pinned by `digest`.
    Native {
        /// `sha256:…` of the library.
        digest: String,
    },
}

/// `retry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The most attempts after the first.
    pub max: u32,
    /// The causes of failure that are retried.
    ///
    /// This doesn't apply directly to an attempt that was interrupted after it may have had an external effect. Such an
    /// attempt is unresolved: before another attempt starts, its plugin, or else a user, has to determine its outcome.
    pub on: Vec<RetryCause>,
    /// How long to wait before each retry.
    pub backoff: Backoff,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { max: 0, on: RetryCause::ALL.to_vec(), backoff: Backoff::default() }
    }
}

/// A cause of failure that `retry.on` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryCause {
    /// The stage did its work and reported a failure.
    Failed,
    /// The stage couldn't do its work: a trap, lack of memory, an exceeded log or artifact limit, an internal error.
    Errored,
    /// The stage exceeded its `timeout`.
    Timeout,
    /// The worker or the process died; see [`Retry::on`] about effects that it may have had.
    Lost,
}

impl RetryCause {
    /// All causes, which is the default of `retry.on`.
    pub const ALL: [RetryCause; 4] = [RetryCause::Failed, RetryCause::Errored, RetryCause::Timeout, RetryCause::Lost];

    /// Their names in `retry.on`, in the same order.
    pub(crate) const NAMES: [&'static str; RetryCause::ALL.len()] = {
        let [first, second, third, fourth] = RetryCause::ALL;
        [first.as_str(), second.as_str(), third.as_str(), fourth.as_str()]
    };

    /// The name in `retry.on`.
    pub const fn as_str(self) -> &'static str {
        match self {
            RetryCause::Failed => "failed",
            RetryCause::Errored => "errored",
            RetryCause::Timeout => "timeout",
            RetryCause::Lost => "lost",
        }
    }

    /// The cause with this name.
    pub(crate) fn named(name: &str) -> Option<RetryCause> {
        RetryCause::ALL.into_iter().find(|cause| cause.as_str() == name)
    }
}

/// `retry.backoff`: the n-th retry waits `initial × factor^(n-1)`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait before the first retry.
    pub initial: Duration,
    /// The factor from one wait to the next; 1 for a constant wait.
    pub factor: u32,
    /// The longest wait.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { initial: Duration::from_secs(1), factor: 2, max: Duration::from_secs(60) }
    }
}

/// `[inputs.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct InputDeclaration {
    /// `type`.
    pub kind: InputKind,
    /// `default`; without one, every run has to provide a value.
    pub default: Option<Json>,
    /// `description`: shown by `plan` and in errors.
    pub description: Option<String>,
}

/// The type of a pipeline input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Any text.
    String,
    /// An integer or float.
    Number,
    /// `true` or `false`.
    Boolean,
    /// One of these texts.
    Choice(Vec<String>),
}

/// `[concurrency]`.
#[derive(Clone, Debug)]
pub struct Concurrency {
    /// `group`: runs in the same group don't run at the same time.
    pub group: Template,
    /// `cancel-in-progress`: whether a newer run cancels a running one.
    pub cancel_in_progress: bool,
    /// `queue`: which waiting runs are kept.
    pub queue: Queue,
    /// `hold-at-gates`: whether a run keeps its place in the group while it waits at a gate.
    pub hold_at_gates: bool,
}

/// The value of `uses` that stands for the plugin of the target of the stage's environment.
pub const DEPLOY: &str = "deploy";

/// What the names of the built-in plugins that deploy begin with; the name of a target follows.
pub const DEPLOY_PREFIX: &str = "deploy-";

/// `concurrency.queue`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Queue {
    /// Only the newest waiting run is kept.
    #[default]
    Single,
    /// All waiting runs are kept, and run one after the other.
    Max,
}
