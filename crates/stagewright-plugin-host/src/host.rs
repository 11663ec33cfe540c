//! The plugin host of one run: implements the engine's `StageRunner`, and describes and validates plugins.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use stagewright_engine::{
    AttemptEnd, AttemptOutput, AttemptReport, AttemptRequest, Call, Failure, FailureKind, Interrupt, Observation,
    Outcome, Problem, StageRunner,
};
use stagewright_model::{JsonTemplate, Permissions, PluginRef, Trust};
use stagewright_process::sandbox::ToolMount;
use tokio::sync::watch;

use crate::capability::process::program_environment;
use crate::confine::{StageOwner, tools};
use crate::limits::AttemptBounds;
use crate::log::AttemptLog;
use crate::plugin::{Description, PluginError, Requirement};
use crate::report;
use crate::reserved::Reserved;
use crate::runtime::PluginRuntime;
use crate::stop::AttemptTimer;

mod component;
mod config;
mod native;
mod scope;

pub use config::{HostConfig, HostError};
pub(crate) use scope::RunScope;

/// Runs the stages of one run, or of several on the same workspace with the same configuration. Everything that doesn't
/// depend on the run is the runtime's, which any number of hosts share. Cheap to clone.
#[derive(Clone)]
pub struct PluginHost {
    runtime: PluginRuntime,
    scope: Arc<RunScope>,
    owner: Arc<StageOwner>,
}

impl PluginHost {
    /// Opens the workspace.
    ///
    /// # Errors
    /// When that fails.
    pub fn new(runtime: &PluginRuntime, config: HostConfig) -> Result<PluginHost, HostError> {
        let scope = Arc::new(RunScope::open(config)?);
        Ok(PluginHost { runtime: runtime.clone(), scope, owner: Arc::default() })
    }

    /// The same host for the stages of one pipeline file in one trust tier: their download caches are shared with no other
    /// owner. A host without an owner has the default one.
    #[must_use]
    pub fn owned_by(&self, owner: StageOwner) -> PluginHost {
        PluginHost { owner: Arc::new(owner), ..self.clone() }
    }

    /// Describes a plugin. Calls the component's `describe`, with every import trapping. For a native library, calls its
    /// `describe` with the engine's full powers, after checking its digest.
    pub async fn describe(&self, uses: &PluginRef, trust: &Trust) -> Result<Description, PluginError> {
        self.runtime.describe(uses, trust, self.scope.config.plugin_source()).await
    }

    /// The toolchains of the granted programs: what is mounted into their sandbox beyond the system's files and the
    /// stage's grants. `variables`: the stage's `env`.
    pub fn tools(&self, permissions: &Permissions, variables: &BTreeMap<String, String>) -> Vec<ToolMount> {
        let HostConfig { environment: inherited, workspace, .. } = &self.scope.config;
        let environment = program_environment(inherited, &permissions.env, variables);
        tools(&permissions.process, &environment, inherited, workspace)
    }

    /// The problems that the plugin finds in a `with` table.
    ///
    /// Strings with `${{ }}` have no value yet, and the plugin sees them as they are written. Its problems with such a
    /// string, or with a table or list that contains one, are left out: the plugin reports them when the stage runs.
    /// Native libraries don't validate.
    pub async fn validate(
        &self,
        uses: &PluginRef,
        trust: &Trust,
        config: &JsonTemplate,
    ) -> Result<Vec<Problem>, PluginError> {
        match trust {
            Trust::Native { .. } => Ok(Vec::new()),
            Trust::Component => {
                let mut found = self.runtime.validate(uses, config.source(), self.scope.config.plugin_source()).await?;
                found.retain(|problem| !problem.path.as_deref().is_some_and(|path| config.is_open_at(path)));
                Ok(found)
            }
        }
    }

    /// The grants that the plugin says a stage with this `with` table will use; empty if it doesn't say. Strings with
    /// `${{ }}` have no value yet, and the plugin sees them as they are written, so that they can be in entries.
    pub async fn requirements(
        &self,
        uses: &PluginRef,
        trust: &Trust,
        config: &JsonTemplate,
    ) -> Result<Vec<Requirement>, PluginError> {
        match trust {
            Trust::Native { .. } => Ok(Vec::new()),
            Trust::Component => {
                self.runtime.requirements(uses, config.source(), self.scope.config.plugin_source()).await
            }
        }
    }

    /// The paths that no grant of this host opens.
    pub fn reserved(&self) -> &Reserved {
        &self.scope.config.reserved
    }

    /// The runtime that this host uses.
    pub fn runtime(&self) -> &PluginRuntime {
        &self.runtime
    }

    async fn attempt(
        &self,
        mut request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> AttemptReport {
        let mut timer = AttemptTimer::new(interrupt, self.scope.config.grace);
        let (bounds, masker) = (AttemptBounds::of(&request), self.scope.masker());
        let log = AttemptLog::new(output, masker.clone(), timer.aborter.clone(), bounds.log).bounded(bounds.log_lines);
        if let Some(learning) = &self.scope.config.learning {
            request.folder = Some(learning.files.clone());
        }
        let report = match request.trust.clone() {
            Trust::Component => self.run_component(request, &mut timer, log).await,
            Trust::Native { digest } => self.run_native(request, &digest, &mut timer, log).await,
        };
        report::masked(report, &masker)
    }
}

impl StageRunner for PluginHost {
    fn run(
        &self,
        request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> BoxFuture<'static, AttemptReport> {
        let host = self.clone();
        Box::pin(async move { host.attempt(request, output, interrupt).await })
    }
}

/// The error for a plugin whose digest differs from the one that the run was started with; none when it is the same.
fn plugin_changed(request: &AttemptRequest, found: &str) -> Option<PluginError> {
    let AttemptRequest { run, uses, .. } = request;
    let expected = request.plugin.as_ref().filter(|expected| *expected != found)?;
    let message = format!("the file of plugin `{uses}` changed since the run started, from {expected} to {found}");
    let help = format!("restore the file, or accept the change: `stagewright resume {run} --accept-changes`");
    Some(PluginError::new(message).with_help(help))
}

/// The end of an attempt that calls a function which the plugin doesn't export; none for `run`, which every plugin exports.
fn end_without_export(request: &AttemptRequest) -> Option<AttemptEnd> {
    let uses = &request.uses;
    match request.call {
        Call::Run => None,
        Call::Observe => {
            let why = format!("the plugin `{uses}` can't observe its effects: it doesn't export `reconcile`");
            Some(AttemptEnd::Observed(Observation::Unknown(why)))
        }
        Call::Undo => {
            Some(incapable(format!("the plugin `{uses}` can't undo its effects: it doesn't export `reconcile`")))
        }
        Call::Compare => Some(incapable(format!(
            "the plugin `{uses}` can't compare its releases with what is in place: it doesn't export `drift`"
        ))),
    }
}

fn incapable(message: String) -> AttemptEnd {
    AttemptEnd::Unsuccessful(Outcome::Errored, Failure::new(FailureKind::Reported, message, false))
}

/// The report of an attempt that ended before its plugin could produce anything.
fn without_outputs(end: AttemptEnd) -> AttemptReport {
    AttemptReport {
        end,
        outputs: BTreeMap::new(),
        artifacts: Vec::new(),
        release: None,
        made: None,
        read_history: false,
    }
}
