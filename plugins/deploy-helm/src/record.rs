//! What the cluster keeps about the deploys of a service, beside what Helm itself keeps.

use kubernetes::Fenced;
use serde::{Deserialize, Serialize};

use crate::revision::Revision;

/// The record of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Record {
    /// The newest token that has acted.
    pub(crate) fence: Option<u64>,
    /// The release that serves.
    pub(crate) serving: Option<Deployed>,
    /// One that was begun since, and isn't finished.
    pub(crate) unfinished: Option<Deployed>,
    /// Those that served before, oldest first.
    pub(crate) earlier: Vec<Deployed>,
}

/// A release as this plugin has deployed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Deployed {
    pub(crate) artifact: String,
    pub(crate) fence: Option<u64>,
    pub(crate) run: String,
    /// The revision of Helm that it is; for an unfinished one, the one that it will be.
    pub(crate) revision: u64,
    /// The run in that revision's label, which a rollback copies from the revision that it goes back to.
    #[serde(default)]
    pub(crate) label: String,
}

impl Fenced for Record {
    fn fence(&mut self) -> &mut Option<u64> {
        &mut self.fence
    }
}

impl Deployed {
    /// Whether this is the revision of Helm that the release is.
    pub(crate) fn is(&self, revision: &Revision) -> bool {
        self.revision == revision.number && self.label == revision.run
    }
}

impl Record {
    /// The unfinished release has become the serving one, and at most `history` earlier ones are remembered.
    pub(crate) fn finish(&mut self, history: usize) {
        let Some(finished) = self.unfinished.take() else { return };
        self.earlier.extend(self.serving.replace(finished));
        let surplus = self.earlier.len().saturating_sub(history);
        self.earlier.drain(..surplus);
    }

    /// The release of an artifact that the ledger has under a token. That is the one that its deploy held when it finished;
    /// the record has the one that it began with, and no other deploy acted in between.
    pub(crate) fn release_of(&self, artifact: &str, fence: u64) -> Option<&Deployed> {
        let known = self.earlier.iter().chain(&self.serving);
        let candidates =
            known.filter(|known| known.artifact == artifact && known.fence.is_some_and(|own| own <= fence));
        candidates.max_by_key(|known| known.fence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployed(fence: u64, artifact: &str) -> Deployed {
        Deployed {
            artifact: artifact.to_owned(),
            fence: Some(fence),
            run: "r".to_owned(),
            revision: fence,
            label: "r".to_owned(),
        }
    }

    #[test]
    fn a_finished_release_serves_and_is_found_again() {
        let mut record = Record::default();
        for (fence, artifact) in [(1, "a"), (4, "b"), (6, "a"), (9, "c")] {
            record.unfinished = Some(deployed(fence, artifact));
            record.finish(3);
        }
        assert_eq!(record.serving, Some(deployed(9, "c")));
        let found = |artifact, fence| record.release_of(artifact, fence).map(|found| found.revision);
        assert_eq!([found("a", 0), found("a", 1), found("a", 5), found("a", 8)], [None, Some(1), Some(1), Some(6)]);
        assert_eq!([found("c", 8), found("c", 10)], [None, Some(9)]);
        record.unfinished = Some(deployed(12, "d"));
        record.finish(3);
        assert_eq!(record.release_of("a", 5), None);
    }
}
