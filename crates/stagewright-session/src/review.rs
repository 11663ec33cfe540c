//! What a person should review of a pipeline before it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use stagewright_cache::kept_from_caching;
use stagewright_engine::EffectClass;
use stagewright_model::{CacheUse, Diagnostic, Plan, Stage, StageIndex};
use stagewright_plugin_host::{DEFAULT_BOUNDS, Description, PackageHosts};
use stagewright_process::sandbox::{Missing, ToolMount};

use crate::deploy_changes::{self, DeployChanges};
use crate::error::SessionError;
use crate::hard_links;
use crate::host::Host;
use crate::load::{self, Pipeline};
use crate::lock_file::{self, Compared};
use crate::missing::{self, LackedGrant, StageLacks};
use crate::mode::RunMode;
use crate::packages;
use crate::policy;
use crate::preflight::{ADD_GRANTS, lacking_permissions, refuse_open_code};
use crate::repository::PipelineFile;
use crate::session::Session;

/// A pipeline as it would run on this machine, with information for reviewers.
pub struct Review {
    /// The file.
    pub file: PipelineFile,
    /// The plan, limited by the policy.
    pub plan: Plan,
    /// The values of its inputs.
    pub inputs: BTreeMap<String, Json>,
    /// All pipelines of the repository, relative to its root.
    pub pipelines: Vec<String>,
    /// Every stage's plugin, by plan index.
    pub described: Vec<Arc<Description>>,
    /// The comparison with the lock file.
    pub compared: Compared,
    /// What the policy forbids.
    pub beyond: Vec<Diagnostic>,
    deploys: BTreeMap<StageIndex, DeployChanges>,
    lacking: Vec<StageLacks>,
    policy: Option<String>,
    hard_links: hard_links::Remarks,
    host: Host,
}

impl Session {
    /// Examines a pipeline with its plugins on this machine. `given` are values of inputs, as text.
    ///
    /// # Errors
    /// If an input, a plugin, the lock file or the policy is invalid. What the policy or the package hosts forbid isn't
    /// an error here; see [`Review::refuse`].
    pub async fn review(&self, pipeline: Pipeline, given: &BTreeMap<String, String>) -> Result<Review, SessionError> {
        let Pipeline { file, mut plan } = pipeline;
        let inputs = load::inputs(&plan, given)?;
        let host = Host::open(self, &plan, 1, RunMode::Real, None).await?;
        let described = host.describe_all(&plan).await?;
        refuse_open_code(self, &file, &plan, &described)?;
        let compared = lock_file::compare(lock_file::read(self)?.as_ref(), &plan, &described, host.packages());
        let policy = policy::read(self)?;
        let checked = policy.as_ref().map(|policy| packages::beyond(policy, &plan, &file, &described, host.packages()));
        let beyond: Vec<Diagnostic> = checked.unwrap_or_default();
        if let Some(policy) = &policy {
            policy.impose(&mut plan, &DEFAULT_BOUNDS);
        }
        let lacking = missing::grants(&plan, host.packages(), &host.requirements(&plan).await?);
        let hard_links = hard_links::remarks(&self.repository, &plan);
        let pipelines = self.repository.pipelines();
        let pipelines = pipelines.iter().filter_map(|path| path.strip_prefix(&self.repository.root).ok());
        let pipelines = pipelines.map(|path| path.display().to_string()).collect();
        let policy = policy.map(|policy| policy.file);
        let deploys = deploy_changes::of(self, &plan)?;
        Ok(Review {
            file,
            plan,
            inputs,
            pipelines,
            described,
            compared,
            beyond,
            deploys,
            lacking,
            policy,
            hard_links,
            host,
        })
    }
}

impl Review {
    /// The origins that the keywords of `net` stand for.
    pub fn packages(&self) -> &PackageHosts {
        self.host.packages()
    }

    /// Why programs run without a sandbox; none if they don't.
    pub fn unsandboxed(&self) -> Option<&Missing> {
        self.host.unsandboxed()
    }

    /// The files of the machine that a stage's programs use beyond its grants.
    pub fn tools(&self, stage: &Stage) -> Vec<ToolMount> {
        self.host.tools(stage)
    }

    /// Remarks for reviewers on a stage's package hosts, on the files that it may write, and on those that no grant shows.
    pub fn notes(&self, stage: &Stage) -> Vec<String> {
        let mut notes = packages::notes(stage, self.host.packages());
        notes.extend(self.host.secrets().hidden_from(stage));
        notes.extend(self.hard_links.of(&stage.permissions.write).map(str::to_owned));
        notes
    }

    /// What a stage would change of the current release of its environment, if it has deployed that.
    pub fn deploy_changes(&self, stage: &Stage) -> Option<&DeployChanges> {
        self.deploys.iter().find(|(index, _)| self.plan.stage(**index).id == stage.id).map(|(_, changes)| changes)
    }

    /// The grants that a stage lacks, for all cells of a matrix together.
    pub fn lacks(&self, stage: &Stage) -> &[LackedGrant] {
        let lacks = self.lacking.iter().find(|lacks| self.plan.stage(lacks.stage).name == stage.name);
        lacks.map(|lacks| lacks.grants.as_slice()).unwrap_or_default()
    }

    /// Whether a stage's result can come from the cache in a run of this mode.
    pub fn is_cached(&self, stage: &Stage, description: &Description, mode: RunMode) -> bool {
        stage.cache != CacheUse::Never
            && mode.effect_class(stage, description) < EffectClass::External
            && kept_from_caching(&stage.permissions.writable()).is_none()
    }

    /// Refuses a pipeline that wouldn't run on this machine.
    ///
    /// # Errors
    /// If it requests more than the policy allows, if a stage lacks grants that its plugin will use, or if a keyword of
    /// `net` would have to stand for an origin that it can't stand for.
    pub fn refuse(&self, session: &Session) -> Result<(), SessionError> {
        match &self.policy {
            Some(policy) if !self.beyond.is_empty() => {
                session.notices.diagnostics(&self.beyond.iter().collect::<Vec<_>>());
                Err(SessionError::not_ready(format!(
                    "{} asks for more than the policy {policy} allows: it won't run here",
                    self.file.name
                )))
            }
            _ => packages::refuse_closed(&self.plan, self.host.packages()),
        }?;
        match self.lacking.iter().filter(|lacks| lacks.required().next().is_some()).count() {
            0 => Ok(()),
            stages => {
                let lacking = lacking_permissions(stages);
                Err(SessionError::not_ready(format!("{}: {lacking}; it won't run", self.file.name)).hint(ADD_GRANTS))
            }
        }
    }
}
