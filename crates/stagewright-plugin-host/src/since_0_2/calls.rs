//! Calls of a guest's exports.

use stagewright_engine::{Call, Problem};
use wasmtime::Store;
use wasmtime::component::{InstancePre, Resource};

use super::optional::comparing::ComparingPre;
use super::optional::reconciling::ReconcilingPre;
use super::optional::requiring::Requiring;
use super::{Stage, StagePre};
use crate::attempt::Attempt;
use crate::contract::ContractUse;
use crate::error::CapabilityError;
use crate::guest::{GuestResult, GuestReturn};
use crate::inspection::Inspection;
use crate::plugin::Requirement;

/// A component that is ready to be instantiated for attempts.
pub(crate) struct GuestSince02 {
    stage: StagePre<Attempt>,
    reconcile: Option<ReconcilingPre<Attempt>>,
    drift: Option<ComparingPre<Attempt>>,
}

impl GuestSince02 {
    /// Prepares it for the functions that it exports.
    pub(crate) fn new(ready: InstancePre<Attempt>, contract: &ContractUse) -> wasmtime::Result<GuestSince02> {
        let reconcile = contract.reconciles().then(|| ReconcilingPre::new(ready.clone())).transpose()?;
        let drift = contract.compares().then(|| ComparingPre::new(ready.clone())).transpose()?;
        Ok(GuestSince02 { stage: StagePre::new(ready)?, reconcile, drift })
    }

    /// Instantiates it and calls a function, which it must export.
    pub(crate) async fn call(&self, call: Call, store: &mut Store<Attempt>) -> GuestResult {
        match call {
            Call::Run => self.run(store).await,
            Call::Observe => self.observe(store).await,
            Call::Undo => self.undo(store).await,
            Call::Compare => self.compare(store).await,
        }
    }

    async fn run(&self, store: &mut Store<Attempt>) -> GuestResult {
        let stage = self.stage.instantiate_async(&mut *store).await?;
        Ok(match stage.stagewright_stage_plugin().call_run(&mut *store).await? {
            Ok(outcome) => Ok(store.data_mut().handles.delete(outcome)?),
            Err(error) => Err(taken(error, store)?),
        })
    }

    async fn observe(&self, store: &mut Store<Attempt>) -> GuestResult {
        let plugin = exported(self.reconcile.as_ref(), "reconcile")?.instantiate_async(&mut *store).await?;
        Ok(match plugin.stagewright_stage_reconcile().call_observe(&mut *store).await? {
            Ok(observation) => Ok(GuestReturn::Observed(store.data_mut().handles.delete(observation)?)),
            Err(error) => Err(taken(error, store)?),
        })
    }

    async fn undo(&self, store: &mut Store<Attempt>) -> GuestResult {
        let plugin = exported(self.reconcile.as_ref(), "reconcile")?.instantiate_async(&mut *store).await?;
        Ok(match plugin.stagewright_stage_reconcile().call_undo(&mut *store).await? {
            Ok(outcome) => match store.data_mut().handles.delete(outcome)? {
                GuestReturn::Suspended(_) => wasmtime::bail!("`undo` returned `suspended`, but can't wait"),
                outcome => Ok(outcome),
            },
            Err(error) => Err(taken(error, store)?),
        })
    }

    async fn compare(&self, store: &mut Store<Attempt>) -> GuestResult {
        let plugin = exported(self.drift.as_ref(), "drift")?.instantiate_async(&mut *store).await?;
        Ok(match plugin.stagewright_stage_drift().call_compare(&mut *store).await? {
            Ok(differences) => match serde_json::from_str(&differences) {
                Ok(differences) => Ok(GuestReturn::Compared(differences)),
                Err(error) => wasmtime::bail!("`compare` returned no list of differences: {error}"),
            },
            Err(error) => Err(taken(error, store)?),
        })
    }
}

fn exported<'a, T>(export: Option<&'a T>, name: &str) -> wasmtime::Result<&'a T> {
    export.ok_or_else(|| wasmtime::format_err!("the plugin doesn't export `{name}`"))
}

fn taken(error: Resource<CapabilityError>, store: &mut Store<Attempt>) -> wasmtime::Result<CapabilityError> {
    Ok(store.data_mut().handles.delete(error)?)
}

/// An instance for the functions that only compute a result.
pub(crate) struct InspectedSince02 {
    stage: Stage,
    requiring: Option<Requiring>,
}

impl InspectedSince02 {
    /// `requires`: whether it exports `requirements`.
    pub(crate) async fn new(
        ready: InstancePre<Inspection>,
        requires: bool,
        store: &mut Store<Inspection>,
    ) -> wasmtime::Result<InspectedSince02> {
        let instance = ready.instantiate_async(&mut *store).await?;
        let requiring = requires.then(|| Requiring::new(&mut *store, &instance)).transpose()?;
        Ok(InspectedSince02 { stage: Stage::new(store, &instance)?, requiring })
    }

    pub(crate) async fn describe(&self, store: &mut Store<Inspection>) -> wasmtime::Result<String> {
        self.stage.stagewright_stage_plugin().call_describe(store).await
    }

    pub(crate) async fn validate(&self, store: &mut Store<Inspection>) -> wasmtime::Result<Vec<Problem>> {
        let found = self.stage.stagewright_stage_plugin().call_validate(&mut *store).await?;
        found.into_iter().map(|problem| Ok(store.data_mut().handles.delete(problem)?)).collect()
    }

    /// Empty if the plugin doesn't export it.
    pub(crate) async fn requirements(&self, store: &mut Store<Inspection>) -> wasmtime::Result<Vec<Requirement>> {
        let Some(requiring) = &self.requiring else { return Ok(Vec::new()) };
        let found = requiring.stagewright_stage_requirements().call_requirements(&mut *store).await?;
        found.into_iter().map(|requirement| Ok(store.data_mut().handles.delete(requirement)?)).collect()
    }
}
