//! Reads the text of an operator's policy.

use super::document;
use super::fields::Fields;
use super::lock::sandbox;
use super::permissions::permissions;
use super::stage::bounds;
use crate::diagnostic::{Diagnostics, Report};
use crate::grants::{NetRule, Permission};
use crate::policy::{OperatorPolicy, PermissionLimits, PolicyList, PolicyValue};
use crate::shape;

impl OperatorPolicy {
    /// Parses a policy file; `file_name` is its name in diagnostics.
    pub fn parse(file_name: &str, text: &str) -> Result<OperatorPolicy, Diagnostics> {
        let mut report = Report::new(file_name, text);
        let policy = read(file_name, text, &mut report);
        report.finish(policy).map(|(policy, _)| policy)
    }
}

fn read(file_name: &str, text: &str, report: &mut Report) -> Option<OperatorPolicy> {
    let document = document(text, report)?;
    shape::check(&shape::POLICY, "the policy", document.get_ref(), report);
    let file = Fields::new(document.get_ref());
    let line_of = |fields: Fields<'_>, key: &str| {
        let start = fields.get(key).map_or(0, |value| value.span().start);
        text[..start].matches('\n').count() + 1
    };
    let limits_of = |fields: Fields<'_>| {
        let kinds = Permission::ALL.into_iter().filter(|kind| fields.has(kind.key()));
        PermissionLimits {
            granted: permissions(fields),
            lines: kinds.map(|kind| (kind, line_of(fields, kind.key()))).collect(),
        }
    };
    let cache = file.table("cache");
    let value =
        |key: &str| cache.text(key).map(|text| PolicyValue { line: line_of(cache, key), text: text.value.to_owned() });
    let plugins = file.table("plugins").entries().into_iter();
    let limits = file.table("limits");
    Some(OperatorPolicy {
        file: file_name.to_owned(),
        sandbox: sandbox(file),
        no_native: (file.flag("native") == Some(false)).then(|| line_of(file, "native")),
        requires_lock: file.flag("locked").unwrap_or(false),
        secret_sources: file
            .has("secret-sources")
            .then(|| PolicyList { line: line_of(file, "secret-sources"), entries: file.strings("secret-sources") }),
        package_hosts: file.has("package-hosts").then(|| PolicyList {
            line: line_of(file, "package-hosts"),
            // Invalid entries were reported by the check of the shape.
            entries: file.strings("package-hosts").iter().filter_map(|entry| NetRule::parse(entry).ok()).collect(),
        }),
        general: limits_of(file.table("permissions")),
        plugins: plugins.map(|(name, value)| (name.value.to_owned(), limits_of(Fields::of(value)))).collect(),
        bounds: bounds(limits),
        shared_cache: value("shared"),
        cache_tier: value("tier"),
        lines: limits
            .entries()
            .into_iter()
            .map(|(key, _)| (key.value.to_owned(), line_of(limits, key.value)))
            .collect(),
    })
}
