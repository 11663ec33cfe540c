//! Patterns over text, and whether all that one of them matches is matched by another.
//!
//! `*` is any text, `?` any character, `[ab]`, `[a-z]` and `[!a]` one of a set. What the comparison can't decide counts
//! as "no": a grant that isn't surely within another is shown as wider than it is, and never as narrower.

/// A pattern, piece by piece. Text is a pattern whose every piece is [`Token::Is`].
pub(super) type Pattern = Vec<Token>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Is(char),
    Any,
    One,
    In(Set),
}

/// `[…]`: ranges, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    is_negated: bool,
    ranges: Vec<(char, char)>,
}

impl Set {
    /// What follows the opening bracket, which is consumed with the closing one; none when there is no closing one.
    pub(super) fn parse(rest: &mut std::str::Chars<'_>) -> Option<Set> {
        let mut inner = rest.clone();
        let is_negated = inner.as_str().starts_with(['!', '^']);
        if is_negated {
            inner.next();
        }
        let mut ranges = Vec::new();
        loop {
            let low = inner.next()?;
            // A bracket at the very beginning stands for itself.
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
        Some(Set { is_negated, ranges })
    }

    fn has(&self, letter: char) -> bool {
        self.ranges.iter().any(|&(low, high)| (low..=high).contains(&letter)) != self.is_negated
    }

    fn covers(&self, other: &Set) -> bool {
        let inside =
            |&(low, high): &(char, char)| self.ranges.iter().any(|&(first, last)| first <= low && high <= last);
        self == other || (!self.is_negated && !other.is_negated && other.ranges.iter().all(inside))
    }
}

impl Token {
    /// Whether a single piece matches all that another one does. [`Token::Any`] is no single piece.
    fn takes(&self, piece: &Token) -> bool {
        match (self, piece) {
            (Token::Is(letter), Token::Is(other)) => letter == other,
            (Token::One, Token::Is(_) | Token::One | Token::In(_)) => true,
            (Token::In(set), Token::Is(letter)) => set.has(*letter),
            (Token::In(set), Token::In(other)) => set.covers(other),
            _ => false,
        }
    }
}

/// Whether `pattern` matches all that `text` matches, which may itself be a pattern. Exact when `text` is plain.
pub(super) fn covers(pattern: &[Token], text: &[Token]) -> bool {
    let (mut at, mut read) = (0, 0);
    // Where to go on when the last `*` has to take one more piece.
    let mut star = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(Token::Any) => {
                star = Some((at + 1, read));
                at += 1;
            }
            Some(piece) if piece.takes(&text[read]) => (at, read) = (at + 1, read + 1),
            _ => match &mut star {
                Some((after, taken)) => {
                    *taken += 1;
                    (at, read) = (*after, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|piece| *piece == Token::Any)
}

/// Text as a pattern of itself.
pub(super) fn plain(text: &str) -> Pattern {
    text.chars().map(Token::Is).collect()
}

/// One name of a path, or a whole repository. None where `**`, sets or braces have meanings that tokens don't have.
pub(super) fn pattern_of(glob: &str) -> Option<Pattern> {
    let token = |letter| match letter {
        '*' => Token::Any,
        '?' => Token::One,
        letter => Token::Is(letter),
    };
    (!glob.contains(['[', '{', '\\']) && !glob.contains("**")).then(|| glob.chars().map(token).collect())
}

/// Whether `rule` matches all that `entry` does; both are globs of the kind that [`pattern_of`] takes, or the same text.
pub(super) fn glob_covers(rule: &str, entry: &str) -> bool {
    rule == entry || pattern_of(rule).zip(pattern_of(entry)).is_some_and(|(rule, entry)| covers(&rule, &entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_covers_what_it_surely_matches() {
        for (rule, entry) in [("a*", "ab*"), ("*", "a*b"), ("a?c", "abc"), ("*b*", "ab"), ("**/x", "**/x"), ("*", "")] {
            assert!(glob_covers(rule, entry), "{rule} {entry}");
        }
        for (rule, entry) in [("ab*", "a*"), ("a", "a*"), ("a?", "a*"), ("?", ""), ("a/**", "a/**/b"), ("a*", "b")] {
            assert!(!glob_covers(rule, entry), "{rule} {entry}");
        }
    }

    #[test]
    fn sets_end_at_their_bracket() {
        let parse = |text: &str| Set::parse(&mut text.chars());
        let set = parse("]a-c]rest").unwrap();
        assert!(set.has(']') && set.has('b') && !set.has('d') && !set.has('-'));
        assert!(parse("!a]").unwrap().has('b') && !parse("^a]").unwrap().has('a'));
        assert!(parse("a-z]").unwrap().covers(&parse("b-y]").unwrap()));
        assert!(!parse("b]").unwrap().covers(&parse("!a]").unwrap()));
        assert_eq!((parse("a"), parse(""), parse("z-a]")), (None, None, None));
    }
}
