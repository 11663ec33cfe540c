//! `logging`: messages of the plugin in the stage's log.

use crate::mask::Masker;

/// The severity of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// The most characters of a field's value.
const FIELD: usize = 4 * 1024;

/// The value of a field, masked and then truncated to [`FIELD`]. It must be masked before it is truncated or quoted: half
/// of a secret, or one that is escaped, may not be recognised.
pub(crate) fn shortened(value: &str, masker: &Masker) -> String {
    masker.text(value).chars().take(FIELD).collect()
}

/// Formats a message as one or more lines of the log: the level if it is a warning or an error, the text, the fields.
pub(crate) fn render(level: LogLevel, message: &str, fields: &[(String, String)]) -> String {
    let mut text = match level {
        LogLevel::Error => "error: ".to_owned(),
        LogLevel::Warn => "warning: ".to_owned(),
        LogLevel::Info | LogLevel::Debug | LogLevel::Trace => String::new(),
    };
    text.push_str(message);
    for (name, value) in fields {
        let bare = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c == '"' || c == '=');
        let value = if bare { value.clone() } else { format!("{value:?}") };
        text.push_str(&format!(" {name}={value}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_masked_before_it_is_truncated() {
        let masker = Masker::default();
        masker.add("hunter2hunter2", false);
        let value = format!("{}hunter2hunter2", "x".repeat(FIELD - 7));
        assert_eq!(shortened(&value, &masker), format!("{}***", "x".repeat(FIELD - 7)));
        assert_eq!(shortened("short", &masker), "short");
        assert_eq!(shortened(&"é".repeat(2 * FIELD), &masker), "é".repeat(FIELD));
        masker.add("over two\nlong lines", false);
        assert_eq!(shortened("is over two\nlong lines", &masker), "is ***\n***");
    }

    #[test]
    fn fields_follow_the_message() {
        let fields = [("path".to_owned(), "/".to_owned()), ("why".to_owned(), "it \"is\"".to_owned())];
        assert_eq!(render(LogLevel::Warn, "slow", &fields), "warning: slow path=/ why=\"it \\\"is\\\"\"");
        assert_eq!(render(LogLevel::Info, "done", &[]), "done");
        assert_eq!(render(LogLevel::Info, "x", &[("empty".into(), String::new())]), "x empty=\"\"");
    }
}
