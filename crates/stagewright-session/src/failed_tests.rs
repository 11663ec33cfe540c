//! `rerun --failed-tests`: runs the tests again that failed in a run, and no others.

use std::collections::BTreeMap;

use stagewright_engine::{Event, EventKind, FailedTest, RunId};
use stagewright_model::{Interface, Plan, StageIndex};

use crate::error::SessionError;
use crate::host::Host;
use crate::notice::Notice;
use crate::session::Session;

/// The most tests of a stage that are selected. More don't fit on the command lines of most runners.
const MOST: usize = 1000;

/// The tests to run, by stage; none for a stage that runs all of its tests.
pub(crate) type Selection = BTreeMap<StageIndex, (RunId, Vec<FailedTest>)>;

/// The stages whose last attempt reported failed tests, with these tests.
///
/// # Errors
/// If there are none.
pub(crate) fn of_run(run: &RunId, past: &[Event]) -> Result<BTreeMap<StageIndex, Vec<FailedTest>>, SessionError> {
    let mut failed: BTreeMap<StageIndex, Vec<FailedTest>> = BTreeMap::new();
    for event in past {
        match &event.kind {
            EventKind::AttemptStarted { stage, .. } => drop(failed.remove(stage)),
            EventKind::TestsReported { stage, cases, .. } => {
                for case in cases.iter().filter(|case| case.outcome.is_failure()) {
                    let file = case.place.as_ref().map(|place| place.path.clone());
                    let test = FailedTest { suite: case.suite.clone(), name: case.name.clone(), file };
                    failed.entry(*stage).or_default().push(test);
                }
            }
            _ => {}
        }
    }
    if failed.is_empty() {
        return Err(SessionError::not_ready(format!("no stage of run {run} reported failed tests"))
            .hint("a `command` stage reports them with `junit`, and selects them with `rerun`: stagewright plugin show command")
            .hint(format!("to run the stages that haven't succeeded: stagewright resume {run}"))
            .hint(format!("to start a new run on the same inputs: stagewright rerun {run}")));
    }
    Ok(failed)
}

/// The selection for a run that repeats `failed` tests of `run`. Notifies of stages that run all of their tests instead.
pub(crate) async fn select(
    session: &Session,
    host: &Host,
    plan: &Plan,
    run: &RunId,
    failed: BTreeMap<StageIndex, Vec<FailedTest>>,
) -> Result<Selection, SessionError> {
    let described = host.describe_all(plan).await?;
    let mut selection = Selection::new();
    for (index, tests) in failed {
        let why = if !described[index.get()].imports.calls(Interface::TestReports, "failed-before") {
            Some(format!("the plugin `{}` can't select tests", plan.stage(index).uses))
        } else {
            (tests.len() > MOST).then(|| format!("{} failed, and at most {MOST} are selected", tests.len()))
        };
        match why {
            Some(why) => {
                session.notices.notice(&Notice::AllTests { stage: plan.stage(index).id.clone(), why });
            }
            None => drop(selection.insert(index, (run.clone(), tests))),
        }
    }
    Ok(selection)
}
