//! Entries of `permissions.registry`: image repositories.

use std::sync::{Arc, OnceLock};

use globset::{Glob, GlobMatcher};

use super::glob::{covers, pattern_of};
use crate::entry::entry;
use crate::format_error::{FormatError, refuse};

/// The code of the diagnostic about an entry that can't be read.
const CODE: &str = "stagewright::bad-repository";

/// One entry: `HOST/NAME` without tag and digest. `*` crosses `/`.
#[derive(Clone, Debug)]
pub struct RepositoryRule(Arc<Parsed>);

#[derive(Debug)]
struct Parsed {
    text: String,
    glob: Glob,
    /// Compiled when it is first asked.
    matcher: OnceLock<GlobMatcher>,
}

impl RepositoryRule {
    /// Reads an entry.
    pub fn parse(entry: &str) -> Result<RepositoryRule, FormatError> {
        if entry.contains("://") {
            return refuse(CODE, "is an address", "write `HOST/NAME` without a scheme, as in `ghcr.io/acme/app`");
        }
        let name = entry.rsplit_once('/').map_or(entry, |(_, name)| name);
        if name.contains([':', '@']) {
            return refuse(CODE, "names a tag or digest", "write the repository alone; every tag of it is granted");
        }
        if !entry.contains('/') || entry.split('/').any(str::is_empty) || entry.contains(char::is_whitespace) {
            return refuse(CODE, "isn't a repository", "write `HOST/NAME`, as in `local/app` or `ghcr.io/acme/*`");
        }
        match Glob::new(entry) {
            Ok(glob) => Ok(RepositoryRule(Arc::new(Parsed { text: entry.to_owned(), glob, matcher: OnceLock::new() }))),
            Err(error) => refuse(
                CODE,
                format!("isn't a valid pattern: {}", error.kind()),
                "`*` is any text, `?` any character, `[ab]` and `{a,b}` choose; `\\` takes the next character literally",
            ),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether a repository is granted, which is named without tag and digest.
    pub fn grants(&self, repository: &str) -> bool {
        self.0.matcher.get_or_init(|| self.0.glob.compile_matcher()).is_match(repository)
    }

    /// Whether all that `other` grants is granted by this. What can't be decided counts as no.
    pub fn covers(&self, other: &RepositoryRule) -> bool {
        let (own, other) = (self.as_str(), other.as_str());
        if !other.contains(['*', '?', '[', '{', '\\']) {
            return self.grants(other);
        }
        own == other || pattern_of(own).zip(pattern_of(other)).is_some_and(|(own, other)| covers(&own, &other))
    }
}

entry!(RepositoryRule, FormatError);
