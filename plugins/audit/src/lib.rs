//! Audits a `Cargo.lock`: advisories, yanked and denied crates, sources, licences.
//!
//! In flow the lock file and a RustSec database, and where the configuration asks for it the index and the manifests;
//! out go one finding for each thing that is wrong, counts, and a table. `rustsec` parses, `spdx` judges licences; what
//! is here decides what counts and reports it.
//!
//! What could not be checked is never passed over: an empty database, an advisory that doesn't parse and a crate
//! without a manifest are errors.

mod advisories;
mod config;
mod database;
mod finding;
mod licenses;
mod policy;
mod remedy;
mod remote;
mod report;
#[cfg(test)]
mod tests;
mod yanked;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rustsec::Lockfile;
use stagewright_sdk::process::Command;
use stagewright_sdk::{Capability, Diagnostic, Error, Manifest, Outcome, Result, Stage, clock, workspace};

use crate::advisories::Matches;
use crate::config::{Config, Licenses, Location, Unreachable, Yanked};
use crate::database::Database;
use crate::finding::Finding;
use crate::remote::Answer;
use crate::report::Audited;
use crate::yanked::Checked;

/// `cargo metadata` of a workspace with a thousand crates prints about 10 MB.
const METADATA_LIMIT: u32 = 128 << 20;

/// The plugin.
#[derive(Debug)]
pub struct Audit;

impl Stage for Audit {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new("audit", env!("CARGO_PKG_VERSION"))
            .description("Audits a Cargo.lock: advisories, yanked and denied crates, sources, licences")
            .capability(Capability::Workspace)
            .capability(Capability::Http)
            .capability(Capability::Process)
            .output("vulnerabilities", "How many packages have a security advisory")
            .output("warnings", "How many findings don't fail the stage")
            .output("ignored", "How many advisories were ignored for the reasons given")
            .output("advisories", "How many advisories the database holds")
            .output("complete", "False when the database or the index could not be reached")
            .output("findings", "Each with kind, code, package, version, message, url and patched versions")
    }

    fn validate(config: &Config) -> Vec<Diagnostic> {
        let mistakes = config::mistakes(config).into_iter();
        mistakes.map(|(key, message)| Diagnostic::error("config", message).at(key)).collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        let lockfile = read_lockfile(&config.lockfile)?;
        let mut audited = Audited { packages: lockfile.packages.len(), ..Audited::default() };
        check_advisories(&config, &lockfile, &mut audited)?;
        check_yanked(&config, &lockfile, &mut audited)?;
        if let Some(sources) = &config.sources {
            audited.findings.extend(policy::check_sources(&lockfile, sources));
        }
        audited.findings.extend(policy::check_denied(&lockfile, &config.deny_crates));
        if let Some(licenses) = &config.licenses {
            let manifests = read_manifests(&config.lockfile, licenses)?;
            audited.findings.extend(licenses::check(&lockfile, &manifests, licenses));
        }
        report::publish(&audited, &config.lockfile)
    }
}

stagewright_sdk::export_stage!(Audit);

fn read_lockfile(path: &str) -> Result<Lockfile> {
    let text = workspace::read_text(path).map_err(|error| {
        let missing = error.is_not_found();
        let error = error.context(format!("can't read the lock file `{path}`"));
        if missing { error.help("run `cargo generate-lockfile`, or name the file in `lockfile`") } else { error }
    })?;
    text.parse().map_err(|error| Error::failed(format!("`{path}` is no Cargo.lock: {error}")))
}

fn check_advisories(config: &Config, lockfile: &Lockfile, audited: &mut Audited) -> Result<()> {
    let Some(database) = read_database(config, audited)? else {
        return Ok(());
    };
    let matches = advisories::check(lockfile, &database, &config.ignore, config.deny_warnings, today()?);
    let Matches { findings, ignored } = matches;
    audited.advisories = database.len();
    audited.findings.extend(findings);
    audited.ignored = ignored;
    Ok(())
}

/// None when it can't be reached and that may be.
fn read_database(config: &Config, audited: &mut Audited) -> Result<Option<Database>> {
    let (database, place) = match &config.database {
        Location::Folder(folder) => (read_folder(folder)?, folder.as_str()),
        Location::Tarball(url) => match remote::get(url)? {
            Answer::Body(body) => {
                let database = Database::from_tarball(body.as_slice())
                    .map_err(|error| Error::failed(format!("the database from {url} can't be read: {error}")))?;
                (database, url.as_str())
            }
            Answer::Missing => {
                return Err(Error::failed(format!("there is no database at {url}"))
                    .help("correct `database`, or keep a copy in the workspace and name it with `path:FOLDER`"));
            }
            Answer::Unreachable(error) => {
                miss(config, audited, error, "no advisory was checked: the database could not be reached")?;
                return Ok(None);
            }
        },
    };
    if database.len() == 0 {
        return Err(Error::failed(format!("the database `{place}` holds no advisory"))
            .help("it needs RustSec's layout, crates/NAME/RUSTSEC-….md, and `read` must be granted on it"));
    }
    Ok(Some(database))
}

fn read_folder(folder: &str) -> Result<Database> {
    let mut database = Database::default();
    for entry in workspace::glob(&format!("{folder}/crates/*/*.md"))? {
        let text = workspace::read_text(&entry.path)?;
        database.add(&entry.path, &text).map_err(|error| {
            Error::failed(format!("the database `{folder}` can't be read: {error}"))
                .help("an advisory that doesn't parse might be the one that counts; repair or remove the file")
        })?;
    }
    Ok(database)
}

fn check_yanked(config: &Config, lockfile: &Lockfile, audited: &mut Audited) -> Result<()> {
    let deny = match config.yanked {
        Yanked::Off => return Ok(()),
        Yanked::Warn => false,
        Yanked::Error => true,
    };
    match yanked::check(lockfile, &config.index, deny) {
        Ok(Checked::Found(findings)) => {
            audited.findings.extend(findings);
            Ok(())
        }
        Ok(Checked::Unreachable(error)) => {
            miss(config, audited, error, "yanked versions were not checked: the index could not be reached")
        }
        Err(error) if error.is_denied() => {
            let grant = error.help.clone().unwrap_or_else(|| format!("grant net = [\"{}\"]", config.index));
            Err(error.context("can't ask which versions were yanked").help(format!("{grant}; or set yanked = \"off\"")))
        }
        Err(error) => Err(error),
    }
}

/// A part of the audit that could not be done: an error, or a warning if the configuration says so.
fn miss(config: &Config, audited: &mut Audited, error: Error, what: &str) -> Result<()> {
    match config.unreachable {
        Unreachable::Error => Err(error
            .context(what)
            .help("run again later, or set unreachable = \"warn\" to go on without it")
            .retryable()),
        Unreachable::Warn => {
            let message = format!("{what} ({error})");
            audited.missed = true;
            audited.findings.push(Finding::about_audit(false, "unreachable", message, "run the audit again later"));
            Ok(())
        }
    }
}

fn read_manifests(lockfile: &str, licenses: &Licenses) -> Result<licenses::Manifests> {
    let Some(folder) = &licenses.manifests else {
        return licenses::from_metadata(&cargo_metadata(lockfile)?).map_err(Error::failed);
    };
    let mut manifests = licenses::Manifests::new();
    for entry in workspace::glob(&format!("{}/*/Cargo.toml", folder.trim_end_matches('/')))? {
        let text = workspace::read_text(&entry.path)?;
        licenses::add_manifest(&mut manifests, &entry.path, &text).map_err(Error::failed)?;
    }
    Ok(manifests)
}

fn cargo_metadata(lockfile: &str) -> Result<Vec<u8>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline"]).quiet().capture_limit(METADATA_LIMIT);
    if let Some((folder, _)) = lockfile.rsplit_once('/') {
        cargo.current_dir(folder);
    }
    let output = cargo.output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::failed(format!(
        "`cargo metadata` ended with {}; licences are in the manifests that it reads",
        output.status
    ))
    .causes(words.lines().map(str::trim).filter(|line| !line.is_empty()))
    .help("run `cargo fetch --locked` in an earlier stage, or `cargo vendor` and name the folder in `manifests`"))
}

fn today() -> Result<Date> {
    let millis = i64::try_from(clock::now().as_millis()).unwrap_or(i64::MAX);
    let now = Timestamp::from_millisecond(millis)
        .map_err(|error| Error::internal(format!("the host's clock says {millis} ms: {error}")))?;
    Ok(now.to_zoned(TimeZone::UTC).date())
}
