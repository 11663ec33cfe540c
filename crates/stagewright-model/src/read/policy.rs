//! The text of an operator's policy, and places in the text of a pipeline.

use toml::Spanned;
use toml::de::DeTable;

use super::document;
use super::fields::{Fields, text};
use super::lock::sandbox;
use super::stage::bounds;
use crate::code::{Path, Step};
use crate::diagnostic::{Diagnostics, Report};
use crate::grants::Permission;
use crate::plan::{SourceSpan, Stage, StageKind};
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

/// Where things stand in the text of a pipeline that holds no mistakes.
pub(crate) struct Places<'t>(Spanned<DeTable<'t>>);

impl<'t> Places<'t> {
    pub(crate) fn of(text: &'t str) -> Places<'t> {
        Places(DeTable::parse_recoverable(text).0)
    }

    fn stage(&self, stage: &Stage) -> Fields<'_> {
        let table = match stage.kind {
            StageKind::Main => "stages",
            StageKind::Finally => "finally",
        };
        Fields::new(self.0.get_ref()).table(table).table(&stage.name)
    }

    /// An entry of a permission.
    pub(crate) fn of_grant(&self, stage: &Stage, key: &str, entry: &str) -> Option<SourceSpan> {
        entry_of(self.stage(stage).table("permissions"), key, entry)
    }

    /// An entry of a permission of its rehearsal.
    pub(crate) fn of_rehearsal_grant(&self, stage: &Stage, key: &str, entry: &str) -> Option<SourceSpan> {
        entry_of(self.stage(stage).table("rehearse").table("permissions"), key, entry)
    }

    /// The value of a key of the stage.
    pub(crate) fn of_key(&self, stage: &Stage, key: &str) -> Option<SourceSpan> {
        self.stage(stage).get(key).map(|value| value.span().into())
    }

    /// The value of a limit, in the `limits` table or beside it.
    pub(crate) fn of_limit(&self, stage: &Stage, key: &str) -> Option<SourceSpan> {
        let limit = self.stage(stage).table("limits").get(key).map(|value| value.span().into());
        limit.or_else(|| self.of_key(stage, key))
    }

    /// A value in a table of the stage: `with`, `rehearse.with` or `env`.
    pub(crate) fn of_with(&self, stage: &Stage, table: &str, path: &Path) -> Option<SourceSpan> {
        let stage = self.stage(stage);
        let mut value = match table {
            "rehearse.with" => stage.table("rehearse").get("with")?,
            table => stage.get(table)?,
        };
        for step in &path.0 {
            value = match step {
                Step::Key(key) => Fields::of(value).get(key)?,
                Step::Index(index) => value.get_ref().as_array()?.get(*index)?,
            };
        }
        Some(value.span().into())
    }

    /// Where a secret comes from.
    pub(crate) fn of_secret(&self, name: &str) -> Option<SourceSpan> {
        Fields::new(self.0.get_ref()).table("secrets").table(name).get("from").map(|value| value.span().into())
    }
}

fn entry_of(permissions: Fields<'_>, key: &str, entry: &str) -> Option<SourceSpan> {
    permissions.items(key).iter().filter_map(text).find(|item| item.value == entry).map(|item| item.span)
}
