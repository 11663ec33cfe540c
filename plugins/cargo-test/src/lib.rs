//! Runs `cargo test` or nextest, and parses its output: which tests failed, and what they printed. Output of a test that
//! looks like a failure isn't taken for one: the runner's exit status and totals decide.
//!
//! Input: the runner's two streams, line by line. Output: counts, a finding for each failure, and a JUnit report.
//! [`libtest`] and [`nextest`] parse into [`results`], [`verdict`] decides whether the stage fails, [`junit`] writes the
//! report.

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
            .output("passed", "Number of tests that passed")
            .output("failed", "Number of tests that failed")
            .output("ignored", "Number of tests that were ignored")
            .output("duration", "Seconds that the tests took, without compilation")
            .capability(Capability::Process)
            .capability(Capability::Workspace)
            .capability(Capability::Artifacts)
    }

    fn run(config: Config) -> Result<Outcome> {
        let mut reader = Reader::new(config.runner);
        let status = config.command().run_lines(|line| reader.push(line))?;
        let output = reader.finish(status);
        outputs::set("passed", &output.results.passed())?;
        outputs::set("failed", &output.results.failed())?;
        outputs::set("ignored", &output.results.ignored())?;
        outputs::set("duration", &output.results.seconds())?;
        for problem in verdict::problems(&output.results) {
            outputs::report(problem);
        }
        if let Some(path) = &config.junit {
            workspace::write(path, junit::render(&output.results))?;
            let name = path.rsplit('/').next().unwrap_or(path);
            artifacts::publish(name, path, "application/xml")?;
        }
        match verdict::failure(&config, &output) {
            Some(error) => Err(error),
            None => Ok(Outcome::Succeeded),
        }
    }
}

stagewright_sdk::export_stage!(CargoTest);

#[cfg(test)]
mod tests;
