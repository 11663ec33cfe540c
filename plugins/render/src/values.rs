//! Values that know which layer they come from.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value as Json};
use stagewright_sdk::Position;

use crate::mistake::Mistake;

/// Settings by key.
pub(crate) type Settings = BTreeMap<String, Setting>;

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: Option<u32>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) origin: Origin,
    /// Where the values were set that it overrides, the first one first.
    pub(crate) over: Vec<Origin>,
    pub(crate) value: Value,
}

/// What a setting has.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Table(Settings),
    /// Anything but a table. Null removes the key from the layers before it.
    Leaf(Json),
}

impl Setting {
    pub(crate) fn new(origin: Origin, value: Value) -> Setting {
        Setting { origin, over: Vec::new(), value }
    }

    /// Its value, if that is a text.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Leaf(Json::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn json(&self) -> Json {
        match &self.value {
            Value::Table(settings) => to_json(settings),
            Value::Leaf(value) => value.clone(),
        }
    }

    fn kind(&self) -> &'static str {
        match &self.value {
            Value::Table(_) => "a table",
            Value::Leaf(Json::Array(_)) => "a list",
            Value::Leaf(_) => "a value",
        }
    }
}

/// Lays settings over others, as a merge patch (RFC 7396), but for a table in place of a value or the other way round, which is a
/// mistake. `path`: the key of both tables.
pub(crate) fn overlay(base: &mut Settings, upper: Settings, path: &str, mistakes: &mut Vec<Mistake>) {
    for (name, mut setting) in upper {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if matches!(setting.value, Value::Leaf(Json::Null)) {
            base.remove(&name);
            continue;
        }
        match base.get_mut(&name) {
            None => {
                if let Value::Table(settings) = &mut setting.value {
                    let mut without_nulls = Settings::new();
                    overlay(&mut without_nulls, std::mem::take(settings), &key, mistakes);
                    *settings = without_nulls;
                }
                base.insert(name, setting);
            }
            Some(lower) => match (&mut lower.value, setting.value) {
                (Value::Table(lower), Value::Table(upper)) => overlay(lower, upper, &key, mistakes),
                (Value::Leaf(_), Value::Leaf(value)) => {
                    let mut over = std::mem::take(&mut lower.over);
                    over.push(lower.origin.clone());
                    *lower = Setting { origin: setting.origin, over, value: Value::Leaf(value) };
                }
                (_, value) => {
                    let upper = Setting::new(setting.origin, value);
                    mistakes.push(Mistake {
                        file: upper.origin.file.clone(),
                        position: upper.origin.line.map(Position::line),
                        message: format!("`{key}` is {} here and {} in {}", upper.kind(), lower.kind(), lower.origin),
                        help: "give it the same form in both, or remove it with null in a layer between".into(),
                    });
                }
            },
        }
    }
}

/// Settings that all have the same origin.
pub(crate) fn of_json(values: Map<String, Json>, origin: &Origin) -> Settings {
    let setting = |value| match value {
        Json::Object(values) => Value::Table(of_json(values, origin)),
        value => Value::Leaf(value),
    };
    values.into_iter().map(|(name, value)| (name, Setting::new(origin.clone(), setting(value)))).collect()
}

pub(crate) fn to_json(settings: &Settings) -> Json {
    settings.iter().map(|(name, setting)| (name.clone(), setting.json())).collect::<Map<_, _>>().into()
}

/// The table at a key such as `server.http`.
pub(crate) fn table<'a>(settings: &'a Settings, key: &str) -> Option<&'a Settings> {
    key.split('.').try_fold(settings, |settings, name| match &settings.get(name)?.value {
        Value::Table(settings) => Some(settings),
        Value::Leaf(_) => None,
    })
}

/// All settings but those of tables that have some, by key, as in `server.port`.
pub(crate) fn leaves(settings: &Settings) -> Vec<(String, &Setting)> {
    let mut found = Vec::new();
    for (name, setting) in settings {
        match &setting.value {
            Value::Table(below) if !below.is_empty() => {
                found.extend(leaves(below).into_iter().map(|(key, setting)| (format!("{name}.{key}"), setting)));
            }
            _ => found.push((name.clone(), setting)),
        }
    }
    found
}
