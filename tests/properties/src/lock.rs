//! The parsers of lock files and of operator policies. The input is parsed as both.

use std::sync::LazyLock;

use stagewright_model::{Bounds, Lock, OperatorPolicy, Plan};

use crate::check_places;

const PIPELINE: &str = r#"
schema = 1
pipeline.name = "sample"
[secrets.token]
from = "env:TOKEN"
[stages.test]
uses = "noop"
timeout = "20m"
memory = "64MiB"
[stages.test.permissions]
process = ["cargo", "git fetch origin *"]
read = ["."]
write = ["target"]
net = ["https://example.org"]
secrets = ["token:env"]
"#;

static PLAN: LazyLock<Option<Plan>> =
    LazyLock::new(|| Some(Plan::parse("sample.toml", PIPELINE, &["noop"].into_iter().collect()).ok()?.0));

/// The errors for a file have spans within it. Writing a lock and parsing it again gives the same lock, and a lock doesn't
/// differ from itself. A policy's diagnostics for a plan have spans within the plan's file, and a plan that the policy was
/// imposed on keeps its limits.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Lock::parse("stagewright.lock", text) {
        Ok(lock) => check_lock(&lock),
        Err(diagnostics) => check_places(&diagnostics, text),
    }
    match OperatorPolicy::parse("policy.toml", text) {
        Ok(policy) => check_policy(&policy),
        Err(diagnostics) => check_places(&diagnostics, text),
    }
}

fn check_lock(lock: &Lock) {
    let again = lock.render();
    assert_eq!(Lock::parse("stagewright.lock", &again).ok().as_ref(), Some(lock), "parsed as another lock:\n{again}");
    for pipeline in lock.pipelines.values() {
        assert_eq!(pipeline.changes(pipeline, &Bounds::default()), [], "differs from itself");
    }
}

fn check_policy(policy: &OperatorPolicy) {
    let mut plan = PLAN.clone().expect("the sample has no mistakes");
    let digests = [format!("sha256:{}", "0".repeat(64))];
    let judge = |plan: &Plan| policy.check(plan, "sample.toml", PIPELINE, &digests);
    if let Err(diagnostics) = judge(&plan) {
        check_places(&diagnostics, PIPELINE);
    }
    policy.impose(&mut plan, &Bounds::default());
    for diagnostic in judge(&plan).err().into_iter().flatten() {
        assert!(!diagnostic.message().contains("sets the limit"), "not imposed: {diagnostic}");
    }
    let once: Vec<Bounds> = plan.stages.iter().map(|stage| stage.bounds()).collect();
    policy.impose(&mut plan, &Bounds::default());
    assert!(plan.stages.iter().map(|stage| stage.bounds()).eq(once), "imposing the policy again changes the plan");
}
