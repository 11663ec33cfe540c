//! Exceeds limits: of the host's memory, disk, handles and stack.

use serde::Deserialize;
use stagewright_sdk::process::Command;
use stagewright_sdk::{Error, Finding, JsonSchema, Outcome, Result, context, gate, log, outputs, schemars, workspace};

/// The size of a large text, in bytes.
const LONG: usize = 8 << 20;

/// What to produce too much of.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Flood {
    /// Handles of the host, kept.
    Handles,
    /// Summaries of the maximum length.
    Summaries,
    /// Findings, each of megabytes.
    Problems,
    /// Findings without text.
    EmptyProblems,
    /// Denied calls, each with another subject.
    Refusals,
    /// A failure of megabytes.
    Failure,
    /// A reason of megabytes for being skipped.
    Skip,
    /// A gate's message of megabytes.
    Gate,
    /// Progress of megabytes.
    Progress,
    /// 200 MiB of arguments, in one list.
    Arguments,
    /// Commands that are never started, each with megabytes of standard input.
    Commands,
    /// Gates with messages of megabytes.
    Questions,
    /// Endless recursion.
    Stack,
    /// Empty log lines.
    EmptyLines,
    /// Files of the workspace.
    Files,
    /// Repeated reads of the configuration.
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
                (0..50).for_each(|_| Finding::error("code", &text).help(&text).report());
            }
            Flood::EmptyProblems => (0..50_000).for_each(|_| Finding::error("", "").report()),
            Flood::Refusals => (0..5000).for_each(|number| {
                // The result isn't needed.
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

/// Recurses without a tail call, so that it can't be compiled into a loop: each call uses the result of the next one.
#[expect(unconditional_recursion, reason = "that is the attack")]
fn deeper(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 64]);
    deeper(std::hint::black_box(depth + 1)).wrapping_add(room[(depth % 64) as usize])
}
