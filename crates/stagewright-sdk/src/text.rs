//! Helpers for messages.

/// A number with its noun, as in `1 layer`, `2 layers` and `2 entries`.
pub fn count<N: std::fmt::Display + Copy + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    match (number == N::from(1), noun.strip_suffix('y')) {
        (true, _) => format!("1 {noun}"),
        (false, Some(stem)) => format!("{number} {stem}ies"),
        (false, None) => format!("{number} {noun}s"),
    }
}
