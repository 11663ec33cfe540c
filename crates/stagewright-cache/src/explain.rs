//! Explains why a stage ran: compares what its result depends on with what its previous result depended on.

use std::path::Path;

use stagewright_engine::RunId;

use crate::digest::Digest;
use crate::manifest::KeyDifference;
use crate::store::ResultStore;

/// How a key differs from the previous key of the same stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// The manifest of one of the two keys is no longer stored.
    Unknown,
    /// The stage had no earlier result.
    First,
    /// What changed since the previous result, and the run that produced that result.
    Changed(Vec<KeyDifference>, Option<RunId>),
}

/// Compares a stage's key with its previous one. `root` is the cache's folder; `key` is `sha256:…`, as in the journal.
pub fn explain(root: &Path, key: &str) -> Explanation {
    let store = ResultStore::new(root);
    let known = Digest::parse(key).and_then(|key| store.manifest(&key));
    let Some(manifest) = known else { return Explanation::Unknown };
    let Some(previous) = manifest.previous else { return Explanation::First };
    match store.manifest(&previous) {
        Some(then) => Explanation::Changed(manifest.differences(&then), then.run),
        None => Explanation::Unknown,
    }
}
