//! Plans, put together by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use stagewright_model::{
    Expression, MatrixCell, Permissions, Plan, PluginRef, Retry, Stage, StageIndex, StageKind, Trust,
};

/// A stage of that name, which needs the stages at these indices.
pub(crate) fn stage(name: &str, needs: &[u32]) -> Stage {
    Stage {
        id: name.to_owned(),
        name: name.to_owned(),
        kind: StageKind::Main,
        uses: PluginRef::Builtin("fake".to_owned()),
        with: json!({}),
        needs: needs.iter().map(|&index| StageIndex(index)).collect(),
        condition: None,
        matrix: None,
        timeout: None,
        retry: Retry::default(),
        continue_on_error: false,
        env: BTreeMap::new(),
        environment: None,
        permissions: Permissions::default(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        compensate: Vec::new(),
        trust: Trust::default(),
        memory: None,
        log_limit: None,
        location: Default::default(),
        line: 1,
    }
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
