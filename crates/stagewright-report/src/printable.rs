//! Text that is safe to show. Untrusted text must become a [`Printable`] or a [`Block`] before a
//! [`Printer`](crate::Printer) accepts it, and the only way to make either from a string is to escape it.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

use stagewright_model::{is_invisible, visible_text};

/// A line of text without hidden characters or terminal control sequences: every character of [`is_invisible`] is
/// written as an escape (`\u{1b}`, `\n`), and a tab as four spaces.
///
/// Line breaks are escaped as well, so untrusted text can't add a line to the output around it. Escaping is idempotent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printable(String);

/// Like [`format!`], but returns a [`Printable`] line: the arguments are escaped. A line break in the template would be
/// shown as an escape, so it doesn't compile.
#[macro_export]
macro_rules! text {
    ($template:literal $($arguments:tt)*) => {{
        const _: () = assert!($crate::is_one_line($template), "the template contains a line break: use one `text!` for each line");
        $crate::Printable::new(format_args!($template $($arguments)*))
    }};
}

impl Printable {
    /// The text that `text` displays, as one line.
    pub fn new(text: impl Display) -> Printable {
        Printable::from_text(text.to_string())
    }

    /// A line that a program wrote for a terminal, as the terminal would have displayed it: complete control sequences
    /// such as colours and links are removed, and of a line that was redrawn the last state is kept. Don't use it for
    /// names: a control sequence in a name is suspicious and should be visible.
    pub fn prose(text: &str) -> Printable {
        Printable(prose(text).into_owned())
    }

    fn from_text(text: String) -> Printable {
        match escaped(&text) {
            Cow::Borrowed(_) => Printable(text),
            Cow::Owned(escaped) => Printable(escaped),
        }
    }

    /// Each line of `text`. Use it only where the layout makes clear that the lines are untrusted.
    pub fn lines(text: &str) -> impl Iterator<Item = Printable> {
        text.lines().map(Printable::new)
    }

    /// The line without trailing whitespace.
    #[must_use]
    pub fn trimmed(mut self) -> Printable {
        self.0.truncate(self.0.trim_end().len());
        self
    }

    /// The escaped text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Printable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Complete lines of text that is safe to show, each with its line end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block(String);

impl Block {
    /// Every line of `text`, escaped. For trusted layouts, and where a forged line does no harm.
    pub fn of(text: &str) -> Block {
        let mut block = Block::default();
        Printable::lines(text).for_each(|line| block.push(&line));
        block
    }

    /// The same, but sequences that select a colour or another style (ECMA-48, SGR) are kept. For the output of a library
    /// that lays out and colours text in which untrusted parts were escaped before.
    pub fn styled(text: &str) -> Block {
        let mut block = Block::default();
        for line in text.lines() {
            let start = block.0.len();
            let mut rest = line;
            while let Some((plain, style, after)) = split_at_style(rest) {
                block.0.push_str(&escaped(plain));
                block.0.push_str(style);
                rest = after;
            }
            block.0.push_str(&escaped(rest));
            block.end_line(start);
        }
        block
    }

    /// Adds a line.
    pub fn push(&mut self, line: &Printable) {
        let start = self.0.len();
        self.0.push_str(&line.0);
        self.end_line(start);
    }

    /// Adds a command for a CI system. The caller has escaped its parts by the rules of that system.
    pub(crate) fn push_command(&mut self, line: &Printable) {
        self.0.push_str(&line.0);
        self.0.push('\n');
    }

    /// Ends the line that begins at `start`, after escaping what a CI system would take as a command.
    fn end_line(&mut self, start: usize) {
        if let Cow::Owned(line) = without_commands(&self.0[start..]) {
            self.0.truncate(start);
            self.0.push_str(&line);
        }
        self.0.push('\n');
    }

    /// Adds a line that consists of `head` and the prose `text`, without trailing whitespace.
    pub(crate) fn push_headed(&mut self, head: &Printable, text: &str) {
        let start = self.0.len();
        self.0.push_str(&head.0);
        self.0.push_str(&prose(text));
        self.0.truncate(self.0.trim_end_matches([' ', '\t']).len());
        self.end_line(start);
    }

    pub(crate) fn with_capacity(bytes: usize) -> Block {
        Block(String::with_capacity(bytes))
    }

    /// The text; empty, or ending with a line end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Extend<Printable> for Block {
    fn extend<T: IntoIterator<Item = Printable>>(&mut self, lines: T) {
        lines.into_iter().for_each(|line| self.push(&line));
    }
}

impl FromIterator<Printable> for Block {
    fn from_iter<T: IntoIterator<Item = Printable>>(lines: T) -> Block {
        let mut block = Block::default();
        block.extend(lines);
        block
    }
}

/// Splits `text` at the first `ESC [ digits m`: the text before it, the sequence, and the rest.
fn split_at_style(text: &str) -> Option<(&str, &str, &str)> {
    for (start, _) in text.match_indices("\u{1b}[") {
        let parameters = &text[start + 2..];
        let length = parameters.find(|character: char| !character.is_ascii_digit() && character != ';');
        if let Some(length) = length.filter(|&length| parameters[length..].starts_with('m')) {
            let end = start + 2 + length + 1;
            return Some((&text[..start], &text[start..end], &text[end..]));
        }
    }
    None
}

/// Escapes what CI systems would execute as a command in the output of a job: `::` at the beginning of a line (GitHub
/// Actions), and `##vso[…]`, `##teamcity[…]` and `##[…]` anywhere (Azure Pipelines, TeamCity, older GitHub runners).
pub(crate) fn without_commands(line: &str) -> Cow<'_, str> {
    let begins = line.trim_start().starts_with("::");
    let Some(first) = command_within(line).or_else(|| begins.then_some(line.len())) else { return Cow::Borrowed(line) };
    let (mut shown, mut rest, mut next) = (String::with_capacity(line.len() + 16), line, Some(first));
    while let Some(at) = next.filter(|&at| at < rest.len()) {
        shown.push_str(&rest[..=at]);
        shown.push_str("\\u{23}");
        rest = &rest[at + 2..];
        next = command_within(rest);
    }
    shown.push_str(rest);
    if begins {
        shown = shown.replacen("::", "\\u{3a}:", 1);
    }
    Cow::Owned(shown)
}

/// The position of the first `##word[`.
fn command_within(text: &str) -> Option<usize> {
    let is_command = |at: &usize| {
        let word = text[at + 2..].trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        word.starts_with('[')
    };
    let signs = text.match_indices('#').map(|(at, _)| at);
    signs.filter(|at| text[at + 1..].starts_with('#')).find(is_command)
}

/// A line of a program's output; see [`Printable::prose`].
pub(crate) fn prose(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    match visible_text(text) {
        Cow::Borrowed(_) => escaped(text),
        Cow::Owned(seen) => Cow::Owned(escaped(&seen).into_owned()),
    }
}

fn is_plain(text: &str) -> bool {
    // `fold` instead of `all`: without early exits the compiler vectorises the loop, which pays off because nearly all
    // text is plain and has to be looked at to the end anyway.
    text.bytes().fold(true, |plain, byte| plain & (b' '..=b'~').contains(&byte))
}

/// `text` as one line without hidden characters; see [`Printable`].
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if is_plain(text) || !text.contains(is_invisible) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut before = None;
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\t' => shown.push_str("    "),
            _ if !is_invisible(character) || joins(before, character, rest.clone().next()) => shown.push(character),
            _ => shown.extend(character.escape_default()),
        }
        // A variation selector belongs to the character before it: a joiner that follows joins that character.
        if !matches!(character, '\u{fe0e}' | '\u{fe0f}') {
            before = Some(character);
        }
    }
    Cow::Owned(shown)
}

/// Whether an invisible character has its intended effect between these two: it joins emoji or selects their
/// presentation (UTS #51), or it joins or separates letters of a script that needs it (UAX #31, section 2.3).
fn joins(before: Option<char>, character: char, after: Option<char>) -> bool {
    let Some(before) = before else { return false };
    match character {
        '\u{fe0e}' | '\u{fe0f}' => is_picture(before) || after == Some('\u{20e3}'),
        '\u{200d}' if is_picture(before) => after.is_some_and(is_picture),
        '\u{200c}' | '\u{200d}' => has_joined_letters(before) && after.is_some_and(has_joined_letters),
        _ => false,
    }
}

/// Whether the character is in one of the blocks that contain emoji.
fn is_picture(character: char) -> bool {
    matches!(
        character,
        '\u{a9}'
            | '\u{ae}'
            | '\u{203c}'
            | '\u{2049}'
            | '\u{2100}'..='\u{27ff}'
            | '\u{2900}'..='\u{2bff}'
            | '\u{3030}'
            | '\u{303d}'
            | '\u{3297}'
            | '\u{3299}'
            | '\u{1f000}'..='\u{1faff}'
    )
}

/// Whether the character is in a block of a script with joined letters: Arabic, Syriac, the Indic scripts, Myanmar, Khmer
/// and Mongolian.
fn has_joined_letters(character: char) -> bool {
    matches!(
        character,
        '\u{620}'..='\u{8ff}' | '\u{900}'..='\u{dff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{18af}'
    )
}

/// `json` with every invisible character written as `\u` and four digits. The value stays the same: outside of strings
/// JSON contains no invisible characters but whitespace, and inside of strings the escape is equivalent.
///
/// Strings are also escaped so that a CI system finds no command in them; see [`without_commands`].
pub(crate) fn escaped_json(mut json: String) -> String {
    if command_within(&json).is_some() {
        json = without_commands(&json).replace("\\u{23}", "\\u0023");
    }
    let is_bare = |character: char| is_invisible(character) && character != '\n';
    if !json.contains(is_bare) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        match is_bare(character) {
            true => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(escaped, "\\u{unit:04x}");
            }),
            false => escaped.push(character),
        }
    }
    escaped
}

/// Whether a template of [`text!`] has no control characters.
#[doc(hidden)]
pub const fn is_one_line(template: &str) -> bool {
    let bytes = template.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] < b' ' {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        assert_eq!(escaped("plain é 漢"), "plain é 漢");
        assert_eq!(escaped("\u{1b}[31mred\rover\u{9b}0m\ta"), r"\u{1b}[31mred\rover\u{9b}0m    a");
        assert_eq!(escaped("user\u{202e}nimda"), r"user\u{202e}nimda");
        for hidden in
            "\u{0}\u{7f}\u{85}\u{ad}\u{61c}\u{200b}\u{200e}\u{2028}\u{2066}\u{2060}\u{feff}\u{e0041}\u{3164}".chars()
        {
            assert_eq!(escaped(&format!("a{hidden}da")), format!("a{}da", hidden.escape_default()));
        }
    }

    #[test]
    fn prose_loses_complete_sequences_and_escapes_other_control_characters() {
        for (text, shown) in [
            ("\u{1b}[1m\u{1b}[31merror\u{1b}[0m: it is broken", "error: it is broken"),
            ("\u{1b}]8;;https://a.example\u{7}link\u{1b}]8;;\u{1b}\\ \u{1b}(B|", "link |"),
            ("10%\r20%\r30%", "30%"),
            ("user\u{202e}nimda\u{1}", r"user\u{202e}nimda\u{1}"),
            ("\u{fffe}\u{ffff}", r"\u{fffe}\u{ffff}"),
        ] {
            assert_eq!(Printable::prose(text).as_str(), shown);
        }
    }

    #[test]
    fn joiners_are_kept_only_where_they_join() {
        for kept in [
            "👩\u{200d}💻",
            "❤\u{fe0f}\u{200d}🔥",
            "✔\u{fe0f} done",
            "1\u{fe0f}\u{20e3}",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
        ] {
            assert_eq!(escaped(kept), kept);
        }
        for hidden in
            ["ad\u{200d}a", "ad\u{200c}a", "ad\u{fe0f}a", "\u{200d}ada", "ada\u{200c}", "👩\u{200d}a", "\u{fe0f}"]
        {
            assert_ne!(escaped(hidden), hidden);
        }
    }

    #[test]
    fn line_breaks_in_arguments_are_escaped() {
        let name = "a\n  2. deploy\r\n\u{85}\u{2028}b";
        assert_eq!(text!("  1. {name}").as_str(), r"  1. a\n  2. deploy\r\n\u{85}\u{2028}b");
        assert_eq!(text!("{}", text!("{name}")), text!("{name}"), "escaping is idempotent");
        assert_eq!(Block::of("a\u{1b}c\nb\n").as_str(), "a\\u{1b}c\nb\n");
    }

    #[test]
    fn commands_of_ci_systems_are_escaped() {
        let lines = [
            ("::error::x", "\\u{3a}:error::x"),
            ("  ::add-mask::x", "  \\u{3a}:add-mask::x"),
            ("a ::error:: b", "a ::error:: b"),
            ("a ##[group]b", "a #\\u{23}[group]b"),
            ("##vso[task.setvariable x]##teamcity[y]", "#\\u{23}vso[task.setvariable x]#\\u{23}teamcity[y]"),
            ("###[x]", "##\\u{23}[x]"),
            ("## [link](x) ##", "## [link](x) ##"),
        ];
        for (line, shown) in lines {
            assert_eq!(Block::of(line).as_str(), format!("{shown}\n"));
            assert_eq!(without_commands(shown), shown, "escaping is idempotent");
            assert!(!Block::styled(&format!("\u{1b}[1m\u{1b}[0m{line}")).as_str().contains("##vso"));
        }
        let value = serde_json::json!({ "a": "##vso[b]" });
        let written = escaped_json(value.to_string());
        assert!(!written.contains("##"), "{written}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), value);
    }

    #[test]
    fn a_styled_block_keeps_colours_and_no_other_sequences() {
        let text = "\u{1b}[1;31mred\u{1b}[0m\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[31\nnext\u{202e}";
        let shown = "\u{1b}[1;31mred\u{1b}[0m\\u{1b}]0;title\\u{7}\\u{1b}[2J\\u{1b}[31\nnext\\u{202e}\n";
        assert_eq!(Block::styled(text).as_str(), shown);
    }

    #[test]
    fn escaped_json_has_no_invisible_characters_and_the_same_value() {
        let value = serde_json::json!({ "a\u{9b}": "\u{202e}\u{e0041}\u{1b}é👩\u{200d}💻\u{2028}" });
        let written = escaped_json(serde_json::to_string_pretty(&value).unwrap());
        assert!(!written.contains(|character| is_invisible(character) && character != '\n'), "{written}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), value);
    }
}
