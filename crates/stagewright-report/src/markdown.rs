//! Markdown for readers that show plain text: markup is removed, the text is kept.

use crate::printable::prose;

/// The lines of `markdown`, made printable. Removes the markup that summaries use: headings, emphasis, code, links,
/// images, quotes and tables. All other markup is kept as written, since Markdown is readable as plain text.
pub(crate) fn lines(markdown: &str) -> Vec<String> {
    let mut is_code = false;
    let mut shown = Vec::new();
    for line in markdown.lines() {
        let line = prose(line);
        let start = line.trim_start();
        if start.starts_with("```") || start.starts_with("~~~") {
            is_code = !is_code;
        } else if is_code {
            shown.push(line.into_owned());
        } else if !is_rule(start) {
            shown.push(block_line(&line));
        }
    }
    shown
}

/// Whether the line separates the head of a table from its rows.
fn is_rule(line: &str) -> bool {
    line.starts_with('|') && line.contains('-') && line.chars().all(|character| "|-: ".contains(character))
}

fn block_line(line: &str) -> String {
    let start = line.trim_start();
    let indent = &line[..line.len() - start.len()];
    let level = start.len() - start.trim_start_matches('#').len();
    let text = match start[level..].strip_prefix(' ') {
        Some(heading) if (1..=6).contains(&level) => heading.trim().trim_end_matches('#').trim_end(),
        _ => start.strip_prefix("> ").unwrap_or(start),
    };
    let text = match text.strip_prefix('|').and_then(|row| row.trim_end().strip_suffix('|')) {
        Some(row) => row.split('|').map(str::trim).collect::<Vec<_>>().join("  "),
        None => text.to_owned(),
    };
    format!("{indent}{}", inline(&text))
}

/// `text` without the marks of emphasis, code and links.
fn inline(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some((inner, after)) = code(rest) {
            shown.push_str(inner);
            rest = after;
        } else if let Some((inner, after)) = emphasis(rest, shown.chars().next_back()) {
            shown.push_str(&inline(inner));
            rest = after;
        } else if let Some((label, target, after)) = link(rest) {
            let label = inline(label);
            shown.push_str(&label);
            if label != target && !target.is_empty() {
                shown.push_str(&format!(" ({target})"));
            }
            rest = after;
        } else {
            let escaped = rest[first.len_utf8()..].chars().next().filter(|next| next.is_ascii_punctuation());
            let character = escaped.filter(|_| first == '\\').unwrap_or(first);
            let length =
                if character == first && !(first == '\\' && escaped == Some('\\')) { first.len_utf8() } else { 2 };
            shown.push(character);
            rest = &rest[length..];
        }
    }
    shown
}

/// The text between two equally long runs of backticks, and the rest.
fn code(text: &str) -> Option<(&str, &str)> {
    let ticks = text.len() - text.trim_start_matches('`').len();
    let (mark, body) = text.split_at(ticks);
    let end = body.find(mark).filter(|_| ticks > 0)?;
    let inner = &body[..end];
    let is_padded = inner.starts_with(' ') && inner.ends_with(' ') && !inner.trim().is_empty();
    Some((if is_padded { inner.trim() } else { inner }, &body[end + ticks..]))
}

/// The text between two marks of emphasis, and the rest. `before` is the character before the first mark: an underscore
/// or asterisk inside a word doesn't mark emphasis.
fn emphasis(text: &str, before: Option<char>) -> Option<(&str, &str)> {
    let mark = ["**", "__", "~~", "*", "_"].into_iter().find(|mark| text.starts_with(mark))?;
    let body = &text[mark.len()..];
    let is_word = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    if is_word(before) || body.starts_with(char::is_whitespace) {
        return None;
    }
    let ends = |&(end, _): &(usize, &str)| {
        let (inner, after) = (&body[..end], &body[end + mark.len()..]);
        !inner.is_empty() && !inner.ends_with(char::is_whitespace) && !is_word(after.chars().next())
    };
    let (end, _) = body.match_indices(mark).find(ends)?;
    Some((&body[..end], &body[end + mark.len()..]))
}

/// The label and target of `[label](target)` or of an image, and the rest.
fn link(text: &str) -> Option<(&str, &str, &str)> {
    let body = text.strip_prefix("![").or_else(|| text.strip_prefix('['))?;
    let (label, rest) = body.split_once("](")?;
    let (target, after) = rest.split_once(')')?;
    let is_link = !label.contains(['[', ']']) && !target.contains('(');
    is_link.then_some((label, target.split(' ').next().unwrap_or_default(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_removed_and_text_is_kept() {
        for (markdown, shown) in [
            ("**greeter** runs on `127.0.0.1:80`", "greeter runs on 127.0.0.1:80"),
            ("## Tests ##", "Tests"),
            ("_a_ __b__ *c* ~~d~~ **a `b` _c_**", "a b c d a b c"),
            ("snake_case_name 2 * 3 * 4 a*b*c", "snake_case_name 2 * 3 * 4 a*b*c"),
            ("see [the log](https://a.example/x \"title\"), <b>", "see the log (https://a.example/x), <b>"),
            ("[https://a.example](https://a.example) ![logo](a.png)", "https://a.example logo (a.png)"),
            ("| crate | result |", "crate  result"),
            ("- one\n  - **two**", "- one\n  - two"),
            ("> quoted", "quoted"),
            ("\\*no\\* c:\\dir \\\\", "*no* c:\\dir \\"),
            ("#1 of # and `` a`b ``", "#1 of # and a`b"),
            ("**open and `open", "**open and `open"),
            ("\u{1b}[31mred\u{1b}[0m\u{202e}", "red\\u{202e}"),
        ] {
            assert_eq!(lines(markdown).join("\n"), shown, "{markdown:?}");
        }
        assert_eq!(lines("| a |\n|---|\n| b |\n```sh\n**x**\n```"), ["a", "b", "**x**"]);
    }
}
