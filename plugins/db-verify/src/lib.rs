//! Verifies a backup by what alone can: it restores it into a scratch database, compares each table with what the backup's
//! record says, and asks the queries of the pipeline. It measures how long that took and how old the data is, and compares both
//! with the goals.
//!
//! Input: a place with backups, and a server for the scratch database. Output: the backup's name, the times, and a note in the
//! backup's record. The scratch database is removed, also after a failure.

mod config;
#[cfg(test)]
mod tests;

use std::time::Duration;

use database::{Backup, Owners, Scratch, Verification, compare, millis, shown, since_epoch, timestamp};
use stagewright_sdk::{
    Error, Finding, Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage, clock, context,
    log, metrics, outputs,
};

use crate::config::Config;

/// The plugin.
#[derive(Debug)]
pub struct DbVerify;

impl Stage for DbVerify {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<String>("backup", "The backup's name")
            .output::<String>("moment", "The moment whose data it has, in RFC 3339")
            .output::<u64>("rows", "The rows that were compared")
            .output::<u64>("recovery-time-ms", "How long it took until the data could be used, in milliseconds")
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
        let mut backup = config.from.find(&config.database)?;
        log::info(format!("restoring `{}`: {}", backup.name, backup.described()));
        let restored = restore_and_compare(&config, &backup);
        // What has failed is the more important error.
        let removed = config.server.postgresql().drop(&config.scratch_database());
        restored?;
        let recovery_time = clock::monotonic().saturating_sub(began);
        removed?;
        let recovery_point = at.saturating_sub(since_epoch(&backup));
        backup.verified = Some(Verification {
            at: timestamp(clock::now())?,
            run: context::run_id(),
            recovery_time_ms: millis(recovery_time),
        });
        if config.note {
            config.from.store.update(&backup)?;
        }
        publish(&backup, recovery_time, recovery_point)?;
        meet_goals(&config, &backup, recovery_time, recovery_point)?;
        Ok(Outcome::Succeeded)
    }
}

impl Reconcile for DbVerify {
    /// A scratch database that is left is replaced by the next attempt.
    fn observe(_config: Config) -> Result<Observation> {
        Ok(Observation::NotStarted)
    }

    /// Nothing is left of it but a note.
    fn undo(_config: Config) -> Result<()> {
        Ok(())
    }
}

stagewright_sdk::export_effectful_stage!(DbVerify);

fn restore_and_compare(config: &Config, backup: &Backup) -> Result<()> {
    let scratch = Scratch::new(&config.scratch)?;
    let file = config.from.fetch(backup, &scratch)?;
    let (server, into) = (config.server.postgresql(), config.scratch_database());
    server.restore(backup, &into, &file, Owners::LeaveOut)?;
    compare(backup, &server.contents(&into)?)?;
    let failed = server.check(&into, &config.checks)?;
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Error::failed(format!("the backup `{}` fails checks", backup.name)).causes(failed).never_retry()),
    }
}

fn publish(backup: &Backup, recovery_time: Duration, recovery_point: Duration) -> Result<()> {
    outputs::set("backup", &backup.name)?;
    outputs::set("moment", &backup.moment.to_string())?;
    outputs::set("rows", &backup.rows())?;
    outputs::set("recovery-time-ms", &millis(recovery_time))?;
    outputs::set("recovery-point-ms", &millis(recovery_point))?;
    metrics::set("recovery-time", recovery_time.as_secs_f64(), "s")?;
    metrics::set("recovery-point", recovery_point.as_secs_f64(), "s")?;
    outputs::summary(format!(
        "Backup `{}` was restored and compared: {}. Recovery time {}, recovery point {} ago.\n",
        backup.name,
        backup.described(),
        shown(recovery_time),
        shown(recovery_point)
    ));
    log::info(format!("restored and compared {} in {}", backup.described(), shown(recovery_time)));
    Ok(())
}

/// Fails if a goal isn't met.
fn meet_goals(config: &Config, backup: &Backup, recovery_time: Duration, recovery_point: Duration) -> Result<()> {
    let mut missed = Vec::new();
    for (goal, key, measured, what) in [
        (config.recovery_time_goal, "recovery-time-goal", recovery_time, "the restore took"),
        (config.recovery_point_goal, "recovery-point-goal", recovery_point, "the data has an age of"),
    ] {
        if let Some(goal) = goal.map(|goal| goal.0).filter(|goal| measured > *goal) {
            let message = format!("{what} {}, and the goal is {}", shown(measured), shown(goal));
            Finding::error(key, &message).report();
            missed.push(message);
        }
    }
    match missed.is_empty() {
        true => Ok(()),
        false => {
            Err(Error::failed(format!("the backup `{}` misses its goals", backup.name)).causes(missed).never_retry())
        }
    }
}
