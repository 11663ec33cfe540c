//! Values of a Compose file. A variable that was filled in makes text of a number.

use compose_file::{parse_bytes, parse_duration};
use serde_json::{Map, Value as Json};

/// A value with `$` for `$$`: a release for Swarm has no variables left.
pub(crate) fn literal(value: &Json) -> Json {
    match value {
        Json::String(text) => text.replace("$$", "$").into(),
        Json::Array(items) => items.iter().map(literal).collect(),
        Json::Object(map) => {
            map.iter().map(|(name, value)| (name.clone(), literal(value))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// A single value as text.
pub(crate) fn text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Bool(value) => Some(value.to_string()),
        Json::Number(number) => Some(number.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

pub(crate) fn number(value: &Json) -> Option<u64> {
    text(value)?.parse().ok()
}

pub(crate) fn ratio(value: &Json) -> Option<f64> {
    text(value)?.parse().ok()
}

/// A duration in nanoseconds.
pub(crate) fn nanos(value: &Json) -> Option<u64> {
    u64::try_from(parse_duration(&text(value)?)?.as_nanos()).ok()
}

pub(crate) fn bytes(value: &Json) -> Option<u64> {
    parse_bytes(&text(value)?)
}

/// The mode of a file: a number, or octal digits as text.
pub(crate) fn mode(value: &Json) -> Option<u64> {
    match value {
        Json::String(digits) => u64::from_str_radix(digits.trim_start_matches("0o"), 8).ok(),
        value => value.as_u64(),
    }
}

/// Leaves out what isn't set.
pub(crate) fn without_nulls(value: Json) -> Json {
    match value {
        Json::Object(map) => {
            let set = map.into_iter().filter(|(_, value)| !value.is_null());
            set.map(|(name, value)| (name, without_nulls(value))).collect::<Map<_, _>>().into()
        }
        Json::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}
