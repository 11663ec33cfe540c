//! Reads the text of a lock file.

use std::collections::{BTreeMap, BTreeSet};

use super::credentials::of_fields;
use super::document;
use super::fields::{At, Fields};
use super::permissions::permissions;
use super::stage::{bounds, is_unsandboxed};
use crate::credential::CredentialDeclaration;
use crate::diagnostic::{Diagnostics, Problem, Report};
use crate::grants::{HostPattern, Origin, PackageManager, Permissions, Sandbox};
use crate::lock::{Lock, LockedPipeline, LockedSecret, LockedStage, PluginPin};
use crate::secret::SecretFrom;
use crate::shape;
use crate::span::SourceSpan;

/// The starts of lines that git adds around conflicts.
const MARKERS: [&str; 4] = ["<<<<<<< ", "=======", ">>>>>>> ", "||||||| "];

impl Lock {
    /// Parses a lock file; `file_name` is its name in diagnostics.
    ///
    /// # Errors
    /// If the file is invalid, contains merge conflicts, or has a section whose checksum is wrong.
    pub fn parse(file_name: &str, text: &str) -> Result<Lock, Diagnostics> {
        let mut report = Report::new(file_name, text);
        let lock = read(text, &mut report);
        report.finish(lock).map(|(lock, _)| lock)
    }
}

fn read(text: &str, report: &mut Report) -> Option<Lock> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if MARKERS.iter().any(|marker| line.starts_with(marker)) {
            let place = SourceSpan { start, end: start + line.trim_end().len() };
            report.error(|| {
                Problem::new("stagewright::lock-conflict", place, "the lock has merge conflicts")
                    .label("added by git")
                    .help("merge the pipelines, then rewrite the lock with `stagewright lock`")
            });
            return None;
        }
        start += line.len();
    }
    let document = document(text, report)?;
    shape::check(&shape::LOCK, "the lock", document.get_ref(), report);
    if report.has_errors() {
        return None;
    }
    let entries = Fields::new(document.get_ref()).table("pipelines").entries();
    let pipelines = entries.into_iter().map(|(name, value)| (name, Fields::of(value)));
    let pipelines = pipelines.map(|(name, fields)| (name.value.to_owned(), pipeline(name, fields, report)));
    Some(Lock { pipelines: pipelines.collect() })
}

fn named<'t, T>(table: Fields<'t>, read: impl Fn(Fields<'t>) -> T) -> BTreeMap<String, T> {
    table.entries().into_iter().map(|(name, value)| (name.value.to_owned(), read(Fields::of(value)))).collect()
}

fn pipeline<'t>(name: At<&'t str>, fields: Fields<'t>, report: &mut Report) -> LockedPipeline {
    let locked = LockedPipeline {
        sandbox: sandbox(fields).unwrap_or_default(),
        secrets: named(fields.table("secrets"), |secret| LockedSecret {
            from: secret.text("from").and_then(|from| SecretFrom::parse(from.value).ok()),
            hosts: secret.texts("hosts").iter().filter_map(|host| HostPattern::parse(host.value).ok()).collect(),
            programs: secret.strings("programs"),
        }),
        credentials: credentials(fields.table("credentials")),
        package_hosts: package_hosts(fields.table("package-hosts")),
        plugins: named(fields.table("plugins"), |plugin| PluginPin {
            digest: plugin.string("digest").unwrap_or_default(),
            wit: plugin.string("wit"),
            imports: plugin.strings("imports").into_iter().collect(),
        }),
        stages: named(fields.table("stages"), |stage| LockedStage {
            uses: stage.string("uses").unwrap_or_default(),
            is_native: stage.text("trust").is_some_and(|trust| trust.value == "native"),
            environment: stage.string("environment"),
            permissions: Permissions { unsandboxed: is_unsandboxed(stage), ..permissions(stage.table("permissions")) },
            rehearse: permissions(stage.table("rehearse")),
            bounds: bounds(stage.table("limits")),
        }),
    };
    if let Some(checksum) = fields.text("checksum")
        && !locked.has_checksum(name.value, checksum.value)
    {
        report.error(|| {
            let message = format!("the lock of the pipeline `{}` was edited", name.value);
            Problem::new("stagewright::lock-edited", checksum.span, message)
                .label("doesn't match the section")
                .help("review what the pipeline may do, then rewrite the lock with `stagewright lock`")
        });
    }
    locked
}

/// Incomplete credentials are left out, and then the checksum is wrong.
fn credentials(table: Fields<'_>) -> BTreeMap<String, CredentialDeclaration> {
    let entries = table.entries().into_iter();
    entries.filter_map(|(name, value)| Some((name.value.to_owned(), of_fields(Fields::of(value))?))).collect()
}

fn package_hosts(fields: Fields<'_>) -> BTreeMap<PackageManager, BTreeSet<Origin>> {
    let managers = PackageManager::ALL.into_iter().filter(|manager| fields.has(manager.word()));
    let origins = |manager: PackageManager| {
        fields.strings(manager.word()).iter().filter_map(|text| Origin::parse(text)).collect()
    };
    managers.map(|manager| (manager, origins(manager))).collect()
}

/// The value of a key `sandbox`.
pub(super) fn sandbox(fields: Fields<'_>) -> Option<Sandbox> {
    match fields.text("sandbox")?.value {
        "preferred" => Some(Sandbox::Preferred),
        _ => Some(Sandbox::Required),
    }
}
