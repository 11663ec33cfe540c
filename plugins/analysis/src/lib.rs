//! Measures a release, or anything else that a number says something about, and decides by conditions in CEL.
//!
//! Input: metrics, each with a query, conditions, an interval and limits. Output: the verdict. It fails if a metric failed,
//! ends in error if one could not be measured, and is inconclusive, which isn't a success, if there isn't enough to decide on.
//!
//! It changes nothing. An analysis that decides about a rollout belongs in the strategy of its deploy.

#[cfg(test)]
mod tests;

use rollout::{Analysis, Phase, Subject, Verdict};
use stagewright_sdk::{Manifest, Outcome, Problem, Requirement, Result, Stage, log, metrics, outputs};

/// The plugin.
#[derive(Debug)]
pub struct AnalysisStage;

impl Stage for AnalysisStage {
    type Config = Analysis;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<String>("verdict", "`successful`, `inconclusive`, `error` or `failed`")
            .output::<Vec<String>>("reasons", "The metrics that decided against success, with their last measurements")
    }

    fn validate(analysis: &Analysis) -> Vec<Problem> {
        analysis.problems("", false)
    }

    fn requirements(analysis: &Analysis) -> Vec<Requirement> {
        analysis.requirements()
    }

    fn run(analysis: Analysis) -> Result<Outcome> {
        let verdict = analysis.run(&Subject::default())?;
        publish(&verdict)?;
        match verdict.error() {
            Some(error) => Err(error),
            None => Ok(Outcome::Succeeded),
        }
    }
}

fn publish(verdict: &Verdict) -> Result<()> {
    let reasons = verdict.reasons();
    outputs::set("verdict", verdict.phase().as_str())?;
    outputs::set("reasons", &reasons)?;
    if verdict.is_dry_run && !reasons.is_empty() {
        log::warn(format!("the analysis is a dry run: {}", reasons.join("; ")));
    }
    for metric in &verdict.metrics {
        metrics::set(&format!("{}.failed", metric.name), f64::from(metric.failed), "")?;
    }
    let lines = verdict.metrics.iter().map(|metric| {
        let phase = metric.phase.map_or("not decided", Phase::as_str);
        format!("| {} | {phase} | {} | {} |\n", metric.name, metric.taken, metric.last)
    });
    outputs::summary(format!(
        "| metric | verdict | measured | last |\n|---|---|---|---|\n{}",
        lines.collect::<String>()
    ));
    Ok(())
}

stagewright_sdk::export_stage!(AnalysisStage);
