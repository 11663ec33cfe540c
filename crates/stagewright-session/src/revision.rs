//! Takes a changed pipeline file into a run that is resumed.

use stagewright_engine::{Event, RunId, RunState, StageStatus};
use stagewright_model::{FileChanges, Plan, StageIndex, list};

use crate::error::SessionError;
use crate::journal;
use crate::load::Pipeline;
use crate::repository::{PipelineFile, document};
use crate::select;
use crate::session::Session;

/// The pipeline of the file as it is now; none if it has the text that the run uses. Only stages that run again may
/// differ: what the others did was done as the run's own text says, and the run goes on from it.
///
/// # Errors
/// If the file is invalid now, or if it differs in anything else.
pub(crate) fn revised(
    session: &Session,
    run: &RunId,
    used: &Pipeline,
    past: &[Event],
    from: &[StageIndex],
) -> Result<Option<Pipeline>, SessionError> {
    let name = &used.file.name;
    let Ok(text) = document(&session.repository.root.join(name)) else { return Ok(None) };
    if text == used.file.text {
        return Ok(None);
    }
    let revised = session.load(PipelineFile { name: name.clone(), text })?;
    let refused = |why: String| {
        SessionError::not_ready(format!("run {run} can't take the changes of {name}: {why}"))
            .hint(format!("to run the file as it is now: stagewright run {name}"))
    };
    let changes = FileChanges::between(&used.file.text, &revised.file.text);
    if !changes.others.is_empty() {
        let keys = list(changes.others.iter().map(|key| format!("`{key}`")));
        return Err(refused(format!("they change {keys}, and only stages that haven't succeeded may change")));
    }
    if shape(&used.plan) != shape(&revised.plan) {
        return Err(refused("they add, remove or reorder stages".to_owned()));
    }
    let stages = used.plan.stages.iter().map(|stage| stage.id.clone()).collect();
    let state = journal::fold(run, stages, past)?;
    let again = select::with_dependents(&used.plan, from.iter().copied());
    let is_settled = |index: &StageIndex| is_settled(&state, *index) && !again.contains(index);
    let is_changed = |index: &StageIndex| changes.stages.contains(&used.plan.stage(*index).table());
    match used.plan.indices().find(|index| is_changed(index) && is_settled(index)) {
        None => Ok(Some(revised)),
        Some(index) => {
            let stage = used.plan.stage(index);
            let state = state.stage(index);
            Err(match state.status.conclusion() {
                Some(_) if state.unresolved_attempt.is_none() => {
                    refused(format!("[{}] differs, and `{}` has succeeded", stage.table(), stage.id)).hint(format!(
                        "to run it again as well: stagewright resume {run} --accept-changes --from {}",
                        stage.name
                    ))
                }
                _ => refused(format!("[{}] differs, and an attempt of `{}` is still open", stage.table(), stage.id)),
            })
        }
    }
}

/// What a journal refers to by position: the stages in order, and what each needs.
fn shape(plan: &Plan) -> Vec<(&str, &[StageIndex])> {
    plan.stages.iter().map(|stage| (stage.id.as_str(), stage.needs.as_slice())).collect()
}

/// Whether a resumed run builds on what the stage has done, or has to find out what that was.
fn is_settled(state: &RunState, index: StageIndex) -> bool {
    let state = state.stage(index);
    let stands = match state.status.conclusion() {
        Some(conclusion) => conclusion.lets_dependents_run() && state.attempts > 0,
        None => state.status != StageStatus::Pending,
    };
    stands || state.unresolved_attempt.is_some()
}
