//! `explain`: explains why a stage ran or came from the cache.

use stagewright_api as api;
use stagewright_engine::{RunId, StageSummary};
use stagewright_report::wire::ToWire as _;
use stagewright_report::{Block, Printer, text};
use stagewright_session::{CacheDecision, Explanation, KeyDifference, KeyPart, RunExplanation, Session};

use crate::args::ExplainArgs;
use crate::error::CommandError;
use crate::exit::Exit;

/// The most differences of one kind that are shown; the rest are only counted.
const SHOWN: usize = 20;

/// `explain`.
pub(crate) fn explain(session: &Session, args: &ExplainArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let RunExplanation { run, stages } = session.explain(&args.run, &args.stage)?;
    if args.json {
        let listed: Vec<_> = stages.iter().map(|(stage, decision)| entry(stage, decision)).collect();
        out.json(&listed)?;
        return Ok(Exit::Success);
    }
    for (stage, decision) in &stages {
        out.block(&in_words(&run, stage, decision))?;
    }
    Ok(Exit::Success)
}

pub(super) fn in_words(run: &RunId, stage: &StageSummary, decision: &CacheDecision) -> Block {
    let name = &stage.id;
    let first = match decision {
        CacheDecision::NotRun => text!("{name} did not run in {run}: for the reason, see `stagewright show {run}`"),
        CacheDecision::NotCached(why) => text!("{name} ran in {run}: {why}"),
        CacheDecision::Taken(from) => {
            text!("{name} did not have to run in {run}: nothing that it depends on has changed since run {from}")
        }
        CacheDecision::Ran(Explanation::Unknown) => {
            text!(
                "{name} ran in {run}: the record of what its result depended on was removed, so there is no comparison"
            )
        }
        CacheDecision::Ran(Explanation::First) => text!("{name} ran in {run}: it had no earlier result"),
        CacheDecision::Ran(Explanation::Changed(differences, since)) => {
            let since = since.as_ref().map(|since| format!(" since run {since}")).unwrap_or_default();
            match differences.as_slice() {
                [] => text!("{name} ran in {run}: nothing has changed{since}, but the earlier result was removed"),
                _ => text!("{name} ran in {run} because of changes{since}:"),
            }
        }
    };
    let mut words = Block::default();
    words.push(&first);
    if let CacheDecision::Ran(Explanation::Changed(differences, _)) = decision {
        for part in differences.chunk_by(|left, right| left.part == right.part) {
            words.extend(part.iter().take(SHOWN).map(|difference| text!("  {}", line(difference))));
            if part.len() > SHOWN {
                words.push(&text!("  … and {} more", part.len() - SHOWN));
            }
        }
    }
    words
}

fn line(difference: &KeyDifference) -> String {
    let KeyDifference { part, name, then, now } = difference;
    let what = match part {
        KeyPart::Format => "the format of results",
        KeyPart::Sandbox => "the sandbox",
        KeyPart::Plugin => "the plugin",
        KeyPart::Stage => "the stage's",
        KeyPart::Config => "with",
        KeyPart::Variable => "the variable",
        KeyPart::Permission => "the permission",
        KeyPart::Limit => "the limit",
        KeyPart::Glob => "the key",
        KeyPart::Tool => "the program",
        KeyPart::Need => "the result",
        KeyPart::Source => "the run's",
        KeyPart::Artifact => "the artifact",
        KeyPart::File => "the file",
        KeyPart::Before => "the result of the earlier stage",
    };
    // A digest tells a person nothing but that the content differs, which "has changed" says already.
    let is_shown = |value: &&String| !value.is_empty() && !value.contains("sha256:");
    match (then, now) {
        (None, Some(_)) => format!("{what} {name} was added"),
        (Some(_), None) => format!("{what} {name} was removed"),
        (then, now) => match (then.as_ref().filter(is_shown), now.as_ref().filter(is_shown)) {
            (Some(then), Some(now)) => format!("{what} {name} has changed from {then} to {now}"),
            _ => format!("{what} {name} has changed"),
        },
    }
}

/// The JSON form of a stage's explanation.
pub(super) fn entry(stage: &StageSummary, decision: &CacheDecision) -> api::ExplainEntry {
    use api::ExplainReason as Why;
    let (ran, why, since, differences) = match decision {
        CacheDecision::NotRun => (false, Why::NotRun, None, None),
        CacheDecision::NotCached(_) => (true, Why::NotCached, None, None),
        CacheDecision::Taken(from) => (false, Why::Unchanged, Some(from), None),
        CacheDecision::Ran(Explanation::Unknown) => (true, Why::Unknown, None, None),
        CacheDecision::Ran(Explanation::First) => (true, Why::First, None, None),
        CacheDecision::Ran(Explanation::Changed(differences, since)) => {
            (true, Why::Changed, since.as_ref(), Some(differences))
        }
    };
    api::ExplainEntry {
        stage: stage.id.clone(),
        ran,
        why,
        since: since.map(RunId::to_wire),
        changed: differences.map(|differences| differences.iter().map(difference).collect()),
    }
}

fn difference(difference: &KeyDifference) -> api::Difference {
    let KeyDifference { part, name, then, now } = difference;
    let part = match part {
        KeyPart::Format => api::DifferencePart::Format,
        KeyPart::Sandbox => api::DifferencePart::Sandbox,
        KeyPart::Plugin => api::DifferencePart::Plugin,
        KeyPart::Stage => api::DifferencePart::Stage,
        KeyPart::Config => api::DifferencePart::Config,
        KeyPart::Variable => api::DifferencePart::Variable,
        KeyPart::Permission => api::DifferencePart::Permission,
        KeyPart::Limit => api::DifferencePart::Limit,
        KeyPart::Glob => api::DifferencePart::Glob,
        KeyPart::Tool => api::DifferencePart::Tool,
        KeyPart::Need => api::DifferencePart::Need,
        KeyPart::Source => api::DifferencePart::Source,
        KeyPart::Artifact => api::DifferencePart::Artifact,
        KeyPart::File => api::DifferencePart::File,
        KeyPart::Before => api::DifferencePart::Before,
    };
    api::Difference { part, name: name.clone(), then: then.clone(), now: now.clone() }
}
