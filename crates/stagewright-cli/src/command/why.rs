//! `why`: one page about a stage of a run.

use stagewright_api as api;
use stagewright_engine::Outcome;
use stagewright_model::{Permission, SecretUse, count, list};
use stagewright_report::wire::ToWire as _;
use stagewright_report::{Block, Printer, text};
use stagewright_session::{RunAccount, SecretAccount, Session, StageAccount, StageEnd};

use super::explain;
use super::plan::permissions;
use crate::args::ExplainArgs;
use crate::error::CommandError;
use crate::exit::Exit;

/// `why`.
pub(crate) fn why(session: &Session, args: &ExplainArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let account = session.why(&args.run, &args.stage)?;
    if args.json {
        let listed: Vec<_> = account.stages.iter().map(|stage| entry(&account, stage)).collect();
        out.json(&listed)?;
        return Ok(Exit::Success);
    }
    for stage in &account.stages {
        out.block(&page(&account, stage))?;
    }
    Ok(Exit::Success)
}

fn page(account: &RunAccount, stage: &StageAccount) -> Block {
    let mut page = explain::in_words(&account.run, &stage.summary, &stage.decision);
    let mut line = |key: &str, value: String| {
        if !value.is_empty() {
            page.push(&text!("  {key:<9} {value}"));
        }
    };
    line("result", result(stage.end.as_ref(), stage.attempts));
    if account.rehearsal {
        line("rehearsal", "effects acted on stand-ins".to_owned());
    }
    match &stage.granted {
        None => line("granted", "unknown: the run's pipeline file is invalid in this version".to_owned()),
        Some(granted) => {
            Permission::ALL.into_iter().for_each(|kind| line(kind.key(), list(granted.of(kind))));
        }
    }
    stage.secrets.iter().for_each(|secret| line("secret", format!("{}: {}", secret.name, destinations(secret))));
    stage.effects.iter().for_each(|effect| line("effect", effect.clone()));
    for problem in &stage.refused {
        let help = problem.help.iter().map(|help| format!("; {help}"));
        line("refused", std::iter::once(problem.message.clone()).chain(help).collect());
    }
    let failure = stage.end.as_ref().and_then(|end| end.failure.as_ref());
    line("help", failure.and_then(|failure| failure.help.clone()).unwrap_or_default());
    page
}

/// As in `failed after 2 attempts: the message`.
fn result(end: Option<&StageEnd>, attempts: u32) -> String {
    let Some(StageEnd { outcome, reason, failure }) = end else { return "not ended".to_owned() };
    let tries = match attempts {
        0 | 1 => String::new(),
        _ => format!(" after {}", count(attempts as usize, "attempt")),
    };
    let why = reason.clone().or_else(|| failure.as_ref().map(|failure| failure.message.clone()));
    let why = why.filter(|_| *outcome != Outcome::Succeeded).map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}{tries}{why}", outcome.as_str())
}

/// Where a secret may go.
fn destinations(secret: &SecretAccount) -> String {
    let (hosts, programs) = (list(&secret.declared.hosts), list(&secret.declared.programs));
    if secret.uses == [SecretUse::Proxy] {
        let hosts = if hosts.is_empty() { "no host" } else { &hosts };
        return format!("to {hosts}, with downloads of its programs");
    }
    match (hosts.is_empty(), programs.is_empty()) {
        (true, true) => "to any granted program, and to no host".to_owned(),
        (true, false) => format!("to the programs {programs}, and to no host"),
        (false, true) => format!("to {hosts}, and to any granted program"),
        (false, false) => format!("to {hosts}, and to the programs {programs}"),
    }
}

/// The JSON form of a stage's page.
fn entry(account: &RunAccount, stage: &StageAccount) -> api::WhyEntry {
    let end = stage.end.as_ref();
    let secrets = stage.secrets.iter().map(|secret| api::SecretDestination {
        name: secret.name.clone(),
        uses: secret.uses.iter().map(|usage| usage.word().to_owned()).collect(),
        hosts: secret.declared.hosts.iter().map(ToString::to_string).collect(),
        programs: secret.declared.programs.clone(),
    });
    api::WhyEntry {
        run: account.run.to_wire(),
        rehearsal: account.rehearsal,
        stage: stage.summary.id.clone(),
        outcome: end.map(|end| end.outcome.to_wire()),
        reason: end.and_then(|end| end.reason.clone()),
        failure: end.and_then(|end| end.failure.to_wire()),
        attempts: stage.attempts,
        cache: explain::entry(&stage.summary, &stage.decision),
        permissions: stage.granted.as_deref().map(permissions),
        secrets: secrets.collect(),
        effects: stage.effects.clone(),
        refused: stage.refused.iter().map(|problem| problem.to_wire()).collect(),
    }
}
