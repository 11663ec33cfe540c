//! `.asdfrc` and `.tool-versions`, by which asdf chooses the version of a program.

use super::value::{ValueKind, admit};

/// The only setting of an `.asdfrc` that matters when a program starts and isn't a command: whether files such as
/// `.nvmrc` count.
const LEGACY: &str = "legacy_version_file";

/// The copy of an `.asdfrc`.
pub(super) fn copy(text: &str) -> String {
    let entries = text.lines().filter_map(|line| line.split_once('='));
    let values = entries.filter(|(key, _)| key.trim() == LEGACY).filter_map(|(_, value)| {
        let value = admit(ValueKind::Scalar, value.trim())?;
        Some(format!("{LEGACY} = {value}\n"))
    });
    values.collect()
}

/// The copy of a `.tool-versions`: a program and its versions on each line, without comments.
pub(super) fn copy_versions(text: &str) -> String {
    let lines = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split('#').next()?.split_whitespace().collect();
        (words.len() > 1 && words.iter().all(|word| is_version(word))).then(|| words.join(" ") + "\n")
    });
    lines.collect()
}

/// Whether a word can be a program or a version, such as `20.1.0`, `ref:v1.2`, `path:/opt/node` or `temurin-21.0.1+12`.
fn is_version(word: &str) -> bool {
    word.len() <= 100 && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-+:/~".contains(letter))
}
