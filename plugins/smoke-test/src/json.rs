//! Compares JSON by value, with numbers as text: a number may have more digits than any numeric type.
//!
//! By RFC 8259 a number is its decimal value, so `1`, `1.0` and `1e0` are equal.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use serde_json::value::RawValue;

/// A JSON value as the text that it has in its document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// # Errors
    /// When it isn't one JSON value.
    pub(crate) fn parse(document: &'a [u8]) -> serde_json::Result<Text<'a>> {
        serde_json::from_slice::<&RawValue>(document).map(Text::of)
    }

    fn of(raw: &'a RawValue) -> Text<'a> {
        Text(raw.get().trim())
    }

    /// The value at an RFC 6901 pointer.
    pub(crate) fn at(self, pointer: &str) -> Option<Text<'a>> {
        if pointer.is_empty() {
            return Some(self);
        }
        let names = pointer.strip_prefix('/')?.split('/').map(|name| name.replace("~1", "/").replace("~0", "~"));
        names.into_iter().try_fold(self, |value, name| match value.0.as_bytes().first()? {
            b'{' => value.object()?.get(&name).map(|raw| Text::of(raw)),
            b'[' => {
                let is_index = name == "0" || (!name.starts_with(['0', '+']) && !name.is_empty());
                let index: usize = name.parse().ok().filter(|_| is_index)?;
                value.array()?.get(index).map(|raw| Text::of(raw))
            }
            _ => None,
        })
    }

    /// Whether it equals `expected` by value.
    pub(crate) fn is(self, expected: &Json) -> bool {
        match expected {
            Json::Number(number) => {
                self.is_number() && (self.0 == number.to_string() || decimal(self.0) == decimal(&number.to_string()))
            }
            Json::Array(expected) => self.array().is_some_and(|own| {
                own.len() == expected.len()
                    && own.iter().zip(expected).all(|(own, expected)| Text::of(own).is(expected))
            }),
            Json::Object(expected) => self.object().is_some_and(|own| {
                let has =
                    |(name, expected): (&String, &Json)| own.get(name).is_some_and(|own| Text::of(own).is(expected));
                own.len() == expected.len() && expected.iter().all(has)
            }),
            Json::String(_) | Json::Bool(_) | Json::Null => {
                !self.is_number() && serde_json::from_str::<Json>(self.0).is_ok_and(|own| own == *expected)
            }
        }
    }

    fn is_number(self) -> bool {
        self.0.starts_with(|first: char| first == '-' || first.is_ascii_digit())
    }

    fn object(self) -> Option<BTreeMap<String, &'a RawValue>> {
        serde_json::from_str(self.0).ok()
    }

    fn array(self) -> Option<Vec<&'a RawValue>> {
        serde_json::from_str(self.0).ok()
    }
}

/// Without white space between its parts, so on one line.
impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mut inside, mut escaped) = (false, false);
        let kept = self.0.chars().filter(|&letter| {
            let keep = inside || !letter.is_ascii_whitespace();
            inside ^= letter == '"' && !escaped;
            escaped = inside && letter == '\\' && !escaped;
            keep
        });
        f.write_str(&kept.collect::<String>())
    }
}

/// A number in normal form: sign, digits without zeros at either end, and the power of ten of the last digit. None when the
/// power doesn't fit into 64 bits; such numbers are equal only if their text is.
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let dropped = i64::try_from(digits.len() - significant.len()).ok()?;
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    let power: i64 = power.strip_prefix('+').unwrap_or(power).parse().ok()?;
    let power = power.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(dropped)?;
    Some((negative, significant.to_owned(), power))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is(text: &str, expected: &Json) -> bool {
        Text::parse(text.as_bytes()).unwrap().is(expected)
    }

    #[test]
    fn numbers_are_compared_by_value() {
        for text in ["1", "1.0", "1e0", "10e-1", "0.1E+1", " 1.00 "] {
            assert!(is(text, &json!(1)) && is(text, &json!(1.0)), "{text}");
            assert!(!is(text, &json!(2)) && !is(text, &json!(-1)) && !is(text, &json!("1")) && !is(text, &json!(true)));
        }
        assert!(is("-0.0", &json!(0)) && is("0e9", &json!(0)) && is("0.10", &json!(0.1)) && is("-25e-1", &json!(-2.5)));
        assert!(is("1e30", &json!(1e30)) && is("1000000000000000000000000000000", &json!(1e30)));
    }

    #[test]
    fn large_integers_differ_by_their_last_digit() {
        let most = i64::MAX;
        assert!(is("9223372036854775807", &json!(most)) && is("9223372036854775807.0", &json!(most)));
        assert!(!is("9223372036854775806", &json!(most)) && !is("9223372036854775808", &json!(most)));
        assert!(!is("9007199254740993", &json!(9_007_199_254_740_992_i64)));
        assert!(!is("1000000000000000000000000000001", &json!(1e30)));
        assert!(!is("1e99999999999999999999", &json!(1)));
    }

    #[test]
    fn nested_values_are_compared() {
        let expected = json!({ "a": [1, { "b": 2.50 }], "c": "1", "d": null });
        assert!(is(r#"{ "d": null, "c": "\u0031", "a": [1.0, { "b": 25e-1 }] }"#, &expected));
        for other in [
            r#"{ "c": "1", "a": [1, { "b": 2.5 }] }"#,
            r#"{ "d": null, "c": 1, "a": [1, { "b": 2.5 }] }"#,
            r#"{ "d": null, "c": "1", "a": [1, { "b": 2.5 }, 3] }"#,
            r#"{ "d": null, "c": "1", "a": [1, { "b": 2.5, "x": 1 }] }"#,
            "[]",
        ] {
            assert!(!is(other, &expected), "{other}");
        }
    }

    #[test]
    fn pointers_follow_rfc_6901() {
        let text = Text::parse(br#"{ "a/b": [ { "~": 1 }, "x y" ], "": 2 }"#).unwrap();
        let at = |pointer: &str| text.at(pointer).map(|value| value.to_string());
        assert_eq!(at(""), Some(r#"{"a/b":[{"~":1},"x y"],"":2}"#.into()));
        assert_eq!(
            (at("/a~1b/0/~0"), at("/a~1b/1"), at("/")),
            (Some("1".into()), Some("\"x y\"".into()), Some("2".into()))
        );
        assert_eq!((at("/a~1b/00"), at("/a~1b/2"), at("/a~1b/-"), at("/none/x")), (None, None, None, None));
        assert!(Text::parse(b"{").is_err() && Text::parse(b"1 2").is_err());
    }
}
