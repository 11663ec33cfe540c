//! Typed access to parsed TOML. A value that is missing or has the wrong type is returned as absent: the check of the
//! shape has already reported it.

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::diagnostic::{Problem, Report};
use crate::pattern::PathPattern;
use crate::span::SourceSpan;
use crate::value_path::ValuePath;

pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// A part of the file and its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: SourceSpan,
}

/// A table. A missing table is treated as an empty one.
#[derive(Clone, Copy)]
pub(super) struct Fields<'t>(Option<&'t DeTable<'t>>);

impl<'t> Fields<'t> {
    pub(super) fn new(table: &'t DeTable<'t>) -> Fields<'t> {
        Fields(Some(table))
    }

    pub(super) fn of(value: &'t Value<'t>) -> Fields<'t> {
        Fields(value.get_ref().as_table())
    }

    pub(super) fn get(self, key: &str) -> Option<&'t Value<'t>> {
        self.0?.get(key)
    }

    pub(super) fn has(self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn table(self, key: &str) -> Fields<'t> {
        self.get(key).map_or(Fields(None), Fields::of)
    }

    pub(super) fn text(self, key: &str) -> Option<At<&'t str>> {
        text(self.get(key)?)
    }

    pub(super) fn string(self, key: &str) -> Option<String> {
        self.text(key).map(|text| text.value.to_owned())
    }

    /// The strings of a list.
    pub(super) fn texts(self, key: &str) -> Vec<At<&'t str>> {
        self.items(key).iter().filter_map(text).collect()
    }

    pub(super) fn strings(self, key: &str) -> Vec<String> {
        self.texts(key).into_iter().map(|text| text.value.to_owned()).collect()
    }

    /// A list of globs. Invalid ones were reported by the check of the shape.
    pub(super) fn patterns(self, key: &str) -> Vec<PathPattern> {
        self.texts(key).iter().filter_map(|text| PathPattern::parse(text.value).ok()).collect()
    }

    pub(super) fn items(self, key: &str) -> &'t [Value<'t>] {
        self.get(key).and_then(|value| value.get_ref().as_array()).map_or(&[], |array| &array[..])
    }

    pub(super) fn flag(self, key: &str) -> Option<bool> {
        self.get(key)?.get_ref().as_bool()
    }

    /// None also if the number is negative or doesn't fit into a `u32`.
    pub(super) fn count(self, key: &str) -> Option<u32> {
        count(self.get(key)?)
    }

    pub(super) fn duration(self, key: &str) -> Option<std::time::Duration> {
        crate::shape::duration(self.text(key)?.value)
    }

    pub(super) fn size(self, key: &str) -> Option<u64> {
        crate::shape::size(self.text(key)?.value)
    }

    /// The entries in the order of the file.
    pub(super) fn entries(self) -> Vec<(At<&'t str>, &'t Value<'t>)> {
        let mut entries: Vec<_> = self.0.into_iter().flatten().map(|(key, value)| (name(key), value)).collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        entries
    }
}

fn name<'t>(key: &'t Spanned<toml::de::DeString<'t>>) -> At<&'t str> {
    At { value: key.get_ref(), span: key.span().into() }
}

pub(super) fn text<'t>(value: &'t Value<'t>) -> Option<At<&'t str>> {
    Some(At { value: value.get_ref().as_str()?, span: value.span().into() })
}

pub(super) fn count(value: &Value<'_>) -> Option<u32> {
    integer(value.get_ref().as_integer()?).and_then(|number| number.try_into().ok())
}

fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Converts a value to JSON. Dates and times become strings.
pub(super) fn json<'t>(value: &'t Value<'t>, report: &mut Report) -> Json {
    json_with(value, &ValuePath::default(), report, &mut |_, _, _| {})
}

/// Converts the value at `path` like [`json`], and calls `on_text` for every string in it.
pub(super) fn json_with<'t>(
    value: &'t Value<'t>,
    path: &ValuePath,
    report: &mut Report,
    on_text: &mut dyn FnMut(&ValuePath, At<&'t str>, &mut Report),
) -> Json {
    let number = match value.get_ref() {
        DeValue::String(string) => {
            on_text(path, At { value: string, span: value.span().into() }, report);
            return Json::String(string.as_ref().to_owned());
        }
        DeValue::Boolean(flag) => return Json::Bool(*flag),
        DeValue::Datetime(moment) => return Json::String(moment.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().enumerate();
            return items.map(|(index, item)| json_with(item, &path.index(index), report, on_text)).collect();
        }
        DeValue::Table(table) => {
            let entries = Fields::new(table).entries().into_iter();
            let read = |(key, item): (At<&'t str>, &'t Value<'t>)| {
                (key.value.to_owned(), json_with(item, &path.key(key.value), report, on_text))
            };
            return entries.map(read).collect();
        }
        DeValue::Integer(number) => integer(number).map(Json::from),
        DeValue::Float(number) => {
            let number = number.as_str().parse::<f64>().ok();
            number.and_then(serde_json::Number::from_f64).map(Json::Number)
        }
    };
    number.unwrap_or_else(|| {
        report.error(|| {
            Problem::new("stagewright::bad-number", value.span().into(), "JSON can't represent this number")
                .help("write a finite number of at most 64 bits, or a string")
        });
        Json::Null
    })
}
