//! Names of stages, variables and the like.

use crate::format_error::{FormatError, refuse};

/// Names are parts of file names, too.
const MAX_NAME: usize = 100;

/// What names a table may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// Lower case: names of files, hosts and services are made of these.
    Stage,
    /// For expressions: letters, digits, `_` and `-`.
    Name,
    /// For process environments.
    Variable,
    Any,
}

/// Whether `name` keeps the rule.
pub(crate) fn is_name(rule: NameRule, name: &str) -> bool {
    let first = name.bytes().next().unwrap_or(b' ');
    let fits = |is_good: fn(u8) -> bool| name.len() <= MAX_NAME && name.bytes().all(is_good);
    match rule {
        NameRule::Any => true,
        NameRule::Stage => {
            fits(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
                && matches!(first, b'a'..=b'z' | b'0'..=b'9')
        }
        NameRule::Name => {
            fits(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
                && (first.is_ascii_alphabetic() || first == b'_')
        }
        NameRule::Variable => {
            fits(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && (first.is_ascii_alphabetic() || first == b'_')
        }
    }
}

pub(super) fn check_name(text: &str) -> Result<(), FormatError> {
    if is_name(NameRule::Name, text) {
        return Ok(());
    }
    let help = "a name has letters, digits, `_` and `-`, and starts with a letter or `_`";
    refuse("stagewright::bad-name", "isn't a valid name", help)
}

pub(crate) fn check_variable(text: &str) -> Result<(), FormatError> {
    if is_name(NameRule::Variable, text) {
        return Ok(());
    }
    let help = "a variable's name has letters, digits and `_`, and doesn't start with a digit";
    refuse("stagewright::bad-name", "isn't a valid name for an environment variable", help)
}
