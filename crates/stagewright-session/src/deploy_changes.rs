//! What a deploy would change: a stage's `with` table beside the one that its environment's current release was deployed
//! with.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use stagewright_model::{Plan, StageIndex};

use crate::clock::SystemClock;
use crate::error::SessionError;
use crate::session::Session;

/// The changes of one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct DeployChanges {
    /// The number of the current release.
    pub release: u64,
    /// What differs, by key.
    pub changes: Vec<ConfigChange>,
}

/// A value of a `with` table that differs from that of a release.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigChange {
    /// Where it is, as in `env.VERSION`.
    pub key: String,
    /// The value in the release; none if it hasn't the key.
    pub before: Option<Json>,
    /// The value in the pipeline file, in which expressions aren't evaluated; none if it hasn't the key.
    pub after: Option<Json>,
}

/// The changes by stage, for the stages that deployed what is current in their environments.
pub(crate) fn of(session: &Session, plan: &Plan) -> Result<BTreeMap<StageIndex, DeployChanges>, SessionError> {
    if plan.stages.iter().all(|stage| stage.environment.is_none()) {
        return Ok(BTreeMap::new());
    }
    // Without a state folder, nothing was ever deployed.
    let Ok(store) = session.read_only_store() else { return Ok(BTreeMap::new()) };
    let environments = store.environments(false, SystemClock::timestamp())?;
    let current = |index: &StageIndex| {
        let stage = plan.stage(*index);
        let name = &stage.environment.as_ref()?.name;
        let row = environments.iter().find(|row| row.name == *name)?.current.as_ref()?;
        let changes = differing(&row.release.config, stage.with.source());
        (row.stage_id == stage.id).then_some((*index, DeployChanges { release: row.number, changes }))
    };
    Ok(plan.indices().filter_map(|index| current(&index)).collect())
}

fn differing(before: &Json, after: &Json) -> Vec<ConfigChange> {
    let [before, after] = [before, after].map(leaves);
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |key: &String| {
        let [before, after] = [&before, &after].map(|leaves| leaves.get(key).copied().cloned());
        (before != after).then(|| ConfigChange { key: key.clone(), before, after })
    };
    keys.into_iter().filter_map(change).collect()
}

/// The values that aren't tables or lists, by key.
fn leaves(table: &Json) -> BTreeMap<String, &Json> {
    let (mut found, mut open) = (BTreeMap::new(), vec![(String::new(), table)]);
    while let Some((key, value)) = open.pop() {
        match value {
            Json::Object(fields) if !fields.is_empty() => {
                let dot = if key.is_empty() { "" } else { "." };
                open.extend(fields.iter().map(|(name, value)| (format!("{key}{dot}{name}"), value)));
            }
            Json::Array(items) if !items.is_empty() => {
                open.extend(items.iter().enumerate().map(|(index, item)| (format!("{key}[{index}]"), item)));
            }
            _ => {
                found.insert(key, value);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_listed_by_key() {
        let before = json!({ "image": "a@sha256:1", "env": { "A": "1", "B": "2" }, "steps": [1, 2], "port": 80 });
        let after = json!({ "image": "${{ stages.push.outputs.reference }}", "env": { "A": "1", "C": "3" }, "steps": [1], "port": 80 });
        let shown = |change: ConfigChange| {
            let text = |value: Option<Json>| value.map(|value| value.to_string()).unwrap_or_default();
            format!("{}: {} -> {}", change.key, text(change.before), text(change.after))
        };
        let changes: Vec<String> = differing(&before, &after).into_iter().map(shown).collect();
        assert_eq!(
            changes,
            [
                "env.B: \"2\" -> ",
                "env.C:  -> \"3\"",
                "image: \"a@sha256:1\" -> \"${{ stages.push.outputs.reference }}\"",
                "steps[1]: 2 -> ",
            ]
        );
        assert!(differing(&before, &before).is_empty());
    }
}
