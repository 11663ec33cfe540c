//! Globs over the fake workspace, with the syntax and the errors of the host's.

/// A part of a glob.
#[derive(Clone, Debug)]
enum Token {
    /// A byte of a letter: the host's globs match bytes.
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Many,
    /// `**` between two slashes, or at an end: any number of whole names.
    Names,
    Set {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    Either(Vec<Vec<Token>>),
}

/// Characters without which a pattern is the path that it matches.
const WILDCARDS: [char; 5] = ['*', '?', '[', '{', '\\'];

/// A glob over paths of the workspace. `*` and `?` match within a name, `**` matches any number of folders, `[ab]` and
/// `{a,b}` match alternatives, and `\` makes the next character literal.
#[derive(Debug)]
pub(super) struct Glob(Vec<Token>);

impl Glob {
    /// `pattern` is a normalised path.
    pub(super) fn parse(pattern: &str) -> Result<Glob, String> {
        if !pattern.contains(WILDCARDS) {
            return Ok(Glob(pattern.bytes().map(Token::Byte).collect()));
        }
        let mut letters: Vec<char> = pattern.chars().rev().collect();
        let mut branches = branches(&mut letters, false)?;
        Ok(Glob(branches.pop().unwrap_or_default()))
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        matches(&self.0, path.as_bytes(), &<[u8]>::is_empty)
    }
}

/// Parses up to the end, or up to the `}` of an alternative. `letters` are in reverse order.
fn branches(letters: &mut Vec<char>, inside: bool) -> Result<Vec<Vec<Token>>, String> {
    let mut branches = vec![Vec::new()];
    let mut before = '/';
    while let Some(letter) = letters.pop() {
        let is_first = branches.last().is_some_and(Vec::is_empty);
        let token = match letter {
            '?' => Token::One,
            '*' if letters.last() == Some(&'*') => {
                letters.pop();
                let after = letters.last().copied();
                let ends_branch = inside && !is_first && matches!(after, Some(',' | '}'));
                let is_alone = (is_first || before == '/') && (matches!(after, None | Some('/')) || ends_branch);
                if is_alone { Token::Names } else { Token::Many }
            }
            '*' => Token::Many,
            '[' => set(letters)?,
            '{' => Token::Either(self::branches(letters, true)?),
            '}' if inside => return Ok(branches),
            '}' => return Err("unopened alternate group; missing '{' (maybe escape '}' with '[}]'?)".to_owned()),
            ',' if inside => {
                branches.push(Vec::new());
                before = '/';
                continue;
            }
            letter => {
                let literal = if letter == '\\' { letters.pop().ok_or("dangling '\\'")? } else { letter };
                let bytes = literal.to_string().into_bytes();
                branches.last_mut().expect("there is always a branch").extend(bytes.into_iter().map(Token::Byte));
                before = letter;
                continue;
            }
        };
        before = letter;
        branches.last_mut().expect("there is always a branch").push(token);
    }
    match inside {
        true => Err("unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)".to_owned()),
        false => Ok(branches),
    }
}

/// Parses a set after its `[`.
fn set(letters: &mut Vec<char>) -> Result<Token, String> {
    let negated = letters.pop_if(|first| matches!(first, '!' | '^')).is_some();
    let mut ranges: Vec<(char, char)> = Vec::new();
    let mut in_range = false;
    loop {
        match letters.pop().ok_or("unclosed character class; missing ']'")? {
            ']' if !ranges.is_empty() => break,
            '-' if !ranges.is_empty() && !in_range => in_range = true,
            letter => match ranges.last_mut().filter(|_| in_range) {
                Some(range) => {
                    range.1 = letter;
                    if range.1 < range.0 {
                        return Err(format!("invalid range; '{}' > '{}'", range.0, range.1));
                    }
                    in_range = false;
                }
                None => ranges.push((letter, letter)),
            },
        }
    }
    if in_range {
        ranges.push(('-', '-'));
    }
    Ok(Token::Set { negated, ranges })
}

/// Whether the tokens match a beginning of the path whose rest `then` accepts.
fn matches(tokens: &[Token], path: &[u8], then: &dyn Fn(&[u8]) -> bool) -> bool {
    let Some((token, rest)) = tokens.split_first() else { return then(path) };
    let one = |fits: &dyn Fn(u8) -> bool| {
        path.split_first().is_some_and(|(&byte, tail)| fits(byte) && matches(rest, tail, then))
    };
    match token {
        Token::Byte(expected) => one(&|byte| byte == *expected),
        Token::One => one(&|byte| byte != b'/'),
        Token::Set { negated, ranges } => {
            one(&|byte| ranges.iter().any(|(first, last)| (*first..=*last).contains(&char::from(byte))) != *negated)
        }
        Token::Many => {
            let name = path.iter().take_while(|byte| **byte != b'/').count();
            (0..=name).any(|index| matches(rest, &path[index..], then))
        }
        // At the end, it matches everything that is left; before a slash, whole names.
        Token::Names => match rest.split_first() {
            None => (0..=path.len()).any(|index| then(&path[index..])),
            Some((_, after)) => {
                let is_start = |index: usize| index == 0 || path[index - 1] == b'/';
                (0..=path.len()).any(|index| is_start(index) && matches(after, &path[index..], then))
            }
        },
        // Empty alternatives count only if there are no others.
        Token::Either(branches) => match branches.iter().all(Vec::is_empty) {
            true => matches(rest, path, then),
            false => {
                let mut branches = branches.iter().filter(|branch| !branch.is_empty());
                branches.any(|branch| matches(branch, path, &|tail| matches(rest, tail, then)))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    fn matches(pattern: &str, path: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn only_double_stars_cross_folders() {
        assert!(matches("src/*.rs", "src/lib.rs") && !matches("src/*.rs", "src/a/lib.rs"));
        assert!(matches("src/**/*.rs", "src/lib.rs") && matches("src/**/*.rs", "src/a/b/lib.rs"));
        assert!(matches("src/**", "src/a/b") && !matches("src/**", "lib/a") && !matches("src/**", "src"));
        assert!(matches("**", "a/b") && matches("**/b", "b") && matches("**/b", "a/b") && !matches("**/b", "ab"));
        assert!(!matches("?.txt", "ab.txt") && matches("a**b", "acb") && !matches("a**b", "a/b"));
        assert!(matches("ü*", "ü.txt") && !matches("?.txt", "ü.txt"));
    }

    #[test]
    fn sets_alternatives_and_escapes_are_matched() {
        assert!(matches("{a,b}.txt", "b.txt") && matches("{x/**,b}/d", "x/a/c/d") && matches("{a,{b,c}}d", "cd"));
        assert!(matches("[a-c]x", "bx") && !matches("[!a-c]x", "bx") && matches("[]-]", "-"));
        assert!(matches(r"\*", "*") && !matches(r"\*", "a") && matches("a,b", "a,b") && matches("a}", "a}"));
    }

    #[test]
    fn invalid_globs_are_refused() {
        for pattern in ["[a", "{a", "*}", r"a\", "[b-a]"] {
            assert!(Glob::parse(pattern).is_err(), "{pattern}");
        }
    }
}
