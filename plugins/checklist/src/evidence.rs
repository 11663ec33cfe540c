//! Evidence for an item.

use database::{shown, since_epoch};
use stagewright_sdk::http::Request;
use stagewright_sdk::process::{Command, Output};
use stagewright_sdk::{Error, Result, clock, environment};

use crate::config::{BackupEvidence, CertificateEvidence, HttpEvidence, Item, ReleaseEvidence};

/// What speaks for an item, or else what speaks against it, for people.
pub(crate) type Evidence = std::result::Result<String, String>;

/// The most bytes of a body.
const BODY: usize = 4 << 20;

/// # Errors
/// If a grant is missing, or the stage is stopped. A service that can't be reached is evidence against.
pub(crate) fn of(item: &Item) -> Result<Evidence> {
    let found = match item {
        Item { command: Some(command), .. } => of_command(command),
        Item { http: Some(http), .. } => of_response(http),
        Item { certificate: Some(certificate), .. } => of_certificate(certificate),
        Item { backup: Some(backup), .. } => of_backup(backup),
        Item { machine: Some(machine), .. } => machine.look(),
        Item { release: Some(release), .. } => of_release(release),
        _ => Err(Error::internal(format!("`{}` has no evidence", item.name))),
    };
    match found {
        Err(error) if error.is_denied() || error.is_cancelled() => Err(error),
        Err(error) => Ok(Err(error.message)),
        found => found,
    }
}

fn of_command(command: &[String]) -> Result<Evidence> {
    let Some((program, args)) = command.split_first() else { return Err(Error::invalid("the command is empty")) };
    let output = Command::new(program).args(args.iter().map(String::as_str)).read_only().output()?;
    let line = last_line(&output.stdout).or_else(|| last_line(&output.stderr));
    let said = line.map(|line| format!(": {line}")).unwrap_or_default();
    Ok(match output.status.success() {
        true => Ok(format!("`{program}` succeeded{said}")),
        false => Err(format!("`{program}` ended with {}{said}", output.status)),
    })
}

fn of_response(http: &HttpEvidence) -> Result<Evidence> {
    let mut response = Request::get(&http.url).send()?;
    let status = response.status();
    if !http.expect.contains(status) {
        return Ok(Err(format!("{} returned {status}, expected {}", http.url, http.expect)));
    }
    if let Some(text) = &http.contains {
        let body = String::from_utf8_lossy(&response.bytes(BODY)?).into_owned();
        if !body.contains(text.as_str()) {
            return Ok(Err(format!("the response of {} doesn't contain `{text}`", http.url)));
        }
    }
    Ok(Ok(format!("{} returned {status}", http.url)))
}

fn of_certificate(certificate: &CertificateEvidence) -> Result<Evidence> {
    let [show, check] = certificate.commands();
    let run = |args: Vec<String>, input: &[u8]| -> Result<Output> {
        Command::new("openssl").args(args).stdin(input).read_only().quiet().output()
    };
    let shown = run(show, b"")?;
    if !shown.status.success() {
        let said = String::from_utf8_lossy(&shown.stderr).into_owned();
        let reason =
            said.lines().find(|line| line.contains("verify error") || line.contains("errno")).or(said.lines().last());
        let reason = reason.unwrap_or("the connection failed").trim().to_owned();
        return Ok(Err(format!("the certificate of {} can't be verified: {reason}", certificate.host)));
    }
    let checked = run(check, &shown.stdout)?;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    let until = said.lines().find_map(|line| line.strip_prefix("notAfter=")).unwrap_or("an unknown time").to_owned();
    Ok(match checked.status.success() {
        true => Ok(format!("good until {until}")),
        false => Err(format!("good until {until}, which is in less than {} days", certificate.days)),
    })
}

fn of_backup(evidence: &BackupEvidence) -> Result<Evidence> {
    let backups = evidence.store.list(&evidence.database)?;
    let wanted = backups.iter().find(|backup| !evidence.verified || backup.verified.is_some());
    let what = if evidence.verified { "verified backup" } else { "backup" };
    let Some(backup) = wanted else { return Ok(Err(format!("{} has no {what}", evidence.store.place()))) };
    let age = clock::now().saturating_sub(since_epoch(backup));
    Ok(match age <= evidence.age.0 {
        true => Ok(format!("`{}` is {} old", backup.name, shown(age))),
        false => Err(format!(
            "the newest {what}, `{}`, is {} old, at most {} are allowed",
            backup.name,
            shown(age),
            shown(evidence.age.0)
        )),
    })
}

fn of_release(evidence: &ReleaseEvidence) -> Result<Evidence> {
    let release = environment::good_release(&evidence.environment)?;
    Ok(match release {
        Some(release) if release.artifact == evidence.artifact => {
            Ok(format!("it is the good release of {}", evidence.environment))
        }
        Some(release) => Err(format!("the good release of {} is {}", evidence.environment, release.artifact)),
        None => Err(format!("{} has no good release", evidence.environment)),
    })
}

fn last_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text).into_owned();
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}
