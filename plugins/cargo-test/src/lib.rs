//! Runs `cargo test`, or nextest, and reads what it prints: which tests failed and what they said. What tests print
//! themselves is never taken for a failure: the runner's exit status and totals decide.
//!
//! In flow the runner's two streams, line by line; out come counts, a finding for each failure, and a JUnit report.
//! [`libtest`] and [`nextest`] read, [`results`] holds what was read, [`verdict`] judges it, [`junit`] writes it down.

mod compile;
mod config;
mod junit;
mod libtest;
mod nextest;
mod reader;
mod results;
mod verdict;

use stagewright_sdk::{Capability, Manifest, Outcome, Result, Stage, artifacts, outputs, workspace};

use config::Config;
use reader::Reader;

/// The plugin.
#[derive(Debug)]
pub struct CargoTest;

impl Stage for CargoTest {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .output("passed", "How many tests passed")
            .output("failed", "How many failed")
            .output("ignored", "How many were not run")
            .output("duration", "Seconds that the tests took, without compiling")
            .capability(Capability::Process)
            .capability(Capability::Workspace)
            .capability(Capability::Artifacts)
    }

    fn run(config: Config) -> Result<Outcome> {
        let mut reader = Reader::new(config.runner);
        let status = config.command().run_lines(|line| reader.take(line))?;
        let heard = reader.finish(status);
        outputs::set("passed", &heard.results.passed())?;
        outputs::set("failed", &heard.results.failed())?;
        outputs::set("ignored", &heard.results.ignored())?;
        outputs::set("duration", &heard.results.seconds())?;
        for problem in verdict::problems(&heard.results) {
            outputs::report(problem);
        }
        if let Some(path) = &config.junit {
            workspace::write(path, junit::render(&heard.results))?;
            let name = path.rsplit('/').next().unwrap_or(path);
            artifacts::publish(name, path, "application/xml")?;
        }
        match verdict::judge(&config, &heard) {
            Some(error) => Err(error),
            None => Ok(Outcome::Succeeded),
        }
    }
}

stagewright_sdk::export_stage!(CargoTest);

#[cfg(test)]
mod tests;
