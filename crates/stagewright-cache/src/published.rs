//! Tracks which artifacts exist before a stage starts: the stage can fetch each of them, so its result may depend on it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, PoisonError};

use stagewright_engine::{Artifact, RunId};

/// Digests of artifacts, by the artifacts' names.
pub(crate) type Artifacts = BTreeMap<String, String>;

/// The artifacts that runs have published.
#[derive(Debug, Default)]
pub(crate) struct Published(Mutex<HashMap<RunId, RunArtifacts>>);

#[derive(Debug)]
struct RunArtifacts {
    /// Published before this process began or resumed the run. Every stage can fetch these, whichever stage made them.
    earlier: Artifacts,
    /// By stage name: what the stage and all stages before it have published since then.
    by_stage: HashMap<String, Artifacts>,
}

impl Published {
    /// Must be called before the first stage of a run starts, whether that stage is cached or not.
    pub(crate) fn begin(&self, run: &RunId, earlier: impl FnOnce() -> io::Result<Vec<Artifact>>) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.entry(run.clone()).or_insert_with(|| {
            // A resumed run has published artifacts in an earlier process. If these can't be read, stages can't fetch
            // them either, so leaving them out of the key is safe.
            let earlier = earlier().unwrap_or_default().into_iter();
            let earlier = earlier.map(|artifact| (artifact.name, artifact.digest)).collect();
            RunArtifacts { earlier, by_stage: HashMap::new() }
        });
    }

    /// The artifacts that are certain to exist when a stage with these needs starts.
    pub(crate) fn before(&self, run: &RunId, needs: &[String]) -> Artifacts {
        let runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(RunArtifacts { earlier, by_stage }) = runs.get(run) else { return Artifacts::new() };
        let before = needs.iter().filter_map(|need| by_stage.get(need));
        std::iter::once(earlier).chain(before).flatten().map(|(name, digest)| (name.clone(), digest.clone())).collect()
    }

    pub(crate) fn remember(&self, run: &RunId, name: &str, needs: &[String], own: &[Artifact]) {
        let mut all = self.before(run, needs);
        all.extend(own.iter().map(|artifact| (artifact.name.clone(), artifact.digest.clone())));
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(published) = runs.get_mut(run).filter(|_| !all.is_empty()) {
            // The cells of a matrix share a name, so this extends what an earlier cell has recorded.
            published.by_stage.entry(name.to_owned()).or_default().extend(all);
        }
    }
}
