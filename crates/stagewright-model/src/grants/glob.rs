//! Patterns over text, and whether one pattern covers another: matches everything that the other matches.
//!
//! `*` matches any text, `?` any character, `[ab]`, `[a-z]` and `[!a]` one character of a set.
//!
//! The comparison is conservative: where it can't decide, the answer is no. These answers decide whether a grant
//! exceeds a lock or a policy, so a wrong no only shows a grant as wider than it is, while a wrong yes would let one
//! pass unreviewed.

/// The tokens of a pattern. Plain text is a pattern that consists of [`GlobToken::Is`] alone.
pub(super) type Pattern = Vec<GlobToken>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GlobToken {
    /// This character.
    Is(char),
    /// `*`: any text, also none.
    Any,
    /// `?`: any character.
    One,
    /// `[…]`: a character of the set.
    In(CharacterSet),
}

/// `[…]`: inclusive ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CharacterSet {
    is_negated: bool,
    ranges: Vec<(char, char)>,
}

impl CharacterSet {
    /// Parses the text after an opening bracket and advances `rest` past the closing one. None if it isn't closed.
    pub(super) fn parse(rest: &mut std::str::Chars<'_>) -> Option<CharacterSet> {
        let mut inner = rest.clone();
        let is_negated = inner.as_str().starts_with(['!', '^']);
        if is_negated {
            inner.next();
        }
        let mut ranges = Vec::new();
        loop {
            let low = inner.next()?;
            // A closing bracket in first position is a member of the set.
            if low == ']' && !ranges.is_empty() {
                break;
            }
            let range = inner.as_str().strip_prefix('-').and_then(|after| after.chars().next());
            match range.filter(|&high| high != ']') {
                Some(high) if low <= high => {
                    inner.nth(1);
                    ranges.push((low, high));
                }
                Some(_) => return None,
                None => ranges.push((low, low)),
            }
        }
        *rest = inner;
        Some(CharacterSet { is_negated, ranges })
    }

    fn has(&self, letter: char) -> bool {
        self.ranges.iter().any(|&(low, high)| (low..=high).contains(&letter)) != self.is_negated
    }

    fn covers(&self, other: &CharacterSet) -> bool {
        let inside =
            |&(low, high): &(char, char)| self.ranges.iter().any(|&(first, last)| first <= low && high <= last);
        self == other || (!self.is_negated && !other.is_negated && other.ranges.iter().all(inside))
    }
}

impl GlobToken {
    /// Whether this token matches every character that `other` matches. False for [`GlobToken::Any`], which doesn't
    /// stand for a single character.
    fn covers(&self, other: &GlobToken) -> bool {
        match (self, other) {
            (GlobToken::Is(letter), GlobToken::Is(other)) => letter == other,
            (GlobToken::One, GlobToken::Is(_) | GlobToken::One | GlobToken::In(_)) => true,
            (GlobToken::In(set), GlobToken::Is(letter)) => set.has(*letter),
            (GlobToken::In(set), GlobToken::In(other)) => set.covers(other),
            _ => false,
        }
    }
}

/// Whether `pattern` matches everything that `text` matches, which may be a pattern too. Exact if `text` is plain.
pub(super) fn covers(pattern: &[GlobToken], text: &[GlobToken]) -> bool {
    let (mut at, mut read) = (0, 0);
    // Where to backtrack to on a mismatch: the position after the last `*`, and how much of `text` comes before what
    // follows the `*`. Each time, the `*` takes one more token. Backtracking to the last `*` alone suffices, because
    // whatever an earlier one could take, the last one can take too.
    let mut star = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(GlobToken::Any) => {
                star = Some((at + 1, read));
                at += 1;
            }
            Some(token) if token.covers(&text[read]) => (at, read) = (at + 1, read + 1),
            _ => match &mut star {
                Some((after, taken)) => {
                    *taken += 1;
                    (at, read) = (*after, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|token| *token == GlobToken::Any)
}

/// The pattern that matches `text` alone.
pub(super) fn plain(text: &str) -> Pattern {
    text.chars().map(GlobToken::Is).collect()
}

/// The pattern of a glob over one name of a path, or over a repository. None if the glob has `**`, sets, braces or
/// escapes, which tokens can't express.
pub(super) fn pattern_of(glob: &str) -> Option<Pattern> {
    let token = |letter| match letter {
        '*' => GlobToken::Any,
        '?' => GlobToken::One,
        letter => GlobToken::Is(letter),
    };
    (!glob.contains(['[', '{', '\\']) && !glob.contains("**")).then(|| glob.chars().map(token).collect())
}

/// Whether `rule` matches everything that `entry` matches: they are the same text, or [`pattern_of`] can express both.
pub(super) fn glob_covers(rule: &str, entry: &str) -> bool {
    rule == entry || pattern_of(rule).zip(pattern_of(entry)).is_some_and(|(rule, entry)| covers(&rule, &entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glob_covers_other_only_if_certain() {
        for (rule, entry) in [("a*", "ab*"), ("*", "a*b"), ("a?c", "abc"), ("*b*", "ab"), ("**/x", "**/x"), ("*", "")] {
            assert!(glob_covers(rule, entry), "{rule} {entry}");
        }
        for (rule, entry) in [("ab*", "a*"), ("a", "a*"), ("a?", "a*"), ("?", ""), ("a/**", "a/**/b"), ("a*", "b")] {
            assert!(!glob_covers(rule, entry), "{rule} {entry}");
        }
    }

    #[test]
    fn character_set_ends_at_closing_bracket() {
        let parse = |text: &str| CharacterSet::parse(&mut text.chars());
        let set = parse("]a-c]rest").unwrap();
        assert!(set.has(']') && set.has('b') && !set.has('d') && !set.has('-'));
        assert!(parse("!a]").unwrap().has('b') && !parse("^a]").unwrap().has('a'));
        assert!(parse("a-z]").unwrap().covers(&parse("b-y]").unwrap()));
        assert!(!parse("b]").unwrap().covers(&parse("!a]").unwrap()));
        assert_eq!((parse("a"), parse(""), parse("z-a]")), (None, None, None));
    }
}
