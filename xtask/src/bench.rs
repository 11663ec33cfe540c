//! Figures, measured side by side in one run: `cargo xtask bench SUBJECT`.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::Value as Json;

use crate::cargo::{Result, capture, cargo, run};

/// What is measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Subject {
    /// `/bin/true` in a sandbox against a plain start, 1,000 times each
    Sandbox,
}

/// Builds what is measured in release, and measures it.
pub(crate) fn measure(subject: Subject) -> Result<()> {
    match subject {
        Subject::Sandbox => {
            const PACKAGE: [&str; 3] = ["--release", "--package", "stagewright-process"];
            let init = program(&["--bin", "stagewright-sandbox"], &PACKAGE)?;
            run(cargo().args(["run", "--quiet"]).args(PACKAGE).args(["--example", "sandbox_cost", "--"]).arg(init))
        }
    }
}

/// Builds a program, and says where it is.
fn program(which: &[&str], package: &[&str]) -> Result<PathBuf> {
    let messages = capture(cargo().args(["build", "--quiet", "--message-format", "json"]).args(package).args(which))?;
    let messages = messages.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Json>(line).ok());
    let mut programs = messages.filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
    programs.next_back().ok_or_else(|| format!("cargo built no program for `{}`", which.join(" ")))
}
