//! Names and words that make code hard to read.
//!
//! Type names that several files define may not become more, since a reader can't tell from such a name which type is
//! meant: the limit equals the present count, so that every improvement lowers it. The words of [`AVOIDED_WORDS`] may not
//! occur at all.

use std::collections::{BTreeMap, BTreeSet};

use super::TidyFinding;
use super::sources::{code_only, place, word_positions};
use super::tree::File;

/// The number of type names that more than one file defines. May only be lowered.
const SHARED_TYPE_NAMES: usize = 10;

/// Words without which a sentence names its subject or says plainly what happens. Written in two parts, so that this file
/// passes its own check.
const AVOIDED_WORDS: [&str; 4] =
    [concat!("no", "body"), concat!("some", "body"), concat!("who", "ever"), concat!("an", "ew")];

/// This file, where the limit is.
const LIMITS: &str = "xtask/src/tidy/language.rs";

/// Findings for too many or too few shared type names, and for every avoided word.
pub(super) fn check(files: &[File]) -> Vec<TidyFinding> {
    let mut findings = check_type_names(files, SHARED_TYPE_NAMES);
    findings.extend(check_words(files));
    findings
}

fn check_type_names(files: &[File], limit: usize) -> Vec<TidyFinding> {
    let mut definitions: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for file in files.iter().filter(|file| must_have_own_names(&file.path)) {
        for name in defined_types(&code_only(&file.text)) {
            definitions.entry(name.to_owned()).or_default().insert(&file.path);
        }
    }
    let shared = definitions.iter().filter(|(_, paths)| paths.len() > 1).collect::<Vec<_>>();
    if shared.len() > limit {
        let names = shared.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let message =
            format!("{} type names are defined in more than one file, {limit} are allowed: {names}", shared.len());
        return vec![TidyFinding::error(LIMITS, message, "give the new type a more specific name")];
    }
    if shared.len() < limit {
        // A limit that isn't lowered would let the count grow again.
        let message = format!("SHARED_TYPE_NAMES is {limit}, but the count is {}", shared.len());
        return vec![TidyFinding::error(LIMITS, message, format!("set SHARED_TYPE_NAMES to {}", shared.len()))];
    }
    Vec::new()
}

fn check_words(files: &[File]) -> Vec<TidyFinding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let text = file.text.to_lowercase();
        for word in AVOIDED_WORDS {
            findings.extend(word_positions(&text, word).map(|at| {
                let help = "name the subject, or use the passive voice";
                TidyFinding::error(place(&file.path, &text, at), format!("the word `{word}`"), help)
            }));
        }
    }
    findings
}

/// Whether the types of a file have to differ from those of other files. Plugins and the SDK are programs of their own, and
/// tests are read by themselves.
fn must_have_own_names(path: &str) -> bool {
    let is_excluded =
        ["plugins/", "pipelines/", "tests/", "crates/stagewright-sdk/"].iter().any(|folder| path.starts_with(folder));
    path.ends_with(".rs") && !is_excluded && !path.contains("/tests/") && !path.ends_with("tests.rs")
}

/// The structs, enums, traits and unions that the code of a file defines, except for those inside of functions.
fn defined_types(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter_map(|line| {
        let item = line.trim_start();
        if line.len() - item.len() > 4 {
            return None;
        }
        let item = match item.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
            Some(rest) => rest.trim_start(),
            None => item,
        };
        let rest = ["struct ", "enum ", "trait ", "union "].iter().find_map(|keyword| item.strip_prefix(keyword))?;
        let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
        Some(&rest[..end]).filter(|name| !name.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(sources: &[(&str, &str)]) -> Vec<File> {
        let file = |&(path, text): &(&str, &str)| File { path: path.to_owned(), text: text.to_owned() };
        sources.iter().map(file).collect()
    }

    fn messages(findings: Vec<TidyFinding>) -> Vec<String> {
        findings.into_iter().map(|finding| format!("{}: {}", finding.place, finding.message)).collect()
    }

    #[test]
    fn a_type_name_that_two_files_define_counts_once() {
        let files = files(&[
            ("crates/a/src/lib.rs", "pub struct Gate;\npub(crate) enum Kind {}\n"),
            ("crates/a/src/gate.rs", "trait Gate {}\nmod inner {\n    pub(super) union Kind {}\n}\n"),
            ("crates/b/src/lib.rs", "pub struct Gate<'a>(&'a str);\nstruct Plan;\n"),
        ]);
        assert_eq!(check_type_names(&files, 2), []);
        let found = messages(check_type_names(&files, 1));
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("2 type names") && found[0].ends_with("1 are allowed: Gate, Kind"), "{found:?}");
    }

    #[test]
    fn tests_plugins_the_sdk_and_comments_define_no_shared_names() {
        let gate = "struct Gate;\n";
        let in_tests = "#[cfg(test)]\nmod tests {\n    struct Gate;\n}\n";
        let files = files(&[
            ("crates/a/src/lib.rs", gate),
            ("crates/a/src/b.rs", &format!("// x\n{in_tests}")),
            ("crates/a/src/c.rs", "/*\nstruct Gate;\n*/\nfn f() {\n        struct Gate;\n}\n"),
            ("crates/a/src/d/tests.rs", gate),
            ("crates/a/tests/e.rs", gate),
            ("crates/stagewright-sdk/src/lib.rs", gate),
            ("plugins/deploy-process/src/lib.rs", gate),
            ("tests/src/lib.rs", gate),
        ]);
        assert_eq!(check_type_names(&files, 0), []);
    }

    #[test]
    fn each_avoided_word_is_found_with_its_line() {
        let [first, _, _, last] = AVOIDED_WORDS;
        let text = format!("// It is for {first}.\nfn {first}_else() {{}}\n/// Begins {}.\n", last.to_uppercase());
        let sources = [("crates/a/src/lib.rs", text.as_str()), ("pipelines/a.toml", first)];
        let found = messages(check_words(&files(&sources)));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("crates/a/src/lib.rs:1: ") && found[1].starts_with("crates/a/src/lib.rs:3: "));
    }

    #[test]
    fn a_limit_above_the_count_has_to_be_lowered() {
        let found = messages(check_type_names(&[], 3));
        assert_eq!(found, ["xtask/src/tidy/language.rs: SHARED_TYPE_NAMES is 3, but the count is 0"]);
    }
}
