//! Publishes the result of an audit: findings, outputs, a table, and whether the stage fails.

use std::fmt::Write;

use stagewright_sdk::text::count;
use stagewright_sdk::{Diagnostic, Error, Outcome, Result, outputs};

use crate::finding::{Finding, Kind};

/// The result of an audit.
#[derive(Debug, Default)]
pub(crate) struct AuditReport {
    /// Number of packages in the lock file.
    pub(crate) packages: usize,
    /// Number of advisories in the database.
    pub(crate) advisories: usize,
    pub(crate) findings: Vec<Finding>,
    /// Ignored advisories with their reasons.
    pub(crate) ignored: Vec<(String, String)>,
    /// Whether a check couldn't be made.
    pub(crate) incomplete: bool,
}

impl AuditReport {
    fn denied(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.deny)
    }

    fn vulnerabilities(&self) -> usize {
        self.findings.iter().filter(|finding| finding.kind == Kind::Vulnerability).count()
    }
}

/// Reports all findings. An error if any of them fails the stage.
pub(crate) fn publish(audited: &AuditReport, lockfile: &str) -> Result<Outcome> {
    for finding in &audited.findings {
        outputs::report(diagnostic(finding, lockfile));
    }
    let denied = audited.denied().count();
    outputs::set("vulnerabilities", &audited.vulnerabilities())?;
    outputs::set("warnings", &(audited.findings.len() - denied))?;
    outputs::set("ignored", &audited.ignored.len())?;
    outputs::set("advisories", &audited.advisories)?;
    outputs::set("complete", &!audited.incomplete)?;
    outputs::set("findings", &audited.findings)?;
    outputs::summary(summary(audited, lockfile));
    if denied == 0 {
        return Ok(Outcome::Succeeded);
    }
    let noun = if denied == 1 { "problem" } else { "problems" };
    let first = audited.denied().find_map(|finding| finding.help.clone());
    let error = Error::failed(format!("{denied} {noun} in {lockfile}"))
        .causes(audited.denied().map(|finding| format!("{}: {}", finding.code, finding.message)));
    Err(match first {
        Some(help) => error.help(help),
        None => error,
    })
}

fn diagnostic(finding: &Finding, lockfile: &str) -> Diagnostic {
    let diagnostic = if finding.deny {
        Diagnostic::error(&finding.code, &finding.message)
    } else {
        Diagnostic::warning(&finding.code, &finding.message)
    };
    let help = match (&finding.help, &finding.url) {
        (Some(help), Some(url)) => Some(format!("{help}; see {url}")),
        (Some(help), None) => Some(help.clone()),
        (None, url) => url.clone(),
    };
    let diagnostic = diagnostic.at(lockfile);
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

fn summary(audited: &AuditReport, lockfile: &str) -> String {
    let mut text = format!(
        "**Audit of {lockfile}**: {} against {}: {}, {} in all, {} ignored.\n",
        count(audited.packages, "package"),
        count(audited.advisories, "advisory"),
        count(audited.vulnerabilities(), "vulnerability"),
        count(audited.findings.len(), "finding"),
        audited.ignored.len(),
    );
    if audited.incomplete {
        text += "\n**Incomplete**: a check could not be made, see below.\n";
    }
    if !audited.findings.is_empty() {
        text += "\n| | Finding | Package | What | Fixed in |\n|---|---|---|---|---|\n";
    }
    for finding in &audited.findings {
        let mark = if finding.deny { "error" } else { "warning" };
        let code = match &finding.url {
            Some(url) => format!("[{}]({url})", finding.code),
            None => finding.code.clone(),
        };
        let package = format!("{} {}", finding.package, finding.version);
        let cells = [mark, &code, package.trim(), &finding.message, &finding.patched.join(" or ")].map(cell);
        // Writing to a string can't fail.
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    for (id, reason) in &audited.ignored {
        let _ = write!(text, "\nIgnored: {id}, because: {reason}\n");
    }
    text
}

/// Escapes bars and line ends: titles of advisories are untrusted text, and must not break the table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
