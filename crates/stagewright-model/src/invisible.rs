//! Characters that are invisible when text is displayed.

/// Whether `character` is invisible to a reader: it controls the terminal, reorders its neighbours, or isn't displayed
/// by fonts. Text that contains such a character isn't what it looks like.
///
/// In terms of Unicode 16, these are control characters (Cc), line and paragraph separators (Zl, Zp), characters with
/// `Default_Ignorable_Code_Point`, and format characters (Cf). Format characters with `Prepended_Concatenation_Mark`
/// are visible: signs before a number in Arabic, Syriac and Kaithi.
pub fn is_invisible(character: char) -> bool {
    // Fast path for most text: ASCII, Chinese, Japanese, Korean.
    if matches!(character, ' '..='~' | '\u{3165}'..='\u{fdff}') {
        return false;
    }
    let after = INVISIBLE.partition_point(|(first, _)| *first <= character);
    after.checked_sub(1).is_some_and(|index| character <= INVISIBLE[index].1)
}

/// Inclusive ranges, sorted.
const INVISIBLE: [(char, char); 21] = [
    ('\0', '\u{1f}'),
    ('\u{7f}', '\u{9f}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    // Noncharacters, which XML forbids.
    ('\u{fffe}', '\u{ffff}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    #[test]
    fn table_matches_unicode_properties() {
        let unicode = Regex::new(r"[\p{Cc}\p{Zl}\p{Zp}\p{DI}[\p{Cf}--\p{PCM}]\x{FFFE}\x{FFFF}]").unwrap();
        let differing: Vec<String> = (char::MIN..=char::MAX)
            .filter(|&character| is_invisible(character) != unicode.is_match(character.encode_utf8(&mut [0; 4])))
            .map(|character| character.escape_unicode().to_string())
            .collect();
        assert_eq!(differing, Vec::<String>::new());
    }
}
