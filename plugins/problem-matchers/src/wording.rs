//! Composes messages of one line from what a program printed in several.

/// The most lines that are joined into one message.
const LINES: usize = 5;
/// The most characters of a joined message.
const LENGTH: usize = 240;

/// A message of one line, and the lines that didn't fit into it.
pub(crate) fn message_and_details(lines: &[String]) -> (String, Vec<String>) {
    let length: usize = lines.iter().map(|line| line.trim().len()).sum();
    if lines.len() <= LINES && length <= LENGTH {
        return (joined(lines), Vec::new());
    }
    // A first line such as `expected values to be equal:` says nothing without the next one.
    let first = lines.iter().take_while(|line| line.trim_end().ends_with(':')).count() + 1;
    let first = first.min(lines.len()).min(LINES);
    (joined(&lines[..first]), lines[first..].to_vec())
}

/// The lines as one.
pub(crate) fn joined(lines: &[String]) -> String {
    let mut text = String::new();
    for line in lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()) {
        if !text.is_empty() {
            text.push_str(if text.ends_with([':', ',', ';', '.']) { " " } else { "; " });
        }
        text.push_str(line);
    }
    text
}

/// The name of a test, and why it failed.
pub(crate) fn test_failure(name: &str, why: &str) -> String {
    match why {
        "" => format!("test `{name}` failed"),
        why => format!("test `{name}` failed: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn few_short_lines_become_one() {
        let (message, details) = message_and_details(&lines("not equal:\n  5 !== 4\n at least"));
        assert_eq!((message.as_str(), details.len()), ("not equal: 5 !== 4; at least", 0));
    }

    #[test]
    fn of_many_lines_the_first_is_the_message() {
        let (message, details) = message_and_details(&lines("not equal:\n\n+ actual\n- expected\n{\n+ 1\n}"));
        assert_eq!(message, "not equal:");
        assert_eq!(details.len(), 5);
    }
}
