//! Writes grants into the text of a pipeline file.

use toml_edit::{Array, Decor, DocumentMut, InlineTable, Item, Key, Table, TableLike, Value};

use super::MissingGrant;

/// The columns that a list or table on one line may take.
const WIDTH: usize = 100;

/// Adds grants to the text of a pipeline file. Everything else stays as it is: comments, order, and the style of tables and
/// lists.
///
/// # Errors
/// If the text isn't TOML, or has something else in a grant's place; in words.
pub fn with_grants(text: &str, missing: &[MissingGrant]) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    let mut tables: Vec<&str> = missing.iter().map(|grant| grant.table.as_str()).collect();
    tables.sort_unstable();
    tables.dedup();
    for table in tables {
        let of_table: Vec<&MissingGrant> = missing.iter().filter(|grant| grant.table == table).collect();
        add_to_table(&mut document, table, &of_table)?;
    }
    Ok(document.to_string())
}

fn add_to_table(document: &mut DocumentMut, name: &str, missing: &[&MissingGrant]) -> Result<(), String> {
    let keys = Key::parse(name).map_err(|error| error.to_string())?;
    let defaults = default_permissions(document);
    let mut table: &mut dyn TableLike = document.as_table_mut();
    let mut is_inline = false;
    for (depth, key) in keys.iter().enumerate() {
        if !table.contains_key(key.get()) {
            let is_last = depth + 1 == keys.len();
            // Not those of a rehearsal, which have no defaults.
            let is_of_stage = is_last && keys.len() == 3;
            let new = match &defaults {
                // A stage with permissions of its own doesn't get the default ones.
                Some(defaults) if is_of_stage => Item::Value(Value::InlineTable(defaults.clone())),
                _ if is_last => new_permissions(key, missing),
                _ => Item::Table(implicit_table()),
            };
            table.insert(key.get(), new);
        }
        let item = table.get_mut(key.get()).ok_or_else(|| not_a(key.get(), "table"))?;
        is_inline = item.is_inline_table();
        table = item.as_table_like_mut().ok_or_else(|| not_a(key.get(), "table"))?;
    }
    missing.iter().try_for_each(|grant| add_entry(table, is_inline, grant))
}

/// `[defaults.permissions]`, as a value on one line.
fn default_permissions(document: &DocumentMut) -> Option<InlineTable> {
    let table = document.get("defaults")?.get("permissions")?.clone();
    let mut table = table.into_value().ok()?.as_inline_table()?.clone();
    table.iter_mut().filter_map(|(_, value)| value.as_array_mut()).for_each(|list| {
        list.iter_mut().for_each(|entry| *entry.decor_mut() = Decor::default());
        list.fmt();
    });
    table.fmt();
    Some(table)
}

/// The table for a stage without permissions: on the line of its key if all entries fit there, else below a header.
fn new_permissions(key: &Key, missing: &[&MissingGrant]) -> Item {
    let quotes = |grant: &&MissingGrant| grant.permission.key().len() + grant.entry.len() + " = [\"\"], ".len();
    let width = key.get().len() + " = {  }".len() + missing.iter().map(quotes).sum::<usize>();
    if width <= WIDTH { Item::Value(Value::InlineTable(InlineTable::new())) } else { Item::Table(Table::new()) }
}

fn implicit_table() -> Table {
    let mut table = Table::new();
    table.set_implicit(true);
    table
}

fn add_entry(table: &mut dyn TableLike, is_inline: bool, grant: &MissingGrant) -> Result<(), String> {
    let key = grant.permission.key();
    if !table.contains_key(key) {
        // The space before the closing brace belongs to the last value, which it must not separate from its comma.
        let before_brace = if is_inline { take_suffix(table) } else { None };
        let mut list = Array::new();
        before_brace.into_iter().for_each(|space| list.decor_mut().set_suffix(space));
        table.insert(key, Item::Value(Value::Array(list)));
    }
    let list = table.get_mut(key).and_then(Item::as_array_mut).ok_or_else(|| not_a(key, "list"))?;
    if list.iter().any(|entry| entry.as_str() == Some(&grant.entry)) {
        return Ok(());
    }
    push(list, &grant.entry);
    Ok(())
}

fn take_suffix(table: &mut dyn TableLike) -> Option<String> {
    let (_, last) = table.iter_mut().last()?;
    let decor: &mut Decor = last.as_value_mut()?.decor_mut();
    let suffix = decor.suffix()?.as_str()?.to_owned();
    decor.set_suffix("");
    Some(suffix)
}

/// Adds an entry on a line of its own if the last entry has one. A comment behind the last entry stays there.
fn push(list: &mut Array, entry: &str) {
    let has_comma = list.trailing_comma();
    let last = list.iter().last();
    let indent =
        last.and_then(|last| last.decor().prefix()?.as_str()).and_then(|prefix| Some(&prefix[prefix.rfind('\n')?..]));
    let behind =
        if has_comma { list.trailing().as_str() } else { last.and_then(|last| last.decor().suffix()?.as_str()) };
    let behind = behind.unwrap_or_default();
    let (Some(indent), Some(end)) = (indent, behind.rfind('\n')) else { return list.push(entry) };
    let (comment, before_bracket) = behind.split_at(end);
    let (prefix, before_bracket) = (format!("{comment}{indent}"), before_bracket.to_owned());
    if !has_comma && let Some(last) = list.iter_mut().last() {
        last.decor_mut().set_suffix("");
    }
    let new = Value::from(entry);
    if has_comma {
        list.push_formatted(new.decorated(prefix, ""));
        list.set_trailing(before_bracket);
    } else {
        list.push_formatted(new.decorated(prefix, before_bracket));
    }
}

fn not_a(key: &str, kind: &str) -> String {
    format!("`{key}` isn't a {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::Permission;

    fn missing(table: &str, permission: Permission, entry: &str) -> MissingGrant {
        MissingGrant { table: table.to_owned(), permission, entry: entry.to_owned() }
    }

    fn with_read_and_write(text: &str) -> String {
        let grants = [
            missing("stages.test.permissions", Permission::Read, "Cargo.toml"),
            missing("stages.test.permissions", Permission::Write, "target"),
        ];
        let once = with_grants(text, &grants).expect("it is written");
        assert_eq!(with_grants(&once, &grants).as_deref(), Ok(once.as_str()), "again");
        once
    }

    #[test]
    fn a_stage_without_permissions_gets_a_line_or_a_table() {
        let text = "[stages.test] # tests\nuses = \"cargo-test\"\n\n# Deploys.\n[stages.deploy]\nuses = \"deploy\"\n";
        let line = "permissions = { read = [\"Cargo.toml\"], write = [\"target\"] }\n";
        let expected = text.replacen("\"cargo-test\"\n", &format!("\"cargo-test\"\n{line}"), 1);
        assert_eq!(with_read_and_write(text), expected);
        let long = "a/".repeat(60) + "b";
        let written = with_grants(text, &[missing("stages.test.permissions", Permission::Read, &long)]);
        let table = format!("\n[stages.test.permissions]\nread = [\"{long}\"]\n");
        assert_eq!(written, Ok(text.replacen("\"cargo-test\"\n", &format!("\"cargo-test\"\n{table}"), 1)));
    }

    #[test]
    fn tables_and_lists_keep_their_style() {
        for (before, after) in [
            (
                "[stages.test.permissions]\nread = [\"src\"] # sources\nprocess = [\"cargo\"]\n",
                "[stages.test.permissions]\nread = [\"src\", \"Cargo.toml\"] # sources\nprocess = [\"cargo\"]\nwrite = [\"target\"]\n",
            ),
            (
                "stages.test.permissions.read = [\"src\"]\n",
                "stages.test.permissions.read = [\"src\", \"Cargo.toml\"]\nstages.test.permissions.write = [\"target\"]\n",
            ),
            (
                "[stages]\ntest = { permissions = { read = [\"src\"] } }\n",
                "[stages]\ntest = { permissions = { read = [\"src\", \"Cargo.toml\"], write = [\"target\"] } }\n",
            ),
            (
                "[stages.test]\npermissions.read = [\n  # all\n  \"src\", # of it\n]\n",
                "[stages.test]\npermissions.read = [\n  # all\n  \"src\", # of it\n  \"Cargo.toml\",\n]\npermissions.write = [\"target\"]\n",
            ),
            (
                "[stages.test.permissions]\nread = [\n    \"src\"\n]\n",
                "[stages.test.permissions]\nread = [\n    \"src\",\n    \"Cargo.toml\"\n]\nwrite = [\"target\"]\n",
            ),
            (
                "[stages.test.permissions]\nread = [\n    \"src\", # one\n    # more\n] # end\n",
                "[stages.test.permissions]\nread = [\n    \"src\", # one\n    # more\n    \"Cargo.toml\",\n] # end\nwrite = [\"target\"]\n",
            ),
            (
                "[stages.test.permissions]\nread = [\n    \"src\" # one\n]\n",
                "[stages.test.permissions]\nread = [\n    \"src\", # one\n    \"Cargo.toml\"\n]\nwrite = [\"target\"]\n",
            ),
            (
                "[stages.test.permissions]\nread = []\n",
                "[stages.test.permissions]\nread = [\"Cargo.toml\"]\nwrite = [\"target\"]\n",
            ),
        ] {
            assert_eq!(with_read_and_write(before), after);
        }
    }

    #[test]
    fn grants_of_a_rehearsal_go_into_its_own_table() {
        let text = "[stages.test]\nuses = \"x\"\n[stages.test.permissions]\nread = [\"src\"]\n";
        let written = with_grants(text, &[missing("stages.test.rehearse.permissions", Permission::Net, "cargo")]);
        let table: toml::Table = written.expect("it is written").parse().expect("TOML");
        assert_eq!(table["stages"]["test"]["rehearse"]["permissions"]["net"][0].as_str(), Some("cargo"));
        assert_eq!(table["stages"]["test"]["permissions"]["read"][0].as_str(), Some("src"));
    }

    #[test]
    fn a_stage_with_default_permissions_keeps_them() {
        let text = "[defaults.permissions] # for all\nuse = [\n  \"rust\", # cargo\n]\nread = [\"docs\"]\n\n[stages.test]\nuses = \"x\"\n";
        let written = with_grants(text, &[missing("stages.test.permissions", Permission::Read, "src")]);
        let line = "permissions = { use = [\"rust\"], read = [\"docs\", \"src\"] }\n";
        assert_eq!(written, Ok(format!("{text}{line}")));
        let rehearsed = with_grants(text, &[missing("stages.test.rehearse.permissions", Permission::Net, "cargo")]);
        assert_eq!(rehearsed, Ok(format!("{text}\n[stages.test.rehearse]\npermissions = {{ net = [\"cargo\"] }}\n")));
    }

    #[test]
    fn something_else_in_the_place_of_a_table_or_list_is_an_error() {
        let read = missing("stages.test.permissions", Permission::Read, "src");
        for text in ["stages.test = 1\n", "stages.test.permissions.read = \"src\"\n", "[stages"] {
            assert!(with_grants(text, std::slice::from_ref(&read)).is_err(), "{text}");
        }
    }
}
