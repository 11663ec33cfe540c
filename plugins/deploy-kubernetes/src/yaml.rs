//! YAML whose values know their line.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value as Json};
use serde_saphyr::Spanned;
use stagewright_sdk::{Error, Position, Result};

/// A document of a YAML file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    pub(crate) value: Json,
    pub(crate) lines: Lines,
}

/// The lines of a document's values, from 1, by their JSON pointers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines(BTreeMap<String, u32>);

impl Lines {
    /// The line of the value at a JSON pointer, or of the nearest value around it.
    pub(crate) fn of(&self, pointer: &str) -> Option<u32> {
        let mut at = pointer;
        loop {
            if let Some(line) = self.0.get(at) {
                return Some(*line);
            }
            at = &at[..at.rfind('/')?];
        }
    }

    /// Those of the value at a pointer, as a document of its own.
    pub(crate) fn within(&self, pointer: &str) -> Lines {
        let under = |(path, line): (&String, &u32)| {
            let rest = path.strip_prefix(pointer).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
            Some((rest.to_owned(), *line))
        };
        Lines(self.0.iter().filter_map(under).collect())
    }
}

/// Reads the documents of a YAML file as Kubernetes' own tools do: `yes` and `on` are true, and `0644` is octal. Empty
/// documents are left out.
///
/// # Errors
/// If it isn't YAML, or has a key twice.
pub(crate) fn documents(file: &str, text: &str) -> Result<Vec<Document>> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let nodes: Vec<Spanned<Node>> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let line = error.location().and_then(|location| u32::try_from(location.line()).ok());
        let reason = error.to_string();
        let reason = reason.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Error::invalid(format!("it isn't valid YAML: {reason}")).file(file, line.map(Position::line))
    })?;
    let documents = nodes.into_iter().map(|node| {
        let mut lines = BTreeMap::new();
        let value = value_of(node, String::new(), &mut lines);
        Document { value, lines: Lines(lines) }
    });
    Ok(documents.filter(|document| !document.value.is_null()).collect())
}

fn value_of(node: Spanned<Node>, pointer: String, lines: &mut BTreeMap<String, u32>) -> Json {
    let line = u32::try_from(node.referenced.line()).unwrap_or_default();
    let value = match node.value {
        Node::Scalar(value) => value,
        Node::List(items) => {
            let items = items.into_iter().enumerate();
            Json::Array(items.map(|(index, item)| value_of(item, format!("{pointer}/{index}"), lines)).collect())
        }
        Node::Map(entries) => {
            let mut map = Map::new();
            for (key, entry) in entries {
                let at = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                let value = value_of(entry, at, lines);
                map.insert(key, value);
            }
            Json::Object(map)
        }
    };
    lines.insert(pointer, line);
    value
}

enum Node {
    Scalar(Json),
    List(Vec<Spanned<Node>>),
    Map(Vec<(String, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(Json::Null))
    }

    fn visit_none<E>(self) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(Json::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<Node, E> {
        let number = serde_json::Number::from_f64(value);
        let number = number.ok_or_else(|| E::custom(format!("{value} isn't a number that JSON has")))?;
        Ok(Node::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> std::result::Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Node, A::Error> {
        let mut entries = Vec::new();
        // A key is a text, also where a value would be a number or a boolean, as in `on`.
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
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
            let place = ("app.yaml".to_owned(), Some(Position::line(line)));
            assert_eq!(error.file.as_deref(), Some(&place), "{error:?}");
            assert!(error.message.contains(reason), "{error:?}");
        }
    }
}
