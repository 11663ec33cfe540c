//! The turns of a simulated world: the contract of [`RunCoordinator`], kept in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use stagewright_engine::{
    EnvironmentAnswer, EnvironmentRequest, EventKind, GroupAnswer, GroupRequest, Interrupt, LEASE, RunCommand,
    RunCoordinator, RunId, StoreError, Timestamp,
};
use stagewright_model::Queue;

use crate::store::broken;
use crate::world::{Inner, Run, World};

/// Who has what.
#[derive(Default)]
pub(crate) struct CoordinatorState {
    pub(crate) environments: BTreeMap<String, Held>,
    groups: BTreeMap<String, Vec<Member>>,
}

/// An environment.
#[derive(Default)]
pub(crate) struct Held {
    /// The newest token.
    pub(crate) fence: u64,
    /// The newest run that has been there.
    newest: Option<usize>,
    holder: Option<Holder>,
    /// Until when somebody froze it.
    pub(crate) frozen: Option<Timestamp>,
}

/// A run that has an environment.
#[derive(Clone, Copy)]
struct Holder {
    run: usize,
    /// The process that asked for it.
    process: u32,
    beat: Timestamp,
}

/// A run that has a place in a group.
struct Member {
    run: usize,
    /// The process that asked last.
    process: u32,
    active: bool,
    asked: bool,
    replaced: Vec<RunId>,
}

impl CoordinatorState {
    /// The run that has the group.
    pub(crate) fn holder(&self, group: &str) -> Option<usize> {
        self.groups.get(group)?.iter().find(|member| member.active).map(|member| member.run)
    }

    /// An environment that was given to a process and not given back.
    pub(crate) fn held_by(&self, run: usize, process: u32) -> Option<&str> {
        let is_its = |held: &Held| held.holder.is_some_and(|holder| (holder.run, holder.process) == (run, process));
        self.environments.iter().find(|(_, held)| is_its(held)).map(|(name, _)| name.as_str())
    }

    /// Whether the group was given to a process and not given back.
    pub(crate) fn has_joined(&self, group: &str, run: usize, process: u32) -> bool {
        let mut members = self.groups.get(group).into_iter().flatten();
        members.any(|member| member.active && (member.run, member.process) == (run, process))
    }

    pub(crate) fn newest_fence(&self, environment: &str) -> u64 {
        self.environments.get(environment).map_or(0, |held| held.fence)
    }
}

/// The turns as one process sees them.
pub(crate) struct SimCoordinator {
    pub(crate) world: Arc<World>,
    pub(crate) run: usize,
    pub(crate) process: u32,
}

impl SimCoordinator {
    fn with<T>(&mut self, act: impl FnOnce(&mut Inner) -> T) -> Result<T, StoreError> {
        let mut inner = self.world.lock();
        let lives = inner.step(self.run, self.process);
        if !lives || inner.runs[self.run].coordinator_fails {
            return Err(broken("nobody answers"));
        }
        inner.runs[self.run].facts.alive_at = Some(tokio::time::Instant::now());
        Ok(act(&mut inner))
    }
}

impl RunCoordinator for SimCoordinator {
    fn acquire_environment(&mut self, claim: &EnvironmentRequest) -> Result<EnvironmentAnswer, StoreError> {
        let (run, process) = (self.run, self.process);
        self.with(|inner| inner.claim(run, process, claim))
    }

    fn holds(&mut self, _run: &RunId, environment: &str, fence: u64) -> Result<bool, StoreError> {
        self.with(|inner| inner.coordinator.newest_fence(environment) == fence)
    }

    fn release_environment(&mut self, _run: &RunId, environment: &str) -> Result<(), StoreError> {
        let run = self.run;
        self.with(|inner| {
            if let Some(held) = inner.coordinator.environments.get_mut(environment)
                && held.holder.is_some_and(|holder| holder.run == run)
            {
                held.holder = None;
            }
        })
    }

    fn heartbeat(&mut self, _run: &RunId, now: Timestamp) -> Result<(), StoreError> {
        let run = self.run;
        self.with(|inner| {
            for held in inner.coordinator.environments.values_mut() {
                if let Some(holder) = held.holder.as_mut().filter(|holder| holder.run == run) {
                    holder.beat = now;
                }
            }
        })
    }

    fn enter_group(&mut self, join: &GroupRequest) -> Result<GroupAnswer, StoreError> {
        let (run, process) = (self.run, self.process);
        self.with(|inner| inner.join(run, process, join))
    }

    fn leave_group(&mut self, _run: &RunId, group: &str) -> Result<(), StoreError> {
        let run = self.run;
        self.with(|inner| {
            let members = inner.coordinator.groups.entry(group.to_owned()).or_default();
            members.retain(|member| member.run != run);
            promote(members);
        })
    }
}

impl Inner {
    fn claim(&mut self, run: usize, process: u32, claim: &EnvironmentRequest) -> EnvironmentAnswer {
        let alive: Vec<bool> = self.runs.iter().map(|run| run.alive).collect();
        let held = self.coordinator.environments.entry(claim.environment.clone()).or_default();
        let claimed = match (held.frozen, held.newest, held.holder) {
            (Some(until), _, _) if claim.at < until && !claim.override_freeze => {
                EnvironmentAnswer::Frozen { until: Some(until), reason: "an incident".to_owned() }
            }
            (_, Some(newest), _) if run < newest => EnvironmentAnswer::Superseded { by: self.runs[newest].id.clone() },
            (_, _, Some(Holder { run: by, beat, .. }))
                if by != run && alive[by] && u128::from(claim.at.since(beat)) <= LEASE.as_millis() =>
            {
                EnvironmentAnswer::Held { by: self.runs[by].id.clone() }
            }
            _ => {
                held.fence += 1;
                held.newest = Some(run);
                held.holder = Some(Holder { run, process, beat: claim.at });
                EnvironmentAnswer::Granted { fence: held.fence, current: None, last_known_good: None }
            }
        };
        self.count(match claimed {
            EnvironmentAnswer::Granted { .. } => "claim granted",
            EnvironmentAnswer::Held { .. } => "claim held",
            EnvironmentAnswer::Superseded { .. } => "claim superseded",
            EnvironmentAnswer::Frozen { .. } => "claim frozen",
        });
        self.tell(|| format!("r{run} claims {}: {claimed:?}", claim.environment));
        self.runs[run].facts.record_claim(&claim.environment, &claimed);
        claimed
    }

    fn join(&mut self, run: usize, process: u32, join: &GroupRequest) -> GroupAnswer {
        self.check_join(run, join);
        let is_suspended =
            |run: &Run| run.journal.last().is_some_and(|event| matches!(event.kind, EventKind::RunSuspended { .. }));
        let keeps: Vec<bool> = self.runs.iter().map(|run| run.alive || is_suspended(run)).collect();
        let members = self.coordinator.groups.entry(join.group.clone()).or_default();
        members
            .retain(|member| member.run == run || keeps[member.run] && (!member.asked || self.runs[member.run].alive));
        promote(members);
        if !members.iter().any(|member| member.run == run) {
            members.push(Member { run, process, active: false, asked: false, replaced: Vec::new() });
            members.sort_by_key(|member| member.run);
            promote(members);
        }
        let place = members.iter().position(|member| member.run == run).expect("it was added");
        members[place].process = process;
        if members[place].active {
            return GroupAnswer::Granted { replaced: std::mem::take(&mut members[place].replaced) };
        }
        let mut asked = Vec::new();
        if !members[place].asked {
            for older in 0..place {
                let ends = if members[older].active { join.cancel_in_progress } else { join.queue == Queue::Single };
                if ends && !members[older].asked {
                    members[older].asked = true;
                    asked.push(members[older].run);
                    let id = self.runs[members[older].run].id.clone();
                    members[place].replaced.push(id);
                }
            }
        }
        let holder = self.runs[members.iter().find(|member| member.active).map_or(run, |member| member.run)].id.clone();
        for older in asked {
            self.count("replaced");
            let reason = format!("r{run} is newer");
            self.wish(older, RunCommand::Cancel { how: Interrupt::Graceful, reason });
        }
        self.count("group awaited");
        self.runs[run].facts.put_off = Some(tokio::time::Instant::now());
        GroupAnswer::Waiting { holder }
    }
}

impl Inner {
    /// The engine asks for what the pipeline says.
    fn check_join(&mut self, run: usize, join: &GroupRequest) {
        let one = &self.runs[run];
        let concurrency = one.pipeline.plan.concurrency.as_ref();
        let as_planned = concurrency.is_some_and(|planned| {
            (planned.cancel_in_progress, planned.queue) == (join.cancel_in_progress, join.queue)
        });
        if !as_planned || one.pipeline.group.as_ref() != Some(&join.group) || join.run != one.id {
            self.violate(|| format!("r{run} asks for another group than that of its pipeline: {join:?}"));
        }
    }
}

/// Gives the group to the first that waits, if nobody has it.
fn promote(members: &mut [Member]) {
    if members.iter().all(|member| !member.active)
        && let Some(next) = members.iter_mut().find(|member| !member.asked)
    {
        next.active = true;
    }
}
