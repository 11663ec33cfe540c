//! The coordinator of a simulated world: implements the contract of [`RunCoordinator`] in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stagewright_engine::{
    EnvironmentAnswer, EnvironmentRequest, EventKind, GroupAnswer, GroupRequest, Interrupt, LEASE, RunCommand,
    RunCoordinator, RunId, StoreError, Timestamp,
};
use stagewright_model::Queue;

use crate::store::broken;
use crate::world::{Inner, Run, World};

/// The holders of environments and groups.
#[derive(Default)]
pub(crate) struct CoordinatorState {
    pub(crate) environments: BTreeMap<String, EnvironmentState>,
    groups: BTreeMap<String, Vec<GroupMember>>,
}

/// The state of an environment.
#[derive(Default)]
pub(crate) struct EnvironmentState {
    /// The newest token.
    pub(crate) fence: u64,
    /// The newest run that has acted on it.
    newest: Option<usize>,
    holder: Option<EnvironmentHolder>,
    /// When a manual freeze ends, if there is one.
    pub(crate) frozen: Option<Timestamp>,
}

/// A run that holds an environment.
#[derive(Clone, Copy)]
struct EnvironmentHolder {
    run: usize,
    /// The process that acquired it.
    process: u32,
    beat: Timestamp,
}

/// A run that holds a group or waits for it.
struct GroupMember {
    run: usize,
    /// The process that last tried to enter.
    process: u32,
    active: bool,
    asked: bool,
    replaced: Vec<RunId>,
}

impl CoordinatorState {
    /// The run that holds the group.
    pub(crate) fn holder(&self, group: &str) -> Option<usize> {
        self.groups.get(group)?.iter().find(|member| member.active).map(|member| member.run)
    }

    /// The run and process that hold the environment.
    pub(crate) fn holder_of(&self, environment: &str) -> Option<(usize, u32)> {
        let holder = self.environments.get(environment)?.holder?;
        Some((holder.run, holder.process))
    }

    /// Whether no newer run has acted on the environment.
    pub(crate) fn was_last_to_act(&self, environment: &str, run: usize) -> bool {
        self.environments.get(environment).is_some_and(|held| held.newest == Some(run))
    }

    /// An environment that the process acquired and hasn't released.
    pub(crate) fn held_by(&self, run: usize, process: u32) -> Option<&str> {
        let belongs =
            |held: &EnvironmentState| held.holder.is_some_and(|holder| (holder.run, holder.process) == (run, process));
        self.environments.iter().find(|(_, held)| belongs(held)).map(|(name, _)| name.as_str())
    }

    /// Whether the process entered the group and hasn't left it.
    pub(crate) fn has_entered(&self, group: &str, run: usize, process: u32) -> bool {
        let mut members = self.groups.get(group).into_iter().flatten();
        members.any(|member| member.active && (member.run, member.process) == (run, process))
    }

    pub(crate) fn newest_fence(&self, environment: &str) -> u64 {
        self.environments.get(environment).map_or(0, |held| held.fence)
    }
}

/// The coordinator for one process.
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
            return Err(broken("no response"));
        }
        inner.runs[self.run].facts.alive_at = Some(tokio::time::Instant::now());
        Ok(act(&mut inner))
    }
}

impl RunCoordinator for SimCoordinator {
    fn acquire_environment(&mut self, request: &EnvironmentRequest) -> Result<EnvironmentAnswer, StoreError> {
        let (run, process) = (self.run, self.process);
        self.with(|inner| inner.acquire(run, process, request))
    }

    fn holds(&mut self, _run: &RunId, environment: &str, fence: u64) -> Result<bool, StoreError> {
        self.with(|inner| inner.coordinator.newest_fence(environment) == fence)
    }

    fn current_releases(&mut self, _: &RunId, _: &BTreeSet<String>) -> Result<BTreeMap<String, u64>, StoreError> {
        // A simulated world has no ledger: what is granted names no current release either.
        self.with(|_| BTreeMap::new())
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

    fn enter_group(&mut self, request: &GroupRequest) -> Result<GroupAnswer, StoreError> {
        let (run, process) = (self.run, self.process);
        self.with(|inner| inner.enter(run, process, request))
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
    fn acquire(&mut self, run: usize, process: u32, request: &EnvironmentRequest) -> EnvironmentAnswer {
        let alive: Vec<bool> = self.runs.iter().map(|run| run.alive).collect();
        self.check_is_not_kept(run, &request.environment);
        let held = self.coordinator.environments.entry(request.environment.clone()).or_default();
        let answer = match (held.frozen, held.newest, held.holder) {
            (Some(until), _, _) if request.at < until && !request.override_freeze => {
                EnvironmentAnswer::Frozen { until: Some(until), reason: "an incident".to_owned() }
            }
            (_, Some(newest), _) if run < newest => EnvironmentAnswer::Superseded { by: self.runs[newest].id.clone() },
            (_, _, Some(EnvironmentHolder { run: by, beat, .. }))
                if by != run && alive[by] && u128::from(request.at.since(beat)) <= LEASE.as_millis() =>
            {
                EnvironmentAnswer::Held { by: self.runs[by].id.clone() }
            }
            _ => {
                held.fence += 1;
                held.newest = Some(run);
                held.holder = Some(EnvironmentHolder { run, process, beat: request.at });
                EnvironmentAnswer::Granted {
                    fence: held.fence,
                    current: None,
                    standing: None,
                    last_known_good: None,
                    restored: None,
                }
            }
        };
        self.count(match answer {
            EnvironmentAnswer::Granted { .. } => "environment granted",
            EnvironmentAnswer::Held { .. } => "environment held",
            EnvironmentAnswer::Superseded { .. } => "environment superseded",
            EnvironmentAnswer::Frozen { .. } => "environment frozen",
        });
        self.log(|| format!("r{run} requests {}: {answer:?}", request.environment));
        self.runs[run].facts.record_environment_answer(&request.environment, &answer);
        answer
    }

    fn enter(&mut self, run: usize, process: u32, request: &GroupRequest) -> GroupAnswer {
        self.check_group_request(run, request);
        let is_suspended =
            |run: &Run| run.journal.last().is_some_and(|event| matches!(event.kind, EventKind::RunSuspended { .. }));
        let keeps: Vec<bool> = self.runs.iter().map(|run| run.alive || is_suspended(run)).collect();
        let members = self.coordinator.groups.entry(request.group.clone()).or_default();
        members
            .retain(|member| member.run == run || keeps[member.run] && (!member.asked || self.runs[member.run].alive));
        promote(members);
        if !members.iter().any(|member| member.run == run) {
            members.push(GroupMember { run, process, active: false, asked: false, replaced: Vec::new() });
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
                let ends =
                    if members[older].active { request.cancel_in_progress } else { request.queue == Queue::Single };
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
            self.send_command(older, RunCommand::Cancel { how: Interrupt::Graceful, reason });
        }
        self.count("group awaited");
        self.runs[run].facts.put_off = Some(tokio::time::Instant::now());
        GroupAnswer::Waiting { holder }
    }
}

impl Inner {
    /// Checks that no other run has released the environment while its attempt there is between two calls.
    fn check_is_not_kept(&mut self, run: usize, environment: &str) {
        let Some(held) = self.coordinator.environments.get(environment) else { return };
        let Some(newest) = held.newest.filter(|newest| *newest != run) else { return };
        let is_released = held.holder.is_none();
        if is_released && self.is_kept_by_a_wait(environment, newest) {
            self.violate(|| format!("r{newest} released {environment} between two calls of its attempt"));
        }
    }

    /// Checks that the engine requests the group that the pipeline declares.
    fn check_group_request(&mut self, run: usize, request: &GroupRequest) {
        let one = &self.runs[run];
        let concurrency = one.pipeline.plan.concurrency.as_ref();
        let as_planned = concurrency.is_some_and(|planned| {
            (planned.cancel_in_progress, planned.queue) == (request.cancel_in_progress, request.queue)
        });
        if !as_planned || one.pipeline.group.as_ref() != Some(&request.group) || request.run != one.id {
            self.violate(|| format!("r{run} requests another group than its pipeline's: {request:?}"));
        }
    }
}

/// Gives the group to the first waiting run, if it is free.
fn promote(members: &mut [GroupMember]) {
    if members.iter().all(|member| !member.active)
        && let Some(next) = members.iter_mut().find(|member| !member.asked)
    {
        next.active = true;
    }
}
