//! Random pipelines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value as Json, json};
use stagewright_engine::{EffectClass, PluginFacts};
use stagewright_model::{
    Backoff, Concurrency, Environment, EnvironmentRef, Expression, Freeze, FreezeWindow, JsonTemplate, Limits,
    MatrixCell, Plan, PluginRef, Queue, Retry, RetryCause, Stage, StageIndex, StageKind, Template, Trust,
};

use crate::world::BASE;

/// A condition of an `if`, with its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Always,
    Failure,
    Success,
    True,
    False,
    CancelledOrSuccess,
}

impl Condition {
    const ALL: [Condition; 6] = [
        Condition::Always,
        Condition::Failure,
        Condition::Success,
        Condition::True,
        Condition::False,
        Condition::CancelledOrSuccess,
    ];

    fn text(self) -> &'static str {
        match self {
            Condition::Always => "always()",
            Condition::Failure => "failure()",
            Condition::Success => "success()",
            Condition::True => "true",
            Condition::False => "false",
            Condition::CancelledOrSuccess => "cancelled() || success()",
        }
    }

    /// Whether it is evaluated even if a need didn't succeed.
    pub(crate) fn asks_how_needs_ended(self) -> bool {
        !matches!(self, Condition::True | Condition::False)
    }

    pub(crate) fn holds(self, failed: bool, cancelled: bool) -> bool {
        match self {
            Condition::Always | Condition::True => true,
            Condition::False => false,
            Condition::Failure => failed && !cancelled,
            Condition::Success => !failed && !cancelled,
            Condition::CancelledOrSuccess => cancelled || !failed,
        }
    }
}

/// True with a probability of `percent`.
pub(crate) fn chance(rng: &mut Rng, percent: u32) -> bool {
    rng.u32(0..100) < percent
}

pub(crate) fn between(rng: &mut Rng, millis: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(millis))
}

/// A pipeline, and the simulator's facts about its plugins.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) plan: Arc<Plan>,
    pub(crate) facts: Vec<PluginFacts>,
    /// The conditions of the stages.
    pub(crate) conditions: Vec<Option<Condition>>,
    /// Stages whose plugin opens a gate before it does anything.
    pub(crate) asks: Vec<bool>,
    /// The environments that such a gate approves.
    pub(crate) approves: Vec<Option<String>>,
    /// Stages whose plugin may wait for a time or a signal, several times in an attempt.
    pub(crate) waits: Vec<bool>,
    pub(crate) group: Option<String>,
}

pub(crate) fn pipeline(rng: &mut Rng, environments: &BTreeMap<String, Environment>) -> Pipeline {
    let mut stages: Vec<Stage> = Vec::new();
    let mut conditions = Vec::new();
    let count = rng.usize(3..=12);
    let last = rng.usize(0..=2);
    while stages.len() < count {
        let kind = if stages.len() + last >= count { StageKind::Finally } else { StageKind::Main };
        let condition = chance(rng, 20).then(|| *rng.choice(&Condition::ALL).expect("a condition"));
        let stage = stage(rng, &stages, kind, condition);
        if kind == StageKind::Main && stages.len() + last + 3 < count && chance(rng, 25) {
            stages.extend(cells(rng, &stage));
        } else {
            stages.push(stage);
        }
        conditions.resize(stages.len(), condition);
    }
    let facts: Vec<PluginFacts> = stages.iter().map(|stage| facts(rng, stage)).collect();
    add_compensation(rng, &mut stages, &facts);
    let asks: Vec<bool> = stages.iter().map(|_| chance(rng, 12)).collect();
    let waits = stages.iter().map(|_| chance(rng, 25)).collect();
    let approves = stages.iter_mut().zip(&asks).map(|(stage, asks)| approves(rng, stage).filter(|_| *asks)).collect();
    let mut plan = Plan::of_stages("simulated", stages);
    plan.environments.clone_from(environments);
    plan.teams.insert("ops".to_owned(), vec!["ada".to_owned(), "grace".to_owned()]);
    let group = chance(rng, 40).then(|| (*rng.choice(&["g", "h"]).expect("a name")).to_owned());
    plan.concurrency = group.as_ref().map(|group| Concurrency {
        group: Template::parse(group).expect("a template"),
        cancel_in_progress: chance(rng, 30),
        queue: if rng.bool() { Queue::Single } else { Queue::Max },
        hold_at_gates: rng.bool(),
    });
    Pipeline { plan: Arc::new(plan), facts, conditions, asks, waits, approves, group }
}

/// Two environments, sometimes with approvers or a freeze.
pub(crate) fn environments(rng: &mut Rng) -> BTreeMap<String, Environment> {
    let one = |rng: &mut Rng| Environment {
        target: Some("process".to_owned()),
        approvers: match rng.u32(0..4) {
            0 => vec!["ada".to_owned()],
            1 => vec!["team:ops".to_owned()],
            _ => Vec::new(),
        },
        freeze: (0..rng.usize(0..=2)).filter_map(|_| freeze(rng)).collect(),
        ..Environment::default()
    };
    ["production", "staging"].into_iter().map(|name| (name.to_owned(), one(rng))).collect()
}

fn freeze(rng: &mut Rng) -> Option<Freeze> {
    let from = BASE + rng.u64(0..900_000);
    let window = FreezeWindow::Once(from..from + rng.u64(1_000..600_000));
    rng.bool().then(|| Freeze { window, reason: "a release party".to_owned() })
}

fn templates(table: Json) -> Arc<JsonTemplate> {
    Arc::new(JsonTemplate::parse(table).expect("expressions that parse"))
}

fn stage(rng: &mut Rng, before: &[Stage], kind: StageKind, condition: Option<Condition>) -> Stage {
    let name = format!("s{}", before.len());
    let mut needs: Vec<StageIndex> = Vec::new();
    for _ in 0..rng.usize(0..=2) {
        let same_kind: Vec<&Stage> = before.iter().filter(|stage| stage.kind == kind).collect();
        let Some(chosen) = rng.choice(same_kind) else { continue };
        // To need a matrix is to need each of its cells.
        let cells =
            (0..).zip(before).filter(|(_, stage)| stage.name == chosen.name).map(|(index, _)| StageIndex(index));
        needs.extend(cells);
    }
    needs.sort_unstable();
    needs.dedup();
    let causes = RetryCause::ALL.into_iter().filter(|_| chance(rng, 75)).collect();
    let backoff = Backoff { initial: between(rng, 0..5_000), ..Backoff::default() };
    Stage {
        id: name.clone(),
        name,
        kind,
        uses: PluginRef::Builtin("simulated".to_owned()),
        with: templates(json!({ "run": "${{ run.id }}" })),
        needs,
        condition: condition.map(|condition| Expression::parse(condition.text()).expect("an expression")),
        matrix: None,
        wave: None,
        timeout: chance(rng, 80).then(|| between(rng, 2_000..60_000)),
        retry: Retry { max: rng.u32(0..=2), on: causes, backoff }.into(),
        continue_on_error: chance(rng, 10),
        env: BTreeMap::new(),
        environment: chance(rng, 35).then(|| EnvironmentRef {
            name: (*rng.choice(&["production", "staging"]).expect("a name")).to_owned(),
            url: None,
        }),
        permissions: Arc::default(),
        permission_sets: Vec::new(),
        rehearse: None,
        inputs: Vec::new(),
        outputs: Vec::new(),
        cache: Default::default(),
        compensate: Vec::new(),
        trust: Trust::default(),
        memory: None,
        log_limit: None,
        limits: Limits::default(),
        location: Default::default(),
        line: 1,
    }
}

fn cells(rng: &mut Rng, stage: &Stage) -> Vec<Stage> {
    let fail_fast = rng.bool();
    let max_parallel = rng.bool().then(|| rng.u32(1..=2));
    let one = |n: usize| Stage {
        id: format!("{} (n={n})", stage.name),
        matrix: Some(MatrixCell { values: BTreeMap::from([("n".to_owned(), json!(n))]), fail_fast, max_parallel }),
        ..stage.clone()
    };
    (0..rng.usize(2..=4)).map(one).collect()
}

fn facts(rng: &mut Rng, stage: &Stage) -> PluginFacts {
    let effect = match rng.u32(0..10) {
        _ if stage.environment.is_some() => EffectClass::External,
        0..=3 => EffectClass::External,
        4..=6 => EffectClass::Local,
        _ => EffectClass::Pure,
    };
    PluginFacts { effect, ..PluginFacts::default() }
}

/// Makes the stage's own gate approve an environment, in half of the stages.
fn approves(rng: &mut Rng, stage: &mut Stage) -> Option<String> {
    let environment = rng.bool().then(|| (*rng.choice(&["production", "staging"]).expect("a name")).to_owned())?;
    stage.with = templates(json!({ "run": "${{ run.id }}", "environments": [environment] }));
    Some(environment)
}

fn add_compensation(rng: &mut Rng, stages: &mut [Stage], facts: &[PluginFacts]) {
    for index in 1..stages.len() {
        if stages[index].kind == StageKind::Finally || !chance(rng, 50) {
            continue;
        }
        let before = (0..).zip(&facts[..index]).filter(|(_, facts)| facts.effect == EffectClass::External);
        stages[index].compensate = before.map(|(target, _)| StageIndex(target)).filter(|_| rng.bool()).collect();
    }
}
