//! Changes records of the DNS: all of them at once, with a note beside each of what it was before.
//!
//! Input: the server, the records, and their values. Output: what the records were, and how long others may still use that.
//!
//! The note has the environment's token and the run. A change by an older run is refused, `observe` looks whose the records are,
//! and `undo` brings back what they were before the run. A server of RFC 2136 checks that the records are what was read, in the
//! same step as it changes them.

mod change;
mod config;
mod note;
mod record;
mod rfc2136;
mod route53;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use stagewright_sdk::{
    Error, ErrorCode, Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage, clock, context,
    environment, log, outputs,
};

use crate::change::Change;
use crate::config::Config;
use crate::note::{Note, Values};
use crate::record::Record;

/// The plugin.
#[derive(Debug)]
pub struct DnsUpdate;

impl Stage for DnsUpdate {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<BTreeMap<String, Vec<String>>>(
                "before",
                "The values before, by `NAME TYPE`; empty for a new record",
            )
            .output::<u64>("lifetime-s", "How long others may still use the values before, in seconds")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config.problems()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        config.requirements()
    }

    fn run(config: Config) -> Result<Outcome> {
        let run = context::run_id();
        let changes = changes(&config, &run)?;
        config.server.update(&changes)?;
        for change in &changes {
            let Change { name, kind, values, known, .. } = change;
            log::info(format!("{name} {}: {} instead of {}", kind.name(), shown(values), shown(&known.values)));
        }
        publish(&changes)?;
        if config.wait {
            let lifetime = lifetime(&changes);
            log::info(format!("waiting {} s until the values before aren't used any more", lifetime.as_secs()));
            clock::sleep(lifetime)?;
        }
        Ok(Outcome::Succeeded)
    }
}

impl Reconcile for DnsUpdate {
    /// The records change together, so that all of them are this run's, or none is.
    fn observe(config: Config) -> Result<Observation> {
        let run = context::run_id();
        let changes = changes(&config, &run)?;
        let is_own = |change: &Change| {
            change.known.note.as_ref().is_some_and(|note| note.run == run)
                && change.known.values.data == change.values.data
        };
        if !changes.iter().all(is_own) {
            return Ok(Observation::NotStarted);
        }
        publish(&changes)?;
        Ok(Observation::Applied("the records are those of this run".to_owned()))
    }

    /// Brings back what the records were before the run, if they are still the run's.
    fn undo(config: Config) -> Result<()> {
        let run = context::run_id();
        let mut back = Vec::new();
        for change in changes(&config, &run)? {
            let Some(note) = change.known.note.clone().filter(|note| note.run == run) else { continue };
            let undone = Note { run: format!("{run}-undone"), before: change.known.values.clone(), ..change.note };
            log::info(format!("{} {}: {} again", change.name, change.kind.name(), shown(&note.before)));
            back.push(Change { values: note.before, note: undone, ..change });
        }
        match back.is_empty() {
            true => Ok(()),
            false => config.server.update(&back),
        }
    }
}

stagewright_sdk::export_effectful_stage!(DnsUpdate);

/// What changes, in comparison with what the server has now.
fn changes(config: &Config, run: &str) -> Result<Vec<Change>> {
    let token = environment::fence().unwrap_or_default();
    let change = |record: &Record| {
        let name = record.full_name();
        let known = config.server.known(&name, record.kind)?;
        if let Some(newer) = known.note.as_ref().filter(|note| note.token > token) {
            let message = format!("the newer run {} has changed {name}", newer.run);
            return Err(Error::new(ErrorCode::FailedPrecondition, message)
                .cause(format!("its token is {}, and this run's is {token}", newer.token))
                .never_retry());
        }
        // A second attempt of the run finds its own values, and what was before them in its note.
        let own = known.note.as_ref().filter(|note| note.run == run).map(|note| note.before.clone());
        let before = own.unwrap_or_else(|| known.values.clone());
        let values = Values { data: record.data(), ttl: record.ttl.0.as_secs() };
        Ok(Change { name, kind: record.kind, known, values, note: Note { token, run: run.to_owned(), before } })
    };
    config.records.iter().map(change).collect()
}

fn lifetime(changes: &[Change]) -> Duration {
    changes.iter().map(|change| change.note.before.lifetime()).max().unwrap_or_default()
}

fn shown(values: &Values) -> String {
    if values.data.is_empty() { "nothing".to_owned() } else { values.data.join(", ") }
}

fn publish(changes: &[Change]) -> Result<()> {
    let before: BTreeMap<String, &Vec<String>> = changes
        .iter()
        .map(|change| (format!("{} {}", change.name, change.kind.name()), &change.note.before.data))
        .collect();
    outputs::set("before", &before)?;
    outputs::set("lifetime-s", &lifetime(changes).as_secs())?;
    let line = |change: &Change| format!("- {} {}: {}\n", change.name, change.kind.name(), shown(&change.values));
    outputs::summary(changes.iter().map(line).collect::<String>());
    Ok(())
}
