//! YAML as a tree whose values know their places, so that an error about one can name its line.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value as Json};
use serde_saphyr::Spanned;

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number that JSON has.
    Number(Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the text.
    Map(Vec<Entry>),
}

/// An entry of a map.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where the key begins.
    pub place: Place,
    /// The key as text, also where a value would be a number or a boolean, as in `on`.
    pub key: String,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The entries of a map; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The entry of a map with this key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value of a map's entry with this key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The value as JSON.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(number) => Json::Number(number.clone()),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect())
            }
        }
    }

    /// A scalar as text, as it is before variables are filled in.
    pub fn scalar(&self) -> Option<String> {
        match &self.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Number(number) => Some(number.to_string()),
            Value::Text(text) => Some(text.clone()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }
}

/// Which words are booleans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Booleans {
    /// `true` and `false`, as in YAML 1.2.
    TrueFalse,
    /// Also `yes`, `no`, `on` and `off`, as in YAML 1.1.
    YesNo,
}

/// Why a text isn't YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where.
    pub place: Place,
    /// In a few words.
    pub message: String,
}

/// The documents of a text. Aliases and merge keys are resolved, `0644` is octal, and empty documents are left out.
///
/// # Errors
/// If it isn't YAML, or has a key twice.
pub fn documents(text: &str, booleans: Booleans) -> Result<Vec<Node>, SyntaxError> {
    let strict_booleans = booleans == Booleans::TrueFalse;
    let options = serde_saphyr::options! { legacy_octal_numbers: true, strict_booleans: strict_booleans };
    let parsed: Result<Vec<Spanned<Value>>, _> = serde_saphyr::from_multiple_with_options(text, options);
    let nodes = parsed.map_err(|error| {
        let place = error.location().map_or(Place { line: 1, column: 1 }, place);
        // The message begins with the place, and is followed by an excerpt.
        let message = error.without_snippet().to_string();
        SyntaxError { place, message: message.lines().next().unwrap_or_default().to_owned() }
    })?;
    Ok(nodes.into_iter().map(node).filter(|node| !node.is_null()).collect())
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

    fn one(text: &str) -> Node {
        documents(text, Booleans::TrueFalse).unwrap().remove(0)
    }

    #[test]
    fn values_know_their_places() {
        let root = one("a:\n  - x: 1\n    b: yes\n  - null\nc: !!str 7\n");
        let first = &root.get("a").unwrap().items()[0];
        let entry = first.entry("b").unwrap();
        assert_eq!((entry.place, entry.value.scalar().as_deref()), (Place { line: 3, column: 5 }, Some("yes")));
        assert!(root.get("a").unwrap().items()[1].is_null());
        assert_eq!(root.get("c").unwrap().scalar().as_deref(), Some("7"));
    }

    #[test]
    fn merge_keys_and_octal_numbers_are_resolved() {
        let root = one("x-base: &base { a: 1, b: 2 }\nc:\n  <<: *base\n  b: 3\nmode: 0440\n");
        let merged = root.get("c").unwrap();
        assert_eq!(merged.get("a").and_then(Node::scalar).as_deref(), Some("1"));
        assert_eq!(merged.get("b").and_then(Node::scalar).as_deref(), Some("3"));
        assert_eq!(root.get("mode").and_then(Node::scalar).as_deref(), Some("288"));
    }

    #[test]
    fn invalid_yaml_has_its_line() {
        for text in ["a: 1\nb: [\n", "a: 1\na: 2\n", "a: 1\nb: *missing\n"] {
            let error = documents(text, Booleans::TrueFalse).unwrap_err();
            assert!(error.place.line >= 2 && !error.message.is_empty(), "{error:?}");
        }
    }

    #[test]
    fn documents_are_told_apart_and_booleans_are_as_chosen() {
        let text = "---\n# nothing\n---\na: yes\n---\non: 'yes'\n";
        let read = documents(text, Booleans::YesNo).unwrap();
        assert!(matches!(read[0].get("a").unwrap().value, Value::Bool(true)));
        assert!(matches!(&read[1].get("on").unwrap().value, Value::Text(text) if text == "yes"));
        assert_eq!(read.len(), 2);
    }
}
