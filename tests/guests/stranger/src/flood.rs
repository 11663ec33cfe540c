//! Asking for too much: of the host's memory, of its disk, of its handles, of its stack.

use serde::Deserialize;
use stagewright_sdk::process::Command;
use stagewright_sdk::{Diagnostic, Error, JsonSchema, Outcome, Result, context, gate, log, outputs, workspace};

/// A text that takes long to be written down.
const LONG: usize = 8 << 20;

/// What there is too much of.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(crate = "stagewright_sdk::schemars")]
pub(crate) enum Flood {
    /// Handles of the host, kept.
    Handles,
    /// Summaries, each as long as one may be.
    Summaries,
    /// Findings, each of megabytes.
    Problems,
    /// Findings that say nothing.
    EmptyProblems,
    /// Questions for what was not granted, each another one.
    Refusals,
    /// A failure of megabytes.
    Failure,
    /// A reason of megabytes for being skipped.
    Skip,
    /// A question of megabytes.
    Gate,
    /// Progress of megabytes.
    Progress,
    /// 200 MiB of arguments, in one list.
    Arguments,
    /// Commands that are never started, each with megabytes to read.
    Commands,
    /// Questions, again and again, each of megabytes.
    Questions,
    /// Calls of itself without end.
    Stack,
    /// Lines of no bytes.
    EmptyLines,
    /// Files of the workspace.
    Files,
    /// The configuration, again and again.
    Configuration,
}

impl Flood {
    pub(crate) fn pour(self, end: &mut Result<Outcome>) -> Result<String> {
        let long = || "y".repeat(LONG);
        match self {
            Flood::Handles => {
                let kept: Vec<Command> = (0..1_000_000).map(|_| Command::new("sh")).collect();
                return Ok(kept.len().to_string());
            }
            Flood::Summaries => {
                let summary = "y".repeat(1 << 20);
                (0..200).for_each(|_| outputs::summary(&summary));
            }
            Flood::Problems => {
                let text = long();
                (0..50).for_each(|_| outputs::report(Diagnostic::error("code", &text).help(&text)));
            }
            Flood::EmptyProblems => (0..50_000).for_each(|_| outputs::report(Diagnostic::error("", ""))),
            Flood::Refusals => (0..5000).for_each(|number| {
                // Nobody reads what is said of it here.
                let _ = workspace::read(&format!("closed/{number}"));
            }),
            Flood::Failure => *end = Err(Error::failed(long()).cause(long()).help(long())),
            Flood::Skip => *end = Ok(Outcome::Skipped(long())),
            Flood::Gate => {
                let mut approval = gate::Approval::new(long());
                *end = Ok(Outcome::Suspended(approval.open()?));
            }
            Flood::Progress => (0..20).for_each(|_| log::progress(long(), 1, None)),
            Flood::Arguments => {
                let text = "y".repeat(1 << 10);
                Command::new("sh").args(vec![text; 200_000]);
            }
            Flood::Commands => {
                let data = long().into_bytes();
                let kept: Vec<Command> = (0..400)
                    .map(|_| {
                        let mut command = Command::new("sh");
                        command.stdin(&data);
                        command
                    })
                    .collect();
                return Ok(kept.len().to_string());
            }
            Flood::Questions => {
                let mut approval = gate::Approval::new(long());
                for _ in 0..400 {
                    approval.open()?;
                }
            }
            Flood::Stack => return Ok(deeper(1).to_string()),
            Flood::EmptyLines => loop {
                log::info("\n\n\n\n\n\n\n\n");
            },
            Flood::Files => {
                let text = long();
                for file in 0..1000 {
                    workspace::write(&format!("flood/{file}"), &text)?;
                }
            }
            Flood::Configuration => {
                return Ok((0..10_000).map(|_| context::config_json().len()).max().unwrap_or_default().to_string());
            }
        }
        Ok("poured".to_owned())
    }
}

/// Not a loop in disguise: each call has something to do after the next one.
#[expect(unconditional_recursion, reason = "that is the attack")]
fn deeper(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 64]);
    deeper(std::hint::black_box(depth + 1)).wrapping_add(room[(depth % 64) as usize])
}
