//! Plans, put together by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use stagewright_model::{
    Concurrency, Environment, EnvironmentRef, Expression, Freeze, FreezeWindow, JsonTemplate, Limits, MatrixCell, Plan,
    PluginRef, Queue, Stage, StageIndex, StageKind, Template, Trust,
};

/// A stage of that name, which needs the stages at these indices.
pub(crate) fn stage(name: &str, needs: &[u32]) -> Stage {
    Stage {
        id: name.to_owned(),
        name: name.to_owned(),
        kind: StageKind::Main,
        uses: PluginRef::Builtin("fake".to_owned()),
        with: templates(json!({})),
        needs: needs.iter().map(|&index| StageIndex(index)).collect(),
        condition: None,
        matrix: None,
        wave: None,
        timeout: None,
        retry: Arc::default(),
        continue_on_error: false,
        env: BTreeMap::new(),
        environment: None,
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

/// A `with` table.
pub(crate) fn templates(table: Json) -> Arc<JsonTemplate> {
    Arc::new(JsonTemplate::parse(table).expect("expressions that parse"))
}

/// The same, with an `if`.
pub(crate) fn stage_if(name: &str, needs: &[u32], condition: &str) -> Stage {
    Stage { condition: Some(Expression::parse(condition).expect("an expression")), ..stage(name, needs) }
}

/// The same, as a finally stage.
pub(crate) fn finally(name: &str) -> Stage {
    Stage { kind: StageKind::Finally, ..stage(name, &[]) }
}

/// One cell of the fail-fast matrix `name`.
pub(crate) fn cell(name: &str, value: u32, max_parallel: Option<u32>) -> Stage {
    let values = BTreeMap::from([("n".to_owned(), json!(value))]);
    Stage {
        id: format!("{name} (n={value})"),
        matrix: Some(MatrixCell { values, fail_fast: true, max_parallel }),
        ..stage(name, &[])
    }
}

/// Stages in topological order, finally stages last.
pub(crate) fn plan(stages: Vec<Stage>) -> Arc<Plan> {
    Arc::new(Plan::of_stages("test", stages))
}

/// A stage that acts on the environment `production`.
pub(crate) fn deploy(name: &str, needs: &[u32]) -> Stage {
    Stage { environment: Some(EnvironmentRef { name: "production".to_owned(), url: None }), ..stage(name, needs) }
}

/// As [`plan`], with an environment `production` that these people approve of, and that is frozen from and until
/// these milliseconds.
pub(crate) fn plan_with(stages: Vec<Stage>, approvers: &[&str], freeze: Option<std::ops::Range<u64>>) -> Arc<Plan> {
    let freeze = freeze.map(|window| Freeze { window: FreezeWindow::Once(window), reason: "holidays".to_owned() });
    let environment = Environment {
        target: Some("process".to_owned()),
        approvers: approvers.iter().map(|&who| who.to_owned()).collect(),
        freeze: freeze.into_iter().collect(),
        ..Environment::default()
    };
    let mut plan = Plan::of_stages("test", stages);
    plan.environments.insert("production".to_owned(), environment);
    plan.teams.insert("release".to_owned(), vec!["ada".to_owned(), "grace".to_owned()]);
    Arc::new(plan)
}

/// As [`plan`], in the concurrency group `g`.
pub(crate) fn grouped(stages: Vec<Stage>, hold_at_gates: bool) -> Arc<Plan> {
    let mut plan = Plan::of_stages("test", stages);
    let group = Template::parse("g").expect("a template");
    plan.concurrency = Some(Concurrency { group, cancel_in_progress: false, queue: Queue::Max, hold_at_gates });
    Arc::new(plan)
}
