//! Characters that are not seen where text is shown.

/// Whether a reader sees nothing of `character`: a terminal obeys it, it changes the order of its neighbours, or fonts
/// leave it out. Text of others that holds one isn't what it looks like.
///
/// Of Unicode 16 these are the control characters (Cc), the separators of lines and paragraphs (Zl, Zp), what has
/// `Default_Ignorable_Code_Point`, and the format characters (Cf), but for the signs of Arabic, Syriac and Kaithi that
/// stand before a number and are seen (`Prepended_Concatenation_Mark`).
pub fn is_invisible(character: char) -> bool {
    // Most text: ASCII, Chinese, Japanese, Korean.
    if matches!(character, ' '..='~' | '\u{3165}'..='\u{fdff}') {
        return false;
    }
    let after = INVISIBLE.partition_point(|(first, _)| *first <= character);
    after.checked_sub(1).is_some_and(|index| character <= INVISIBLE[index].1)
}

/// Ranges, by their first character.
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
    // No characters, and forbidden in XML.
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
    fn the_table_is_unicodes() {
        let unicode = Regex::new(r"[\p{Cc}\p{Zl}\p{Zp}\p{DI}[\p{Cf}--\p{PCM}]\x{FFFE}\x{FFFF}]").unwrap();
        let differing: Vec<String> = (char::MIN..=char::MAX)
            .filter(|&character| is_invisible(character) != unicode.is_match(character.encode_utf8(&mut [0; 4])))
            .map(|character| character.escape_unicode().to_string())
            .collect();
        assert_eq!(differing, Vec::<String>::new());
    }
}
