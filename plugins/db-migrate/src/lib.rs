//! Brings the schema of a database up to date: carries out the SQL files that it hasn't been through yet, in the order of their
//! numbers, under a lock.
//!
//! Input: the files, and the database. Output: the schema's version, which is the name of the last file, and what was carried out.
//!
//! Each file is a transaction together with the note that it was carried out, in the table `stagewright.migrations`. So an attempt
//! that was interrupted runs again, and goes on behind the last file that is noted. The database keeps the environment's token, and
//! refuses an older run. A file says itself whether the release before it can go on with the new schema
//! (`-- stagewright: compatible`); one that can't be undone by deploying the release before it is undone by a restore alone.

mod config;
mod migration;
mod script;
#[cfg(test)]
mod tests;

use stagewright_sdk::text::count;
use stagewright_sdk::{
    Error, Finding, Manifest, Observation, Outcome, Problem, Reconcile, Requirement, Result, Stage, context,
    environment, log, outputs,
};

use crate::config::Config;
use crate::migration::Migration;
use crate::script::{Applied, Script};

/// The plugin.
#[derive(Debug)]
pub struct DbMigrate;

impl Stage for DbMigrate {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<String>("schema", "The schema's version: the name of the last migration")
            .output::<Vec<String>>("applied", "The names of the files that this run has carried out")
            .output::<bool>(
                "compatible",
                "Whether the release before can go on with the schema: all files of this run say so",
            )
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config.problems()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        config.requirements()
    }

    fn run(config: Config) -> Result<Outcome> {
        let files = files(&config)?;
        let applied = ask(&config)?;
        let pending = pending(&files, &applied)?;
        if pending.is_empty() {
            log::info("the schema is up to date");
        }
        for migration in &pending {
            log::info(format!("carrying out `{}`", migration.path));
        }
        // Also without a pending file: an older run is refused from now on.
        let script = Script::new(&pending, environment::fence().unwrap_or_default(), &context::run_id());
        let server = config.server.postgresql();
        let done = server.run_script(&config.database, "can't migrate", &script.text);
        let output = done.map_err(|error| explained(error, &script))?;
        let carried_out = script::carried_out(&output);
        if carried_out.len() != pending.len() {
            let message = format!("{} of {} were carried out", carried_out.len(), count(pending.len(), "file"));
            return Err(Error::internal(message));
        }
        publish(&files, &pending)?;
        Ok(Outcome::Succeeded)
    }
}

impl Reconcile for DbMigrate {
    /// Whether the database has been through all files. Otherwise the stage goes on where it was.
    fn observe(config: Config) -> Result<Observation> {
        let (files, applied) = (files(&config)?, ask(&config)?);
        if !pending(&files, &applied)?.is_empty() {
            return Ok(Observation::NotStarted);
        }
        let run = context::run_id();
        let of_run =
            |migration: &&Migration| applied.iter().any(|applied| applied.name == migration.name && applied.run == run);
        publish(&files, &files.iter().filter(of_run).collect::<Vec<_>>())?;
        Ok(Observation::Applied("the database has been through all migrations".to_owned()))
    }

    /// A schema isn't changed back. It stays if the release before can go on with it.
    fn undo(config: Config) -> Result<()> {
        let run = context::run_id();
        let incompatible: Vec<String> = ask(&config)?
            .into_iter()
            .filter(|applied| applied.run == run && !applied.compatible)
            .map(|applied| applied.name)
            .collect();
        if incompatible.is_empty() {
            log::info("the schema stays as it is: the release before can go on with it");
            return Ok(());
        }
        let message = format!("{} can't be undone", incompatible.join(", "));
        Err(Error::failed(message)
            .help("restore the backup of before with `db-restore`, or deploy a release that works with this schema"))
    }
}

stagewright_sdk::export_effectful_stage!(DbMigrate);

/// The migrations, and the seeds behind them.
fn files(config: &Config) -> Result<Vec<Migration>> {
    let mut files = migration::numbered(&config.files)?;
    if let Some(seeds) = &config.seeds {
        let settings = environment::settings()?;
        if let Some(settings) = settings.filter(|settings| settings.protected) {
            let message = format!("the environment {} is protected, and gets no seed data", settings.name);
            return Err(Error::failed(message)
                .help("remove `seeds`, or make a stage of its own for other environments")
                .never_retry());
        }
        // Seeds don't change what releases work with.
        let seeds = migration::read(seeds)?.into_iter();
        files.extend(seeds.map(|seed| Migration { name: format!("seed: {}", seed.name), compatible: true, ..seed }));
    }
    Ok(files)
}

fn ask(config: &Config) -> Result<Vec<Applied>> {
    let output = config.server.postgresql().ask(&config.database, "can't read the schema of", script::ASK)?;
    script::applied(&output)
}

/// The files that the database hasn't been through.
fn pending<'m>(files: &'m [Migration], applied: &[Applied]) -> Result<Vec<&'m Migration>> {
    if let Some(interrupted) = applied.iter().find(|applied| !applied.finished) {
        let message = format!("`{}` was interrupted, and isn't a transaction", interrupted.name);
        return Err(Error::failed(message)
            .help(format!(
                "find out how far it got; then `UPDATE stagewright.migrations SET finished = true WHERE name = '{name}'`, or \
                 undo it and delete the row",
                name = interrupted.name
            ))
            .never_retry());
    }
    let of = |migration: &Migration| applied.iter().find(|applied| applied.name == migration.name);
    if let Some(changed) = files.iter().find(|file| of(file).is_some_and(|applied| applied.digest != file.digest)) {
        let message = format!("`{}` has changed since it was carried out", changed.path);
        return Err(Error::failed(message)
            .file(&changed.path, None)
            .help("restore the file, and write what has to change into a new one")
            .never_retry());
    }
    let unknown =
        applied.iter().find(|applied| !applied.compatible && files.iter().all(|file| file.name != applied.name));
    if let Some(unknown) = unknown {
        let message = format!("the database has been through `{}`, which this release doesn't know", unknown.name);
        return Err(Error::failed(message)
            .help(format!(
                "it isn't marked `-- stagewright: compatible`: restore a backup of before with `db-restore`, or deploy a release \
                 that has it (run {} carried it out)",
                unknown.run
            ))
            .never_retry());
    }
    let pending: Vec<&Migration> = files.iter().filter(|file| of(file).is_none()).collect();
    let last = files.iter().filter(|file| of(file).is_some()).filter_map(Migration::number).max();
    let late = pending.iter().find(|file| file.number().zip(last).is_some_and(|(number, last)| number < last));
    if let Some(late) = late {
        let message = format!("`{}` comes before a migration that was already carried out", late.path);
        return Err(Error::failed(message)
            .file(&late.path, None)
            .help("give it the next number: the order would otherwise not be the same everywhere")
            .never_retry());
    }
    Ok(pending)
}

/// With the file and the line of what failed.
fn explained(error: Error, script: &Script) -> Error {
    let said = error.causes.join("\n");
    let error = match said.contains("ends its transaction itself") {
        true => error.help("remove COMMIT and ROLLBACK, or mark the file with `-- stagewright: no-transaction`"),
        false => error,
    };
    match script.place_of(&said) {
        Some((path, position)) => {
            let message = format!("{} ({path}, line {})", error.message, position.line);
            Error { message, ..error }.file(path, Some(position)).never_retry()
        }
        None => error,
    }
}

fn publish(files: &[Migration], carried_out: &[&Migration]) -> Result<()> {
    let last = files.iter().rev().find(|file| file.number().is_some());
    let names: Vec<&str> = carried_out.iter().map(|file| file.name.as_str()).collect();
    let incompatible: Vec<&str> =
        carried_out.iter().filter(|file| !file.compatible).map(|file| file.name.as_str()).collect();
    outputs::set("schema", &last.map_or("", |last| last.name.as_str()))?;
    outputs::set("applied", &names)?;
    outputs::set("compatible", &incompatible.is_empty())?;
    if !incompatible.is_empty() {
        let message = format!("the release before can't go on with {}", incompatible.join(", "));
        Finding::info("incompatible-schema", message)
            .help("if it can, mark the files with `-- stagewright: compatible`")
            .report();
    }
    outputs::summary(match names.is_empty() {
        true => "The schema was up to date.\n".to_owned(),
        false => format!("Carried out: {}\n", names.join(", ")),
    });
    Ok(())
}
