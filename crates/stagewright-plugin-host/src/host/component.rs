//! Attempts whose plugin is a component.

use std::sync::Arc;

use stagewright_engine::{AttemptEnd, AttemptReport, AttemptRequest, Call};
use tokio::sync::OwnedSemaphorePermit;

use super::{PluginHost, end_without_export, plugin_changed, without_outputs};
use crate::attempt::{Attempt, AttemptContext, AttemptHost};
use crate::log::AttemptLog;
use crate::outcome::{outcome_from_bad_plugin, outcome_from_error, outcome_from_guest, outcome_from_stop};
use crate::stop::AttemptTimer;
use crate::wasm::{Plugin, Wasm};

/// A plugin, the engine that loaded it, and the permit for one instance of it.
struct ReadyPlugin {
    plugin: Arc<Plugin>,
    wasm: Arc<Wasm>,
    _room: OwnedSemaphorePermit,
}

impl PluginHost {
    pub(super) async fn run_component(
        &self,
        request: AttemptRequest,
        timer: &mut AttemptTimer,
        log: AttemptLog,
    ) -> AttemptReport {
        // Kept until this function returns, so that the permit is released only after the instance is dropped: a waiting
        // attempt that got it earlier could find wasmtime's pool full.
        let ready = match self.ready(&request, timer).await {
            Ok(ready) => ready,
            Err(end) => return without_outputs(end),
        };
        let call = request.call;
        match self.prepare(request, timer, log).await {
            Ok(attempt) => run_guest(&ready, call, attempt, timer).await,
            Err(end) => without_outputs(end),
        }
    }

    /// Waits for a permit and loads the plugin. `Err` is the end of the attempt.
    async fn ready(&self, request: &AttemptRequest, timer: &mut AttemptTimer) -> Result<ReadyPlugin, AttemptEnd> {
        let room = timer.run(self.runtime.room(), || {}).await.map_err(|stopped| outcome_from_stop(&stopped))?;
        timer.start(request.timeout);
        let loading = async {
            let plugin = self.runtime.component(&request.uses, self.scope.config.plugin_source()).await?;
            Ok((plugin, Arc::clone(self.runtime.wasm()?)))
        };
        let (plugin, wasm) = match timer.run(loading, || {}).await {
            Ok(loaded) => loaded.map_err(outcome_from_bad_plugin)?,
            Err(stopped) => return Err(outcome_from_stop(&stopped)),
        };
        if let Some(error) = plugin_changed(request, &plugin.digest) {
            return Err(outcome_from_bad_plugin(error));
        }
        let contract = &plugin.contract;
        let is_exported = if request.call == Call::Compare { contract.compares() } else { contract.reconciles() };
        match end_without_export(request).filter(|_| !is_exported) {
            Some(end) => Err(end),
            None => Ok(ReadyPlugin { plugin, wasm, _room: room }),
        }
    }

    /// Builds the attempt's capabilities. `Err` is the end of the attempt.
    async fn prepare(
        &self,
        request: AttemptRequest,
        timer: &AttemptTimer,
        log: AttemptLog,
    ) -> Result<Attempt, AttemptEnd> {
        let config = &self.scope.config;
        let files = request.folder.as_ref().unwrap_or(&config.workspace);
        let prepared = match config.reserved.for_attempt(&request.permissions, files).await {
            Ok(reserved) => {
                let host = AttemptHost { scope: &self.scope, outbound: self.runtime.outbound(), owner: &self.owner };
                AttemptContext::new(host, Arc::new(request), timer, log, &reserved)
            }
            Err(error) => Err(error),
        };
        prepared.map(|context| Attempt::new(&context)).map_err(|error| outcome_from_error(error, false, None))
    }
}

/// Calls the guest, and ends its processes and services, however the call ended.
async fn run_guest(ready: &ReadyPlugin, call: Call, attempt: Attempt, timer: &mut AttemptTimer) -> AttemptReport {
    let groups = attempt.processes.groups();
    let mut store = ready.wasm.store(attempt, |attempt| &mut attempt.limiter);
    let work = async { ready.plugin.call(call, &mut store).await };
    let ended = timer.run(work, || groups.interrupt()).await;
    // However the guest ended, its programs are killed, and its unpromoted releases are being discarded, before the attempt
    // is reported. The engine may start the next attempt of the stage right after the report, and programs of both must not
    // run side by side.
    let attempt = store.data_mut();
    attempt.processes.finish().await;
    attempt.services.finish().await;
    attempt.remote_hosts.disconnect();
    // The guest may have returned before the last output of its programs was read. If that output, or the programs
    // themselves, exceeded a limit, the attempt ends with that and not with what the guest returned.
    let ended = match timer.aborter.reason() {
        Some(reason) => Err(reason),
        None => ended,
    };
    let mut end = outcome_from_guest(ended, attempt);
    // This precedes the explanation of a failure: what a learning run was refused isn't a remedy for its pipeline.
    attempt.report_uses().await;
    attempt.explain(&mut end).await;
    attempt.findings.finish().await;
    attempt.tests.finish().await;
    attempt.metrics.finish(&attempt.log).await;
    attempt.denials.report(&attempt.log).await;
    AttemptReport {
        end,
        outputs: attempt.outputs.take(),
        artifacts: attempt.artifacts.published(),
        release: attempt.environment.take(),
        made: None,
        read_history: attempt.read_history,
    }
}
