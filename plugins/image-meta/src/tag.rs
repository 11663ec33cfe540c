//! Valid tags: the distribution specification has `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.

const MAX_LENGTH: usize = 128;

/// The text with each sequence of characters that a tag can't have as one `-`.
pub(crate) fn sanitised(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let (mut tag, mut is_replacing) = (String::with_capacity(text.len()), false);
    for character in text.chars() {
        match fits(character) {
            true => tag.push(character),
            false if is_replacing => {}
            false => tag.push('-'),
        }
        is_replacing = !fits(character);
    }
    tag
}

/// Why a registry would refuse a sanitised tag; none if it wouldn't.
pub(crate) fn mistake(tag: &str) -> Option<String> {
    match tag.chars().next() {
        Some('.' | '-') => Some(format!("`{tag}` isn't a tag: a tag begins with a letter, a digit or `_`")),
        _ if tag.len() > MAX_LENGTH => {
            Some(format!("`{tag}` isn't a tag: it has {} characters, and a tag has at most {MAX_LENGTH}", tag.len()))
        }
        _ => None,
    }
}
