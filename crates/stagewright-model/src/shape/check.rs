//! Checks a parsed file against its description. Continues after each mistake, so that all of them are reported.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::name::is_name;
use super::{Key, NameRule, Shape, Table};
use crate::diagnostic::{Problem, Report};
use crate::nearest::nearest;
use crate::span::SourceSpan;

/// Reports every key, type and form in `document` that differs from the description in `table`. `what` names the file
/// in messages, as in "the pipeline file".
pub(crate) fn check(table: &Table, what: &'static str, document: &DeTable<'_>, report: &mut Report) {
    Checker { report, what, path: Vec::new() }.table(table, document, SourceSpan::default());
}

struct Checker<'c, 'r, 't> {
    report: &'c mut Report<'r>,
    what: &'static str,
    /// The keys that lead to the current table.
    path: Vec<&'t str>,
}

impl<'t> Checker<'_, '_, 't> {
    fn table(&mut self, table: &Table, values: &'t DeTable<'_>, place: SourceSpan) {
        for key in table.keys.iter().filter(|key| key.is_required && !values.contains_key(key.name)) {
            let within = self.within();
            self.report.error(|| {
                Problem::new("stagewright::missing-key", place, format!("{within} lacks the key `{}`", key.name))
                    .help(format!("add `{}`. {}", key.name, key.doc))
            });
        }
        for (name, value) in values {
            let text: &'t str = name.get_ref();
            let known = table.keys.iter().find(|key| key.name == text);
            let shape = match (known, table.others) {
                (Some(key), _) => &key.shape,
                // In a table with both fixed keys and free names, a key is treated as a misspelt fixed key if it
                // resembles one and if its value has the wrong type for a free name.
                (None, Some(others))
                    if !others.shape.accepts_type_of(value.get_ref()) && nearest_key(table.keys, text).is_some() =>
                {
                    let within = self.within();
                    self.report.error(|| unknown_key(table.keys, &within, text, name.span().into()));
                    continue;
                }
                (None, Some(others)) if is_name(others.rule, text) => &others.shape,
                (None, Some(others)) => {
                    self.report.error(|| bad_name(others.what, others.rule, text, name.span().into()));
                    &others.shape
                }
                (None, None) => {
                    let within = self.within();
                    self.report.error(|| unknown_key(table.keys, &within, text, name.span().into()));
                    continue;
                }
            };
            self.path.push(text);
            // An implicit table has no header, so its key is shown instead.
            let header = SourceSpan::from(value.span());
            let place = if header.end > header.start { header } else { name.span().into() };
            self.value(shape, value, place);
            self.path.pop();
        }
    }

    fn value(&mut self, shape: &Shape, value: &'t Spanned<DeValue<'_>>, place: SourceSpan) {
        match (shape, value.get_ref()) {
            (Shape::Anything, _) | (Shape::Boolean, DeValue::Boolean(_)) => {}
            (Shape::Scalar, DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_)) => {}
            (Shape::Text(format), DeValue::String(text)) => {
                if let Err(error) = format.check(text) {
                    let key = self.key();
                    self.report.error(|| {
                        Problem::new(error.code, place, format!("`{text}` {error}"))
                            .label(format!("in `{key}`"))
                            .help(error.help)
                    });
                }
            }
            (Shape::Integer(low, high), DeValue::Integer(number)) => {
                let value = i64::from_str_radix(number.as_str(), number.radix()).ok();
                if !value.is_some_and(|value| (*low..=*high).contains(&value)) {
                    let key = self.key();
                    self.report.error(|| out_of_range(&key, *low, *high, place));
                }
            }
            (Shape::Moment, DeValue::Datetime(moment)) => {
                if moment.offset.is_none() || moment.date.is_none() || moment.time.is_none() {
                    let key = self.key();
                    self.report.error(|| missing_offset(&key, &moment.to_string(), place));
                }
            }
            (Shape::List(item), DeValue::Array(items)) => {
                for value in items {
                    self.value(item, value, value.span().into());
                }
            }
            (Shape::Table(table), DeValue::Table(values)) => self.table(table, values, place),
            (Shape::Either(shapes), found) => match shapes.iter().find(|shape| shape.accepts_type_of(found)) {
                Some(shape) => self.value(shape, value, place),
                None => self.wrong_type(shape, found, place),
            },
            (_, found) => self.wrong_type(shape, found, place),
        }
    }

    fn wrong_type(&mut self, shape: &Shape, found: &DeValue<'_>, place: SourceSpan) {
        let key = self.key();
        self.report.error(|| {
            let (expected, found) = (shape.describe(), describe(found));
            Problem::new("stagewright::wrong-type", place, format!("`{key}` is {found}, but must be {expected}"))
                .label(format!("expected {expected}"))
                .help(shape.example().map_or_else(|| format!("write {expected}"), |example| format!("write {example}")))
        });
    }

    fn key(&self) -> String {
        self.path.join(".")
    }

    fn within(&self) -> String {
        if self.path.is_empty() { self.what.to_owned() } else { format!("`{}`", self.key()) }
    }
}

fn unknown_key(keys: &'static [Key], within: &str, name: &str, place: SourceSpan) -> Problem {
    let help = match nearest_key(keys, name) {
        Some(known) => format!("did you mean `{known}`?"),
        None => {
            format!("use one of {}", keys.iter().map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(", "))
        }
    };
    Problem::new("stagewright::unknown-key", place, format!("{within} has no key `{name}`"))
        .label("unknown key")
        .help(help)
}

/// The known key that is most similar to `name`. Treats `_` as `-`, since keys of other tools look like `max_parallel`.
fn nearest_key(keys: &'static [Key], name: &str) -> Option<&'static str> {
    nearest(&name.replace('_', "-"), keys.iter().map(|key| key.name))
}

fn bad_name(what: &str, rule: NameRule, name: &str, place: SourceSpan) -> Problem {
    let rule = match rule {
        NameRule::Stage => "lower-case letters, digits, `_` and `-`, starting with a letter or digit",
        NameRule::Name | NameRule::Any => "letters, digits, `_` and `-`, starting with a letter or `_`",
        NameRule::Variable => "letters, digits and `_`, not starting with a digit",
    };
    Problem::new("stagewright::bad-name", place, format!("`{name}` isn't a valid name for {what}"))
        .label("invalid name")
        .help(format!("use at most 100 {rule}"))
}

/// The error about a date or time without an offset, which isn't the same moment in every time zone.
fn missing_offset(key: &str, written: &str, place: SourceSpan) -> Problem {
    let help = match written.split_once(['T', ' ']) {
        Some(_) => "add `Z` for UTC, or another offset, as in `+01:00`",
        None => "write a date with time and offset, as in `2026-12-18T16:00:00Z`",
    };
    Problem::new("stagewright::no-offset", place, format!("`{written}` isn't an exact time"))
        .label(format!("in `{key}`"))
        .help(help)
}

fn out_of_range(key: &str, low: i64, high: i64, place: SourceSpan) -> Problem {
    let problem = Problem::new(
        "stagewright::out-of-range",
        place,
        match low == high {
            true => format!("`{key}` must be {low}"),
            false => format!("`{key}` must be between {low} and {high}"),
        },
    );
    let help = match key {
        "schema" => format!("this version of stagewright reads files with `schema = {high}`"),
        _ => format!("write a number from {low} to {high}"),
    };
    problem.help(help)
}

impl Shape {
    /// Whether a value has the right TOML type, regardless of its content.
    fn accepts_type_of(&self, value: &DeValue<'_>) -> bool {
        match self {
            Shape::Anything => true,
            Shape::Text(_) => value.is_str(),
            Shape::Integer(..) => value.is_integer(),
            Shape::Boolean => value.is_bool(),
            Shape::Moment => value.is_datetime(),
            Shape::Scalar => value.is_str() || value.is_integer() || value.is_float() || value.is_bool(),
            Shape::List(_) => value.is_array(),
            Shape::Table(_) => value.is_table(),
            Shape::Either(shapes) => shapes.iter().any(|shape| shape.accepts_type_of(value)),
        }
    }

    fn describe(&self) -> String {
        match self {
            Shape::Anything => "anything".to_owned(),
            Shape::Text(_) => "a string".to_owned(),
            Shape::Integer(..) => "an integer".to_owned(),
            Shape::Boolean => "`true` or `false`".to_owned(),
            Shape::Moment => "a date with time and offset".to_owned(),
            Shape::Scalar => "a string, number or boolean".to_owned(),
            Shape::List(Shape::Text(_)) => "a list of strings".to_owned(),
            Shape::List(Shape::Table(_)) => "a list of tables".to_owned(),
            Shape::List(_) => "a list".to_owned(),
            Shape::Table(_) => "a table".to_owned(),
            Shape::Either([.., Shape::Scalar]) => Shape::Scalar.describe(),
            Shape::Either(shapes) => shapes.iter().map(Shape::describe).collect::<Vec<_>>().join(" or "),
        }
    }

    /// An example for types that are often confused, since other tools use another type in the same place.
    fn example(&self) -> Option<&'static str> {
        match self {
            Shape::Text(super::Format::Duration(_)) => Some("a number with its unit in quotes, as in `\"20m\"`"),
            Shape::Text(super::Format::Size(_)) => Some("a number with its unit in quotes, as in `\"256MiB\"`"),
            Shape::Text(_) => Some("it in quotes"),
            Shape::Moment => Some("it without quotes, as in `2026-12-18T16:00:00Z`"),
            Shape::List(Shape::Table(_)) => Some("its header in double brackets, as in `[[a.b]]`"),
            Shape::List(Shape::Text(_)) => Some("it in brackets, as in `[\"a\", \"b\"]`"),
            _ => None,
        }
    }
}

fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
