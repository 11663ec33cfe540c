//! Names of people and their comparison.
//!
//! `ada`, `Ada`, `"ada "` and `ａｄａ` are the same person. For the comparison, a name is normalised (NFKC) and
//! case-folded; leading and trailing spaces and punctuation, repeated spaces and invisible characters are removed.
//!
//! Letters of different scripts can look alike, such as a Cyrillic `а` and a Latin `a`. A name that mixes scripts is
//! rejected. A name that is written entirely in another script is another person, even if it looks the same;
//! [`PersonName::looks_like`] detects such pairs.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_security::MixedScript as _;

/// The most characters in a name.
const LONGEST: usize = 100;

/// Characters that a name may contain in addition to letters, marks and digits.
const PUNCTUATION: &str = " ._@+-',()&/";

/// The name of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonName {
    shown: String,
    folded: String,
}

/// Why a text isn't a valid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersonNameError {
    /// The text has no visible characters.
    #[error("the name is empty")]
    Empty,
    /// The text has too many characters.
    #[error("the name has more than {LONGEST} characters")]
    Long,
    /// The text contains this character, which is neither a letter, a mark, a digit nor allowed punctuation.
    #[error("the name contains the character {0:?}, which isn't allowed in names")]
    Character(char),
    /// The text mixes scripts, as a Latin name with a Cyrillic letter does.
    #[error("the name mixes letters of different scripts, so it can look like another name")]
    Mixed,
}

impl PersonNameError {
    /// How to fix the name.
    pub const HELP: &'static str =
        "use letters of a single script, digits, spaces and . _ @ + - ' , ( ) & / in names of people";
}

impl PersonName {
    /// Parses a name.
    ///
    /// # Errors
    /// If the text isn't a valid name.
    pub fn parse(text: &str) -> Result<PersonName, PersonNameError> {
        let visible: String = text.nfkc().filter(|&character| !is_invisible(character)).collect();
        // Repeated spaces are hard to distinguish from one.
        let shown = &*visible.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        let shown = shown.trim();
        if shown.is_empty() {
            return Err(PersonNameError::Empty);
        }
        if shown.chars().count() > LONGEST {
            return Err(PersonNameError::Long);
        }
        let is_mark = |character: char| is_combining_mark(character) && !is_overlay(character);
        let is_allowed =
            |character: char| character.is_alphanumeric() || is_mark(character) || PUNCTUATION.contains(character);
        if let Some(other) = shown.chars().find(|&character| !is_allowed(character)) {
            return Err(PersonNameError::Character(other));
        }
        if !shown.is_single_script() {
            return Err(PersonNameError::Mixed);
        }
        // Case folding can produce text that isn't in normal form, so the result is normalised again, as in the
        // compatibility caseless match of the Unicode Standard (D146).
        let folded: String = caseless::default_case_fold_str(shown).nfkc().collect();
        let bare = folded.trim_matches(|character: char| PUNCTUATION.contains(character));
        let folded = if bare.is_empty() { folded } else { bare.to_owned() };
        Ok(PersonName { shown: shown.to_owned(), folded })
    }

    /// The name for display: normalised, but with the case and punctuation as written.
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// Whether both names belong to the same person.
    pub fn is_same_person(&self, other: &PersonName) -> bool {
        self.folded == other.folded
    }

    /// Whether both names belong to the same person or look the same to a reader (Unicode Technical Standard 39).
    pub fn looks_like(&self, other: &PersonName) -> bool {
        self.is_same_person(other)
            || unicode_security::skeleton(&self.folded).eq(unicode_security::skeleton(&other.folded))
    }
}

impl fmt::Display for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Whether two names belong to the same person. A text that isn't a valid name only equals itself: older versions
/// recorded names without checking them, and compared them like this.
pub fn same_person(one: &str, other: &str) -> bool {
    match (PersonName::parse(one), PersonName::parse(other)) {
        (Ok(one), Ok(other)) => one.is_same_person(&other),
        _ => one == other,
    }
}

/// Whether a mark strikes through or encloses a letter. Names aren't written with such marks, and few fonts have them.
fn is_overlay(character: char) -> bool {
    matches!(character, '\u{334}'..='\u{338}' | '\u{488}'..='\u{489}' | '\u{20d0}'..='\u{20f0}')
}

/// Whether a character has the property `Default_Ignorable_Code_Point` in Unicode 16.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_name_are_the_same_person() {
        for spelling in [
            "Ada",
            "ada ",
            " ADA",
            "a\u{200b}da",
            "\u{202e}ada",
            "ａｄａ",
            "ada\u{feff}",
            "𝐚𝐝𝐚",
            "a\u{ad}da",
            "ada.",
            "_ada",
        ] {
            assert!(same_person("ada", spelling), "{spelling:?}");
        }
        assert!(
            same_person("ada lovelace", "Ada  Lovelace") && same_person("ada lovelace", "ada\u{a0}\u{3000}lovelace")
        );
        for (one, other) in [("Jose\u{301}", "JOSÉ"), ("Straße", "STRASSE"), ("Σίσυφος", "ΣΊΣΥΦΟΣ"), ("İ", "i\u{307}")]
        {
            assert!(same_person(one, other), "{one} {other}");
        }
        for (one, other) in [("ada", "adam"), ("ada", "grace"), ("ada lovelace", "adalovelace"), ("jose", "josé")] {
            assert!(!same_person(one, other), "{one} {other}");
        }
    }

    #[test]
    fn lookalike_names_are_rejected_or_detected() {
        assert_eq!(PersonName::parse("\u{430}da"), Err(PersonNameError::Mixed));
        let (latin, cyrillic) = (PersonName::parse("caxap").unwrap(), PersonName::parse("сахар").unwrap());
        assert!(!latin.is_same_person(&cyrillic) && latin.looks_like(&cyrillic));
        assert!(!latin.looks_like(&PersonName::parse("grace").unwrap()));
    }

    #[test]
    fn names_in_many_scripts_are_valid_and_other_text_is_not() {
        for name in [
            "Ada Lovelace",
            "ada@example.org",
            "O'Brien, Pat (ACME)",
            "山田 太郎",
            "Ольга",
            "bot+ci",
            "मीरा",
            "ひらがな漢字",
        ] {
            assert_eq!(PersonName::parse(name).map(|name| name.to_string()).as_deref(), Ok(name));
        }
        assert_eq!(PersonName::parse(""), Err(PersonNameError::Empty));
        assert_eq!(PersonName::parse(" \u{200b} "), Err(PersonNameError::Empty));
        for (text, character) in
            [("ev\u{1b}]0;il", '\u{1b}'), ("a\nb", '\n'), ("team:x", ':'), ("a\"b", '"'), ("a\u{338}da", '\u{338}')]
        {
            assert_eq!(PersonName::parse(text), Err(PersonNameError::Character(character)), "{text:?}");
        }
        assert_eq!(PersonName::parse(&"a".repeat(101)), Err(PersonNameError::Long));
    }
}
