//! Conditions on the headers of requests.

use http::HeaderMap;
use http::header::COOKIE;
use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::error::{ServiceError, ServiceErrorKind};

/// The most bytes that a compiled expression takes.
const LARGEST: usize = 1024 * 1024;

/// A condition on a header of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HeaderMatch {
    /// The header; upper and lower case make no difference.
    pub header: String,
    /// The value that it must have.
    pub value: HeaderValueMatch,
}

/// The value that a header must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderValueMatch {
    /// Exactly this one.
    Exact(String),
    /// One that begins with this.
    Prefix(String),
    /// One that this regular expression matches as a whole.
    Regex(String),
}

impl HeaderMatch {
    /// Checks that a proxy can use it.
    ///
    /// # Errors
    /// [`ServiceErrorKind::InvalidArgument`] for an invalid header name or expression.
    pub fn check(&self) -> Result<(), ServiceError> {
        CompiledMatch::new(self).map(drop)
    }
}

/// The conditions of a table, ready for requests.
#[derive(Default)]
pub(super) struct CompiledMatches(Vec<CompiledMatch>);

struct CompiledMatch {
    header: http::HeaderName,
    value: Regex,
}

impl CompiledMatch {
    fn new(condition: &HeaderMatch) -> Result<CompiledMatch, ServiceError> {
        let invalid = |message: String| ServiceError::new(ServiceErrorKind::InvalidArgument, message);
        let header = condition
            .header
            .parse()
            .map_err(|error| invalid(format!("invalid header name `{}`", condition.header)).caused_by(error))?;
        let expression = match &condition.value {
            HeaderValueMatch::Exact(value) => format!("^(?:{})$", regex::escape(value)),
            HeaderValueMatch::Prefix(value) => format!("^(?:{})", regex::escape(value)),
            HeaderValueMatch::Regex(expression) => format!("^(?:{expression})$"),
        };
        // Values are bytes, and a line break in them would have ended the header.
        let value = RegexBuilder::new(&expression)
            .unicode(false)
            .dot_matches_new_line(true)
            .size_limit(LARGEST)
            .build()
            .map_err(|error| invalid(format!("invalid expression `{expression}`")).caused_by(error))?;
        Ok(CompiledMatch { header, value })
    }

    /// A header that a request has several times has one value, of their values in turn (RFC 9110, section 5.3).
    fn is_met(&self, headers: &HeaderMap) -> bool {
        let separator: &[u8] = if self.header == COOKIE { b"; " } else { b", " };
        let values: Vec<&[u8]> = headers.get_all(&self.header).iter().map(http::HeaderValue::as_bytes).collect();
        !values.is_empty() && self.value.is_match(&values.join(separator))
    }
}

impl CompiledMatches {
    /// Conditions that can't be used are left out: the table was checked before it was written.
    pub(super) fn new(conditions: &[HeaderMatch]) -> CompiledMatches {
        CompiledMatches(conditions.iter().filter_map(|condition| CompiledMatch::new(condition).ok()).collect())
    }

    /// Whether a request meets one of them.
    pub(super) fn is_any_met(&self, headers: &HeaderMap) -> bool {
        self.0.iter().any(|condition| condition.is_met(headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(value: HeaderValueMatch) -> HeaderMatch {
        HeaderMatch { header: "X-Canary".to_owned(), value }
    }

    fn is_met(condition: HeaderMatch, headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        CompiledMatches::new(&[condition]).is_any_met(&map)
    }

    #[test]
    fn a_value_is_exact_begins_or_matches_as_a_whole() {
        let exact = || condition(HeaderValueMatch::Exact("a.b".to_owned()));
        assert!(is_met(exact(), &[("x-canary", "a.b")]));
        assert!(!is_met(exact(), &[("x-canary", "aXb")]) && !is_met(exact(), &[("x-canary", "a.bc")]));
        assert!(!is_met(exact(), &[("x-other", "a.b")]) && !is_met(exact(), &[]));
        let prefix = || condition(HeaderValueMatch::Prefix("v2".to_owned()));
        assert!(is_met(prefix(), &[("x-canary", "v2-beta")]) && !is_met(prefix(), &[("x-canary", "xv2")]));
        let regex = || condition(HeaderValueMatch::Regex(r"a|\d+".to_owned()));
        assert!(is_met(regex(), &[("x-canary", "17")]) && !is_met(regex(), &[("x-canary", "17x")]));
        assert!(!is_met(regex(), &[("x-canary", "ab")]));
    }

    #[test]
    fn a_header_with_several_lines_is_one_value() {
        let value = HeaderValueMatch::Regex("(.*; )?canary=yes(; .*)?".to_owned());
        let cookie = || HeaderMatch { header: "Cookie".to_owned(), value: value.clone() };
        assert!(is_met(cookie(), &[("cookie", "a=1"), ("cookie", "canary=yes"), ("cookie", "b=2")]));
        assert!(!is_met(cookie(), &[("cookie", "a=1"), ("cookie", "canary=no")]));
        let list = condition(HeaderValueMatch::Exact("a, b".to_owned()));
        assert!(is_met(list, &[("x-canary", "a"), ("x-canary", "b")]));
    }

    #[test]
    fn what_a_proxy_cannot_use_is_refused() {
        let name = HeaderMatch { header: "a b".to_owned(), value: HeaderValueMatch::Exact("a".to_owned()) };
        assert_eq!(name.check().unwrap_err().kind, ServiceErrorKind::InvalidArgument);
        for expression in ["(", "(?:a{1000}){1000}"] {
            let error = condition(HeaderValueMatch::Regex(expression.to_owned())).check().unwrap_err();
            assert_eq!(error.kind, ServiceErrorKind::InvalidArgument, "{expression}");
        }
        assert!(condition(HeaderValueMatch::Regex("a*".to_owned())).check().is_ok());
    }
}
