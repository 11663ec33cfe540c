//! YAML as a tree that knows its places.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Number;
use serde_saphyr::Spanned;

use crate::Mistake;

/// A place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// An entry of a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) key: String,
    pub(crate) value: Node,
}

impl Node {
    /// The entries of a map; none of anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// A scalar as text, as it is before variables are filled in.
    pub(crate) fn scalar(&self) -> Option<String> {
        match &self.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Number(number) => Some(number.to_string()),
            Value::Text(text) => Some(text.clone()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }
}

/// Parses one document. Aliases and merge keys are resolved.
pub(crate) fn parse(text: &str) -> Result<Node, Mistake> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, strict_booleans: true };
    let parsed: Result<Spanned<Value>, _> = serde_saphyr::from_str_with_options(text, options);
    parsed.map(node).map_err(|error| {
        let place = error.location().map_or(Place { line: 1, column: 1 }, place);
        // The message begins with the place, and is followed by an excerpt.
        let message = error.without_snippet().to_string();
        Mistake {
            line: place.line,
            column: place.column,
            key: String::new(),
            message: format!("invalid YAML: {}", message.lines().next().unwrap_or_default()),
            help: "correct the syntax; `docker compose config` shows how Compose reads the file".to_owned(),
        }
    })
}

fn node(spanned: Spanned<Value>) -> Node {
    Node { place: place(spanned.referenced), value: spanned.value }
}

fn place(location: serde_saphyr::Location) -> Place {
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).max(1);
    Place { line: number(location.line()), column: number(location.column()) }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or_else(|| Value::Text(value.to_string()), Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(node(item));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let value = node(entries.next_value::<Spanned<Value>>()?);
            map.push(Entry { place: place(key.referenced), key: key.value, value });
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_places() {
        let root = parse("a:\n  - x: 1\n    b: yes\n  - null\nc: !!str 7\n").unwrap();
        let first = &root.get("a").unwrap().items()[0];
        let entry = first.entry("b").unwrap();
        assert_eq!((entry.place, entry.value.scalar().as_deref()), (Place { line: 3, column: 5 }, Some("yes")));
        assert!(root.get("a").unwrap().items()[1].is_null());
        assert_eq!(root.get("c").unwrap().scalar().as_deref(), Some("7"));
    }

    #[test]
    fn merged_maps_and_modes_are_read_as_compose_does() {
        let root = parse("x-base: &base { a: 1, b: 2 }\nc:\n  <<: *base\n  b: 3\nmode: 0440\n").unwrap();
        let merged = root.get("c").unwrap();
        assert_eq!(merged.get("a").and_then(Node::scalar).as_deref(), Some("1"));
        assert_eq!(merged.get("b").and_then(Node::scalar).as_deref(), Some("3"));
        assert_eq!(root.get("mode").and_then(Node::scalar).as_deref(), Some("288"));
    }

    #[test]
    fn invalid_yaml_has_its_line() {
        for text in ["a: 1\nb: [\n", "a: 1\na: 2\n", "a: 1\nb: *missing\n"] {
            let mistake = parse(text).unwrap_err();
            assert!(mistake.line >= 2 && mistake.message.starts_with("invalid YAML: "), "{mistake:?}");
        }
    }
}
