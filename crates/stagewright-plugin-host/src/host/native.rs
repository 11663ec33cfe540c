//! Attempts whose plugin is a native library.

use stagewright_engine::{AttemptEnd, AttemptReport, AttemptRequest, Call, Finding, Observation, Outcome};

use super::{PluginHost, end_without_export, plugin_changed, without_outputs};
use crate::capability::effects::Effects;
use crate::log::AttemptLog;
use crate::outcome::{outcome_from_bad_plugin, outcome_from_error};
use crate::stop::AttemptTimer;

impl PluginHost {
    /// Runs a library whose digest is the pinned one. A library never exports `reconcile`, and no limit but its timeout can
    /// be enforced on it.
    pub(super) async fn run_native(
        &self,
        request: AttemptRequest,
        digest: &str,
        timer: &mut AttemptTimer,
        log: AttemptLog,
    ) -> AttemptReport {
        timer.start(request.timeout);
        if let Some(error) = plugin_changed(&request, digest) {
            return without_outputs(outcome_from_bad_plugin(error));
        }
        if let Some(end) = end_without_export(&request) {
            return without_outputs(end);
        }
        let library = match self.runtime.library(&request.uses, self.scope.config.plugin_source()) {
            Ok(library) => library,
            Err(error) => return without_outputs(outcome_from_bad_plugin(error)),
        };
        if let Some(end) = rehearsed(&request) {
            return without_outputs(end);
        }
        if let Err(end) = announce(&request, timer, &log).await {
            return without_outputs(end);
        }
        self.runtime.natives().run(request, library, digest, timer, log).await
    }
}

/// The end of an attempt in a rehearsal, unless `[stages.NAME.rehearse]` configures it. The host can't keep a library from
/// having effects, so it doesn't call it.
fn rehearsed(request: &AttemptRequest) -> Option<AttemptEnd> {
    request.rehearsal.as_ref().filter(|terms| !terms.is_configured)?;
    Some(match request.call {
        Call::Run | Call::Undo => AttemptEnd::Rehearsed(format!(
            "would call the native plugin `{}`, which has all powers of the engine",
            request.uses
        )),
        Call::Observe => AttemptEnd::Observed(Observation::Found(Finding::NotStarted)),
        Call::Compare => AttemptEnd::Compared(Vec::new()),
    })
}

/// Announces the call itself as an effect: the library has the powers of the engine, and the host can't observe which
/// effects it has.
async fn announce(request: &AttemptRequest, timer: &AttemptTimer, log: &AttemptLog) -> Result<(), AttemptEnd> {
    let effects = Effects::new(log.output().clone(), log.masker().clone(), request.call);
    effects.announce(&format!("run the native plugin {}", request.uses)).await.map_err(|error| {
        effects.superseded_failure().map_or_else(
            || outcome_from_error(error, timer.cancel.is_set(), None),
            |failure| AttemptEnd::Unsuccessful(Outcome::Errored, failure),
        )
    })
}
