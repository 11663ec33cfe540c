//! Files with variables of services.

use crate::checker::{Checker, Pair, child};
use located_yaml::{Node, Value};

/// The variables of the files of `env_file`, of which later ones precede.
pub(super) fn read(checker: &mut Checker<'_>, files: &Node, key: &str) -> Vec<Pair> {
    let single = std::slice::from_ref(files);
    let files = if let Value::List(items) = &files.value { items } else { single };
    let mut pairs = Vec::new();
    for file in files {
        let (path, is_required) = match file.get("path") {
            Some(path) => {
                checker.known(file, key, &["format", "path", "required"]);
                let required = file.get("required").and_then(Node::scalar);
                (checker.text(path, key), required.as_deref() != Some("false"))
            }
            None => (checker.text(file, key), true),
        };
        let Some(path) = path else { continue };
        if !is_required {
            let help = "remove `required: false`: a release has the same variables wherever it is made";
            checker.refuse(file.place, key, format!("`{path}` is optional"), help);
            continue;
        }
        let Some(text) = checker.file(&path, file.place, key) else { continue };
        pairs.extend(parse(checker, &text, &path, file, key));
    }
    pairs
}

fn parse(checker: &mut Checker<'_>, text: &str, path: &str, file: &Node, key: &str) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value.trim())));
        let key = child(key, name.trim());
        let value = match value.map(unquoted) {
            None => None,
            Some(Some((value, true))) => Some(crate::interpolation::escaped(value)),
            Some(Some((value, false))) => checker.fill(value, file.place, &key),
            Some(None) => {
                let message = format!("{path}:{number} has a quote that isn't closed, or text after it");
                checker.refuse(file.place, &key, message, "write NAME=VALUE, NAME=\"VALUE\" or NAME='VALUE'");
                continue;
            }
        };
        pairs.push(Pair { place: file.place, name: name.trim().to_owned(), value });
    }
    pairs
}

/// The text of a value, and whether it is meant literally.
fn unquoted(value: &str) -> Option<(&str, bool)> {
    for (quote, is_literal) in [('\'', true), ('"', false)] {
        if let Some(rest) = value.strip_prefix(quote) {
            let inner = rest.strip_suffix(quote).filter(|inner| !inner.contains(quote))?;
            return Some((inner, is_literal));
        }
    }
    // A comment begins after a space.
    Some((value.split(" #").next().unwrap_or_default().trim(), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_comments_are_left_out() {
        assert_eq!(unquoted("plain # comment"), Some(("plain", false)));
        assert_eq!(unquoted("a#b"), Some(("a#b", false)));
        assert_eq!(unquoted("\"two words\""), Some(("two words", false)));
        assert_eq!(unquoted("'$A'"), Some(("$A", true)));
        assert_eq!([unquoted("\"open"), unquoted("'a' b")], [None; 2]);
    }
}
