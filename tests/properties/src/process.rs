//! Patterns of command lines. The lines of an input are two rules, a program and its arguments.

use stagewright_model::{Grant, Permissions, ProcessRule};

/// A rule that is within another one grants nothing that the other doesn't. Each rule is within itself, and is the same
/// when it is printed and parsed again. The rule made from a command line grants exactly that one.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.lines();
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let program = lines.next().unwrap_or_default();
    let args: Vec<String> = lines.map(str::to_owned).collect();
    let rules = [first, second].map(ProcessRule::parse);
    for rule in rules.iter().flatten() {
        let again = ProcessRule::parse(rule.as_str()).expect("a printed rule can be parsed");
        assert_eq!(again.grants(program, &args), rule.grants(program, &args), "`{rule}` is printed as another rule");
        assert!(again.is_within(rule) && rule.is_within(&again), "`{rule}` is not within itself");
        assert!(!rule.grants(program, &args) || rule.names(program), "`{rule}` grants `{program}` without naming it");
    }
    if let [Ok(own), Ok(allowed)] = &rules
        && own.is_within(allowed)
    {
        assert!(!own.grants(program, &args) || allowed.grants(program, &args), "`{own}` is not within `{allowed}`");
        let listed = Permissions { process: vec![allowed.clone()], ..Permissions::default() };
        assert!(Grant::Process(own).is_within(&listed), "`{own}`, `{allowed}`: not decided alike");
    }
    check_exact(program, &args, rules.iter().flatten());
}

fn check_exact<'a>(program: &str, args: &[String], rules: impl Iterator<Item = &'a ProcessRule>) {
    let entry = ProcessRule::exactly(program, args);
    let Ok(exact) = ProcessRule::parse(&entry) else { return };
    assert!(exact.grants(program, args), "`{entry}` doesn't grant what it was made of");
    if exact.is_exact() {
        let more = [args, &["x".to_owned()]].concat();
        assert!(!exact.grants(program, &more), "`{entry}` grants one argument more");
    }
    for rule in rules.filter(|rule| exact.bounds_arguments() && exact.is_within(rule)) {
        assert!(rule.grants(program, args), "`{entry}` is within `{rule}`, which doesn't grant it");
    }
}
