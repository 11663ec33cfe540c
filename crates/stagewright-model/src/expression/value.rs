//! Converts between JSON and CEL's values.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Map};
use serde_json::Value as Json;

/// Integers become CEL's `int` if they fit, so that they can be combined with integer literals.
pub(super) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number
            .as_i64()
            .map(Value::Int)
            .or_else(|| number.as_u64().map(Value::UInt))
            .unwrap_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN))),
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(from_json).collect())),
        Json::Object(entries) => map(entries.iter().map(|(key, item)| (key.as_str(), from_json(item)))),
    }
}

pub(super) fn map<'a>(entries: impl Iterator<Item = (&'a str, Value)>) -> Value {
    let entries: HashMap<Key, Value> =
        entries.map(|(key, value)| (Key::String(Arc::new(key.to_owned())), value)).collect();
    Value::Map(Map { map: Arc::new(entries) })
}

/// Sorts keys: CEL's maps are unordered, and equal values must become equal text.
pub(super) fn to_json(value: &Value) -> Result<Json, String> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::UInt(value) => Json::from(*value),
        Value::Float(value) if !value.is_finite() => return Err(format!("JSON can't represent {value}")),
        Value::Float(value) => Json::from(*value),
        Value::String(text) => Json::String(text.as_ref().clone()),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        Value::Map(map) => {
            let mut entries: Vec<_> = map.map.iter().map(|(key, item)| (key.to_string(), item)).collect();
            entries.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
            let entries = entries.into_iter().map(|(key, item)| Ok((key, to_json(item)?)));
            Json::Object(entries.collect::<Result<_, String>>()?)
        }
        other => return Err(format!("JSON can't represent a value of type {}", other.type_of())),
    })
}
