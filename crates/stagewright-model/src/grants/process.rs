//! Entries of `permissions.process`: a program, and what its arguments may be.
//!
//! An entry consists of words, as in a shell: they are separated by white space, and single quotes and `\` make
//! characters literal. The first word is the program; `*` as the whole entry matches any program. A program alone, such
//! as `cargo`, may be started with any arguments. If more words follow, the number of arguments must be the same, and
//! each argument must match its word: `*`, `?` and `[ab]` match text within one argument, and `**` as the last word
//! matches any number of arguments.
//!
//! An argument could be an option where only a value was meant, as in `git fetch origin --upload-pack=…`. A word that
//! begins with a wildcard, and `**`, therefore don't match arguments that begin with `-`, unless they come after the
//! word `--`, which ends the options of most programs. A word for an option begins with `-` itself, as `-*` does.
//!
//! Programs are compared by name, without following links: `git` is looked up in `PATH`, and a path with a `/` is
//! absolute or relative to the workspace. None of these forms grants another. `./` and doubled `/` in a path are
//! ignored, and a path with `..` is never granted.

use super::glob::{CharacterSet, GlobToken, Pattern, covers, plain};
use crate::entry::entry;
use crate::format_error::{FormatError, refuse};

/// The code of diagnostics about invalid entries.
const CODE: &str = "stagewright::bad-program";

/// One entry of `permissions.process`.
#[derive(Clone, Debug)]
pub struct ProcessRule {
    /// None for any program.
    program: Option<String>,
    /// None for any arguments.
    args: Option<ArgumentRule>,
    /// The entry as written.
    text: String,
}

#[derive(Clone, Debug)]
struct ArgumentRule {
    words: Vec<ArgumentPattern>,
    /// The final `**`, which each further argument must match.
    rest: Option<ArgumentPattern>,
}

#[derive(Clone, Debug)]
struct ArgumentPattern {
    pattern: Pattern,
    /// Whether the word comes after `--`, where an argument that begins with `-` isn't an option.
    is_operand: bool,
}

impl ProcessRule {
    /// Parses an entry.
    pub fn parse(entry: &str) -> Result<ProcessRule, FormatError> {
        const NAME_IT: &str = "name the program, as in `cargo` or `tools/lint.sh`; `*` alone is any program";
        let mut words = words(entry)?;
        if words.is_empty() || words[0].is_empty() {
            return refuse(CODE, "doesn't name a program", NAME_IT);
        }
        let text = entry.to_owned();
        let program = words.remove(0);
        if program == [GlobToken::Any] {
            return match words.is_empty() {
                true => Ok(ProcessRule { program: None, args: None, text }),
                false => refuse(
                    CODE,
                    "restricts the arguments of every program",
                    "name the program that takes these arguments",
                ),
            };
        }
        let Some(program) = literal(&program) else {
            return refuse(CODE, "has a wildcard in the name of its program", NAME_IT);
        };
        let Some(program) = normal_program(&program) else {
            return refuse(CODE, "has a `..` in the path of its program", "write the path without `..`");
        };
        let is_rest = |word: &Pattern| word[..] == [GlobToken::Any, GlobToken::Any];
        let rest = words.pop_if(|word| is_rest(word));
        if words.iter().any(is_rest) {
            return refuse(
                CODE,
                "has words after `**`",
                "write `**` last: it matches all further arguments; `*` matches one argument",
            );
        }
        let args = (!words.is_empty() || rest.is_some()).then(|| {
            let mut is_operand = false;
            let words = words.into_iter().map(|pattern| {
                let word = ArgumentPattern { is_operand, pattern };
                is_operand |= word.pattern == plain("--");
                word
            });
            let words = words.collect();
            ArgumentRule { words, rest: rest.map(|_| ArgumentPattern { pattern: vec![GlobToken::Any], is_operand }) }
        });
        Ok(ProcessRule { program: Some(program), args, text })
    }

    /// Writes the entry that grants a program with exactly these arguments.
    pub fn exactly(program: &str, args: &[String]) -> String {
        let words = std::iter::once(program).chain(args.iter().map(String::as_str)).map(quoted);
        words.collect::<Vec<_>>().join(" ")
    }

    /// The entry as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `program` may be started with `args`.
    pub fn grants(&self, program: &str, args: &[String]) -> bool {
        self.names(program) && self.args.as_ref().is_none_or(|allowed| allowed.grants(args))
    }

    /// Whether `program` may be started with at least some arguments.
    pub fn names(&self, program: &str) -> bool {
        self.program.as_ref().is_none_or(|granted| normal_program(program).as_ref() == Some(granted))
    }

    /// Whether only some arguments are allowed. The plugin host must then also restrict everything else that can
    /// change what a call does, above all environment variables.
    pub fn bounds_arguments(&self) -> bool {
        self.args.is_some()
    }

    /// Whether the entry grants a single command line.
    pub fn is_exact(&self) -> bool {
        let args = self.args.as_ref().filter(|args| args.rest.is_none());
        args.is_some_and(|args| args.words.iter().all(|word| literal(&word.pattern).is_some()))
    }

    /// The program, or none for any.
    pub fn program(&self) -> Option<&str> {
        self.program.as_deref()
    }

    /// Whether `other` grants everything that this entry grants. No if that can't be decided.
    pub fn is_within(&self, other: &ProcessRule) -> bool {
        let is_same_program = other.program.is_none() || self.program == other.program;
        is_same_program
            && match (&self.args, &other.args) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(own), Some(allowed)) => own.are_within(allowed),
            }
    }
}

entry!(ProcessRule, FormatError);

impl ArgumentRule {
    fn grants(&self, args: &[String]) -> bool {
        let words = args.iter().map(|arg| ArgumentPattern { pattern: plain(arg), is_operand: false }).collect();
        ArgumentRule { words, rest: None }.are_within(self)
    }

    fn are_within(&self, allowed: &ArgumentRule) -> bool {
        let (fixed, further) = self.words.split_at(self.words.len().min(allowed.words.len()));
        let rest = further.iter().chain(&self.rest);
        fixed.len() == allowed.words.len()
            && fixed.iter().zip(&allowed.words).all(|(word, allowed)| word.is_within(allowed))
            && rest.into_iter().all(|word| allowed.rest.as_ref().is_some_and(|allowed| word.is_within(allowed)))
    }
}

impl ArgumentPattern {
    fn is_within(&self, allowed: &ArgumentPattern) -> bool {
        // A word matches arguments that begin with `-` if it begins with that character itself, or with a wildcard
        // after `--`. Elsewhere, a leading wildcard never matches them, so the allowed word doesn't have to match them
        // either. A literal that begins with `-` is treated as an option even after `--`: whether it is one is decided
        // by the allowed word.
        let may_be_option = match self.pattern.first() {
            Some(GlobToken::Is(first)) => *first == '-',
            Some(_) => self.is_operand,
            None => false,
        };
        let takes_options = matches!(allowed.pattern.first(), Some(GlobToken::Is(_)) | None) || allowed.is_operand;
        (takes_options || !may_be_option) && covers(&allowed.pattern, &self.pattern)
    }
}

/// Splits an entry into words.
fn words(entry: &str) -> Result<Vec<Pattern>, FormatError> {
    let mut found = Vec::new();
    let mut rest = entry.trim_start().chars();
    while !rest.as_str().is_empty() {
        found.push(word(&mut rest)?);
        rest = rest.as_str().trim_start().chars();
    }
    Ok(found)
}

/// Parses one word, up to the next white space.
fn word(rest: &mut std::str::Chars<'_>) -> Result<Pattern, FormatError> {
    let mut pattern = Vec::new();
    while let Some(letter) = rest.as_str().chars().next().filter(|letter| !letter.is_whitespace()) {
        rest.next();
        match letter {
            '*' => pattern.push(GlobToken::Any),
            '?' => pattern.push(GlobToken::One),
            '[' => match CharacterSet::parse(rest) {
                Some(set) => pattern.push(GlobToken::In(set)),
                None => {
                    return refuse(CODE, "has an unclosed `[`", "write `[ab]`, or `\\[` for the bracket itself");
                }
            },
            '\\' => match rest.next() {
                Some(letter) => pattern.push(GlobToken::Is(letter)),
                None => return refuse(CODE, "ends with `\\`", "write `\\\\` for the backslash itself"),
            },
            '\'' => {
                let Some((quoted, after)) = rest.as_str().split_once('\'') else {
                    return refuse(CODE, "has an unclosed quote", "close it, or write `\\'` for the quote itself");
                };
                pattern.extend(plain(quoted));
                *rest = after.chars();
            }
            letter => pattern.push(GlobToken::Is(letter)),
        }
    }
    Ok(pattern)
}

/// The text of a pattern without wildcards.
fn literal(pattern: &[GlobToken]) -> Option<String> {
    let letters = pattern.iter().map(|token| match token {
        GlobToken::Is(letter) => Some(*letter),
        _ => None,
    });
    letters.collect()
}

/// The normal form of a program: a name stays as it is, and a path loses `./`, doubled `/` and a trailing `/`. None for
/// a path with `..`.
fn normal_program(program: &str) -> Option<String> {
    if !program.contains('/') {
        return Some(program.to_owned());
    }
    let names: Vec<&str> = program.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    // A path with a single name keeps its `./`: without a `/`, the name would be looked up in `PATH`.
    let root = if program.starts_with('/') { "/" } else { "./" };
    (!names.contains(&"..")).then(|| format!("{root}{}", names.join("/")))
}

/// The word that matches `text` alone.
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
    fn program_alone_takes_any_arguments() {
        assert!(grants("cargo", &["cargo"]) && grants("cargo", &["cargo", "test", "--", "-x"]));
        assert!(grants("*", &["anything", "-x"]) && !grants("cargo", &["cargo-x"]) && !grants("cargo", &["Cargo"]));
    }

    #[test]
    fn each_word_matches_one_argument() {
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
    fn wildcards_do_not_match_options() {
        for entry in ["git fetch origin *", "git fetch origin ?upload", "git fetch origin [-a]*", "git fetch **"] {
            assert!(!grants(entry, &["git", "fetch", "origin", "--upload-pack=sh"]), "{entry}");
            assert!(!grants(entry, &["git", "fetch", "origin", "-upload"]), "{entry}");
        }
        assert!(grants("x -*", &["x", "-v"]) && grants("x --level=*", &["x", "--level=3"]));
        assert!(grants("x a **", &["x", "a"]) && grants("x a **", &["x", "a", "b", "c"]));
        assert!(!grants("x a **", &["x", "a", "b", "-c"]) && grants("x a -- **", &["x", "a", "--", "b", "-c"]));
        assert!(!grants("x a -- *", &["x", "a", "-c", "b"]), "the argument `--` itself is required");
    }

    #[test]
    fn names_and_paths_of_a_program_are_different_programs() {
        assert!(!grants("git", &["/usr/bin/git"]) && !grants("/usr/bin/git", &["git"]) && !grants("git", &["./git"]));
        assert!(grants("./tools/x", &["tools//x"]) && grants("tools/x", &["./tools/x"]));
        assert!(!grants("tools/x", &["tools/../tools/x"]) && !grants("./x", &["x"]) && !grants("/x", &["./x"]));
    }

    #[test]
    fn invalid_entries_are_rejected() {
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
        fn rule_within_another_grants_nothing_more(
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
        fn exact_entry_grants_its_call_and_is_within_rules_that_grant_it(
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
