//! Whether the tasks of a service run as they should.

use docker_engine::{Service, Task};
use rollout::Progress;

use crate::spec::{DesiredService, SPEC};

/// What a service is, compared with what it should be.
pub(crate) fn progress(desired: &DesiredService, service: Option<&Service>, tasks: &[Task]) -> Progress {
    let name = &desired.name;
    let Some(service) = service else { return Progress::Failed(format!("lost its service `{name}`")) };
    let own: Vec<&Task> = tasks.iter().filter(|task| is_own(desired, task)).collect();
    let update = service.update.as_ref().map(|update| (update.state.as_str(), update.message.as_str()));
    let reason = failure(&own).map(|reason| format!(": {reason}")).unwrap_or_default();
    match update {
        Some(("paused", message)) => return Progress::Failed(format!("failed to update `{name}` ({message}){reason}")),
        Some((state @ ("rollback_started" | "rollback_paused" | "rollback_completed"), message)) => {
            return Progress::Failed(format!(
                "failed to update `{name}`, which Swarm rolls back ({state}: {message}){reason}"
            ));
        }
        _ => {}
    }
    let current = own.iter().filter(|task| task.desired_state == "running");
    let running = current.clone().filter(|task| task.status.state == "running").count() as u64;
    // A service without a number of replicas has a task on each node that its constraints allow.
    let expected = desired.replicas.unwrap_or_else(|| (current.count() as u64).max(1));
    let is_updating = update.is_some_and(|(state, _)| state == "updating");
    match running >= expected && !is_updating {
        true => Progress::Running,
        false => Progress::Starting(format!("{running} of {expected} tasks of `{name}` run{reason}")),
    }
}

/// The task whose log says why a service isn't ready: the last one that failed, or else the last one.
pub(crate) fn failing_task<'a>(desired: &DesiredService, tasks: &'a [Task]) -> Option<&'a Task> {
    let own = tasks.iter().filter(|task| is_own(desired, task));
    own.max_by_key(|task| (has_failed(task), &task.created_at))
}

fn is_own(desired: &DesiredService, task: &Task) -> bool {
    task.spec["ContainerSpec"]["Labels"][SPEC] == desired.mark.as_str()
}

/// Why the last task that failed did, or what the swarm waits for.
fn failure(own: &[&Task]) -> Option<String> {
    let with_reason = own.iter().filter(|task| task.status.err.as_deref().is_some_and(|err| !err.is_empty()));
    let last = with_reason.max_by_key(|task| (has_failed(task), &task.created_at))?;
    last.status.err.as_ref().map(|err| format!("{err} ({})", last.status.state))
}

fn has_failed(task: &Task) -> bool {
    matches!(task.status.state.as_str(), "failed" | "rejected")
}
