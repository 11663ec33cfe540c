//! Names of people, as they are compared.
//!
//! `ada`, `Ada`, `"ada "` and `ａｄａ` are one person: names are compared in a form that is normalised (NFKC), folded in its
//! case, and rid of spaces and punctuation around it, of second spaces within, and of characters that have no shape. What
//! only looks alike, as a Cyrillic `а` among Latin letters, is refused where letters of different scripts are mixed. A name
//! all of whose letters are of another script can still look like one of this: it is another person, whom
//! [`PersonName::looks_like`] finds.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_security::MixedScript as _;

/// Characters of a name.
const LONGEST: usize = 100;

/// Beside letters, marks and digits.
const PUNCTUATION: &str = " ._@+-',()&/";

/// The name of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonName {
    shown: String,
    folded: String,
}

/// Why a text can't be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersonNameError {
    /// Nothing of it is seen.
    #[error("the name is empty")]
    Empty,
    /// Too long.
    #[error("the name has more than {LONGEST} characters")]
    Long,
    /// A character that is neither letter nor digit nor one of a few others.
    #[error("the name has the character {0:?}, which names can't have")]
    Character(char),
    /// As in a Latin name with a Cyrillic letter.
    #[error("the name mixes letters of different scripts, and could pass for another one")]
    Mixed,
}

impl PersonNameError {
    /// What to do about it.
    pub const HELP: &'static str = "a name has letters of one script, digits, spaces and . _ @ + - ' , ( ) & /";
}

impl PersonName {
    /// Reads a name as somebody wrote it.
    ///
    /// # Errors
    /// When it can't be one.
    pub fn parse(text: &str) -> Result<PersonName, PersonNameError> {
        let seen: String = text.nfkc().filter(|&one| !is_invisible(one)).collect();
        // One blank looks like two.
        let shown = &*seen.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        let shown = shown.trim();
        if shown.is_empty() {
            return Err(PersonNameError::Empty);
        }
        if shown.chars().count() > LONGEST {
            return Err(PersonNameError::Long);
        }
        let is_mark = |one: char| is_combining_mark(one) && !is_overlay(one);
        let is_allowed = |one: char| one.is_alphanumeric() || is_mark(one) || PUNCTUATION.contains(one);
        if let Some(other) = shown.chars().find(|&one| !is_allowed(one)) {
            return Err(PersonNameError::Character(other));
        }
        if !shown.is_single_script() {
            return Err(PersonNameError::Mixed);
        }
        let folded: String = caseless::default_case_fold_str(shown).nfkc().collect();
        let bare = folded.trim_matches(|one: char| PUNCTUATION.contains(one));
        let folded = if bare.is_empty() { folded } else { bare.to_owned() };
        Ok(PersonName { shown: shown.to_owned(), folded })
    }

    /// As it is shown: normalised, and otherwise as it was written.
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// Whether both name the same person.
    pub fn is(&self, other: &PersonName) -> bool {
        self.folded == other.folded
    }

    /// Whether both name the same person, or look the same to who reads them (Unicode Technical Standard 39).
    pub fn looks_like(&self, other: &PersonName) -> bool {
        self.is(other) || unicode_security::skeleton(&self.folded).eq(unicode_security::skeleton(&other.folded))
    }
}

impl fmt::Display for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Whether two names, as they were written, are those of one person. What can't be a name is only itself: so were names
/// compared that older versions recorded.
pub fn same_person(one: &str, other: &str) -> bool {
    match (PersonName::parse(one), PersonName::parse(other)) {
        (Ok(one), Ok(other)) => one.is(&other),
        _ => one == other,
    }
}

/// Marks that strike a letter through or enclose it: no name is written with one, and few fonts show them.
fn is_overlay(one: char) -> bool {
    matches!(one, '\u{334}'..='\u{338}' | '\u{488}'..='\u{489}' | '\u{20d0}'..='\u{20f0}')
}

/// `Default_Ignorable_Code_Point` of Unicode 16: what has no shape of its own.
fn is_invisible(one: char) -> bool {
    matches!(one,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_are_one_person() {
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
    fn what_only_looks_like_a_name_is_refused_or_found() {
        assert_eq!(PersonName::parse("\u{430}da"), Err(PersonNameError::Mixed));
        let (latin, cyrillic) = (PersonName::parse("caxap").unwrap(), PersonName::parse("сахар").unwrap());
        assert!(!latin.is(&cyrillic) && latin.looks_like(&cyrillic));
        assert!(!latin.looks_like(&PersonName::parse("grace").unwrap()));
    }

    #[test]
    fn names_of_many_people_are_names_and_other_text_is_not() {
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
