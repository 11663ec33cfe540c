//! Runs `cargo test` or nextest, and parses its output: which tests failed, and what they printed. Output of a test that
//! looks like a failure isn't taken for one: the runner's exit status and totals decide.
//!
//! Input: the runner's two streams, line by line. Output: counts, a test case for each test, and a finding for each failure.
//! [`libtest`] and [`nextest`] parse into [`results`], [`report`] reports them, and [`verdict`] decides whether the stage
//! fails.

mod compile;
mod config;
mod libtest;
mod nextest;
mod reader;
mod report;
mod results;
mod selection;
mod verdict;

use stagewright_sdk::{Manifest, Outcome, Requirement, Result, Stage, metrics, outputs, test_reports};

use config::Config;
use reader::Reader;

/// The plugin.
#[derive(Debug)]
pub struct CargoTest;

impl Stage for CargoTest {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<usize>("passed", "Number of tests that passed")
            .output::<usize>("failed", "Number of tests that failed")
            .output::<usize>("ignored", "Number of tests that were ignored")
            .output::<f64>("duration", "Seconds that the tests took, without compilation")
    }

    /// Cargo itself decides what else it needs: it may find the workspace in a parent folder, and build elsewhere.
    fn requirements(config: &Config) -> Vec<Requirement> {
        let manifest = Requirement::read(config.beside_manifest("Cargo.toml")).because("names the packages");
        vec![
            Requirement::command("cargo", config.arguments()).because("runs the tests"),
            if config.cwd.is_some() { manifest.optional() } else { manifest },
            Requirement::write(config.beside_manifest("target")).because("Cargo builds there").optional(),
            Requirement::net("cargo").because("downloads missing dependencies").optional(),
        ]
    }

    fn run(config: Config) -> Result<Outcome> {
        let mut reader = Reader::new(config.runner);
        let selection = test_reports::failed_before().and_then(|tests| selection::arguments(&tests));
        let is_selection = selection.is_some();
        let status = config.command(selection).run_lines(|line| reader.push(line))?;
        let output = reader.finish(status);
        let (passed, failed, seconds) = (output.results.passed(), output.results.failed(), output.results.seconds());
        outputs::set("passed", &passed)?;
        outputs::set("failed", &failed)?;
        outputs::set("ignored", &output.results.ignored())?;
        outputs::set("duration", &seconds)?;
        metrics::set("tests", (passed + failed) as f64, "")?;
        metrics::set("test-duration", seconds, "s")?;
        report::report(&config, &output.results);
        match verdict::failure(&config, &output, is_selection) {
            Some(error) => Err(error),
            None => Ok(Outcome::Succeeded),
        }
    }
}

stagewright_sdk::export_stage!(CargoTest);

#[cfg(test)]
mod tests;
