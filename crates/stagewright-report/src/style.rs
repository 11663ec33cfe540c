//! The meaning of a line, and the colour that expresses it.

use std::borrow::Borrow;
use std::fmt::Display;

use stagewright_engine::Outcome;

use crate::printable::Printable;
use crate::view::{StageStatus, StageView};
use crate::wrap::wrapped;

/// The meaning of a line, which determines its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Plain text, without a colour.
    #[default]
    Neutral,
    /// A success.
    Good,
    /// A failure.
    Bad,
    /// Something that needs attention.
    Warning,
    /// Less important than the rest.
    Muted,
    /// A heading.
    Strong,
}

/// A line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StyledLine {
    /// Determines its colour.
    pub tone: Tone,
    /// The text, without colour sequences.
    pub text: Printable,
}

impl StyledLine {
    pub(crate) fn new(tone: Tone, text: impl Display) -> StyledLine {
        StyledLine { tone, text: Printable::new(text) }
    }

    /// The line wrapped to at most `columns`.
    pub(crate) fn wrapped(&self, columns: usize) -> Vec<StyledLine> {
        wrapped(self.text.as_str(), columns).into_iter().map(|text| StyledLine::new(self.tone, text)).collect()
    }

    /// The line in the colour of its tone, or without one if `color` is false.
    pub(crate) fn painted(&self, color: bool) -> Painted {
        paint(color, self.tone, &self.text)
    }
}

/// A line that is safe to show, colour sequences included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Painted(String);

impl Painted {
    /// Appends `next` on the same line.
    pub(crate) fn then(mut self, next: &Painted) -> Painted {
        self.0.push_str(&next.0);
        self
    }

    /// The text with its colour sequences, as it is written to a terminal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Painted {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// `text` in the colour of `tone`, by ECMA-48 sequences.
pub(crate) fn paint(color: bool, tone: Tone, text: &Printable) -> Painted {
    let text = text.as_str();
    let code = match tone {
        Tone::Neutral => return Painted(text.to_owned()),
        Tone::Good => 32,
        Tone::Bad => 31,
        Tone::Warning => 33,
        Tone::Muted => 2,
        Tone::Strong => 1,
    };
    let colored = || format!("\u{1b}[{code}m{text}\u{1b}[0m");
    Painted(if color && !text.is_empty() { colored() } else { text.to_owned() })
}

/// The symbol and tone for the status of a stage.
pub(crate) fn symbol(stage: &StageView) -> (&'static str, Tone) {
    match &stage.status {
        StageStatus::Ended { .. } if stage.undo_failure().is_some() => ("✗", Tone::Bad),
        StageStatus::Ended { .. } if stage.is_compensated() || stage.undone_since().is_some() => ("↶", Tone::Warning),
        StageStatus::Pending => ("·", Tone::Muted),
        StageStatus::Running => ("▸", Tone::Neutral),
        StageStatus::Recovering { .. } => ("?", Tone::Warning),
        StageStatus::AwaitingEnvironment { .. } | StageStatus::Waiting(_) => ("⏸", Tone::Warning),
        StageStatus::Retrying { .. } => ("↻", Tone::Warning),
        StageStatus::Ended { outcome: Outcome::Skipped, .. } => (outcome_symbol(Outcome::Skipped), Tone::Muted),
        StageStatus::Ended { outcome: Outcome::Rehearsed, .. } => (outcome_symbol(Outcome::Rehearsed), Tone::Muted),
        StageStatus::Ended { outcome, conclusion } if outcome != conclusion => ("!", Tone::Warning),
        StageStatus::Ended { conclusion, .. } => (outcome_symbol(*conclusion), outcome_tone(*conclusion)),
    }
}

fn outcome_symbol(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "✓",
        Outcome::Skipped | Outcome::Cancelled => "⊘",
        Outcome::Rehearsed => "◌",
        Outcome::Inconclusive => "?",
        Outcome::Failed | Outcome::Errored | Outcome::TimedOut | Outcome::Lost | Outcome::Rejected => "✗",
    }
}

pub(crate) fn outcome_tone(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Succeeded => Tone::Good,
        Outcome::Skipped | Outcome::Rehearsed => Tone::Muted,
        Outcome::Cancelled | Outcome::Inconclusive => Tone::Warning,
        Outcome::Failed | Outcome::Errored | Outcome::TimedOut | Outcome::Lost | Outcome::Rejected => Tone::Bad,
    }
}
