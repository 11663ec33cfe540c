//! Entries of `permissions.registry`: image repositories.

use std::sync::{Arc, OnceLock};

use globset::{Glob, GlobMatcher};

use super::glob::{covers, pattern_of};
use crate::entry::entry;
use crate::format_error::{FormatError, refuse};

/// The code of diagnostics about invalid entries.
const CODE: &str = "stagewright::bad-repository";

/// One entry: `HOST/NAME` without tag and digest. `*` also matches `/`.
#[derive(Clone, Debug)]
pub struct RepositoryRule(Arc<ParsedRepository>);

#[derive(Debug)]
struct ParsedRepository {
    text: String,
    glob: Glob,
    /// Compiled on first use.
    matcher: OnceLock<GlobMatcher>,
}

impl RepositoryRule {
    /// Parses an entry.
    pub fn parse(entry: &str) -> Result<RepositoryRule, FormatError> {
        if entry.contains("://") {
            return refuse(CODE, "is a URL", "write `HOST/NAME` without a scheme, as in `ghcr.io/acme/app`");
        }
        let name = entry.rsplit_once('/').map_or(entry, |(_, name)| name);
        if name.contains([':', '@']) {
            return refuse(CODE, "names a tag or digest", "write the repository alone; all of its tags are granted");
        }
        if !entry.contains('/') || entry.split('/').any(str::is_empty) || entry.contains(char::is_whitespace) {
            return refuse(CODE, "isn't a repository", "write `HOST/NAME`, as in `local/app` or `ghcr.io/acme/*`");
        }
        match Glob::new(entry) {
            Ok(glob) => {
                let text = entry.to_owned();
                Ok(RepositoryRule(Arc::new(ParsedRepository { text, glob, matcher: OnceLock::new() })))
            }
            Err(error) => refuse(
                CODE,
                format!("isn't a valid pattern: {}", error.kind()),
                "`*` matches any text, `?` any character, `[ab]` and `{a,b}` alternatives; `\\` makes the next character \
                 literal",
            ),
        }
    }

    /// The entry as written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether a repository, named without tag and digest, is granted.
    pub fn grants(&self, repository: &str) -> bool {
        self.0.matcher.get_or_init(|| self.0.glob.compile_matcher()).is_match(repository)
    }

    /// Whether this entry grants everything that `other` grants. No if that can't be decided.
    pub fn covers(&self, other: &RepositoryRule) -> bool {
        let (own, other) = (self.as_str(), other.as_str());
        if !other.contains(['*', '?', '[', '{', '\\']) {
            return self.grants(other);
        }
        own == other || pattern_of(own).zip(pattern_of(other)).is_some_and(|(own, other)| covers(&own, &other))
    }
}

entry!(RepositoryRule, FormatError);
