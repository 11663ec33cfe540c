//! Sends requests to a deployed service, and reports the responses that don't meet the expectations.

mod check;
mod config;
mod json;
mod probe;

use std::time::Duration;

use stagewright_sdk::text::count;
use stagewright_sdk::{Capability, Diagnostic, Error, Manifest, Outcome, Result, Stage, log, outputs};

use check::{Check, millis};
use config::Config;
use probe::{Attempt, probe};

/// The plugin.
#[derive(Debug)]
pub struct SmokeTest;

impl Stage for SmokeTest {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .output("checks", "Number of checks")
            .output("failed", "Number of checks that failed")
            .output("p95-latency-ms", "The 95th percentile of the latencies, in milliseconds")
            .capability(Capability::Http)
    }

    fn validate(config: &Config) -> Vec<Diagnostic> {
        let wrong = |path: String, message: String| Diagnostic::error("config", message).at(path);
        let mut found = Vec::new();
        if !config.url.starts_with("http://") && !config.url.starts_with("https://") {
            let message = format!("`{}` isn't an http or https URL", config.url);
            found.push(wrong("url".to_owned(), message).help("start it with `https://` or `http://`"));
        }
        if config.checks.is_empty() {
            let help = "add one, as in `checks = [{ path = \"/health\" }]`";
            found.push(wrong("checks".to_owned(), "there are no checks".to_owned()).help(help));
        }
        for (index, check) in config.checks.iter().enumerate() {
            for (key, message) in check.mistakes() {
                found.push(wrong(format!("checks[{index}].{key}"), message));
            }
        }
        found
    }

    fn run(config: Config) -> Result<Outcome> {
        let total = u32::try_from(config.checks.len()).ok();
        let mut latencies = Vec::new();
        let mut failed = 0_usize;
        for (index, check) in config.checks.iter().enumerate() {
            log::progress(check.name(), u32::try_from(index).unwrap_or(u32::MAX), total);
            let last = probe(&config, check)?;
            latencies.extend(last.latency);
            report(check, index, &last);
            failed += usize::from(!last.unmet.is_empty());
        }
        outputs::set("checks", &config.checks.len())?;
        outputs::set("failed", &failed)?;
        if let Some(p95) = percentile(&mut latencies, 95) {
            outputs::set("p95-latency-ms", &millis(p95))?;
        }
        if failed == 0 {
            return Ok(Outcome::Succeeded);
        }
        Err(Error::failed(format!("{failed} of {} of {} failed", count(config.checks.len(), "check"), config.url)))
    }
}

fn report(check: &Check, index: usize, last: &Attempt) {
    let name = check.name();
    let latency = last.latency.map_or_else(|| "no response".to_owned(), |latency| format!("{} ms", millis(latency)));
    let attempts = if last.number == 1 { String::new() } else { format!(", attempt {}", last.number) };
    if last.unmet.is_empty() {
        log::info(format!("ok      {name} ({latency}{attempts})"));
        return;
    }
    log::error(format!("failed  {name} ({latency}{attempts}): {}", last.unmet.join("; ")));
    for expectation in &last.unmet {
        let problem =
            Diagnostic::error("check-failed", format!("{name}: {expectation}")).at(format!("checks[{index}]"));
        outputs::report(problem);
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
