//! The parser of pipeline files. The input is a file.

use std::collections::BTreeMap;

use stagewright_model::{Bounds, Lock, LockedPipeline, Plan, PluginNames, PluginPin};
use stagewright_report::Graph;

use crate::check_places;

/// The errors for a file have spans within it. A plan is in the order of its needs, can be drawn in every format, and has
/// a lock that is parsed as it was written.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Plan::parse("stagewright.toml", text, &plugins()) {
        Err(diagnostics) => check_places(&diagnostics, text),
        Ok((plan, warnings)) => {
            for warning in &warnings {
                let span = warning.span();
                assert!(warning.is_warning() && text.get(span.start..span.end).is_some(), "{span:?}: {warning}");
            }
            check_plan(&plan);
        }
    }
}

fn plugins() -> PluginNames {
    [
        "approve",
        "audit",
        "build-image",
        "cargo-test",
        "command",
        "deploy-process",
        "noop",
        "notify",
        "push-image",
        "smoke-test",
    ]
    .into_iter()
    .collect()
}

fn check_plan(plan: &Plan) {
    assert!(!plan.stages.is_empty());
    for (index, stage) in plan.indices().zip(&plan.stages) {
        assert!(stage.needs.iter().all(|need| *need < index), "`{}` comes before what it needs", stage.id);
        assert!(plan.named(&stage.name).any(|named| named == index), "`{}` isn't found by its name", stage.id);
    }
    let graph = Graph::of_plan(plan);
    for drawn in [graph.to_dot(), graph.to_mermaid(), graph.to_svg()] {
        assert!(!drawn.is_empty());
    }
    check_lock(plan);
}

fn check_lock(plan: &Plan) {
    let pin = PluginPin { digest: format!("sha256:{}", "0".repeat(64)), ..PluginPin::default() };
    let locked = LockedPipeline::of(plan, &vec![pin; plan.stages.len()], &[]);
    assert_eq!(locked.changes(&locked, &Bounds::default()), [], "nothing changed");
    let lock = Lock { pipelines: BTreeMap::from([(plan.name.clone(), locked)]) };
    let text = lock.render();
    match Lock::parse("stagewright.lock", &text) {
        Ok(read) => assert_eq!(read, lock, "parsed as another lock:\n{text}"),
        Err(errors) => panic!("refused the written lock: {:?}\n{text}", errors.iter().next()),
    }
}
