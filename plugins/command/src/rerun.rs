//! Runs only the tests that failed before. How a test is named on a command line differs between runners, so the `with`
//! table says it.

use std::collections::BTreeSet;

use serde::Deserialize;
use stagewright_sdk::test_reports::FailedTest;
use stagewright_sdk::{JsonSchema, Problem, schemars};

use crate::shell::{self, MAX_ARGUMENT, Shell};

/// How to run only some of the tests: `argv` or `run`, which get the tests as their last arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rerun {
    /// The program and its arguments. The tests are appended.
    #[schemars(extend("x-stagewright-code" = "argv"))]
    pub argv: Option<Vec<String>>,
    /// A script for the shell, in which `"$@"` are the tests.
    #[schemars(extend("x-stagewright-code" = "text"))]
    pub run: Option<String>,
    /// How a test is written: text in which `{name}`, `{suite}` and `{file}` are replaced by what the report says.
    #[serde(default = "name")]
    pub test: String,
    /// What to put between the tests to make them one argument, as in `"|"`. By default each is an argument.
    pub join: Option<String>,
    /// Whether to escape names for a regular expression.
    #[serde(default)]
    pub regex: bool,
}

fn name() -> String {
    "{name}".to_owned()
}

/// The shells in which the first argument after the script is `$0`.
const WITH_SCRIPT_NAME: [&str; 6] = ["sh", "bash", "dash", "ash", "ksh", "zsh"];

impl Rerun {
    pub(crate) fn problems(&self, shell: Option<&Shell>) -> Vec<Problem> {
        self.base(shell).err().into_iter().chain(self.template().err()).collect()
    }

    /// The command that the tests are appended to.
    fn base(&self, shell: Option<&Shell>) -> Result<Vec<String>, Problem> {
        match (&self.argv, &self.run) {
            (Some(argv), None) if argv.is_empty() => Err(Problem::at("rerun.argv", "`argv` is empty")),
            (Some(argv), None) => Ok(argv.clone()),
            (None, Some(script)) => {
                let mut argv = shell::command(shell, script)?;
                // A shell can be started by another program, as in `env bash -c`.
                let words = argv.split_last().map_or(&[][..], |(_, words)| words);
                let is_shell = |word: &String| WITH_SCRIPT_NAME.contains(&word.rsplit('/').next().unwrap_or_default());
                if words.iter().any(is_shell) {
                    argv.push(argv[0].clone());
                }
                Ok(argv)
            }
            _ => Err(Problem::at("rerun", "`rerun` needs either `argv` or `run`")),
        }
    }

    /// The command without tests, which the stage needs a grant for.
    pub(crate) fn command(&self, shell: Option<&Shell>) -> Option<Vec<String>> {
        self.base(shell).ok()
    }

    /// The command that runs these tests.
    ///
    /// # Errors
    /// Why they can't be selected.
    pub(crate) fn select(&self, shell: Option<&Shell>, tests: &[FailedTest]) -> Result<Vec<String>, String> {
        let mut argv = self.base(shell).map_err(|problem| problem.message)?;
        let template = self.template().map_err(|problem| problem.message)?;
        let mut seen = BTreeSet::new();
        let mut written = Vec::new();
        for test in tests {
            let text = self.write(&template, test)?;
            if seen.insert(text.clone()) {
                written.push(text);
            }
        }
        match &self.join {
            Some(between) => argv.push(written.join(between)),
            None => argv.extend(written),
        }
        match argv.iter().any(|argument| argument.len() > MAX_ARGUMENT) {
            true => Err("the list of failed tests is too long for a command line".to_owned()),
            false => Ok(argv),
        }
    }

    fn write(&self, template: &[Part<'_>], test: &FailedTest) -> Result<String, String> {
        let mut text = String::new();
        for part in template {
            let value = match part {
                Part::Text(literal) => {
                    text.push_str(literal);
                    continue;
                }
                Part::Name => &test.name,
                Part::Suite => &test.suite,
                Part::File => {
                    test.file.as_ref().ok_or_else(|| format!("the report names no file for `{}`", test.name))?
                }
            };
            match self.regex {
                true => text.push_str(&escaped(value)),
                false => text.push_str(value),
            }
        }
        Ok(text)
    }

    fn template(&self) -> Result<Vec<Part<'_>>, Problem> {
        let unknown = |placeholder: &str| {
            Problem::at("rerun.test", format!("unknown placeholder `{placeholder}`"))
                .help("the placeholders are {name}, {suite} and {file}")
        };
        let (mut parts, mut rest) = (Vec::new(), self.test.as_str());
        while let Some((before, after)) = rest.split_once('{') {
            parts.push(Part::Text(before));
            let (placeholder, after) = after.split_once('}').ok_or_else(|| unknown(&format!("{{{after}")))?;
            parts.push(match placeholder {
                "name" => Part::Name,
                "suite" => Part::Suite,
                "file" => Part::File,
                other => return Err(unknown(&format!("{{{other}}}"))),
            });
            rest = after;
        }
        parts.push(Part::Text(rest));
        Ok(parts)
    }
}

enum Part<'a> {
    Text(&'a str),
    Name,
    Suite,
    File,
}

/// A text for a regular expression of any of the common kinds. A backslash before other characters would be an error, or
/// have a meaning, in some of them.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, letter| {
        if r"\.+*?()|[]{}^$".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
        escaped
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use stagewright_sdk::Stage as _;

    use super::*;
    use crate::Command;
    use crate::config::Config;

    fn config(rerun: &Json) -> Config {
        serde_json::from_value(json!({ "argv": ["tests"], "junit": ["report.xml"], "rerun": rerun })).unwrap()
    }

    fn select(rerun: &Json) -> Result<Vec<String>, String> {
        let config = config(rerun);
        let test = |suite: &str, name: &str, file: Option<&str>| FailedTest {
            suite: suite.to_owned(),
            name: name.to_owned(),
            file: file.map(str::to_owned),
        };
        let tests = [test("calc.Add", "adds (1+1)", Some("calc.py")), test("calc.Sub", "subtracts", Some("calc.py"))];
        config.rerun.as_ref().unwrap().select(None, &tests)
    }

    #[test]
    fn each_runner_gets_the_tests_as_it_expects_them() {
        for (rerun, expected) in [
            (json!({ "argv": ["gradle"] }), vec!["gradle", "adds (1+1)", "subtracts"]),
            (json!({ "argv": ["pytest", "-k"], "join": " or " }), vec!["pytest", "-k", "adds (1+1) or subtracts"]),
            (
                json!({ "argv": ["go", "-run"], "test": "^{name}$", "join": "|", "regex": true }),
                vec!["go", "-run", r"^adds \(1\+1\)$|^subtracts$"],
            ),
            (
                json!({ "argv": ["mvn"], "test": "{suite}#{name}", "join": "," }),
                vec!["mvn", "calc.Add#adds (1+1),calc.Sub#subtracts"],
            ),
            (json!({ "argv": ["rspec"], "test": "{file}" }), vec!["rspec", "calc.py"]),
            (
                json!({ "run": "run-tests \"$@\"" }),
                vec!["sh", "-eu", "-c", "run-tests \"$@\"", "sh", "adds (1+1)", "subtracts"],
            ),
        ] {
            assert_eq!(select(&rerun).unwrap(), expected, "{rerun}");
        }
    }

    #[test]
    fn what_no_command_line_can_say_is_refused() {
        let config = config(&json!({ "argv": ["rspec"], "test": "{file}" }));
        let rerun = config.rerun.as_ref().unwrap();
        let nowhere = FailedTest { suite: String::new(), name: "a".to_owned(), file: None };
        assert_eq!(rerun.select(None, &[nowhere]).unwrap_err(), "the report names no file for `a`");
        let long = FailedTest { suite: String::new(), name: "a".to_owned(), file: Some("a".repeat(MAX_ARGUMENT + 1)) };
        assert_eq!(rerun.select(None, &[long]).unwrap_err(), "the list of failed tests is too long for a command line");
    }

    #[test]
    fn mistakes_are_found_before_anything_runs() {
        let problems = |with: Json| {
            let config = serde_json::from_value(with).unwrap();
            Command::validate(&config).into_iter().map(|problem| problem.message).collect::<Vec<_>>()
        };
        let with = |rerun: Json| json!({ "argv": ["t"], "junit": ["r.xml"], "rerun": rerun });
        assert_eq!(problems(with(json!({ "argv": ["t"], "test": "{name}" }))), Vec::<String>::new());
        assert_eq!(problems(with(json!({ "argv": ["t"], "test": "{class}" }))), ["unknown placeholder `{class}`"]);
        assert_eq!(problems(with(json!({ "argv": ["t"], "test": "{name" }))), ["unknown placeholder `{name`"]);
        assert_eq!(problems(with(json!({ "argv": ["t"], "run": "t" }))), ["`rerun` needs either `argv` or `run`"]);
        assert_eq!(problems(with(json!({}))), ["`rerun` needs either `argv` or `run`"]);
        let without = json!({ "argv": ["t"], "rerun": { "argv": ["t"] } });
        assert_eq!(problems(without), ["`rerun` requires `junit`"]);
    }
}
