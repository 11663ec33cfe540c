//! Which artifacts there are before a stage: its result may depend on all that it can fetch.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, PoisonError};

use stagewright_engine::{Artifact, RunId};

/// Digests by name.
pub(crate) type Artifacts = BTreeMap<String, String>;

/// What runs have published.
#[derive(Debug, Default)]
pub(crate) struct Published(Mutex<HashMap<RunId, OfRun>>);

#[derive(Debug)]
struct OfRun {
    /// Before this process took it up; by whom is of no matter, since all of it was there.
    earlier: Artifacts,
    /// Since then, by stage name: by it, and by all stages before it.
    by_stage: HashMap<String, Artifacts>,
}

impl Published {
    /// Before the first stage of a run does anything, whether it is cached or not.
    pub(crate) fn begin(&self, run: &RunId, earlier: impl FnOnce() -> io::Result<Vec<Artifact>>) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.entry(run.clone()).or_insert_with(|| {
            // A run that goes on in another process has published before. What can't be read can't be fetched either.
            let earlier = earlier().unwrap_or_default().into_iter();
            let earlier = earlier.map(|artifact| (artifact.name, artifact.digest)).collect();
            OfRun { earlier, by_stage: HashMap::new() }
        });
    }

    /// What the stages before have published: all that a stage may count on being there.
    pub(crate) fn before(&self, run: &RunId, needs: &[String]) -> Artifacts {
        let runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(OfRun { earlier, by_stage }) = runs.get(run) else { return Artifacts::new() };
        let before = needs.iter().filter_map(|need| by_stage.get(need));
        std::iter::once(earlier).chain(before).flatten().map(|(name, digest)| (name.clone(), digest.clone())).collect()
    }

    pub(crate) fn remember(&self, run: &RunId, name: &str, needs: &[String], own: &[Artifact]) {
        let mut all = self.before(run, needs);
        all.extend(own.iter().map(|artifact| (artifact.name.clone(), artifact.digest.clone())));
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(published) = runs.get_mut(run).filter(|_| !all.is_empty()) {
            // Cells of a matrix share a name.
            published.by_stage.entry(name.to_owned()).or_default().extend(all);
        }
    }
}
