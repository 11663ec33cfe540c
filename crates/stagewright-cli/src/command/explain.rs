//! `explain`: why a stage ran, or why it didn't have to.

use serde_json::{Value as Json, json};
use stagewright_cache::{Difference, Explanation, Part, explain as explained};
use stagewright_engine::{EffectClass, Event, EventKind, RunId, StageSummary};
use stagewright_model::{CacheUse, Plan, PluginNames, StageIndex};
use stagewright_report::{Block, Printer, text};
use stagewright_session::Session;

use crate::args::ExplainArgs;
use crate::error::CommandError;
use crate::exit::Exit;

/// Differences of one kind that are shown; the rest is counted.
const SHOWN: usize = 20;

/// What became of the question for a result.
enum Answer {
    /// No attempt began.
    NotRun,
    /// It has no key: why.
    NotCached(String),
    /// The run whose result was taken.
    Taken(RunId),
    Done(Explanation),
}

/// `explain`.
pub(crate) fn explain(session: &Session, args: &ExplainArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let store = session.read_only_store()?;
    let run = store.find(&args.run)?;
    let events = store.events(&run)?;
    let record = store.run(&run)?.ok_or_else(|| CommandError::internal(format!("run {run} has no record")))?;
    let plan = Plan::parse(&record.file, &record.pipeline_text, &known(session)).ok().map(|(plan, _)| plan);
    let stages = events.iter().find_map(|event| match &event.kind {
        EventKind::RunStarted { stages, .. } => Some(stages.as_slice()),
        _ => None,
    });
    let stages = (0..).map(StageIndex).zip(stages.unwrap_or_default());
    let wanted: Vec<_> = stages.filter(|(_, stage)| stage.name == args.stage || stage.id == args.stage).collect();
    if wanted.is_empty() {
        return Err(CommandError::usage(format!("run {run} has no stage `{}`", args.stage))
            .hint(format!("`stagewright show {run}` lists its stages")));
    }
    let mut answers = Vec::new();
    for (index, stage) in wanted {
        let answer = answer(session, &events, index, stage, plan.as_ref());
        match args.json {
            true => answers.push(as_json(stage, &answer)),
            false => out.block(&in_words(&run, stage, &answer))?,
        }
    }
    if args.json {
        out.json(&answers)?;
    }
    Ok(Exit::Success)
}

fn known(session: &Session) -> PluginNames {
    session.repository().builtin_names().into_iter().collect()
}

fn answer(session: &Session, events: &[Event], index: StageIndex, stage: &StageSummary, plan: Option<&Plan>) -> Answer {
    let asked = events.iter().rev().find_map(|event| match &event.kind {
        EventKind::CacheAsked { stage, key, found, .. } if *stage == index => Some((key, found)),
        _ => None,
    });
    match asked {
        Some((_, Some(found))) => return Answer::Taken(found.clone()),
        Some((key, None)) => return Answer::Done(explained(&session.repository().results(), key)),
        None => {}
    }
    let began = |event: &Event| matches!(&event.kind, EventKind::AttemptStarted { stage, .. } if *stage == index);
    if !events.iter().any(began) {
        return Answer::NotRun;
    }
    let declared = plan.filter(|plan| plan.stages.len() > index.get()).map(|plan| plan.stage(index));
    Answer::NotCached(match declared {
        _ if stage.effect == EffectClass::External => {
            "it has effects beyond this machine, which must happen each time".to_owned()
        }
        Some(stage) if stage.cache == CacheUse::Never => {
            "it isn't cached: it names no `inputs`, or says `cache = false`".to_owned()
        }
        Some(_) => "the cache was off, or it went on after a gate".to_owned(),
        None => "the run's pipeline can't be read any more".to_owned(),
    })
}

fn in_words(run: &RunId, stage: &StageSummary, answer: &Answer) -> Block {
    let name = &stage.id;
    let first = match answer {
        Answer::NotRun => text!("{name} did not run in {run}: `stagewright show {run}` says why"),
        Answer::NotCached(why) => text!("{name} ran in {run}: {why}"),
        Answer::Taken(from) => {
            text!("{name} did not have to run in {run}: nothing that it depends on has changed since run {from}")
        }
        Answer::Done(Explanation::Unknown) => {
            text!("{name} ran in {run}: what its result depended on is no longer kept, so it can't be compared")
        }
        Answer::Done(Explanation::First) => text!("{name} ran in {run}: there was no result of it before"),
        Answer::Done(Explanation::Changed(differences, since)) => {
            let since = since.as_ref().map(|since| format!(" since run {since}")).unwrap_or_default();
            match differences.as_slice() {
                [] => text!("{name} ran in {run}: nothing has changed{since}, and that result was not there any more"),
                _ => text!("{name} ran in {run}, because of what has changed{since}:"),
            }
        }
    };
    let mut words = Block::default();
    words.push(&first);
    if let Answer::Done(Explanation::Changed(differences, _)) = answer {
        for part in differences.chunk_by(|left, right| left.part == right.part) {
            words.extend(part.iter().take(SHOWN).map(|difference| text!("  {}", line(difference))));
            if part.len() > SHOWN {
                words.push(&text!("  … and {} more", part.len() - SHOWN));
            }
        }
    }
    words
}

fn line(difference: &Difference) -> String {
    let Difference { part, name, then, now } = difference;
    let what = match part {
        Part::Format => "the format of results",
        Part::Sandbox => "the sandbox",
        Part::Plugin => "the plugin",
        Part::Stage => "the stage's",
        Part::Config => "with",
        Part::Variable => "the variable",
        Part::Permission => "the permission",
        Part::Limit => "the limit",
        Part::Glob => "the key",
        Part::Tool => "the program",
        Part::Need => "the output",
        Part::Artifact => "the artifact",
        Part::File => "the file",
        Part::Before => "what was left by the stage",
    };
    // Digests say no more to a person than that something is different.
    let is_shown = |value: &&String| !value.is_empty() && !value.contains("sha256:");
    match (then, now) {
        (None, Some(_)) => format!("{what} {name} is new"),
        (Some(_), None) => format!("{what} {name} is gone"),
        (then, now) => match (then.as_ref().filter(is_shown), now.as_ref().filter(is_shown)) {
            (Some(then), Some(now)) => format!("{what} {name}: {then} is now {now}"),
            _ => format!("{what} {name} has changed"),
        },
    }
}

fn as_json(stage: &StageSummary, answer: &Answer) -> Json {
    let (ran, why, from, differences) = match answer {
        Answer::NotRun => (false, "not-run", None, None),
        Answer::NotCached(_) => (true, "not-cached", None, None),
        Answer::Taken(from) => (false, "unchanged", Some(from), None),
        Answer::Done(Explanation::Unknown) => (true, "unknown", None, None),
        Answer::Done(Explanation::First) => (true, "first", None, None),
        Answer::Done(Explanation::Changed(differences, since)) => (true, "changed", since.as_ref(), Some(differences)),
    };
    json!({ "stage": stage.id, "ran": ran, "why": why, "since": from, "changed": differences })
}
