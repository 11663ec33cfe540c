//! The findings of an audit.

use rustsec::cargo_lock::Package;
use serde::Serialize;
use stagewright_sdk::{JsonSchema, schemars};

/// A problem with a package, or with the audit itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    /// Whether it fails the stage.
    pub(crate) deny: bool,
    /// As in `RUSTSEC-2024-0001`, or `yanked`.
    pub(crate) code: String,
    /// The crate's name; empty when the finding isn't about a crate.
    pub(crate) package: String,
    /// The crate's version; empty when the finding isn't about a crate.
    pub(crate) version: String,
    /// What was found, in a sentence.
    pub(crate) message: String,
    /// How to fix it.
    pub(crate) help: Option<String>,
    /// A page about it.
    pub(crate) url: Option<String>,
    /// Requirements that match the fixed versions, as in `>=1.2.3`.
    pub(crate) patched: Vec<String>,
}

/// Which check found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Vulnerability,
    /// Unmaintained, unsound, or a notice.
    Informational,
    Yanked,
    Source,
    License,
    DeniedCrate,
    /// About the audit itself: an expired or unused `ignore` entry, an unreachable database.
    Audit,
}

impl Finding {
    /// A finding about the audit itself.
    pub(crate) fn about_audit(deny: bool, code: &str, message: String, help: impl Into<String>) -> Finding {
        Finding {
            kind: Kind::Audit,
            deny,
            code: code.to_owned(),
            package: String::new(),
            version: String::new(),
            message,
            help: Some(help.into()),
            url: None,
            patched: Vec::new(),
        }
    }

    /// A finding that fails the stage because of one package.
    pub(crate) fn denied(kind: Kind, code: &str, package: &Package, message: String, help: String) -> Finding {
        let (package, version) = (package.name.to_string(), package.version.to_string());
        Finding { kind, package, version, ..Finding::about_audit(true, code, message, help) }
    }
}
