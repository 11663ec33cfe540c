//! Paths of the workspace in configuration.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A path or glob in configuration, relative to the workspace's root and never outside it, as in `target/report.xml`.
///
/// The host refuses other paths when they are used. With this type for a field of the configuration, they are refused
/// earlier, by `validate`, with their key. The text is kept unchanged, including `./`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkspacePath(String);

impl WorkspacePath {
    /// # Errors
    /// When the path is empty or absolute, or contains `..` or a NUL character.
    pub fn parse(path: impl Into<String>) -> Result<WorkspacePath, String> {
        let path = path.into();
        match path_problem(&path) {
            None => Ok(WorkspacePath(path)),
            Some(problem) => Err(format!(
                "path `{path}` {problem}; paths are relative to the workspace's root, as in `target/report.xml`"
            )),
        }
    }

    /// A constant path, as for the default of a key.
    ///
    /// # Panics
    /// When the path is invalid.
    pub fn fixed(path: &'static str) -> WorkspacePath {
        WorkspacePath::parse(path).unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// The text, unchanged.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the workspace itself, as in `.` and `./`.
    pub fn is_root(&self) -> bool {
        self.0.split('/').all(|name| matches!(name, "" | "."))
    }
}

/// Why the host refuses a path; none for a valid one.
pub(crate) fn path_problem(path: &str) -> Option<&'static str> {
    match path {
        "" => Some("is empty"),
        path if path.starts_with('/') => Some("is absolute"),
        path if path.contains('\0') => Some("contains a NUL character"),
        path if path.split('/').any(|name| name == "..") => Some("leaves a folder with `..`"),
        _ => None,
    }
}

impl TryFrom<String> for WorkspacePath {
    type Error = String;

    fn try_from(path: String) -> Result<WorkspacePath, String> {
        WorkspacePath::parse(path)
    }
}

impl Deref for WorkspacePath {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<WorkspacePath> for String {
    fn from(path: WorkspacePath) -> String {
        path.0
    }
}

impl JsonSchema for WorkspacePath {
    fn schema_name() -> Cow<'static, str> {
        "WorkspacePath".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_outside_of_the_workspace_are_refused() {
        for path in ["a", "./a/", "a//b", ".", "..a/b..", "**/*.rs", "-"] {
            assert_eq!(WorkspacePath::parse(path).map(|path| path.0).as_deref(), Ok(path));
        }
        for path in ["", "/", "/etc/passwd", "..", "a/../b", "a/..", "a\0b"] {
            assert!(WorkspacePath::parse(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn the_root_has_several_spellings() {
        for (path, root) in [(".", true), ("./", true), (".//.", true), ("a", false), (".a", false)] {
            assert_eq!(WorkspacePath::parse(path).unwrap().is_root(), root, "{path}");
        }
    }
}
