//! The common ground from which the capabilities of an attempt are built.

use std::path::PathBuf;
use std::sync::Arc;

use stagewright_engine::AttemptRequest;
use stagewright_model::{Permissions, Reaches};
use tokio::time::Instant;

use crate::capability::effects::Effects;
use crate::capability::workspace::WorkspaceFiles;
use crate::confine::{SandboxConfig, StageOwner};
use crate::denial::Denials;
use crate::error::CapabilityError;
use crate::host::{HostConfig, RunScope};
use crate::learner::Learner;
use crate::limits::AttemptBounds;
use crate::log::AttemptLog;
use crate::net::OwnOrigins;
use crate::net::outbound::Outbound;
use crate::policy::{Policy, PolicyUser};
use crate::rehearsal::{Rehearsal, RehearsalParts};
use crate::reserved::Reservations;
use crate::stop::{AttemptAborter, AttemptTimer, Cancel};

/// What an attempt uses of its host.
#[derive(Clone, Copy)]
pub(crate) struct AttemptHost<'a> {
    /// The state of the run.
    pub(crate) scope: &'a RunScope,
    /// The connections that all runs share.
    pub(crate) outbound: &'a Outbound,
    /// The pipeline file and trust tier that own the stage's download caches.
    pub(crate) owner: &'a Arc<StageOwner>,
}

/// One attempt before its guest is instantiated. Each capability copies what it needs in its `for_attempt`; whatever
/// several capabilities share is built here once.
pub(crate) struct AttemptContext<'a> {
    pub(crate) host: AttemptHost<'a>,
    pub(crate) request: Arc<AttemptRequest>,
    /// The stage's grants, as they hold for its plugin.
    pub(crate) policy: Arc<Policy>,
    /// The stage's grants, as they hold for its programs: fewer in a rehearsal.
    pub(crate) program_policy: Arc<Policy>,
    pub(crate) rehearsal: Rehearsal,
    pub(crate) bounds: AttemptBounds,
    /// The folder of [`Self::workspace`]: the run's workspace, or a capture of it.
    pub(crate) files: PathBuf,
    pub(crate) workspace: WorkspaceFiles,
    pub(crate) log: AttemptLog,
    pub(crate) effects: Effects,
    pub(crate) denials: Denials,
    /// Notes what the attempt uses; none unless the run learns.
    pub(crate) learner: Option<Learner>,
    /// Origins of services that the attempt itself starts, which it may call without a grant.
    pub(crate) own_origins: OwnOrigins,
    pub(crate) cancel: Cancel,
    pub(crate) aborter: AttemptAborter,
    pub(crate) deadline: Option<Instant>,
}

impl<'a> AttemptContext<'a> {
    /// Opens the folder of the attempt's files. `reserved`: the paths that no grant of the attempt opens.
    pub(crate) fn new(
        host: AttemptHost<'a>,
        request: Arc<AttemptRequest>,
        timer: &AttemptTimer,
        log: AttemptLog,
        reserved: &Arc<Reservations>,
    ) -> Result<AttemptContext<'a>, CapabilityError> {
        let bounds = AttemptBounds::of(&request);
        let learner = host.scope.config.learning.clone().map(Learner::new);
        let [policy, program_policy] = policies(&request, &host.scope.config, reserved, learner.as_ref());
        let (files, root) = host.scope.files(&request)?;
        Ok(AttemptContext {
            rehearsal: rehearsal(&request, &host.scope.config, timer, &log),
            workspace: WorkspaceFiles::new(root, policy.clone(), bounds.memory).bounded(bounds.workspace),
            effects: Effects::new(log.output().clone(), log.masker().clone(), request.call),
            denials: Denials::default(),
            learner,
            own_origins: OwnOrigins::default(),
            cancel: timer.cancel.clone(),
            aborter: timer.aborter.clone(),
            deadline: timer.deadline.map(|(deadline, _)| deadline),
            host,
            request,
            policy,
            program_policy,
            bounds,
            files,
            log,
        })
    }

    /// The run's configuration.
    pub(crate) fn config(&self) -> &'a HostConfig {
        &self.host.scope.config
    }

    /// The configuration of the sandbox; none when programs run without one. In a rehearsal, they never do because of the
    /// stage.
    pub(crate) fn sandbox(&self) -> Option<&'a SandboxConfig> {
        let is_off = self.request.permissions.unsandboxed && self.request.rehearsal.is_none();
        self.config().sandbox.as_ref().filter(|_| !is_off)
    }

    /// The name of the environment that the stage acts on.
    pub(crate) fn environment(&self) -> Option<&str> {
        self.request.environment.as_ref().map(|environment| environment.name.as_str())
    }

    /// Whether a program of the stage can have effects beyond the stage.
    pub(crate) fn programs_reach_out(&self) -> bool {
        let reach_out = |granted: &Permissions| !Reaches::of_programs(self.environment(), granted).all.is_empty();
        match &self.request.rehearsal {
            None => reach_out(&self.request.permissions),
            Some(terms) => reach_out(&terms.requestable(&self.request.permissions)),
        }
    }
}

/// The policy for the plugin, and the one for its programs.
fn policies(
    request: &AttemptRequest,
    config: &HostConfig,
    reserved: &Arc<Reservations>,
    learner: Option<&Learner>,
) -> [Arc<Policy>; 2] {
    let policy_of = |granted: &Permissions, user: PolicyUser| {
        let policy = Policy::new(&request.table, granted, &config.package_hosts, Arc::clone(reserved));
        Arc::new(policy.reading_only(request.declared.as_deref()).observed(learner.cloned(), user))
    };
    match &request.rehearsal {
        None => {
            let policy = policy_of(&request.permissions, PolicyUser::Plugin);
            [policy.clone(), policy]
        }
        Some(terms) => {
            let of_programs = terms.of_programs(&request.permissions);
            [
                policy_of(&terms.requestable(&request.permissions), PolicyUser::Plugin),
                policy_of(&of_programs, PolicyUser::Programs),
            ]
        }
    }
}

fn rehearsal(request: &AttemptRequest, config: &HostConfig, timer: &AttemptTimer, log: &AttemptLog) -> Rehearsal {
    let Some(terms) = &request.rehearsal else { return Rehearsal::none() };
    Rehearsal::new(RehearsalParts {
        run: &request.run,
        terms,
        table: &request.table,
        environment: request.environment.as_ref().map(|environment| environment.name.as_str()),
        own: &request.permissions,
        package_hosts: &config.package_hosts,
        services: config.services.clone(),
        aborter: timer.aborter.clone(),
        log: log.clone(),
    })
}
