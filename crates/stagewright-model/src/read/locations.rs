//! Finds the places of values in the text of a pipeline file, for mistakes that are found in its plan.

use toml::Spanned;
use toml::de::DeTable;

use super::fields::{At, Fields, text};
use crate::grants::PermissionSet;
use crate::plan::{Stage, StageKind};
use crate::span::SourceSpan;
use crate::value_path::{PathStep, ValuePath};

/// The parsed text of a valid pipeline file.
pub(crate) struct Places<'t>(Spanned<DeTable<'t>>);

impl<'t> Places<'t> {
    pub(crate) fn parse(text: &'t str) -> Places<'t> {
        Places(DeTable::parse_recoverable(text).0)
    }

    fn file(&self) -> Fields<'_> {
        Fields::new(self.0.get_ref())
    }

    fn stage(&self, stage: &Stage) -> Fields<'_> {
        let table = match stage.kind {
            StageKind::Main => "stages",
            StageKind::Finally => "finally",
        };
        self.file().table(table).table(&stage.name)
    }

    /// The place of an entry of a stage's permission.
    pub(crate) fn grant(&self, stage: &Stage, key: &str, entry: &str) -> Option<SourceSpan> {
        let stage = self.stage(stage);
        let has_own = stage.has("permissions");
        let around = if has_own { stage } else { self.file().table("defaults") };
        granted_by(self.file(), around.table("permissions"), key, entry)
    }

    /// The place of an entry of a permission in `rehearse`.
    pub(crate) fn rehearsal_grant(&self, stage: &Stage, key: &str, entry: &str) -> Option<SourceSpan> {
        let table = self.stage(stage).table("rehearse").table("permissions");
        granted_by(self.file(), table, key, entry)
    }

    /// The place of the value of a stage's key.
    pub(crate) fn key(&self, stage: &Stage, key: &str) -> Option<SourceSpan> {
        self.stage(stage).get(key).map(|value| value.span().into())
    }

    /// The place of a limit's value: in the `limits` table, in the stage's own, or in `[defaults]`.
    pub(crate) fn limit(&self, stage: &Stage, key: &str) -> Option<SourceSpan> {
        let limit = self.stage(stage).table("limits").get(key).map(|value| value.span().into());
        let default = || self.file().table("defaults").get(key).map(|value| value.span().into());
        limit.or_else(|| self.key(stage, key)).or_else(default)
    }

    /// The place of a value in a stage's `with`, `rehearse.with` or `env`.
    pub(crate) fn value(&self, stage: &Stage, table: &str, path: &ValuePath) -> Option<SourceSpan> {
        let stage = self.stage(stage);
        let mut value = match table {
            "rehearse.with" => stage.table("rehearse").get("with")?,
            table => stage.get(table)?,
        };
        for step in &path.0 {
            value = match step {
                PathStep::Key(key) => Fields::of(value).get(key)?,
                PathStep::Index(index) => value.get_ref().as_array()?.get(*index)?,
            };
        }
        Some(value.span().into())
    }

    /// The place of a secret's `from`.
    pub(crate) fn secret_source(&self, name: &str) -> Option<SourceSpan> {
        Fields::new(self.0.get_ref()).table("secrets").table(name).get("from").map(|value| value.span().into())
    }
}

/// The place of an entry in a table of permissions, else in the sets that it uses; for a built-in set, of its name there.
fn granted_by(file: Fields<'_>, table: Fields<'_>, key: &str, entry: &str) -> Option<SourceSpan> {
    let in_set = |name: &At<&str>| match file.table("permission-sets").get(name.value) {
        Some(set) => entry_of(Fields::of(set), key, entry),
        None => {
            let set = PermissionSet::named(name.value)?.permissions();
            let has_entry = set.entries().any(|grant| grant.permission().key() == key && grant.as_str() == entry);
            has_entry.then_some(name.span)
        }
    };
    entry_of(table, key, entry).or_else(|| table.texts("use").iter().find_map(in_set))
}

fn entry_of(permissions: Fields<'_>, key: &str, entry: &str) -> Option<SourceSpan> {
    permissions.items(key).iter().filter_map(text).find(|item| item.value == entry).map(|item| item.span)
}
