//! Backs up a database: dumps it, encrypts the dump, stores it in one place or several, and deletes backups that aren't to be
//! kept.
//!
//! Input: a server, a database, and the places. Output: the backup's name and moment. Each place has the file, and a record with
//! the number of rows and a digest of each table as the dump has them.
//!
//! A backup exists once its record does, which is written last. So an attempt that was interrupted has left a backup of its run
//! in each place, or it runs again; nothing is deleted before the new backup is stored.

mod config;
#[cfg(test)]
mod tests;

use database::{Backup, Scratch, encrypt};
use stagewright_sdk::{
    Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage, context, log, metrics, outputs,
    workspace,
};

use crate::config::Config;

/// The plugin.
#[derive(Debug)]
pub struct DbBackup;

impl Stage for DbBackup {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<String>("backup", "The backup's name, for `backup` of `db-verify` and `db-restore`")
            .output::<String>("moment", "The moment whose data it has, in RFC 3339")
            .output::<String>("digest", "The digest of its file, as `sha256:…`")
            .output::<u64>("size", "The bytes of its file")
            .output::<u64>("rows", "The rows of all its tables")
            .output::<Vec<String>>("deleted", "The names of the backups that were deleted, in any of the places")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config.problems()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        config.requirements()
    }

    fn run(config: Config) -> Result<Outcome> {
        let scratch = Scratch::new(&config.scratch)?;
        let (dump, encrypted) = (scratch.file(config::DUMP), scratch.file(config::ENCRYPTED));
        let server = config.server.postgresql();
        log::info(format!("backing up {}", server.place(&config.database)));
        let (moment, contents) = server.dump(&config.database, &dump)?;
        let mut backup = Backup::new(config.server.engine(), &config.database, moment, contents);
        log::info(format!("dumped {}", backup.described()));
        let file = match config.encrypt.0.is_empty() {
            true => dump,
            false => {
                encrypt(&config.encrypt, &dump, &encrypted)?;
                backup.file.push_str(".age");
                backup.encrypted_to.clone_from(&config.encrypt.0);
                encrypted
            }
        };
        backup.digest = workspace::digest(&file)?;
        backup.size = workspace::glob(&file)?.first().map_or(0, |entry| entry.size);
        for store in &config.to {
            store.put(&backup, &file)?;
        }
        let mut deleted = Vec::new();
        for store in &config.to {
            deleted.extend(store.clean(&config.database)?);
        }
        deleted.sort();
        deleted.dedup();
        publish(&backup, &deleted)?;
        Ok(Outcome::Succeeded)
    }
}

impl Reconcile for DbBackup {
    /// Whether each place has a backup that this stage of the run has made.
    fn observe(config: Config) -> Result<Observation> {
        let (run, stage) = (context::run_id(), context::stage_id());
        let mut found = None;
        for store in &config.to {
            let backups = store.list(&config.database)?;
            let Some(own) = backups.into_iter().find(|backup| backup.run == run && backup.stage == stage) else {
                return Ok(Observation::NotStarted);
            };
            found = Some(own);
        }
        let Some(backup) = found else { return Ok(Observation::NotStarted) };
        publish(&backup, &[])?;
        Ok(Observation::Applied(format!("the backup `{}` is stored", backup.name)))
    }

    /// A backup is kept, whether or not the run succeeds.
    fn undo(_config: Config) -> Result<()> {
        log::info("the backup is kept");
        Ok(())
    }
}

stagewright_sdk::export_effectful_stage!(DbBackup);

fn publish(backup: &Backup, deleted: &[String]) -> Result<()> {
    outputs::set("backup", &backup.name)?;
    outputs::set("moment", &backup.moment.to_string())?;
    outputs::set("digest", &backup.digest)?;
    outputs::set("size", &backup.size)?;
    outputs::set("rows", &backup.rows())?;
    outputs::set("deleted", deleted)?;
    #[expect(clippy::cast_precision_loss, reason = "a metric")]
    metrics::set("backup-size", backup.size as f64, "bytes")?;
    outputs::summary(format!("Backup `{}`: {}, {} bytes\n", backup.name, backup.described(), backup.size));
    Ok(())
}
