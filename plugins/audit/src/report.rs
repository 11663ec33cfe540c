//! Publishes the result of an audit: findings, outputs, a table, and whether the stage fails.

use std::collections::BTreeMap;
use std::fmt::Write;

use stagewright_sdk::text::count;
use stagewright_sdk::{Error, Finding as Reported, Outcome, Position, Result, Severity, metrics, outputs};

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

/// Reports all findings, with the lines of the lock file that they are about. An error if any of them fails the stage.
pub(crate) fn publish(audited: &AuditReport, lockfile: &str, text: &str) -> Result<Outcome> {
    let lines = lines_of_packages(text);
    for finding in &audited.findings {
        let line = lines.get(&(finding.package.as_str(), finding.version.as_str())).copied();
        reported(finding).file(lockfile, line.map(Position::line)).report();
    }
    let denied = audited.denied().count();
    outputs::set("vulnerabilities", &audited.vulnerabilities())?;
    metrics::set("vulnerabilities", audited.vulnerabilities() as f64, "")?;
    outputs::set("warnings", &(audited.findings.len() - denied))?;
    outputs::set("ignored", &audited.ignored.len())?;
    outputs::set("advisories", &audited.advisories)?;
    outputs::set("complete", &!audited.incomplete)?;
    outputs::set("findings", &audited.findings)?;
    outputs::summary(summary(audited, lockfile));
    if denied == 0 {
        return Ok(Outcome::Succeeded);
    }
    let mut error = Error::failed(format!("{} in {lockfile}", count(denied, "problem")))
        .causes(audited.denied().map(|finding| format!("{}: {}", finding.code, finding.message)));
    error.help = audited.denied().find_map(|finding| finding.help.clone());
    Err(error)
}

fn reported(finding: &Finding) -> Reported {
    let severity = if finding.deny { Severity::Error } else { Severity::Warning };
    let page = finding.url.as_ref().map(|url| format!("see {url}"));
    let help: Vec<String> = finding.help.clone().into_iter().chain(page).collect();
    let mut reported = Reported::new(severity, &finding.code, &finding.message)
        .fingerprint(format!("{} {} {}", finding.code, finding.package, finding.version));
    reported.help = (!help.is_empty()).then(|| help.join("; "));
    reported
}

/// The line of each package's name in a lock file, by name and version.
fn lines_of_packages(text: &str) -> BTreeMap<(&str, &str), u32> {
    let (mut lines, mut last) = (BTreeMap::new(), None);
    for (number, line) in (1..).zip(text.lines()) {
        let value = |key| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"');
        if let Some(name) = value("name") {
            last = Some((name, number));
        } else if let (Some((name, line)), Some(version)) = (last, value("version")) {
            lines.entry((name, version)).or_insert(line);
        }
    }
    lines
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
