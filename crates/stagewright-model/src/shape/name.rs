//! The form of names: of stages, variables, inputs and so on.

use crate::format_error::{FormatError, refuse};

/// The most bytes in a name. Names become parts of file names, whose length is limited.
const MAX_NAME: usize = 100;

/// Which names are allowed as keys of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// Lower-case letters, digits, `_` and `-`: names of files, hosts and services are derived from them.
    Stage,
    /// Letters, digits, `_` and `-`, which expressions can read.
    Name,
    /// Letters, digits and `_`, for environment variables.
    Variable,
    Any,
}

/// Whether `name` is allowed by the rule.
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
    let help = "use letters, digits, `_` and `-`, starting with a letter or `_`";
    refuse("stagewright::bad-name", "isn't a valid name", help)
}

pub(crate) fn check_variable(text: &str) -> Result<(), FormatError> {
    if is_name(NameRule::Variable, text) {
        return Ok(());
    }
    let help = "use letters, digits and `_`, not starting with a digit";
    refuse("stagewright::bad-name", "isn't a valid name for an environment variable", help)
}
