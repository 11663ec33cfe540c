//! Text of others in Markdown: it is shown as it is, and is neither formatting, nor a link, nor HTML.

/// The text as one line of a paragraph or list. At most `most` characters of it are kept.
pub(crate) fn escaped(text: &str, most: usize) -> String {
    let line = cleaned(text, most);
    let words: Vec<String> =
        line.split(' ').map(|word| if is_linked(word) { code(word) } else { escape(word) }).collect();
    let escaped = words.join(" ");
    // What begins a block at the beginning of a line: a list or a heading.
    let digits = escaped.chars().take_while(char::is_ascii_digit).count();
    match escaped.get(digits..).and_then(|rest| rest.chars().next()) {
        Some('.' | ')') if digits > 0 => format!("{}\\{}", &escaped[..digits], &escaped[digits..]),
        Some('-' | '+' | '=') if digits == 0 => format!("\\{escaped}"),
        _ => escaped,
    }
}

/// The text as a code span.
pub(crate) fn code(text: &str) -> String {
    let runs = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(runs + 1);
    let padding = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{padding}{text}{padding}{fence}")
}

/// One line without control characters and without those that are invisible or change the direction of what follows.
fn cleaned(text: &str, most: usize) -> String {
    let is_invisible = |c: char| matches!(u32::from(c), 0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xe0000..=0xe007f);
    let visible: String =
        text.chars().filter(|c| !is_invisible(*c)).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Whether renderers make a link or a notification of a word: addresses, and names of people as in `@ada`. Escaping doesn't
/// prevent that everywhere, since some look for them after they have removed the escapes.
fn is_linked(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    lower.contains("://")
        || lower.contains("www.")
        || lower.contains("mailto:")
        || lower.contains("xmpp:")
        || word.contains('@')
}

fn escape(word: &str) -> String {
    let mut escaped = String::with_capacity(word.len());
    for character in word.chars() {
        if matches!(character, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '|' | '~' | '$' | '#' | '!') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GitHub's dialect.
    fn rendered(markdown: &str) -> String {
        let mut options = comrak::Options::default();
        options.extension.autolink = true;
        options.extension.table = true;
        options.extension.strikethrough = true;
        options.extension.tasklist = true;
        options.extension.footnotes = true;
        options.render.r#unsafe = true;
        comrak::markdown_to_html(markdown, &options)
    }

    /// The text of HTML, as a reader sees it.
    fn seen(html: &str) -> String {
        let (mut text, mut rest) = (String::new(), html);
        while let Some((before, tag)) = rest.split_once('<') {
            text.push_str(before);
            rest = tag.split_once('>').map_or("", |(_, after)| after);
        }
        text.push_str(rest);
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
        text.trim().to_owned()
    }

    const HOSTILE: [&str; 28] = [
        "[click](https://evil.example)",
        "![image](https://evil.example/a.png)",
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<https://evil.example>",
        "https://evil.example/?a=b&c=d",
        "HTTPS://evil.example",
        "(www.evil.example)",
        "see ftp://evil.example, now",
        "mail ada@evil.example or mailto:ada@evil.example",
        "thanks @ada and @acme/team",
        "&lt;b&gt; &#60;i&#62; &copy;",
        "`code` and ``https://evil.example``",
        "a`https://evil.example`b",
        "*bold* __bold__ ~~gone~~ $x$",
        "# heading",
        "- list",
        "+ list",
        "1. list",
        "12) list",
        "> quote",
        "[ ] task",
        "[x]: https://evil.example",
        "[^1]: note",
        "a | b | c",
        "---",
        "\\[click\\](https://evil.example) \\",
        "<!-- hidden --> &amp;",
    ];

    #[test]
    fn text_of_others_is_neither_a_link_nor_html_nor_formatting() {
        for text in HOSTILE {
            let html = rendered(&format!("- {}", escaped(text, 200)));
            let tags: Vec<&str> = html.split('<').skip(1).filter_map(|tag| tag.split('>').next()).collect();
            let known = |tag: &&str| matches!(tag.trim_start_matches('/'), "ul" | "li" | "code");
            assert!(tags.iter().all(known), "{text} -> {html}");
            assert_eq!(html.matches("<li>").count(), 1, "{text} -> {html}");
            assert_eq!(seen(&html), text, "{html}");
        }
    }

    #[test]
    fn without_escaping_these_texts_are_more() {
        let harmless = HOSTILE.iter().filter(|text| {
            let html = rendered(&format!("- {text}"));
            seen(&html) == **text && html.matches('<').count() == 4
        });
        // The renderer here knows neither people's names nor formulas; a bar alone is no table.
        assert_eq!(harmless.collect::<Vec<_>>(), [&"thanks @ada and @acme/team", &"a | b | c"]);
    }

    #[test]
    fn text_is_one_visible_line_of_bounded_length() {
        assert_eq!(escaped("a\nb\t\u{1b}[31mc\u{202e}d\u{200b}", 200), "a b \\[31mcd");
        assert_eq!(escaped("äöü", 2), "äö…");
        assert_eq!(escaped("äöü", 3), "äöü");
        assert_eq!(escaped("-", 9), "\\-");
        assert_eq!(escaped("7", 9), "7");
        assert_eq!(escaped("", 9), "");
    }
}
