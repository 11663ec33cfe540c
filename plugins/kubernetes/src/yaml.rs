//! YAML files as JSON, with the lines of its values.

use std::collections::BTreeMap;

use located_yaml::{Booleans, Node, Value};
use serde_json::{Map, Value as Json};
use stagewright_sdk::{Error, Position, Result};

/// A document of a YAML file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its content.
    pub value: Json,
    /// Where that was written.
    pub lines: Lines,
}

/// The lines of a document's values, from 1, by their JSON pointers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines(BTreeMap<String, u32>);

impl Lines {
    /// The line of the value at a JSON pointer, or of the nearest value around it.
    pub fn of(&self, pointer: &str) -> Option<u32> {
        let mut at = pointer;
        loop {
            if let Some(line) = self.0.get(at) {
                return Some(*line);
            }
            at = &at[..at.rfind('/')?];
        }
    }

    /// Those of the value at a pointer, as a document of its own.
    pub fn within(&self, pointer: &str) -> Lines {
        let under = |(path, line): (&String, &u32)| {
            let rest = path.strip_prefix(pointer).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
            Some((rest.to_owned(), *line))
        };
        Lines(self.0.iter().filter_map(under).collect())
    }
}

/// Reads the documents of a YAML file as Kubernetes' own tools do: `yes` and `on` are true.
///
/// # Errors
/// If it isn't YAML, or has a key twice.
pub fn documents(file: &str, text: &str) -> Result<Vec<Document>> {
    let nodes = located_yaml::documents(text, Booleans::YesNo).map_err(|error| {
        let place = Position::at(error.place.line, error.place.column);
        Error::invalid(format!("it isn't valid YAML: {}", error.message)).file(file, Some(place))
    })?;
    let documents = nodes.into_iter().map(|node| {
        let mut lines = BTreeMap::new();
        let value = value_of(node, String::new(), &mut lines);
        Document { value, lines: Lines(lines) }
    });
    Ok(documents.collect())
}

fn value_of(node: Node, pointer: String, lines: &mut BTreeMap<String, u32>) -> Json {
    let value = match node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => value.into(),
        Value::Number(number) => number.into(),
        Value::Text(text) => text.into(),
        Value::List(items) => {
            let items = items.into_iter().enumerate();
            items.map(|(index, item)| value_of(item, format!("{pointer}/{index}"), lines)).collect()
        }
        Value::Map(entries) => {
            let mut map = Map::new();
            for entry in entries {
                let at = format!("{pointer}/{}", entry.key.replace('~', "~0").replace('/', "~1"));
                let value = value_of(entry.value, at, lines);
                map.insert(entry.key, value);
            }
            Json::Object(map)
        }
    };
    lines.insert(pointer, node.place.line);
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_those_that_kubernetes_reads() {
        let text =
            "---\na: yes\nmode: 0644\nx: &x { b: 1 }\non:\n  <<: *x\n  c: 1.5\n---\n# nothing\n---\n80: '080'\nz: ~\n";
        let read = documents("app.yaml", text).unwrap();
        let expected = json!({ "a": true, "mode": 420, "x": { "b": 1 }, "on": { "c": 1.5, "b": 1 } });
        assert_eq!(read[0].value, expected);
        assert_eq!(read[1].value, json!({ "80": "080", "z": null }));
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn values_know_their_line() {
        let read = documents("app.yaml", "a: 1\n---\nb:\n  - c/d: 2\n    e: 3\n").unwrap();
        let lines = &read[1].lines;
        assert_eq!(
            (lines.of("/b/0/c~1d"), lines.of("/b/0/e"), lines.of("/b/0/e/f/g"), lines.of("")),
            (Some(4), Some(5), Some(5), Some(3))
        );
        assert_eq!(lines.within("/b/0").of("/e"), Some(5));
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, line, reason) in [("a: 1\nb: 2\na: 3\n", 3, "duplicate mapping key"), ("a:\n\t- b\n", 2, "tab")] {
            let error = documents("app.yaml", text).unwrap_err();
            let place = error.file.as_deref().and_then(|(_, position)| *position);
            assert_eq!(place.map(|place| place.line), Some(line), "{error:?}");
            assert!(error.message.contains(reason), "{error:?}");
        }
    }
}
