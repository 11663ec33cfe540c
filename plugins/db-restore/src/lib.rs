//! Restores a backup: the data that a database had takes the place of the data that it has.
//!
//! Input: a place with backups, and the database. Output: the backup's name, how long the restore took, how old the data is, and
//! the name under which the replaced data is kept.
//!
//! The backup is restored beside the database and compared with its record, while the database goes on serving. Then both change
//! their names in one transaction, in which the server refuses a restore that is older than the last one. `observe` looks whose
//! restore the database is. `undo` changes the names back. Nothing that was there before is removed.

mod config;
#[cfg(test)]
mod tests;

use std::time::Duration;

use database::{Backup, Owners, Scratch, Switch, compare, millis, shown, since_epoch};
use stagewright_sdk::{
    Error, Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage, clock, context, environment,
    log, metrics, outputs,
};

use crate::config::Config;

/// The plugin.
#[derive(Debug)]
pub struct DbRestore;

impl Stage for DbRestore {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<String>("backup", "The backup's name")
            .output::<String>("moment", "The moment whose data the database has now, in RFC 3339")
            .output::<String>("previous", "The name of the database with the replaced data")
            .output::<u64>("rows", "The rows that were restored and compared")
            .output::<u64>("recovery-time-ms", "How long it took, in milliseconds")
            .output::<u64>("recovery-point-ms", "How old the data was when the stage began, in milliseconds")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config.problems()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        config.requirements()
    }

    fn run(config: Config) -> Result<Outcome> {
        let (began, at) = (clock::monotonic(), clock::now());
        let backup = config.from.find(&config.database)?;
        let (server, restored) = (config.server.postgresql(), config.restored());
        log::info(format!("restoring `{}` beside {}", backup.name, server.place(&config.database)));
        if let Err(error) = restore_beside(&config, &backup) {
            // The error says what is wrong; that the copy is left too would only distract from it.
            let _ = server.drop(&restored);
            return Err(error);
        }
        let run = context::run_id();
        let previous = previous(&config.database, &run);
        let fence = environment::fence().unwrap_or_default();
        let switch = Switch { database: &config.database, restored: &restored, previous: &previous, fence, run: &run };
        if let Err(error) = server.switch(&switch) {
            let _ = server.drop(&restored);
            return Err(error);
        }
        log::info(format!("the replaced data is in the database `{previous}`; remove it once it isn't needed"));
        let recovery_time = clock::monotonic().saturating_sub(began);
        publish(&backup, &previous, Some(recovery_time), at.saturating_sub(since_epoch(&backup)))?;
        Ok(Outcome::Succeeded)
    }
}

impl Reconcile for DbRestore {
    /// Whose restore the database is. What an attempt has left beside it is replaced by the next one.
    fn observe(config: Config) -> Result<Observation> {
        let run = context::run_id();
        if config.server.postgresql().restored_by(&config.database)?.as_ref() != Some(&run) {
            return Ok(Observation::NotStarted);
        }
        let backup = config.from.find(&config.database)?;
        let recovery_point = clock::now().saturating_sub(since_epoch(&backup));
        publish(&backup, &previous(&config.database, &run), None, recovery_point)?;
        Ok(Observation::Applied(format!("`{}` was restored by this run", config.database)))
    }

    /// Puts the replaced data back in its place, and keeps what was restored.
    fn undo(config: Config) -> Result<()> {
        let (server, run) = (config.server.postgresql(), context::run_id());
        if server.restored_by(&config.database)?.as_ref() != Some(&run) {
            // Sessions are refused if a switch was interrupted in its middle.
            return server.reopen(&config.database);
        }
        let previous = previous(&config.database, &run);
        let undone = format!("{}_undone_{}", config.database, short(&run));
        let fence = environment::fence().unwrap_or_default();
        server.switch(&Switch {
            database: &config.database,
            restored: &previous,
            previous: &undone,
            fence,
            // Not this run's restore any more.
            run: &format!("{run} (undone)"),
        })?;
        log::info(format!("the data of before is back; what was restored is in the database `{undone}`"));
        Ok(())
    }
}

stagewright_sdk::export_effectful_stage!(DbRestore);

fn restore_beside(config: &Config, backup: &Backup) -> Result<()> {
    let scratch = Scratch::new(&config.scratch)?;
    let file = config.from.fetch(backup, &scratch)?;
    let (server, into) = (config.server.postgresql(), config.restored());
    server.restore(backup, &into, &file, Owners::Restore)?;
    compare(backup, &server.contents(&into)?)?;
    let failed = server.check(&into, &config.checks)?;
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Error::failed(format!("the backup `{}` fails checks", backup.name)).causes(failed).never_retry()),
    }
}

/// The name under which a run keeps what it replaces.
fn previous(database: &str, run: &str) -> String {
    format!("{database}_before_{}", short(run))
}

/// The end of a run's id, which tells runs apart.
fn short(run: &str) -> String {
    let letters: Vec<char> = run.chars().filter(char::is_ascii_alphanumeric).collect();
    letters[letters.len().saturating_sub(10)..].iter().collect::<String>().to_ascii_lowercase()
}

/// `recovery_time`: none after an interruption, when nothing has measured it.
fn publish(backup: &Backup, previous: &str, recovery_time: Option<Duration>, recovery_point: Duration) -> Result<()> {
    outputs::set("backup", &backup.name)?;
    outputs::set("moment", &backup.moment.to_string())?;
    outputs::set("previous", previous)?;
    outputs::set("rows", &backup.rows())?;
    outputs::set("recovery-point-ms", &millis(recovery_point))?;
    metrics::set("recovery-point", recovery_point.as_secs_f64(), "s")?;
    let mut took = String::new();
    if let Some(recovery_time) = recovery_time {
        outputs::set("recovery-time-ms", &millis(recovery_time))?;
        metrics::set("recovery-time", recovery_time.as_secs_f64(), "s")?;
        took = format!("Recovery time {}. ", shown(recovery_time));
    }
    outputs::summary(format!(
        "Backup `{}` was restored: {}. {took}The data is from {} before the restore.\n",
        backup.name,
        backup.described(),
        shown(recovery_point)
    ));
    Ok(())
}
