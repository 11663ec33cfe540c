//! Why a stage ran: what its result depends on, against what the last result depended on.

use std::path::Path;

use stagewright_engine::RunId;

use crate::digest::Digest;
use crate::manifest::KeyDifference;
use crate::store::ResultStore;

/// What there is to say of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// What it was made of isn't known any more.
    Unknown,
    /// The stage had no result before.
    First,
    /// What has changed since the last result, and the run that made that one.
    Changed(Vec<KeyDifference>, Option<RunId>),
}

/// Compares the key of a stage with the one before it. `root` is the cache's folder; `key` as the journal has it.
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
