//! Compares an environment's current release with what is in place on its target.
//!
//! The plugin that deployed the release is asked, with the grants of the run that did. No run is recorded: nothing may change.

use std::collections::{BTreeMap, BTreeSet};

use stagewright_engine::{AttemptEnd, AttemptOutput, AttemptRequest, Basis, Call, Drift, EnvironmentView, Failure};
use stagewright_model::Plan;
use stagewright_store::ReleaseRow;
use tokio::sync::{mpsc, watch};

use crate::clock::SystemClock;
use crate::error::SessionError;
use crate::host::Host;
use crate::load::Pipeline;
use crate::mode::RunMode;
use crate::preflight::{admit, check};
use crate::rollback::pipeline_of;
use crate::session::Session;

/// The most messages of the plugin that wait to be dropped.
const MESSAGES: usize = 64;

impl Session {
    /// How what is in place on an environment's target differs from the environment's current release.
    ///
    /// # Errors
    /// If the environment has no release, if the run that deployed it has been removed, if its plugin can't compare, or if
    /// the target can't be asked.
    pub async fn compare_live(&self, environment: &str) -> Result<Vec<Drift>, SessionError> {
        let row = self.current_release(environment)?;
        let (_, Pipeline { file, mut plan }) = pipeline_of(self, &row)?;
        let host = Host::open(self, &plan, 1, RunMode::Real, None).await?;
        admit(self, &host, &file, &mut plan, false).await?;
        let others = plan.indices().filter(|index| *index != row.stage);
        let left_out: BTreeMap<_, _> = others.map(|index| (index, String::new())).collect();
        check(self, &host, &file, &plan, &left_out).await?;
        let (deliveries, mut dropped) = mpsc::channel(MESSAGES);
        let output = AttemptOutput::new(row.stage, row.attempt, deliveries);
        // An effect that is requested nevertheless is refused, because its request isn't answered.
        let listening = tokio::spawn(async move { while dropped.recv().await.is_some() {} });
        let (_running, interrupt) = watch::channel(None);
        let report = host.uncached().run(request(&plan, &row), output, interrupt).await;
        listening.abort();
        match report.end {
            AttemptEnd::Compared(differences) => Ok(differences),
            AttemptEnd::Unsuccessful(_, failure) => Err(refused(environment, failure)),
            _ => Err(SessionError::internal(format!("the plugin of {environment} didn't compare its release"))),
        }
    }

    fn current_release(&self, environment: &str) -> Result<ReleaseRow, SessionError> {
        let store = self.store()?;
        let rows = store.lock().environments(false, SystemClock::timestamp())?;
        let current = rows.into_iter().find(|row| row.name == environment).and_then(|row| row.current);
        current.ok_or_else(|| {
            SessionError::not_ready(format!("nothing is deployed to {environment}, as far as the ledger knows"))
                .hint("list the environments with `stagewright env list`")
        })
    }
}

fn request(plan: &Plan, row: &ReleaseRow) -> AttemptRequest {
    let stage = plan.stage(row.stage);
    let settings = plan.environments.get(&row.release.environment);
    AttemptRequest {
        run: row.run.clone(),
        pipeline: plan.name.clone(),
        stage: row.stage,
        stage_id: stage.id.clone(),
        table: format!("stages.{}", stage.name),
        attempt: row.attempt,
        call: Call::Compare,
        uses: stage.uses.clone(),
        trust: stage.trust.clone(),
        plugin: None,
        config: row.release.config.clone(),
        env: BTreeMap::new(),
        permissions: stage.permissions.as_ref().clone(),
        environment: Some(EnvironmentView {
            name: row.release.environment.clone(),
            target: settings.and_then(|settings| settings.target.clone()).unwrap_or_default(),
            url: settings.and_then(|settings| settings.url.clone()),
            config: settings.map(|settings| settings.config.clone()).unwrap_or_default(),
            protected: settings.is_some_and(|settings| settings.protected),
            fence: Some(row.release.fence),
            current: Some(row.release.clone()),
            standing: None,
            last_known_good: None,
            restored: Some(Box::new(row.release.clone())),
        }),
        needs: Vec::new(),
        before: BTreeSet::new(),
        source: None,
        timeout: stage.timeout,
        memory: stage.memory,
        log_limit: stage.log_limit,
        limits: stage.limits,
        declared: None,
        cache: None,
        failed_tests: None,
        resumption: None,
        rollout: None,
        rehearsal: None,
        basis: Basis::default(),
        folder: None,
    }
}

fn refused(environment: &str, failure: Failure) -> SessionError {
    let Failure { message, causes, help, .. } = failure;
    let mut error = SessionError::not_ready(format!("can't compare {environment} with its release: {message}"));
    error.causes = causes;
    error.hints.extend(help);
    error
}
