//! Generates the reference of pipeline files, in Markdown.

use std::fmt::Write as _;

use super::{FILE, Format, Key, Shape, Table};

/// The introduction: what the description of the keys doesn't say.
const INTRODUCTION: &str = "# The pipeline file

A pipeline is a TOML file: `stagewright.toml` at the repository's root, or a file in `pipelines/`. `stagewright init` writes
one, `stagewright validate` checks it, and editors complete it with the [schema](stagewright.schema.json). This page lists
all keys; it is generated from the same description as the schema, by `cargo xtask schema`.

```toml
schema = 1

[pipeline]
name = \"ci\"

[stages.test]
uses        = \"command\"
with        = { run = \"npm test\" }
permissions = { use = [\"node\"] }
```

Strings with `${{ }}`, and the key `if`, contain [expressions](expressions.md). The keys of `with` are those of the plugin:
`stagewright plugin show NAME` shows them, and each built-in plugin has a [page](plugins). [permissions.md](permissions.md)
explains what a stage may do.

- A **duration** is a number with a unit in a string: `\"500ms\"`, `\"30s\"`, `\"20m\"`, `\"1h\"`, `\"2d\"`.
- A **size** is a number of bytes with a unit in a string: `\"64KiB\"`, `\"256MiB\"`, `\"1GiB\"`.
- A **glob** is a path below the workspace, in which `*` stands for text within a name, and `**` for any folders.
";

/// The reference of all keys of a pipeline file, in Markdown.
pub fn file_reference() -> String {
    let mut reference = Reference { text: INTRODUCTION.to_owned(), described: Vec::new() };
    reference.table("", &FILE);
    reference.text
}

struct Reference {
    text: String,
    /// The tables that have a section, with its title.
    described: Vec<(&'static Table, String)>,
}

impl Reference {
    /// Writes the section of a table, and then those of the tables in it.
    fn table(&mut self, path: &str, table: &'static Table) {
        let title = if path.is_empty() { "The file".to_owned() } else { format!("`[{path}]`") };
        self.described.push((table, title.clone()));
        let _ = write!(self.text, "\n## {title}\n\n");
        if !table.keys.is_empty() {
            self.text.push_str("| key | value | default | |\n|---|---|---|---|\n");
            table.keys.iter().for_each(|key| self.row(key));
        }
        let others = table.others.map(|others| (name_of(others.what), &others.shape, others.what));
        if let Some((name, shape, what)) = others {
            let each = if table.keys.is_empty() { "Each" } else { "\nEach other" };
            let _ = writeln!(self.text, "{each} key names {what}. Its value: {}.", value(shape));
            for inner in tables(shape) {
                self.inner(&joined(path, name), inner);
            }
        }
        for key in table.keys {
            for inner in tables(&key.shape) {
                self.inner(&joined(path, key.name), inner);
            }
        }
    }

    /// Writes the section of a table within another, or refers to that of an equal one.
    fn inner(&mut self, path: &str, table: &'static Table) {
        // The values of such a table are the plugin's.
        if table.keys.is_empty() && table.others.is_some_and(|others| matches!(others.shape, Shape::Anything)) {
            return;
        }
        let described = self.described.iter().find(|(other, _)| std::ptr::eq(*other, table));
        match described.map(|(_, title)| title.clone()) {
            Some(title) => {
                let _ = write!(self.text, "\n## `[{path}]`\n\nThe same keys as in {title}.\n");
            }
            None => self.table(path, table),
        }
    }

    fn row(&mut self, key: &Key) {
        let default = match key.default {
            Some(default) => format!("`{default}`"),
            None if key.is_required => "required".to_owned(),
            None => String::new(),
        };
        let doc = key.doc.replace('|', "\\|");
        let _ = writeln!(self.text, "| `{}` | {} | {default} | {doc} |", key.name, value(&key.shape));
    }
}

/// The placeholder for a name that the user chooses, from its description, as in "a stage".
fn name_of(what: &str) -> &'static str {
    match what {
        "an axis" => "AXIS",
        "a variable" => "VARIABLE",
        _ => "NAME",
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The tables that a value may be or contain.
fn tables(shape: &'static Shape) -> Vec<&'static Table> {
    match shape {
        Shape::Table(table) => vec![table],
        Shape::List(item) => tables(item),
        Shape::Either(shapes) => shapes.iter().flat_map(tables).collect(),
        _ => Vec::new(),
    }
}

fn value(shape: &Shape) -> String {
    match shape {
        Shape::Text(Format::Choice(values)) => {
            values.iter().map(|value| format!("`\"{value}\"`")).collect::<Vec<_>>().join(", ")
        }
        Shape::Text(Format::Duration(_)) => "duration".to_owned(),
        Shape::Text(Format::Size(_)) => "size".to_owned(),
        Shape::Text(Format::Glob | Format::WorkspacePath) => "glob".to_owned(),
        Shape::Text(Format::Condition) => "expression".to_owned(),
        Shape::Text(_) => "string".to_owned(),
        Shape::Integer(low, high) if low == high => format!("`{low}`"),
        Shape::Integer(low, high) => format!("integer from {low} to {high}"),
        Shape::Boolean => "boolean".to_owned(),
        Shape::Moment => "date with time and offset".to_owned(),
        Shape::Scalar => "string, number or boolean".to_owned(),
        Shape::Anything => "any".to_owned(),
        Shape::List(Shape::Text(Format::Choice(values))) => {
            let values: Vec<String> = values.iter().map(|value| format!("`\"{value}\"`")).collect();
            format!("list of {}", values.join(", "))
        }
        Shape::List(item) => format!("list of {}s", value(item).replace("string, number or boolean", "value")),
        Shape::Table(_) => "table".to_owned(),
        Shape::Either([.., Shape::Scalar]) => value(&Shape::Scalar),
        Shape::Either(shapes) => shapes.iter().map(value).collect::<Vec<_>>().join(" or "),
    }
}
