//! `--only` and `--skip`: the stages that a run leaves out.

use std::collections::{BTreeMap, BTreeSet};

use stagewright_engine::RunId;
use stagewright_model::{Plan, StageIndex, StageKind, list};

use crate::error::SessionError;

/// The stages to leave out, each with the reason that is recorded for it.
///
/// `--only` keeps the named stages and all stages that they need; finally stages then run only if they are named, too.
/// `--skip` leaves a stage out, and stages that need it run as if it had succeeded.
pub(crate) fn left_out(
    plan: &Plan,
    only: &[String],
    skip: &[String],
) -> Result<BTreeMap<StageIndex, String>, SessionError> {
    let mut left_out = BTreeMap::new();
    if !only.is_empty() {
        let mut kept = with_needs(plan, named(plan, "--only", only)?);
        kept.extend(plan.pauses_between(&kept));
        let rest = plan.indices().filter(|index| !kept.contains(index));
        left_out.extend(rest.map(|index| (index, "not among `--only`".to_owned())));
    }
    let skipped = named(plan, "--skip", skip)?;
    left_out.extend(skipped.into_iter().map(|index| (index, "left out with `--skip`".to_owned())));
    Ok(left_out)
}

/// The stages to leave out if only the affected ones run, with all stages that need them and all that these need.
/// Finally stages are kept.
pub(crate) fn unaffected(plan: &Plan, affected: &BTreeSet<StageIndex>, since: &str) -> BTreeMap<StageIndex, String> {
    let mut kept = with_dependents(plan, affected.iter().copied());
    // In reverse topological order, so that each stage comes before the stages that it needs.
    for index in
        plan.indices().collect::<Vec<_>>().into_iter().rev().filter(|index| plan.stage(*index).kind == StageKind::Main)
    {
        if kept.contains(&index) {
            kept.extend(&plan.stage(index).needs);
        }
    }
    let left_out = |index: &StageIndex| plan.stage(*index).kind == StageKind::Main && !kept.contains(index);
    plan.indices()
        .filter(left_out)
        .map(|index| (index, format!("not affected by what changed since {since}")))
        .collect()
}

/// The stages to leave out if only those with failed tests run, and all that these need. Finally stages are kept.
pub(crate) fn without_failed_tests(
    plan: &Plan,
    failed: impl IntoIterator<Item = StageIndex>,
    run: &RunId,
) -> BTreeMap<StageIndex, String> {
    let kept = with_needs(plan, failed);
    let left_out = |index: &StageIndex| plan.stage(*index).kind == StageKind::Main && !kept.contains(index);
    plan.indices()
        .filter(left_out)
        .map(|index| (index, format!("not needed for the failed tests of run {run}")))
        .collect()
}

/// The stages, and all that they need. A region doesn't need those of the waves before it.
fn with_needs(plan: &Plan, stages: impl IntoIterator<Item = StageIndex>) -> BTreeSet<StageIndex> {
    let (mut all, mut next) = (BTreeSet::new(), stages.into_iter().collect::<Vec<_>>());
    while let Some(index) = next.pop() {
        if all.insert(index) {
            next.extend(plan.stage(index).own_needs());
        }
    }
    all
}

/// The stages, and all that need them.
pub(crate) fn with_dependents(plan: &Plan, stages: impl IntoIterator<Item = StageIndex>) -> BTreeSet<StageIndex> {
    let mut all: BTreeSet<StageIndex> = stages.into_iter().collect();
    // A stage comes after the stages that it needs.
    for index in plan.indices() {
        if plan.stage(index).needs.iter().any(|need| all.contains(need)) {
            all.insert(index);
        }
    }
    all
}

/// Splits names at commas, except inside the parentheses of a cell's name.
fn apart(names: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, letter) in names.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(names[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(names[begin..].trim());
    parts
}

/// The stages with the given names. A name is that of a stage's table, or the id of one cell of its matrix.
pub(crate) fn named(plan: &Plan, option: &str, names: &[String]) -> Result<Vec<StageIndex>, SessionError> {
    let mut found = Vec::new();
    for name in names.iter().flat_map(|names| apart(names)) {
        let fits = |index: &StageIndex| plan.stage(*index).name == name || plan.stage(*index).id == name;
        let before = found.len();
        found.extend(plan.indices().filter(fits));
        if found.len() == before {
            let mut known = plan.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>();
            known.dedup();
            return Err(SessionError::invalid_request(format!("unknown stage in `{option} {name}`"))
                .hint(format!("its stages are: {}", list(known))));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_has_commas_in_its_name() {
        assert_eq!(apart("a,b"), ["a", "b"]);
        assert_eq!(apart("t (os=linux, v=1), b"), ["t (os=linux, v=1)", "b"]);
        assert_eq!(apart("t (x=a(b), y=1)"), ["t (x=a(b), y=1)"]);
    }
}
