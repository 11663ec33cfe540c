//! Grants that a stage lacks.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Grant, Permission, Permissions};

/// An entry to add to a stage's permissions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MissingGrant {
    /// The table that lacks it, as in `stages.test.permissions`.
    pub table: String,
    /// Its key in the table.
    pub permission: Permission,
    /// An entry of that key, as in `Cargo.toml`.
    pub entry: String,
}

impl MissingGrant {
    /// The change to make, as a phrase: the table and the whole list of the key, with what `granted` has of it.
    pub fn remedy(&self, granted: &Permissions) -> String {
        let verb = if granted.of(self.permission).is_empty() { "add to" } else { "change in" };
        let line = line(granted, self.permission, [self.entry.as_str()]);
        format!("{verb} [{}]: {line}", self.table)
    }
}

/// The lines of a table of permissions with `missing` in addition to `granted`: those of the keys that `missing` is about.
pub fn granting_lines(granted: &Permissions, missing: &[MissingGrant]) -> Vec<String> {
    let entries_of =
        |kind| missing.iter().filter(move |grant| grant.permission == kind).map(|grant| grant.entry.as_str());
    let changed = Permission::ALL.into_iter().filter(|&kind| entries_of(kind).next().is_some());
    changed.map(|kind| line(granted, kind, entries_of(kind))).collect()
}

fn line<'a>(granted: &'a Permissions, kind: Permission, missing: impl IntoIterator<Item = &'a str>) -> String {
    let granted = granted.of(kind).into_iter().map(Grant::as_str);
    let entries: BTreeSet<&str> = granted.chain(missing).collect();
    let entries: Vec<String> = entries.into_iter().map(|entry| toml::Value::from(entry).to_string()).collect();
    format!("{} = [{}]", kind.key(), entries.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(permission: Permission, entry: &str) -> MissingGrant {
        MissingGrant { table: "stages.test.permissions".to_owned(), permission, entry: entry.to_owned() }
    }

    #[test]
    fn the_remedy_has_the_whole_list() {
        let mut granted = Permissions::default();
        let read = missing(Permission::Read, "Cargo.toml");
        assert_eq!(read.remedy(&granted), r#"add to [stages.test.permissions]: read = ["Cargo.toml"]"#);
        granted.insert(Permission::Read, "src").expect("a path");
        assert_eq!(read.remedy(&granted), r#"change in [stages.test.permissions]: read = ["Cargo.toml", "src"]"#);
    }

    #[test]
    fn lines_are_in_display_order_and_are_toml() {
        let mut granted = Permissions::default();
        granted.insert(Permission::Read, "src").expect("a path");
        let command = r#"grep '"a"' \n"#;
        let lines =
            granting_lines(&granted, &[missing(Permission::Read, "docs"), missing(Permission::Process, command)]);
        assert_eq!(lines[1..], [r#"read = ["docs", "src"]"#]);
        let table: toml::Table = lines[0].parse().expect("TOML");
        assert_eq!(table["process"][0].as_str(), Some(command));
    }
}
