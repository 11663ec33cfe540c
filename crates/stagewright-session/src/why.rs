//! What happened to a stage in a run, and why: the record of one stage in one place.

use std::sync::Arc;

use stagewright_engine::{Event, EventKind, Failure, Outcome, Problem, RunId, StageSummary};
use stagewright_model::{Permissions, Plan, SecretDeclaration, SecretUse, StageIndex};
use stagewright_plugin_host::DENIED;

use crate::error::SessionError;
use crate::explain::{CacheDecision, RecordedRun, decision, recorded, stages_named};
use crate::session::Session;

/// Stages of a run, with all that explains their results.
#[derive(Debug)]
pub struct RunAccount {
    /// The run.
    pub run: RunId,
    /// Whether effects acted on stand-ins.
    pub rehearsal: bool,
    /// The stages. The cells of a matrix share a name, so there can be several.
    pub stages: Vec<StageAccount>,
}

/// What happened to a stage, and why.
#[derive(Debug)]
pub struct StageAccount {
    /// The stage.
    pub summary: Arc<StageSummary>,
    /// Why it ran, or came from the cache.
    pub decision: CacheDecision,
    /// What the run's pipeline file grants it; none if the file is invalid in this version.
    pub granted: Option<Arc<Permissions>>,
    /// The secrets among its grants that the file declares, in the order of the grants.
    pub secrets: Vec<SecretAccount>,
    /// The attempts that were started.
    pub attempts: u32,
    /// What its attempts announced to do beyond this machine, in order.
    pub effects: Vec<String>,
    /// What it was refused, in all of its attempts.
    pub refused: Vec<Problem>,
    /// None if it hasn't ended.
    pub end: Option<StageEnd>,
}

/// A secret that a stage may use.
#[derive(Debug)]
pub struct SecretAccount {
    /// Its key in `[secrets]`.
    pub name: String,
    /// Where it may go.
    pub declared: SecretDeclaration,
    /// How the stage may use it.
    pub uses: Vec<SecretUse>,
}

/// How a stage ended.
#[derive(Debug)]
pub struct StageEnd {
    /// The result.
    pub outcome: Outcome,
    /// Why it never started.
    pub reason: Option<String>,
    /// Why its last attempt failed.
    pub failure: Option<Failure>,
}

impl Session {
    /// Explains the stages with a name, or the one with an id. `run` is its id, a unique prefix of its id, or `latest`.
    ///
    /// # Errors
    /// If the run doesn't exist or has no such stage.
    pub fn why(&self, run: &str, stage: &str) -> Result<RunAccount, SessionError> {
        let RecordedRun { run, events, plan } = recorded(self, run)?;
        let accounts = stages_named(&run, &events, stage)?.into_iter().map(|(index, summary)| {
            let decision = decision(self, &events, index, &summary, plan.as_ref());
            account(&events, index, summary, decision, plan.as_ref())
        });
        let rehearsal = events.iter().any(|event| matches!(event.kind, EventKind::RunStarted { rehearsal: true, .. }));
        Ok(RunAccount { run, rehearsal, stages: accounts.collect() })
    }
}

fn account(
    events: &[Event],
    index: StageIndex,
    summary: Arc<StageSummary>,
    decision: CacheDecision,
    plan: Option<&Plan>,
) -> StageAccount {
    let declared = plan.and_then(|plan| Some((plan, plan.stages.get(index.get())?)));
    let secrets = declared.map(|(plan, stage)| secrets(plan, &stage.permissions)).unwrap_or_default();
    let mut account = StageAccount {
        summary,
        decision,
        granted: declared.map(|(_, stage)| Arc::clone(&stage.permissions)),
        secrets,
        attempts: 0,
        effects: Vec::new(),
        refused: Vec::new(),
        end: None,
    };
    let mut last_failure = None;
    for event in events {
        match &event.kind {
            EventKind::AttemptStarted { stage, attempt, .. } if *stage == index => {
                account.attempts = *attempt;
                account.end = None;
            }
            EventKind::EffectIntended { stage, what, .. } if *stage == index => account.effects.push(what.clone()),
            EventKind::Problem { stage, problem } if *stage == index && problem.code == DENIED => {
                account.refused.push(problem.clone());
            }
            EventKind::AttemptEnded { stage, failure, .. } if *stage == index => last_failure.clone_from(failure),
            EventKind::StageEnded { stage, outcome, reason, .. } if *stage == index => {
                let (reason, failure) = (reason.clone(), last_failure.clone());
                account.end = Some(StageEnd { outcome: *outcome, reason, failure });
            }
            _ => {}
        }
    }
    account
}

fn secrets(plan: &Plan, granted: &Permissions) -> Vec<SecretAccount> {
    let mut found = Vec::<SecretAccount>::new();
    for rule in &granted.secrets {
        let Some(declared) = plan.secrets.get(rule.name()) else { continue };
        let uses = SecretUse::ALL.into_iter().filter(|&usage| rule.allows(usage));
        match found.iter_mut().find(|secret| secret.name == rule.name()) {
            Some(secret) => secret.uses.extend(uses),
            None => found.push(SecretAccount {
                name: rule.name().to_owned(),
                declared: declared.clone(),
                uses: uses.collect(),
            }),
        }
    }
    for secret in &mut found {
        secret.uses.sort_unstable();
        secret.uses.dedup();
    }
    found
}
