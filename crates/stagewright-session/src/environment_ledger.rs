//! The known-good releases of a pipeline's environments, as plugins ask for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use stagewright_engine::{EventKind, RunId};
use stagewright_model::Plan;
use stagewright_plugin_host::{GoodRelease, ReleaseLedger, ReleasesUnknown};
use stagewright_store::Store;

use crate::error::SessionError;
use crate::journal::stages_of;
use crate::repository::Repository;

/// The part of a repository's ledger that is about one pipeline's environments.
pub(crate) struct EnvironmentLedger {
    repository: Arc<Repository>,
    /// The environments, each with its regions.
    environments: BTreeMap<String, Vec<String>>,
}

impl EnvironmentLedger {
    pub(crate) fn of(plan: Option<&Plan>, repository: Arc<Repository>) -> EnvironmentLedger {
        let declared = plan.into_iter().flat_map(|plan| &plan.environments);
        let environments = declared.map(|(name, environment)| (name.clone(), environment.regions.clone())).collect();
        EnvironmentLedger { repository, environments }
    }
}

impl ReleaseLedger for EnvironmentLedger {
    fn good_release(&self, environment: &str, asking: &RunId) -> Result<Option<GoodRelease>, ReleasesUnknown> {
        let quoted = |names: Vec<&String>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match self.environments.get(environment) {
            None => {
                let known = quoted(self.environments.keys().collect());
                Err(ReleasesUnknown {
                    message: format!("the pipeline has no environment `{environment}`"),
                    help: Some(match known.is_empty() {
                        true => format!("add [environments.{environment}] to the pipeline file"),
                        false => format!("name one of {known}"),
                    }),
                })
            }
            Some(regions) if !regions.is_empty() => Err(ReleasesUnknown {
                message: format!("the environment `{environment}` has a ledger for each of its regions"),
                help: Some(format!("name one of {}", quoted(regions.iter().collect()))),
            }),
            Some(_) => {
                // A store of its own, because the session's is locked while the engine records an event.
                let read = || {
                    let store = Store::open_read_only(&self.repository.state)?;
                    let row = store.good_release(environment, asking)?;
                    row.map(|row| {
                        let measurements = measurements(&store, &row.run)?;
                        Ok(GoodRelease { release: row.release, measurements })
                    })
                    .transpose()
                };
                read().map_err(|error: SessionError| ReleasesUnknown {
                    message: format!("could not read the releases of `{environment}`: {error}"),
                    help: None,
                })
            }
        }
    }
}

/// What the last attempts of a run's stages have reported. Nothing for a run whose journal has been removed.
fn measurements(store: &Store, run: &RunId) -> Result<BTreeMap<String, BTreeMap<String, f64>>, SessionError> {
    let mut found = BTreeMap::new();
    if store.run(run)?.is_none() {
        return Ok(found);
    }
    let stages = stages_of(store, run)?;
    for event in store.events(run)? {
        let EventKind::MetricsReported { stage, metrics, .. } = event.kind else { continue };
        let Some(summary) = stages.get(stage.get()) else { continue };
        let values = metrics.iter().map(|metric| (metric.name.clone(), metric.value));
        found.insert(summary.id.clone(), values.collect());
    }
    Ok(found)
}
