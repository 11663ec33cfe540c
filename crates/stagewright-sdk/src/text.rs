//! Helpers for messages.

/// A number with its noun, as in `1 layer`, `2 layers` and `2 entries`.
pub fn count<N: std::fmt::Display + Copy + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    match (number == N::from(1), noun.strip_suffix('y')) {
        (true, _) => format!("1 {noun}"),
        (false, Some(stem)) => format!("{number} {stem}ies"),
        (false, None) => format!("{number} {noun}s"),
    }
}

/// The known name that an unknown one was probably meant to be.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, nearest) = known.into_iter().map(|name| (strsim::levenshtein(unknown, name), name)).min()?;
    // A name that differs in more than half of its characters is unlikely to be the intended one.
    (distance <= nearest.len().max(unknown.len()) / 2).then_some(nearest)
}
