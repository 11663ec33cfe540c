//! The HTTP statuses that a check accepts.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// Statuses in configuration: `200`, `"2xx"`, or a list of these, as in `[200, "3xx"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<Pattern>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    Exactly(u16),
    /// A class of statuses by its first digit.
    Class(u16),
}

impl Statuses {
    /// Whether the status is among them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|pattern| match *pattern {
            Pattern::Exactly(exactly) => status == exactly,
            Pattern::Class(class) => status / 100 == class,
        })
    }
}

impl Default for Statuses {
    /// `2xx`.
    fn default() -> Statuses {
        Statuses(vec![Pattern::Class(2)])
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pattern) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " or " };
            match pattern {
                Pattern::Exactly(status) => write!(f, "{separator}{status}")?,
                Pattern::Class(class) => write!(f, "{separator}{class}xx")?,
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StatusesForm {
    Number(u16),
    Text(String),
    List(Vec<StatusesForm>),
}

impl StatusesForm {
    fn patterns(self, into: &mut Vec<Pattern>) -> Option<()> {
        match self {
            StatusesForm::Number(status) => {
                into.push((100..600).contains(&status).then_some(Pattern::Exactly(status))?);
            }
            StatusesForm::Text(text) => {
                let class: u16 = text.strip_suffix("xx")?.parse().ok()?;
                into.push((1..6).contains(&class).then_some(Pattern::Class(class))?);
            }
            StatusesForm::List(list) => list.into_iter().try_for_each(|item| item.patterns(into))?,
        }
        Some(())
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Statuses, D::Error> {
        let wrong = || de::Error::custom("expected a status such as 200 or \"2xx\", or a list of these");
        let mut patterns = Vec::new();
        let written = StatusesForm::deserialize(deserializer).map_err(|_| wrong())?;
        written.patterns(&mut patterns).ok_or_else(wrong)?;
        if patterns.is_empty() {
            return Err(wrong());
        }
        Ok(Statuses(patterns))
    }
}

impl JsonSchema for Statuses {
    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "string", "pattern": "^[1-5]xx$" },
                { "type": "array", "minItems": 1, "items": { "anyOf": [
                    { "type": "integer", "minimum": 100, "maximum": 599 },
                    { "type": "string", "pattern": "^[1-5]xx$" },
                ] } },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn statuses(written: serde_json::Value) -> Option<Statuses> {
        serde_json::from_value(written).ok()
    }

    #[test]
    fn numbers_classes_and_lists_are_parsed() {
        let list = statuses(json!([200, "3xx"])).unwrap();
        assert!(list.contains(200) && list.contains(302) && !list.contains(201));
        assert_eq!(list.to_string(), "200 or 3xx");
        assert!(Statuses::default().contains(204));
        assert!(!statuses(json!(404)).unwrap().contains(200));
    }

    #[test]
    fn invalid_statuses_are_refused() {
        for written in [json!(99), json!("9xx"), json!("ok"), json!([]), json!(["2xx", 700]), json!(true)] {
            assert_eq!(statuses(written.clone()), None, "{written}");
        }
    }
}
