//! Calls of a guest's exports.

use stagewright_engine::{Call, Finding, Observation, Problem, Wait};
use wasmtime::Store;
use wasmtime::component::InstancePre;

use super::exports::stagewright::stage::plugin::{Outcome, Suspension as WitSuspension};
use super::outputs::config_problem;
use super::reconciling::ReconcilingPre;
use super::reconciling::exports::stagewright::stage::reconcile::Observation as WitObservation;
use super::{Stage, StagePre};
use crate::attempt::Attempt;
use crate::error::CapabilityError;
use crate::guest::{GuestResult, GuestReturn, Suspension};
use crate::inspection::Inspection;

/// A component that is ready to be instantiated for attempts.
pub(crate) struct GuestSince01 {
    stage: StagePre<Attempt>,
    reconcile: Option<ReconcilingPre<Attempt>>,
}

impl GuestSince01 {
    /// `reconciles`: whether it exports `reconcile`.
    pub(crate) fn new(ready: InstancePre<Attempt>, reconciles: bool) -> wasmtime::Result<GuestSince01> {
        let reconcile = reconciles.then(|| ReconcilingPre::new(ready.clone())).transpose()?;
        Ok(GuestSince01 { stage: StagePre::new(ready)?, reconcile })
    }

    /// Instantiates it and calls a function. All but [`Call::Run`] require `reconcile`.
    pub(crate) async fn call(&self, call: Call, store: &mut Store<Attempt>) -> GuestResult {
        if call == Call::Run {
            let stage = self.stage.instantiate_async(&mut *store).await?;
            return Ok(match stage.stagewright_stage_plugin().call_run(&mut *store).await? {
                Ok(Outcome::Succeeded) => Ok(GuestReturn::Done),
                Ok(Outcome::Skipped(reason)) => Ok(GuestReturn::Skipped(reason)),
                Ok(Outcome::Suspended(wait)) => Ok(GuestReturn::Suspended(suspension(wait, store.data_mut()))),
                Err(error) => Err(error.into()),
            });
        }
        let Some(reconcile) = &self.reconcile else { wasmtime::bail!("the plugin doesn't export `reconcile`") };
        let plugin = reconcile.instantiate_async(&mut *store).await?;
        let reconcile = plugin.stagewright_stage_reconcile();
        let returned = match call {
            Call::Observe => reconcile.call_observe(store).await?.map(|seen| GuestReturn::Observed(observation(seen))),
            Call::Undo => reconcile.call_undo(store).await?.map(|()| GuestReturn::Done),
            Call::Run | Call::Compare => wasmtime::bail!("`reconcile` has no such function"),
        };
        Ok(returned.map_err(CapabilityError::from))
    }
}

/// What the plugin waits for: the gate that it opened under this token, or else a time or a signal.
fn suspension(wait: WitSuspension, attempt: &mut Attempt) -> Suspension {
    let WitSuspension { token, reason, poll_after_ms } = wait;
    match attempt.gates.take(&token) {
        Some(gate) => Suspension::Gate(Box::new(gate)),
        None => {
            let poll_after = poll_after_ms.map(|delay| std::time::Duration::from_millis(delay.into()));
            Suspension::Wait(Wait { token, reason, poll_after, expires: None })
        }
    }
}

fn observation(observation: WitObservation) -> Observation {
    match observation {
        WitObservation::NotStarted => Observation::Found(Finding::NotStarted),
        WitObservation::InProgress => Observation::InProgress,
        WitObservation::Applied(what) => Observation::Found(Finding::Applied(what)),
        WitObservation::Failed(why) => Observation::Found(Finding::Failed(why)),
        WitObservation::Unknown(why) => Observation::Unknown(why),
    }
}

/// An instance for `describe` and `validate`.
pub(crate) struct InspectedSince01(Stage);

impl InspectedSince01 {
    pub(crate) async fn new(
        ready: InstancePre<Inspection>,
        store: &mut Store<Inspection>,
    ) -> wasmtime::Result<InspectedSince01> {
        Ok(InspectedSince01(StagePre::new(ready)?.instantiate_async(store).await?))
    }

    pub(crate) async fn describe(&self, store: &mut Store<Inspection>) -> wasmtime::Result<String> {
        self.0.stagewright_stage_plugin().call_describe(store).await
    }

    pub(crate) async fn validate(&self, store: &mut Store<Inspection>) -> wasmtime::Result<Vec<Problem>> {
        let found = self.0.stagewright_stage_plugin().call_validate(store).await?;
        Ok(found.into_iter().map(config_problem).collect())
    }
}
