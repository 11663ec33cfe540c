//! The formats of layers and merged values.

use serde_json::Value as Json;

/// The endings of files with values, for messages.
pub(crate) const ENDINGS: &str = "`.yaml`, `.yml`, `.json`, `.toml` or `.env`";

/// The format of a file with values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Yaml,
    Json,
    Toml,
    /// Variables, a line each.
    Env,
}

impl Format {
    /// The format of a file of this name.
    pub(crate) fn of(path: &str) -> Option<Format> {
        let name = path.rsplit('/').next().unwrap_or(path);
        // As in `.env.production`.
        if name == ".env" || name.starts_with(".env.") {
            return Some(Format::Env);
        }
        match name.rsplit_once('.')?.1 {
            "yaml" | "yml" => Some(Format::Yaml),
            "json" => Some(Format::Json),
            "toml" => Some(Format::Toml),
            "env" => Some(Format::Env),
            _ => None,
        }
    }

    /// Values as text. The error is a reason with a remedy.
    pub(crate) fn write(self, values: &Json) -> Result<String, String> {
        match self {
            Format::Yaml => serde_saphyr::to_string(values).map_err(|error| error.to_string()),
            Format::Json => {
                serde_json::to_string_pretty(values).map(|text| text + "\n").map_err(|error| error.to_string())
            }
            Format::Toml => toml::to_string(values).map_err(|error| error.to_string()),
            Format::Env => variables(values),
        }
    }

    /// Why a text isn't of this format, with its line, from 1.
    pub(crate) fn check(self, text: &str) -> Result<(), (Option<u32>, String)> {
        match self {
            Format::Yaml => located_yaml::documents(text, located_yaml::Booleans::YesNo)
                .map(drop)
                .map_err(|error| (Some(error.place.line), error.message)),
            Format::Json => serde_json::from_str::<serde::de::IgnoredAny>(text)
                .map(drop)
                .map_err(|error| (u32::try_from(error.line()).ok(), error.to_string())),
            Format::Toml => toml::from_str::<toml::Table>(text).map(drop).map_err(|error| {
                let before = error.span().and_then(|span| text.get(..span.start));
                let line = before.and_then(|before| u32::try_from(before.matches('\n').count() + 1).ok());
                (line, error.message().to_owned())
            }),
            Format::Env => Ok(()),
        }
    }
}

fn variables(values: &Json) -> Result<String, String> {
    let entries = values.as_object().into_iter().flatten();
    let lines = entries.map(|(name, value)| {
        let text = match value {
            Json::String(text) => text.clone(),
            Json::Number(_) | Json::Bool(_) => value.to_string(),
            Json::Null | Json::Array(_) | Json::Object(_) => {
                return Err(format!("`{name}` isn't a single value, as a variable needs; write another table: `key`"));
            }
        };
        Ok(format!("{name}={}\n", quoted(&text)))
    });
    lines.collect()
}

/// A text as the value of a variable, so that shells and Compose read it as it is.
fn quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:@,+%".contains(letter);
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    let escaped = text.chars().fold(String::new(), |mut escaped, letter| {
        match letter {
            '"' | '\\' | '$' => escaped.extend(['\\', letter]),
            '\n' => escaped.push_str("\\n"),
            letter => escaped.push(letter),
        }
        escaped
    });
    format!("\"{escaped}\"")
}
