//! The differences between two versions of a pipeline file.

use std::collections::BTreeSet;

/// What differs between two versions of a pipeline file, apart from comments, order and style.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileChanges {
    /// The tables of stages whose content differs, as in `stages.test`, and those that only one version has.
    pub stages: BTreeSet<String>,
    /// The other top-level keys whose content differs, as in `environments`.
    pub others: BTreeSet<String>,
}

impl FileChanges {
    /// Compares two texts. A text that isn't TOML has no tables.
    pub fn between(before: &str, after: &str) -> FileChanges {
        let [before, after] = [before, after].map(|text| text.parse::<toml::Table>().unwrap_or_default());
        let mut changes = FileChanges::default();
        for key in different_keys(&before, &after) {
            if !matches!(key, "stages" | "finally") {
                changes.others.insert(key.to_owned());
                continue;
            }
            let none = toml::Table::new();
            let [before, after] =
                [&before, &after].map(|file| file.get(key).and_then(toml::Value::as_table).unwrap_or(&none));
            changes.stages.extend(different_keys(before, after).map(|name| format!("{key}.{name}")));
        }
        changes
    }
}

fn different_keys<'a>(before: &'a toml::Table, after: &'a toml::Table) -> impl Iterator<Item = &'a str> {
    let keys: BTreeSet<&str> = before.keys().chain(after.keys()).map(String::as_str).collect();
    keys.into_iter().filter(|key| before.get(*key) != after.get(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "schema = 1\nenvironments.a.target = 'x'\n[stages.a]\nuses = 'x'\n[stages.b]\nuses = 'x'\n[finally.c]\nuses = 'x'\n";

    #[test]
    fn comments_order_and_style_are_no_changes() {
        let other = "schema = 1 # first\n[finally.c]\nuses = \"x\"\n[environments.a]\ntarget = 'x'\n[stages]\nb.uses = 'x'\na = { uses = 'x' }\n";
        assert_eq!(FileChanges::between(BEFORE, other), FileChanges::default());
    }

    #[test]
    fn changed_stages_and_keys_are_named() {
        let after = BEFORE
            .replace("[stages.b]\nuses", "[stages.d]\nuses")
            .replace("'x'\n[finally.c]\nuses = 'x'", "'y'\n[finally.c]\nuses = 'z'")
            .replace("environments.a.target = 'x'", "secrets.s.from = 'env:S'");
        let changes = FileChanges::between(BEFORE, &after);
        assert_eq!(changes.stages.into_iter().collect::<Vec<_>>(), ["finally.c", "stages.b", "stages.d"]);
        assert_eq!(changes.others.into_iter().collect::<Vec<_>>(), ["environments", "secrets"]);
    }
}
