//! Durations in configuration.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A duration in configuration: `"500ms"`, `"10s"`, `"5m"`, `"2h"`, `"1d"`, or a sum of them, as in `"1h30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationText(pub Duration);

/// Ten years in milliseconds. A longer duration is a mistake, and could overflow when it is added to a time.
const MAX_MILLIS: u64 = 3660 * 86_400_000;

/// `ms` before `m`, because the first unit that matches is used.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl DurationText {
    /// A number of seconds, as the default of a key: `#[serde(default = "DurationText::seconds::<10>")]`.
    pub fn seconds<const SECONDS: u64>() -> DurationText {
        DurationText(Duration::from_secs(SECONDS))
    }

    /// Parses the text; none if it isn't a duration.
    pub fn parse(text: &str) -> Option<DurationText> {
        let mut rest = text.trim();
        let mut millis = 0_u64;
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let count: u64 = rest[..digits].parse().ok()?;
            let (unit, factor) = UNITS.into_iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
            millis = millis.checked_add(count.checked_mul(factor)?).filter(|sum| *sum <= MAX_MILLIS)?;
            rest = rest[digits + unit.len()..].trim_start();
        }
        Some(DurationText(Duration::from_millis(millis)))
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<DurationText, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        DurationText::parse(&text).ok_or_else(|| {
            let expected = "a duration of at most 3660d such as \"500ms\", \"10s\", \"5m\" or \"1h30m\"";
            de::Error::invalid_value(de::Unexpected::Str(&text), &expected)
        })
    }
}

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^\s*(\d+(ms|s|m|h|d)\s*)+$", "examples": ["500ms", "1h30m"] })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Milliseconds for the WIT.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<u128> {
        DurationText::parse(text).map(|duration| duration.0.as_millis())
    }

    #[test]
    fn units_and_their_sums() {
        assert_eq!(millis("500ms"), Some(500));
        assert_eq!(millis("10s"), Some(10_000));
        assert_eq!(millis("1h30m"), Some(5_400_000));
        assert_eq!(millis(" 1d 2h "), Some(93_600_000));
    }

    #[test]
    fn text_without_a_unit_or_a_number_is_invalid() {
        for text in ["", "10", "s", "1.5h", "-1s", "10 parsecs", "99999999999999999999s", "300000000000000d"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }
}
