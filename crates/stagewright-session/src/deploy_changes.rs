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
    let environments = session.read_only_store()?.environments(false, SystemClock::timestamp())?;
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
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found
}

/// Tables and lists are compared by their parts, if both have one.
fn compare(key: &str, before: Option<&Json>, after: Option<&Json>, found: &mut Vec<ConfigChange>) {
    match (before, after) {
        (Some(Json::Object(before)), Some(Json::Object(after))) => {
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                compare(&key, before.get(name), after.get(name), found);
            }
        }
        (Some(Json::Array(before)), Some(Json::Array(after))) => {
            for index in 0..before.len().max(after.len()) {
                compare(&format!("{key}[{index}]"), before.get(index), after.get(index), found);
            }
        }
        (before, after) if before == after => {}
        (before, after) => {
            found.push(ConfigChange { key: key.to_owned(), before: before.cloned(), after: after.cloned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_listed_by_key() {
        let before = json!({ "image": "a@sha256:1", "env": { "A": "1", "B": "2" }, "steps": [1, 2], "port": 80, "release": { "web": 1 } });
        let after = json!({ "image": "${{ stages.push.outputs.reference }}", "env": { "A": "1", "C": "3" }, "steps": [1], "port": 80, "release": "${{ x }}" });
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
                "release: {\"web\":1} -> \"${{ x }}\"",
                "steps[1]: 2 -> ",
            ]
        );
        assert!(differing(&before, &before).is_empty());
    }
}
