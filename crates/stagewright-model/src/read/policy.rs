//! The text of an operator's policy.

use super::document;
use super::fields::Fields;
use super::lock::sandbox;
use super::stage::bounds;
use crate::diagnostic::{Diagnostics, Report};
use crate::grants::Permission;
use crate::policy::{Ceiling, OperatorPolicy, Rule, Said};
use crate::shape;

impl OperatorPolicy {
    /// Reads a policy file; `file_name` is what diagnostics call it.
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
    let rule = |fields: Fields<'_>, key: &str| {
        fields.has(key).then(|| Rule { line: line_of(fields, key), entries: fields.strings(key) })
    };
    let ceiling = |fields: Fields<'_>| -> Ceiling {
        Permission::ALL.into_iter().filter_map(|kind| Some((kind, rule(fields, kind.key())?))).collect()
    };
    let cache = file.table("cache");
    let said = |key: &str| cache.text(key).map(|text| Said { line: line_of(cache, key), text: text.value.to_owned() });
    let plugins = file.table("plugins").entries().into_iter();
    let limits = file.table("limits");
    Some(OperatorPolicy {
        file: file_name.to_owned(),
        sandbox: sandbox(file),
        no_native: (file.flag("native") == Some(false)).then(|| line_of(file, "native")),
        requires_lock: file.flag("locked").unwrap_or(false),
        secret_sources: rule(file, "secret-sources"),
        package_hosts: rule(file, "package-hosts"),
        general: ceiling(file.table("permissions")),
        plugins: plugins.map(|(name, value)| (name.value.to_owned(), ceiling(Fields::of(value)))).collect(),
        bounds: bounds(limits),
        shared_cache: said("shared"),
        cache_tier: said("tier"),
        lines: limits
            .entries()
            .into_iter()
            .map(|(key, _)| (key.value.to_owned(), line_of(limits, key.value)))
            .collect(),
    })
}
