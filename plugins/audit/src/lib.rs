//! Audits a `Cargo.lock`: advisories, yanked and denied crates, sources, licences.
//!
//! Input: the lock file and a RustSec database, and, depending on the configuration, the registry index and the manifests
//! of the crates. Output: a finding for each problem, counts, and a table in the summary. The crates `rustsec` and `spdx`
//! parse and match; this plugin decides which findings fail the stage.
//!
//! A check that can't be made is an error, never a pass: an empty database, an advisory that doesn't parse and a crate
//! without a manifest all fail the stage.

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
use stagewright_sdk::{Error, Manifest, Outcome, Problem, Requirement, Result, Stage, clock, workspace};

use crate::advisories::Matches;
use crate::config::{Config, Licenses, Location, Unreachable, Yanked};
use crate::database::Database;
use crate::finding::Finding;
use crate::remote::Fetched;
use crate::report::AuditReport;
use crate::yanked::YankedCheck;

/// `cargo metadata` of a workspace with a thousand crates prints about 10 MB.
const METADATA_LIMIT: u64 = 128 << 20;
const METADATA: [&str; 5] = ["metadata", "--format-version", "1", "--locked", "--offline"];

/// The plugin.
#[derive(Debug)]
pub struct Audit;

impl Stage for Audit {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<usize>("vulnerabilities", "Number of packages with a security advisory")
            .output::<usize>("warnings", "Number of findings that don't fail the stage")
            .output::<usize>("ignored", "Number of ignored advisories")
            .output::<usize>("advisories", "Number of advisories in the database")
            .output::<bool>("complete", "False when a check is missing: the database or the index could not be reached")
            .output::<Vec<Finding>>("findings", "The findings")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        config::problems(config)
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let lockfile = Requirement::read(config.lockfile.as_str()).because("lists the crates");
        let database = match &config.database {
            Location::Folder(folder) => Some(Requirement::read(folder.as_str())),
            Location::Tarball(url) => Requirement::url(url),
        };
        let database = database.map(|database| database.because("has the advisories"));
        let index = Requirement::url(&config.index).filter(|_| config.yanked != Yanked::Off);
        let licenses = config.licenses.as_ref().map(|licenses| match &licenses.manifests {
            Some(folder) => Requirement::read(folder.as_str()),
            None => Requirement::command("cargo", METADATA),
        });
        let licenses = licenses.map(|licenses| licenses.because("has the crates' licences"));
        let index = index.map(|index| index.because("lists yanked versions"));
        [Some(lockfile), database, index, licenses].into_iter().flatten().collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        let (text, lockfile) = read_lockfile(&config.lockfile)?;
        let mut audited = AuditReport { packages: lockfile.packages.len(), ..AuditReport::default() };
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
        report::publish(&audited, &config.lockfile, &text)
    }
}

stagewright_sdk::export_stage!(Audit);

fn read_lockfile(path: &str) -> Result<(String, Lockfile)> {
    let text = workspace::read_text(path).map_err(|error| {
        let missing = error.is_not_found();
        let error = error.context(format!("can't read the lock file `{path}`"));
        if missing { error.help("run `cargo generate-lockfile`, or name the file in `lockfile`") } else { error }
    })?;
    let parsed = text.parse().map_err(|error| Error::failed(format!("invalid lock file `{path}`: {error}")))?;
    Ok((text, parsed))
}

fn check_advisories(config: &Config, lockfile: &Lockfile, audited: &mut AuditReport) -> Result<()> {
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

/// None when it can't be reached and `unreachable` is `warn`.
fn read_database(config: &Config, audited: &mut AuditReport) -> Result<Option<Database>> {
    let (database, place) = match &config.database {
        Location::Folder(folder) => (read_folder(folder)?, folder.as_str()),
        Location::Tarball(url) => match remote::get(url)? {
            Fetched::Body(body) => {
                let database = Database::from_tarball(body.as_slice())
                    .map_err(|error| Error::failed(format!("the database from {url} can't be read: {error}")))?;
                (database, url.as_str())
            }
            Fetched::NotFound => {
                return Err(Error::failed(format!("the database {url} does not exist"))
                    .help("correct `database`, or keep a copy in the workspace and name it with `path:FOLDER`"));
            }
            Fetched::Unreachable(error) => {
                on_unreachable(config, audited, error, "no advisory was checked: the database could not be reached")?;
                return Ok(None);
            }
        },
    };
    if database.len() == 0 {
        return Err(Error::failed(format!("the database `{place}` has no advisories"))
            .help("use a folder in RustSec's layout, crates/NAME/RUSTSEC-….md, and grant `read` on it"));
    }
    Ok(Some(database))
}

fn read_folder(folder: &str) -> Result<Database> {
    let mut database = Database::default();
    for entry in workspace::glob(&format!("{folder}/crates/*/*.md"))? {
        let text = workspace::read_text(&entry.path)?;
        database.add(&entry.path, &text).map_err(|error| {
            Error::failed(format!("the database `{folder}` can't be read: {error}"))
                .help("fix or remove the file; it isn't skipped, because the lock file may be affected by it")
        })?;
    }
    Ok(database)
}

fn check_yanked(config: &Config, lockfile: &Lockfile, audited: &mut AuditReport) -> Result<()> {
    let deny = match config.yanked {
        Yanked::Off => return Ok(()),
        Yanked::Warn => false,
        Yanked::Error => true,
    };
    match yanked::check(lockfile, &config.index, deny) {
        Ok(YankedCheck::Done(findings)) => {
            audited.findings.extend(findings);
            Ok(())
        }
        Ok(YankedCheck::Unreachable(error)) => {
            on_unreachable(config, audited, error, "yanked versions were not checked: the index could not be reached")
        }
        Err(error) if error.is_denied() => {
            let grant = error.help.clone().unwrap_or_else(|| format!("grant net = [\"{}\"]", config.index));
            Err(error.context("can't look up yanked versions").help(format!("{grant}; or set yanked = \"off\"")))
        }
        Err(error) => Err(error),
    }
}

/// Handles a check that couldn't be made: an error, or a warning if the configuration says so.
fn on_unreachable(config: &Config, audited: &mut AuditReport, error: Error, what: &str) -> Result<()> {
    match config.unreachable {
        Unreachable::Error => Err(error
            .context(what)
            .help("run again later, or set unreachable = \"warn\" to skip this check")
            .retryable()),
        Unreachable::Warn => {
            let message = format!("{what} ({error})");
            audited.incomplete = true;
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
    cargo.args(METADATA).quiet().capture_limit(METADATA_LIMIT);
    if let Some((folder, _)) = lockfile.rsplit_once('/') {
        cargo.current_dir(folder);
    }
    let output = cargo.output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::failed(format!("can't read the crates' licences: `cargo metadata` ended with {}", output.status))
        .causes(stderr.lines().map(str::trim).filter(|line| !line.is_empty()))
        .help("run `cargo fetch --locked` in an earlier stage, or `cargo vendor` and name the folder in `manifests`"))
}

fn today() -> Result<Date> {
    let millis = i64::try_from(clock::now().as_millis()).unwrap_or(i64::MAX);
    let now = Timestamp::from_millisecond(millis)
        .map_err(|error| Error::internal(format!("the host's clock is out of range, {millis} ms: {error}")))?;
    Ok(now.to_zoned(TimeZone::UTC).date())
}
