//! Reads tables of permissions, and the sets that they use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fields::{At, Fields};
use super::list;
use crate::diagnostic::{Problem, Report};
use crate::grants::{Permission, PermissionSet, Permissions, UsedPermissionSet};
use crate::nearest::nearest;

/// Reads a table of permissions. Invalid entries were reported by the check of the shape.
pub(super) fn permissions(fields: Fields<'_>) -> Permissions {
    let mut permissions = Permissions::default();
    for kind in Permission::ALL {
        for entry in fields.texts(kind.key()) {
            let _ = permissions.insert(kind, entry.value);
        }
    }
    permissions
}

/// What a table of permissions grants, with the entries of the sets that it uses.
#[derive(Clone)]
pub(super) struct ExpandedPermissions {
    pub(super) permissions: Arc<Permissions>,
    pub(super) sets: Vec<UsedPermissionSet>,
}

/// The `[permission-sets]` of a file. A set of the file takes precedence over a built-in one of the same name.
pub(super) struct PermissionSets<'t> {
    declared: BTreeMap<&'t str, (At<&'t str>, Fields<'t>)>,
}

impl<'t> PermissionSets<'t> {
    pub(super) fn new(file: Fields<'t>) -> PermissionSets<'t> {
        let entries = file.table("permission-sets").entries().into_iter();
        let declared = entries.map(|(name, value)| (name.value, (name, Fields::of(value)))).collect();
        PermissionSets { declared }
    }

    /// Reads a table of permissions.
    pub(super) fn expand(&self, table: Fields<'_>, report: &mut Report) -> ExpandedPermissions {
        let mut expanded = permissions(table);
        let mut used = Vec::new();
        for name in table.texts("use") {
            let (set, is_built_in) = match (self.declared.get(name.value), PermissionSet::named(name.value)) {
                (Some((_, set)), _) => (permissions(*set), false),
                (None, Some(set)) => (set.permissions(), true),
                (None, None) => {
                    report.error(|| self.unknown(name));
                    continue;
                }
            };
            expanded.add_all(&set);
            used.push(UsedPermissionSet { name: name.value.to_owned(), is_built_in });
        }
        ExpandedPermissions { permissions: Arc::new(expanded), sets: used }
    }

    /// The tables of the file that a table of permissions consists of: itself and the sets that it uses.
    pub(super) fn tables(&self, table: Fields<'t>) -> Vec<Fields<'t>> {
        let names = table.texts("use");
        let sets = names.iter().filter_map(|name| self.declared.get(name.value)).map(|(_, set)| *set);
        std::iter::once(table).chain(sets).collect()
    }

    /// The sets that the file declares.
    pub(super) fn declared(&self) -> impl Iterator<Item = Fields<'t>> {
        self.declared.values().map(|(_, set)| *set)
    }

    /// Warns of sets that none of the file's tables of permissions uses.
    pub(super) fn warn_of_unused(&self, tables: &[Fields<'t>], report: &mut Report) {
        let used: BTreeSet<&str> = tables.iter().flat_map(|table| table.texts("use")).map(|name| name.value).collect();
        for (name, _) in self.declared.values().filter(|(name, _)| !used.contains(name.value)) {
            let message = format!("no stage uses the permission set `{}`", name.value);
            report.warning(
                Problem::new("stagewright::unused", name.span, message)
                    .help("remove it, or name it in the `permissions.use` of a stage"),
            );
        }
    }

    fn unknown(&self, name: At<&str>) -> Problem {
        let known = || {
            let built_in = PermissionSet::built_in().iter().map(|set| set.name);
            self.declared.keys().copied().chain(built_in)
        };
        let help = match nearest(name.value, known()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!(
                "use one of {}, or add `[permission-sets.{}]`",
                list(known().collect::<BTreeSet<_>>().into_iter()),
                name.value
            ),
        };
        Problem::new(
            "stagewright::unknown-permission-set",
            name.span,
            format!("unknown permission set `{}`", name.value),
        )
        .label("unknown set")
        .help(help)
    }
}
