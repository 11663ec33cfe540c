//! Tests on the fake host.

use serde_json::json;
use stagewright_sdk::fake::{FakeHost, HttpScript, Report};
use stagewright_sdk::{Outcome, Permission, Result};

use crate::AnalysisStage;

fn host(limit: u32) -> FakeHost {
    FakeHost::new().config(json!({ "metrics": [{
        "name": "queue",
        "http": { "url": "http://app:80/queue" },
        "success-condition": format!("result.length < {limit}"),
    }] }))
}

fn measured(limit: u32) -> Report<Result<Outcome>> {
    let answer = HttpScript::get("http://app:80/queue").body(r#"{"length":5}"#);
    host(limit).http(answer).run::<AnalysisStage>()
}

#[test]
fn the_verdict_is_published_and_decides() {
    let good = measured(10);
    assert_eq!(good.result, Ok(Outcome::Succeeded));
    assert_eq!((&good.outputs["verdict"], &good.outputs["reasons"]), (&json!("successful"), &json!([])));
    let bad = measured(5);
    assert_eq!(bad.result.unwrap_err().message, "the analysis failed");
    assert_eq!(bad.outputs["verdict"], "failed");
    assert_eq!(bad.outputs["reasons"], json!([r#"queue: {"length":5} (failed)"#]));
    assert!(bad.summaries[0].contains("| queue | failed | 1 |"), "{}", bad.summaries[0]);
    assert!((bad.metrics["queue.failed"].value - 1.0).abs() < f64::EPSILON);
}

#[test]
fn what_is_measured_is_required() {
    let required = host(1).requirements::<AnalysisStage>();
    assert_eq!((required[0].permission, required[0].entry.as_str()), (Permission::Net, "http://app"));
}
