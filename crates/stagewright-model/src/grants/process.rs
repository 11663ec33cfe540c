//! Entries of `permissions.process`: a program, and what its arguments may be.
//!
//! An entry is made of words, as in a shell: blanks part them, single quotes and `\` take away every other meaning. The
//! first word is the program; `*` as the whole entry is any program. `"cargo"` alone allows any arguments; with further
//! words, exactly as many arguments are allowed, and each must match its word: `*`, `?` and `[ab]` stand for text within
//! one argument, and a last word `**` for any number of further arguments.
//!
//! Against options that are smuggled in where a value was meant: a word that begins with a wildcard, and `**`, match no
//! argument that begins with `-`, unless they stand after the word `--`, which ends the options of most programs. A word
//! that is to match an option begins with `-` itself, as `-*` does.
//!
//! A program is compared as it is named, and no link is followed: `git` is what the name finds in `PATH`, a path with a
//! `/` is relative to the workspace or absolute, and none of these grants another. In a path, `./` and doubled `/` don't
//! count, and one with `..` is never granted.

use super::glob::{Pattern, Set, Token, covers, plain};
use crate::entry::entry;
use crate::format_error::{FormatError, refuse};

/// The code of the diagnostic about an entry that can't be read.
const CODE: &str = "stagewright::bad-program";

/// One entry of `permissions.process`.
#[derive(Clone, Debug)]
pub struct ProcessRule {
    /// None for any.
    program: Option<String>,
    /// None for any.
    args: Option<Arguments>,
    /// As it was written.
    text: String,
}

#[derive(Clone, Debug)]
struct Arguments {
    words: Vec<Word>,
    /// `**` at the end; and whether it stands after `--`.
    rest: Option<Word>,
}

#[derive(Clone, Debug)]
struct Word {
    pattern: Pattern,
    /// It stands after `--`: an argument that begins with `-` is no option.
    is_operand: bool,
}

impl ProcessRule {
    /// Reads an entry.
    pub fn parse(entry: &str) -> Result<ProcessRule, FormatError> {
        const NAME_IT: &str = "name the program, as in `cargo` or `tools/lint.sh`; `*` alone is any program";
        let mut words = words(entry)?;
        if words.is_empty() || words[0].is_empty() {
            return refuse(CODE, "doesn't name a program", NAME_IT);
        }
        let text = entry.to_owned();
        let program = words.remove(0);
        if program == [Token::Any] {
            return match words.is_empty() {
                true => Ok(ProcessRule { program: None, args: None, text }),
                false => {
                    refuse(CODE, "bounds the arguments of any program", "name the program that these arguments are for")
                }
            };
        }
        let Some(program) = literal(&program) else {
            return refuse(CODE, "has a wildcard in the name of its program", NAME_IT);
        };
        let Some(program) = one_spelling(&program) else {
            return refuse(CODE, "has a `..` in the path of its program", "write the path without `..`");
        };
        let is_rest = |word: &Pattern| word[..] == [Token::Any, Token::Any];
        let rest = words.pop_if(|word| is_rest(word));
        if words.iter().any(is_rest) {
            return refuse(
                CODE,
                "has words after `**`",
                "write `**` last: it is all further arguments; `*` is one of them",
            );
        }
        let args = (!words.is_empty() || rest.is_some()).then(|| {
            let mut is_operand = false;
            let words = words.into_iter().map(|pattern| {
                let word = Word { is_operand, pattern };
                is_operand |= word.pattern == plain("--");
                word
            });
            let words = words.collect();
            Arguments { words, rest: rest.map(|_| Word { pattern: vec![Token::Any], is_operand }) }
        });
        Ok(ProcessRule { program: Some(program), args, text })
    }

    /// The entry that grants a program with exactly these arguments.
    pub fn exactly(program: &str, args: &[String]) -> String {
        let words = std::iter::once(program).chain(args.iter().map(String::as_str)).map(quoted);
        words.collect::<Vec<_>>().join(" ")
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `program` may be started with `args`.
    pub fn grants(&self, program: &str, args: &[String]) -> bool {
        let is_meant = match &self.program {
            None => true,
            Some(granted) => one_spelling(program).as_ref() == Some(granted),
        };
        is_meant && self.args.as_ref().is_none_or(|allowed| allowed.grant(args))
    }

    /// Whether `program` may be started with arguments of some kind.
    pub fn names(&self, program: &str) -> bool {
        self.program.as_ref().is_none_or(|granted| one_spelling(program).as_ref() == Some(granted))
    }

    /// Whether the arguments are bounded. What else can change the meaning of a call, variables above all, must then be
    /// bounded, too.
    pub fn bounds_arguments(&self) -> bool {
        self.args.is_some()
    }

    /// Whether there is one command line that is granted, and no other.
    pub fn is_exact(&self) -> bool {
        let args = self.args.as_ref().filter(|args| args.rest.is_none());
        args.is_some_and(|args| args.words.iter().all(|word| literal(&word.pattern).is_some()))
    }

    /// The program, unless it is any.
    pub fn program(&self) -> Option<&str> {
        self.program.as_deref()
    }

    /// Whether all that this grants is granted by `other`. What can't be decided counts as no.
    pub fn is_within(&self, other: &ProcessRule) -> bool {
        let is_meant = other.program.is_none() || self.program == other.program;
        is_meant
            && match (&self.args, &other.args) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(own), Some(allowed)) => own.are_within(allowed),
            }
    }
}

entry!(ProcessRule, FormatError);

impl Arguments {
    fn grant(&self, args: &[String]) -> bool {
        let words = args.iter().map(|arg| Word { pattern: plain(arg), is_operand: false }).collect();
        Arguments { words, rest: None }.are_within(self)
    }

    fn are_within(&self, allowed: &Arguments) -> bool {
        let (fixed, further) = self.words.split_at(self.words.len().min(allowed.words.len()));
        let rest = further.iter().chain(&self.rest);
        fixed.len() == allowed.words.len()
            && fixed.iter().zip(&allowed.words).all(|(word, allowed)| word.is_within(allowed))
            && rest.into_iter().all(|word| allowed.rest.as_ref().is_some_and(|allowed| word.is_within(allowed)))
    }
}

impl Word {
    fn is_within(&self, allowed: &Word) -> bool {
        let may_be_option = match self.pattern.first() {
            Some(Token::Is(first)) => *first == '-',
            Some(_) => self.is_operand,
            None => false,
        };
        let takes_options = matches!(allowed.pattern.first(), Some(Token::Is(_)) | None) || allowed.is_operand;
        (takes_options || !may_be_option) && covers(&allowed.pattern, &self.pattern)
    }
}

/// The words of an entry.
fn words(entry: &str) -> Result<Vec<Pattern>, FormatError> {
    let mut found = Vec::new();
    let mut rest = entry.trim_start().chars();
    while !rest.as_str().is_empty() {
        found.push(word(&mut rest)?);
        rest = rest.as_str().trim_start().chars();
    }
    Ok(found)
}

/// Up to the next blank.
fn word(rest: &mut std::str::Chars<'_>) -> Result<Pattern, FormatError> {
    let mut pattern = Vec::new();
    while let Some(letter) = rest.as_str().chars().next().filter(|letter| !letter.is_whitespace()) {
        rest.next();
        match letter {
            '*' => pattern.push(Token::Any),
            '?' => pattern.push(Token::One),
            '[' => match Set::parse(rest) {
                Some(set) => pattern.push(Token::In(set)),
                None => {
                    return refuse(
                        CODE,
                        "has a `[` that no `]` closes",
                        "write `[ab]`, or `\\[` for the bracket itself",
                    );
                }
            },
            '\\' => match rest.next() {
                Some(letter) => pattern.push(Token::Is(letter)),
                None => return refuse(CODE, "ends with `\\`", "write `\\\\` for the backslash itself"),
            },
            '\'' => {
                let Some((quoted, after)) = rest.as_str().split_once('\'') else {
                    return refuse(
                        CODE,
                        "has a quote that isn't closed",
                        "close it, or write `\\'` for the quote itself",
                    );
                };
                pattern.extend(plain(quoted));
                *rest = after.chars();
            }
            letter => pattern.push(Token::Is(letter)),
        }
    }
    Ok(pattern)
}

fn literal(pattern: &[Token]) -> Option<String> {
    let letters = pattern.iter().map(|token| match token {
        Token::Is(letter) => Some(*letter),
        _ => None,
    });
    letters.collect()
}

/// A name stays; of a path, `./`, doubled `/` and a last one don't count. None for a path with `..`.
fn one_spelling(program: &str) -> Option<String> {
    if !program.contains('/') {
        return Some(program.to_owned());
    }
    let names: Vec<&str> = program.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    // Without a `/`, a name would be looked up in `PATH`.
    let root = if program.starts_with('/') { "/" } else { "./" };
    (!names.contains(&"..")).then(|| format!("{root}{}", names.join("/")))
}

/// A word that means `text` and nothing else.
fn quoted(text: &str) -> String {
    let is_special = |letter: char| letter.is_whitespace() || matches!(letter, '*' | '?' | '[' | '\\' | '\'');
    match text.is_empty() || text.contains(is_special) {
        true => format!("'{}'", text.replace('\'', "'\\''")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(entry: &str) -> ProcessRule {
        ProcessRule::parse(entry).unwrap_or_else(|error| panic!("{entry}: {error}"))
    }

    fn grants(entry: &str, call: &[&str]) -> bool {
        let args: Vec<String> = call[1..].iter().map(ToString::to_string).collect();
        rule(entry).grants(call[0], &args)
    }

    #[test]
    fn a_program_alone_takes_any_arguments() {
        assert!(grants("cargo", &["cargo"]) && grants("cargo", &["cargo", "test", "--", "-x"]));
        assert!(grants("*", &["anything", "-x"]) && !grants("cargo", &["cargo-x"]) && !grants("cargo", &["Cargo"]));
    }

    #[test]
    fn words_match_one_argument_each() {
        assert!(grants("git fetch origin *", &["git", "fetch", "origin", "main"]));
        for call in [
            &["git", "fetch", "origin"][..],
            &["git", "fetch", "origin", "main", "next"],
            &["git", "fetch", "upstream", "main"],
            &["git", "push", "origin", "main"],
            &["git", "-c", "core.sshCommand=sh", "fetch", "origin", "main"],
        ] {
            assert!(!grants("git fetch origin *", call), "{call:?}");
        }
        assert!(grants("x v[0-9].?", &["x", "v1.a"]) && !grants("x v[0-9].?", &["x", "v1.ab"]));
        assert!(grants("x 'a b' \\*", &["x", "a b", "*"]) && !grants("x 'a b' \\*", &["x", "a b", "c"]));
        assert!(grants("x ''", &["x", ""]) && !grants("x ''", &["x"]));
    }

    #[test]
    fn wildcards_take_no_options() {
        for entry in ["git fetch origin *", "git fetch origin ?upload", "git fetch origin [-a]*", "git fetch **"] {
            assert!(!grants(entry, &["git", "fetch", "origin", "--upload-pack=sh"]), "{entry}");
            assert!(!grants(entry, &["git", "fetch", "origin", "-upload"]), "{entry}");
        }
        assert!(grants("x -*", &["x", "-v"]) && grants("x --level=*", &["x", "--level=3"]));
        assert!(grants("x a **", &["x", "a"]) && grants("x a **", &["x", "a", "b", "c"]));
        assert!(!grants("x a **", &["x", "a", "b", "-c"]) && grants("x a -- **", &["x", "a", "--", "b", "-c"]));
        assert!(!grants("x a -- *", &["x", "a", "-c", "b"]), "the word `--` itself must be there");
    }

    #[test]
    fn a_program_is_what_it_is_named() {
        assert!(!grants("git", &["/usr/bin/git"]) && !grants("/usr/bin/git", &["git"]) && !grants("git", &["./git"]));
        assert!(grants("./tools/x", &["tools//x"]) && grants("tools/x", &["./tools/x"]));
        assert!(!grants("tools/x", &["tools/../tools/x"]) && !grants("./x", &["x"]) && !grants("/x", &["./x"]));
    }

    #[test]
    fn entries_that_mean_nothing_are_refused() {
        for entry in ["", "  ", "''", "car*o", "* test", "x ** y", "x 'a", "x [a", "x \\", "../x", "a/../x"] {
            assert!(ProcessRule::parse(entry).is_err(), "{entry:?}");
        }
        assert!(grants("  git   fetch\t* ", &["git", "fetch", "main"]));
    }

    const RULES: [&str; 18] = [
        "*",
        "x",
        "y",
        "x a",
        "x *",
        "x a *",
        "x a b",
        "x **",
        "x a **",
        "x -- *",
        "x -- **",
        "x -*",
        "x -a",
        "x ?",
        "x [a-c]",
        "x *b*",
        "x -- -a",
        "x a -- [!a]",
    ];
    const ARGS: [&str; 9] = ["", "a", "b", "-", "-a", "--", "ab", "-*", "*"];

    proptest! {
        #[test]
        fn what_is_within_grants_nothing_more(
            narrow in prop::sample::select(&RULES[..]),
            wide in prop::sample::select(&RULES[..]),
            program in prop::sample::select(&["x", "y", "z"][..]),
            args in prop::collection::vec(prop::sample::select(&ARGS[..]), 0..4),
        ) {
            let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
            let (narrow, wide) = (rule(narrow), rule(wide));
            if narrow.is_within(&wide) && narrow.grants(program, &args) {
                prop_assert!(wide.grants(program, &args), "{narrow} is not within {wide}: {args:?}");
            }
        }

        #[test]
        fn the_exact_entry_grants_the_call_and_is_within_what_does(
            words in prop::collection::vec("[-a-z*?'\\[\\\\ ]{0,4}", 0..4),
            wide in prop::sample::select(&RULES[..]),
        ) {
            let exact = rule(&ProcessRule::exactly("x", &words));
            let wide = rule(wide);
            prop_assert!(exact.grants("x", &words));
            prop_assert!(words.is_empty() || exact.is_within(&wide) == wide.grants("x", &words));
        }
    }

    #[test]
    fn within_is_reflexive_and_transitive() {
        let rules = RULES.map(rule);
        for (a, b, c) in rules.iter().flat_map(|a| rules.iter().flat_map(move |b| RULES.map(rule).map(|c| (a, b, c)))) {
            assert!(a.is_within(a), "{a}");
            assert!(!(a.is_within(b) && b.is_within(&c)) || a.is_within(&c), "{a} < {b} < {c}");
        }
    }
}
