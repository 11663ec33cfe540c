//! Measures a service under load: sends requests at a steady rate, and compares latencies and errors with limits, with a service
//! beside it, or with what the last good release was measured at.
//!
//! Input: the service, the requests and their rate, and what is expected. Output: rate, latencies and errors, also as metrics.
//!
//! The requests come from the plugin itself, over the host's connections: no load generator has to be installed, and none has
//! the network. Only GET is sent, so that it has no effect but load.

mod config;
mod load;
mod sample;
#[cfg(test)]
mod tests;

use stagewright_sdk::{
    Error, Finding, Manifest, Outcome, Problem, Requirement, Result, Stage, context, environment, log, metrics, outputs,
};

use crate::config::{Comparison, Config, Limits};
use crate::sample::Measured;

/// The metrics, which later runs are compared with.
const P95: &str = "p95";
const ERRORS: &str = "errors";

/// The plugin.
#[derive(Debug)]
pub struct Perf;

impl Stage for Perf {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<u64>("requests", "The number of requests that count")
            .output::<f64>("rate", "Answered requests per second")
            .output::<f64>("errors", "The share of errors, in percent")
            .output::<Option<u32>>("p50-ms", "The latency that half of the requests exceed, in milliseconds")
            .output::<Option<u32>>("p95-ms", "The latency that 5 % of the requests exceed, in milliseconds")
            .output::<Option<u32>>("p99-ms", "The latency that 1 % of the requests exceed, in milliseconds")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config.problems()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        config.requirements()
    }

    fn run(config: Config) -> Result<Outcome> {
        let beside = config.compare.as_ref().and_then(|compare| compare.url.as_deref());
        let places: Vec<&str> = [Some(config.url.as_str()), beside].into_iter().flatten().collect();
        let mut samples = load::measure(&config, &places)?.into_iter();
        let mut sample = samples.next().ok_or_else(|| Error::internal("nothing was measured"))?;
        let (measured, errors) = (sample.measured(), sample.errors());
        publish(&measured)?;
        log::info(format!("{}: {}", config.url, measured.described()));
        for error in &errors {
            log::warn(error);
        }
        let mut unmet = unmet(&config.limits, &measured);
        if let Some(compare) = &config.compare {
            let other = samples.next().map(|mut sample| sample.measured());
            unmet.extend(worse(compare, &measured, other.as_ref())?);
        }
        for message in &unmet {
            Finding::error("performance", message).report();
        }
        match unmet.is_empty() {
            true => Ok(Outcome::Succeeded),
            false => Err(Error::failed(format!("{} is not fast or not reliable enough", config.url))
                .causes(unmet)
                .causes(errors)),
        }
    }
}

stagewright_sdk::export_stage!(Perf);

fn publish(measured: &Measured) -> Result<()> {
    let Measured { requests, rate, errors, p50, p95, p99 } = measured;
    outputs::set("requests", requests)?;
    outputs::set("rate", rate)?;
    outputs::set("errors", errors)?;
    for (name, value) in [("p50", p50), (P95, p95), ("p99", p99)] {
        outputs::set(&format!("{name}-ms"), value)?;
        if let Some(value) = value {
            metrics::set(name, f64::from(*value), "ms")?;
        }
    }
    metrics::set("rate", *rate, "1/s")?;
    metrics::set(ERRORS, *errors, "%")?;
    outputs::summary(format!("{}\n", measured.described()));
    Ok(())
}

/// The expectations that aren't met.
fn unmet(limits: &Limits, measured: &Measured) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value, limit) in
        [("p50", measured.p50, limits.p50), (P95, measured.p95, limits.p95), ("p99", measured.p99, limits.p99)]
    {
        let Some(limit) = limit.map(|limit| limit.0.as_millis()) else { continue };
        match value {
            Some(value) if u128::from(value) > limit => {
                found.push(format!("{name} is {value} ms, at most {limit} ms are allowed"));
            }
            Some(_) => {}
            None => found.push(format!("{name} is unknown, because nothing was answered")),
        }
    }
    if let Some(limit) = limits.errors.filter(|limit| measured.errors > *limit) {
        found.push(format!("{:.2} % of the requests failed, at most {limit} % are allowed", measured.errors));
    }
    found
}

/// In what it is worse than the service beside it, or than the last good release.
fn worse(compare: &Comparison, measured: &Measured, beside: Option<&Measured>) -> Result<Vec<String>> {
    let (than, p95, errors) = match (beside, &compare.environment) {
        (Some(beside), _) => {
            let than = compare.url.clone().unwrap_or_default();
            log::info(format!("{than}: {}", beside.described()));
            (than, beside.p95.map(f64::from), Some(beside.errors))
        }
        (None, Some(name)) => {
            let release = environment::good_release(name)?;
            let measured = release.and_then(|release| release.measurements.get(&context::stage_id()).cloned());
            let Some(measured) = measured else {
                let message =
                    format!("no good release of {name} was measured by this stage: there is nothing to compare with");
                log::info(message);
                return Ok(Vec::new());
            };
            let value = |name: &str| measured.get(name).copied();
            (format!("the last good release of {name}"), value(P95), value(ERRORS))
        }
        (None, None) => return Ok(Vec::new()),
    };
    let mut found = Vec::new();
    if let (Some(own), Some(other)) = (measured.p95.map(f64::from), p95) {
        // Below a few milliseconds, a percentage is about the clock.
        let allowed = (other * (1.0 + compare.p95 / 100.0)).max(other + 5.0);
        log::info(format!("p95 {own} ms, and {other} ms of {than}"));
        if own > allowed {
            found.push(format!("p95 is {own} ms, and {other} ms of {than}: at most {:.0} ms are allowed", allowed));
        }
    }
    if let Some(other) = errors.filter(|other| measured.errors > other + compare.errors) {
        found.push(format!("{:.2} % of the requests failed, and {other:.2} % of {than}", measured.errors));
    }
    Ok(found)
}
