//! Benchmarks against other tools: `cargo xtask bench SUBJECT`.
//!
//! Every tool does the same work, and all of them are timed in turn. Only ratios within one run can be compared: absolute
//! times depend on the machine.

mod contest;
mod files;
mod graph;
mod image;
mod log;
mod peers;
mod table;

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::Value as Json;

use crate::cargo::{Result, capture, cargo, run};
use crate::pipeline;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// `/bin/true` in a sandbox against a plain start, 1,000 times each
    Sandbox,
    /// 1,000 stages that do nothing, against make, ninja and just
    Graph,
    /// 1,000 stages that start a program, plain and confined, against make and ninja
    Processes,
    /// 1,000 stages whose results are all in the cache, against turbo and moon
    Cached,
    /// A whole process for one stage, `validate` and `--help`, against turbo, moon and gitlab-ci-local
    Start,
    /// 10,000 and 100,000 stages against 1,000: time and memory for each
    Scale,
    /// 50,000 files that are hashed and haven't changed, against turbo and moon
    Files,
    /// 1 GB of log from one stage, against make with and without sed
    Log,
    /// An image from a binary of 20 MB, built and pushed to a registry, against docker and buildah
    Image,
    /// All of them except `sandbox`; writes the table and the picture in docs/benchmarks
    All,
}

/// Builds the programs in release mode, and measures them.
pub(crate) fn measure(subject: Subject) -> Result<()> {
    if subject == Subject::Sandbox {
        const PACKAGE: [&str; 3] = ["--release", "--package", "stagewright-process"];
        let init = program(&["--bin", "stagewright-sandbox"], &PACKAGE)?;
        return run(cargo().args(["run", "--quiet"]).args(PACKAGE).args(["--example", "sandbox_cost", "--"]).arg(init));
    }
    let released = ["--release", "--package", "stagewright-cli", "--features", pipeline::FULL];
    let engine = program(&["--bin", "stagewright"], &released)?;
    let bench = peers::Bench::new(engine)?;
    let is_single = |candidate: &Subject| !matches!(candidate, Subject::Sandbox | Subject::All);
    let all = Subject::value_variants().iter().copied().filter(is_single);
    let subjects = all.filter(|candidate| subject == Subject::All || subject == *candidate);
    let (mut measured, mut failures) = (Vec::new(), 0);
    for chosen in subjects {
        // Shown at once, and the rest goes on after a failure: measuring everything takes a quarter of an hour.
        match bench.measure(chosen) {
            Ok(figures) => {
                table::show(&figures);
                measured.push(figures);
            }
            Err(error) => {
                eprintln!("error: {error}");
                failures += 1;
            }
        }
    }
    match failures {
        0 if subject == Subject::All => table::write(&measured),
        0 => Ok(()),
        failures => Err(format!("{failures} of the benchmarks failed; see above")),
    }
}

/// Builds a program, and returns its path.
fn program(which: &[&str], package: &[&str]) -> Result<PathBuf> {
    let messages = capture(cargo().args(["build", "--quiet", "--message-format", "json"]).args(package).args(which))?;
    let messages = messages.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Json>(line).ok());
    let mut programs = messages.filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
    programs.next_back().ok_or_else(|| format!("cargo built no program for `{}`", which.join(" ")))
}
