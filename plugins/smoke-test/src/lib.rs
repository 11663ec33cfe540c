//! Sends requests to a deployed service, and reports the responses that don't meet the expectations.

mod check;
mod config;
mod json;
mod probe;

use std::time::Duration;

use stagewright_sdk::text::count;
use stagewright_sdk::{Error, Finding, Manifest, Outcome, Problem, Requirement, Result, Stage, log, metrics, outputs};

use check::{Check, millis};
use config::Config;
use probe::{Attempt, probe};

/// The plugin.
#[derive(Debug)]
pub struct SmokeTest;

impl Stage for SmokeTest {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<usize>("checks", "Number of checks")
            .output::<usize>("failed", "Number of checks that failed")
            .output::<u64>("p95-latency-ms", "The 95th percentile of the latencies, in milliseconds")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        let mut found = Vec::new();
        if Requirement::url(&config.url).is_none() {
            let message = format!("`{}` isn't an http or https URL", config.url);
            found.push(Problem::at("url", message).help("start it with `https://` or `http://`"));
        }
        if config.checks.is_empty() {
            let help = "add one, as in `checks = [{ path = \"/health\" }]`";
            found.push(Problem::at("checks", "there are no checks").help(help));
        }
        found.extend(config.checks.iter().enumerate().flat_map(|(index, check)| check.problems(index)));
        found
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        Requirement::url(&config.url).map(|net| net.because("is checked")).into_iter().collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        let total = config.checks.len() as u64;
        let mut latencies = Vec::new();
        let mut failed = 0_usize;
        for (done, check) in (0..).zip(&config.checks) {
            log::progress(check.name(), done, Some(total));
            let last = probe(&config, check)?;
            latencies.extend(last.latency);
            report(check, &last);
            failed += usize::from(!last.unmet.is_empty());
        }
        outputs::set("checks", &config.checks.len())?;
        outputs::set("failed", &failed)?;
        if let Some(p95) = percentile(&mut latencies, 95) {
            outputs::set("p95-latency-ms", &millis(p95))?;
            metrics::set("p95-latency", p95.as_secs_f64() * 1e3, "ms")?;
        }
        if failed == 0 {
            return Ok(Outcome::Succeeded);
        }
        Err(Error::failed(format!("{failed} of {} of {} failed", count(config.checks.len(), "check"), config.url)))
    }
}

fn report(check: &Check, last: &Attempt) {
    let name = check.name();
    let latency = last.latency.map_or_else(|| "no response".to_owned(), |latency| format!("{} ms", millis(latency)));
    let attempts = if last.number == 1 { String::new() } else { format!(", attempt {}", last.number) };
    if last.unmet.is_empty() {
        log::info(format!("ok      {name} ({latency}{attempts})"));
        return;
    }
    log::error(format!("failed  {name} ({latency}{attempts}): {}", last.unmet.join("; ")));
    for expectation in &last.unmet {
        Finding::error("check-failed", format!("{name}: {expectation}")).fingerprint(&name).report();
    }
}

/// The percentile by the nearest-rank method.
fn percentile(latencies: &mut [Duration], percent: usize) -> Option<Duration> {
    latencies.sort_unstable();
    let rank = (latencies.len() * percent).div_ceil(100);
    latencies.get(rank.checked_sub(1)?).copied()
}

stagewright_sdk::export_stage!(SmokeTest);

#[cfg(test)]
mod tests;
