//! Plans, put together by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use petgraph::graph::{DiGraph, NodeIndex};
use serde_json::json;
use stagewright_model::{
    Expression, MatrixCell, Permissions, Plan, PluginRef, Retry, Stage, StageIndex, StageKind, Triggers, Trust,
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
    let mut graph = DiGraph::new();
    for index in 0..stages.len() {
        graph.add_node(StageIndex(u32::try_from(index).expect("a small plan")));
    }
    for (index, stage) in stages.iter().enumerate() {
        for need in &stage.needs {
            graph.add_edge(NodeIndex::new(need.get()), NodeIndex::new(index), ());
        }
    }
    Arc::new(Plan {
        name: "test".to_owned(),
        description: None,
        triggers: Triggers::default(),
        inputs: BTreeMap::new(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        environments: BTreeMap::new(),
        concurrency: None,
        stages,
        graph,
    })
}
