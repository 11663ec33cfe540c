//! Requests that the new version gets because of their headers, whatever its weight is. The names and their meaning are those
//! of `setHeaderRoute` in Argo Rollouts.

use regex_syntax::ParserBuilder;
use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Problem, schemars};

/// The most conditions of a route.
const MOST_CONDITIONS: usize = 16;

/// The most bytes of a value or an expression.
const LONGEST_VALUE: usize = 256;

/// Sends all requests with certain headers to the new version, beside those that it gets by its weight.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "name": "testers", "match": [{ "header-name": "X-Canary", "header-value": { "exact": "always" } }],
}))]
pub struct HeaderRoute {
    /// Its name. A later step with the same name replaces it.
    pub(crate) name: String,
    /// A request that meets one of these conditions goes to the new version. Without any, the route is removed.
    #[serde(default, rename = "match")]
    pub(crate) conditions: Vec<HeaderMatch>,
}

/// A condition on a header of a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HeaderMatch {
    /// The header; upper and lower case make no difference. Cookies are in `Cookie`.
    pub header_name: String,
    /// The value that it must have.
    pub header_value: HeaderValue,
}

/// The value that a header must have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderValue {
    /// Exactly this one.
    Exact(String),
    /// One that begins with this.
    Prefix(String),
    /// One that this regular expression matches as a whole, in the syntax of RE2.
    Regex(String),
}

impl HeaderValue {
    fn text(&self) -> &str {
        match self {
            HeaderValue::Exact(text) | HeaderValue::Prefix(text) | HeaderValue::Regex(text) => text,
        }
    }

    /// The key of the value.
    fn key(&self) -> &'static str {
        match self {
            HeaderValue::Exact(_) => "exact",
            HeaderValue::Prefix(_) => "prefix",
            HeaderValue::Regex(_) => "regex",
        }
    }

    /// The same condition as a regular expression that is searched for.
    pub(crate) fn expression(&self) -> String {
        match self {
            HeaderValue::Exact(text) => format!("^(?:{})$", regex_syntax::escape(text)),
            HeaderValue::Prefix(text) => format!("^(?:{})", regex_syntax::escape(text)),
            HeaderValue::Regex(expression) => format!("^(?:{expression})$"),
        }
    }

    /// The same condition as a regular expression for the whole value, whether it is searched for or has to fit by itself.
    pub fn whole_expression(&self) -> String {
        match self {
            HeaderValue::Prefix(text) => format!("^{}.*$", regex_syntax::escape(text)),
            _ => self.expression(),
        }
    }

    fn problem(&self, key: &str) -> Option<Problem> {
        let key = format!("{key}.{}", self.key());
        let text = self.text();
        if text.is_empty() || text.len() > LONGEST_VALUE {
            let message = format!("a value has 1 to {LONGEST_VALUE} bytes, not {}", text.len());
            return Some(Problem::at(key, message));
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Some(Problem::at(key, "a value consists of printable ASCII characters"));
        }
        let HeaderValue::Regex(expression) = self else { return None };
        // Values of headers are bytes.
        let parsed = ParserBuilder::new().unicode(false).utf8(false).build().parse(expression);
        let message = parsed.err()?.to_string();
        let reason = message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Some(Problem::at(key, format!("invalid regular expression: {reason}")).help("use the syntax of RE2"))
    }
}

impl HeaderRoute {
    /// Mistakes that parsing doesn't catch, in the step at this key of `with`.
    pub(crate) fn problems(&self, key: &str) -> Vec<Problem> {
        let mut found = Vec::new();
        if self.name.is_empty() {
            found.push(Problem::at(format!("{key}.name"), "must not be empty"));
        }
        if self.conditions.len() > MOST_CONDITIONS {
            let message = format!("a route has at most {MOST_CONDITIONS} conditions, not {}", self.conditions.len());
            found.push(Problem::at(format!("{key}.match"), message));
        }
        for (index, HeaderMatch { header_name, header_value }) in self.conditions.iter().enumerate() {
            let key = format!("{key}.match[{index}]");
            // nginx ignores headers with other characters.
            if header_name.is_empty() || !header_name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                let message = format!("invalid header name `{header_name}`; use letters, digits and `-`");
                found.push(Problem::at(format!("{key}.header-name"), message));
            }
            found.extend(header_value.problem(&format!("{key}.header-value")));
        }
        found
    }
}

/// The conditions of the routes that are in effect after these steps.
pub(crate) fn in_effect<'a>(steps: impl IntoIterator<Item = &'a HeaderRoute>) -> Vec<HeaderMatch> {
    let mut routes: Vec<&HeaderRoute> = Vec::new();
    for route in steps {
        routes.retain(|earlier| earlier.name != route.name);
        routes.push(route);
    }
    routes.into_iter().flat_map(|route| route.conditions.clone()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(route: serde_json::Value) -> Vec<String> {
        let route: HeaderRoute = serde_json::from_value(route).expect("a route");
        route.problems("step").into_iter().filter_map(|problem| problem.key).collect()
    }

    #[test]
    fn mistakes_name_their_key() {
        let route = |name: &str, value: serde_json::Value| json!({ "name": "r", "match": [{ "header-name": name, "header-value": value }] });
        assert!(keys(route("X-Canary", json!({ "exact": "a b" }))).is_empty());
        assert!(keys(route("Cookie", json!({ "regex": r"(.*;\s*)?canary=(yes|\d+)(;.*)?" }))).is_empty());
        assert!(keys(json!({ "name": "r" })).is_empty());
        assert_eq!(keys(json!({ "name": "" })), ["step.name"]);
        for name in ["", "X_Canary", "a b", "a;b", "é"] {
            assert_eq!(keys(route(name, json!({ "exact": "a" }))), ["step.match[0].header-name"], "{name}");
        }
        for (kind, value) in [("exact", ""), ("prefix", "a\nb"), ("regex", "(a"), ("regex", r"(?=a)"), ("exact", "é")]
        {
            let key = format!("step.match[0].header-value.{kind}");
            assert_eq!(keys(route("X-A", json!({ kind: value }))), [key], "{value}");
        }
    }

    #[test]
    fn a_route_replaces_the_one_of_the_same_name() {
        let route = |name: &str, values: &[&str]| {
            let conditions = values.iter().map(|value| HeaderMatch {
                header_name: "X-Canary".to_owned(),
                header_value: HeaderValue::Exact((*value).to_owned()),
            });
            HeaderRoute { name: name.to_owned(), conditions: conditions.collect() }
        };
        let steps = [route("a", &["1"]), route("b", &["2", "3"]), route("a", &["4"])];
        let values = |steps: &[HeaderRoute]| -> Vec<String> {
            in_effect(steps).into_iter().map(|condition| condition.header_value.text().to_owned()).collect()
        };
        assert_eq!(values(&steps), ["2", "3", "4"]);
        let removed = [steps[1].clone(), steps[2].clone(), route("b", &[])];
        assert_eq!(values(&removed), ["4"]);
    }

    #[test]
    fn literal_values_are_escaped() {
        assert_eq!(HeaderValue::Exact("a.b".to_owned()).expression(), r"^(?:a\.b)$");
        assert_eq!(HeaderValue::Prefix("v1(".to_owned()).expression(), r"^(?:v1\()");
        assert_eq!(HeaderValue::Regex("a|b".to_owned()).expression(), "^(?:a|b)$");
        assert_eq!(HeaderValue::Prefix("v1(".to_owned()).whole_expression(), r"^v1\(.*$");
        assert_eq!(HeaderValue::Regex("a|b".to_owned()).whole_expression(), "^(?:a|b)$");
    }
}
