//! Reads a layer.

use located_yaml::{Booleans, Node, Place};
use serde_json::Value as Json;
use stagewright_sdk::Position;
use toml::de::{DeTable, DeValue};

use crate::format::Format;
use crate::mistake::Mistake;
use crate::values::{Origin, Setting, Settings, Value};

/// The settings of a layer.
pub(crate) fn read(file: &str, format: Format, text: &str) -> Result<Settings, Mistake> {
    match format {
        Format::Yaml => yaml(file, text),
        // JSON is YAML, too, but not the other way round.
        Format::Json => match format.check(text) {
            Ok(()) => yaml(file, text),
            Err((line, reason)) => Err(mistake(file, line.map(Position::line), reason, "correct the syntax")),
        },
        Format::Toml => toml(file, text),
        Format::Env => env(file, text),
    }
}

fn mistake(file: &str, position: Option<Position>, message: impl Into<String>, help: &str) -> Mistake {
    Mistake { file: file.into(), position, message: message.into(), help: help.into() }
}

fn at(place: Place) -> Option<Position> {
    Some(Position::at(place.line, place.column))
}

fn yaml(file: &str, text: &str) -> Result<Settings, Mistake> {
    let documents = located_yaml::documents(text, Booleans::TrueFalse)
        .map_err(|error| mistake(file, at(error.place), error.message, "correct the syntax"))?;
    match documents.as_slice() {
        [] => Ok(Settings::new()),
        [root] if matches!(root.value, located_yaml::Value::Map(_)) => Ok(of_entries(file, root)),
        [root] => Err(mistake(file, at(root.place), "a layer must be a table", "write `key: value`")),
        [_, second, ..] => {
            Err(mistake(file, at(second.place), "a layer must be one document", "remove `---`, or split the file"))
        }
    }
}

fn of_entries(file: &str, node: &Node) -> Settings {
    let setting = |entry: &located_yaml::Entry| {
        let origin = Origin { file: file.into(), line: Some(entry.place.line) };
        let value = match &entry.value.value {
            located_yaml::Value::Map(_) => Value::Table(of_entries(file, &entry.value)),
            _ => Value::Leaf(entry.value.to_json()),
        };
        (entry.key.clone(), Setting::new(origin, value))
    };
    node.entries().iter().map(setting).collect()
}

fn toml(file: &str, text: &str) -> Result<Settings, Mistake> {
    let line = |offset: usize| {
        let before = text.get(..offset).unwrap_or(text);
        u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX)
    };
    let table = DeTable::parse(text).map_err(|error| {
        let position = error.span().map(|span| Position::line(line(span.start)));
        mistake(file, position, error.message(), "correct the syntax")
    })?;
    of_table(file, table.get_ref(), &line)
        .map_err(|(offset, message)| mistake(file, Some(Position::line(line(offset))), message, "write another value"))
}

/// The error has the offset of the value.
fn of_table(file: &str, table: &DeTable<'_>, line: &impl Fn(usize) -> u32) -> Result<Settings, (usize, &'static str)> {
    let settings = table.iter().map(|(key, value)| {
        let origin = Origin { file: file.into(), line: Some(line(key.span().start)) };
        let value = match value.get_ref() {
            DeValue::Table(table) => Value::Table(of_table(file, table, line)?),
            other => Value::Leaf(json(other).map_err(|message| (value.span().start, message))?),
        };
        Ok((key.get_ref().to_string(), Setting::new(origin, value)))
    });
    settings.collect()
}

fn json(value: &DeValue<'_>) -> Result<Json, &'static str> {
    Ok(match value {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            Json::from(parsed.map_err(|_| "the number is too large")?)
        }
        DeValue::Float(number) => {
            let parsed: Option<f64> = number.as_str().parse().ok();
            // Infinity and the like aren't in JSON.
            let number = parsed.and_then(serde_json::Number::from_f64);
            Json::Number(number.ok_or("a number must be finite")?)
        }
        DeValue::Boolean(value) => Json::from(*value),
        DeValue::Datetime(time) => Json::from(time.to_string()),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect::<Result<Vec<_>, _>>()?.into(),
        DeValue::Table(table) => {
            let entries = table.iter().map(|(key, value)| Ok((key.get_ref().to_string(), json(value.get_ref())?)));
            Json::Object(entries.collect::<Result<_, &'static str>>()?)
        }
    })
}

/// Variables, a line each: `NAME=value`, with or without `export`. A value may be in quotes; within double quotes, `\n`, `\"`,
/// `\\` and `\$` have the meaning that shells give them. Nothing is substituted.
fn env(file: &str, text: &str) -> Result<Settings, Mistake> {
    let mut settings = Settings::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let refused = |message: String, help| Err(mistake(file, Some(Position::line(number)), message, help));
        let Some((name, value)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') else {
            return refused("the line has no `=`".into(), "write NAME=value");
        };
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return refused(format!("`{name}` isn't the name of a variable"), "write NAME=value");
        }
        let Some(value) = unquoted(value.trim()) else {
            return refused(format!("the value of `{name}` isn't closed"), "end it with the quote that it begins with");
        };
        let origin = Origin { file: file.into(), line: Some(number) };
        let setting = Setting::new(origin, Value::Leaf(value.into()));
        if let Some(earlier) = settings.insert(name.to_owned(), setting) {
            return refused(format!("`{name}` was set before, in {}", earlier.origin), "remove one of them");
        }
    }
    Ok(settings)
}

/// The value of a variable; none if a quote isn't closed, or something follows it.
fn unquoted(text: &str) -> Option<String> {
    let Some(quote) = text.chars().next().filter(|first| ['"', '\''].contains(first)) else {
        // A comment begins after a space.
        return Some(text.split_once(" #").map_or(text, |(value, _)| value).trim_end().to_owned());
    };
    let mut value = String::new();
    let mut letters = text[1..].chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if quote == '"' => match letters.next()? {
                'n' => value.push('\n'),
                escaped @ ('"' | '\\' | '$') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            letter if letter == quote => {
                let rest = letters.as_str().trim_start();
                return (rest.is_empty() || rest.starts_with('#')).then_some(value);
            }
            letter => value.push(letter),
        }
    }
    None
}
