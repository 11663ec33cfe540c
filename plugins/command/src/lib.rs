//! Runs a program, or a script in a shell. Its output streams to the log. The stage's outputs are the exit code, captured
//! standard output (`capture`), and values that the program writes to a file (`outputs-file`).
//!
//! What the program prints is read for what failed ([`problems`]), and the JUnit reports that it writes are read for the
//! results of tests ([`junit`]). Whether the stage fails is decided by the exit code and those reports, and never by what
//! was printed. At the end, the files that it made are published ([`publish`]).

mod config;
mod junit;
mod outputs_file;
mod problems;
mod publish;
mod rerun;
mod shell;
mod source_files;

use std::collections::BTreeMap;

use problem_matchers::SourcePlace;
use stagewright_sdk::process::{ExitStatus, Source};
use stagewright_sdk::test_reports::{self, TestCase, TestOutcome};
use stagewright_sdk::text::count;
use stagewright_sdk::{
    Error, Manifest, Outcome, Problem, Requirement, Result, Stage, WorkspacePath, log, outputs, workspace,
};

use config::Config;
use problems::{ProblemReader, ProblemReport};
use source_files::SourceFiles;

/// Limit in bytes for `capture`.
const CAPTURE_LIMIT: usize = 1 << 20;

/// How many failed tests of a report are causes of the failure. The report's cases have all of them.
const NAMED_TESTS: usize = 10;

/// The plugin.
#[derive(Debug)]
pub struct Command;

impl Stage for Command {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<i32>("exit-code", "The program's exit code")
            .output::<usize>("passed", "Number of tests that passed, according to the `junit` reports")
            .output::<usize>("failed", "Number of tests that failed, according to the `junit` reports")
            .output::<BTreeMap<String, String>>(
                "artifacts",
                "The published artifacts by name, each by digest, as in `site@sha256:…`",
            )
            .open_outputs()
    }

    fn validate(config: &Config) -> Vec<Problem> {
        let argv = config.argv().err().into_iter();
        let rerun = config.rerun.iter().flat_map(|rerun| rerun.problems(config.shell.as_ref()));
        let no_report = config.rerun.iter().filter(|_| config.junit.is_empty()).map(|_| {
            Problem::at("rerun", "`rerun` requires `junit`")
                .help("set `junit` to the reports that name the failed tests, as in `junit = [\"report.xml\"]`")
        });
        argv.chain(config.matchers.problems())
            .chain(publish::problems(&config.artifacts))
            .chain(no_report)
            .chain(rerun)
            .collect()
    }

    fn requirements(config: &Config) -> Vec<Requirement> {
        let program = config.argv().ok().map(|argv| Requirement::command(&argv[0], &argv[1..]));
        let rerun = config
            .rerun
            .as_ref()
            .and_then(|rerun| rerun.command(config.shell.as_ref()))
            .map(|argv| Requirement::command(&argv[0], &argv[1..]).because("runs failed tests again").optional());
        let secrets = config.secret_env.iter().map(|(variable, secret)| {
            Requirement::secret_env(secret).because(format!("the program gets it as {variable}"))
        });
        let outputs = config
            .outputs_file
            .iter()
            .map(|path| Requirement::write(path.as_str()).because("the program writes its outputs to it"));
        let reports =
            config.junit.iter().map(|path| Requirement::read(path.as_str()).because("has the results of its tests"));
        let artifacts = config.artifacts.iter().map(publish::Publication::requirement);
        program.into_iter().chain(rerun).chain(secrets).chain(outputs).chain(reports).chain(artifacts).collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        let argv = config.argv().map_err(|problem| Error::from(vec![problem]))?;
        let argv = failed_tests_alone(&config).unwrap_or(argv);
        if let Some(path) = &config.outputs_file {
            // A file that an earlier run left must not become this run's outputs.
            workspace::remove(path)?;
        }
        let (mut captured, mut reader) = (CapturedOutput::default(), ProblemReader::new(&config));
        let status = config.process(&argv)?.run_chunks(|source, data| {
            captured.push(source, data);
            reader.push(source, data);
        })?;
        if let Some(code) = status.code {
            outputs::set("exit-code", &code)?;
        }
        let result =
            judge(&config, &argv, status, reader.finish(&config)).and_then(|()| set_outputs(&config, &captured));
        match result {
            Ok(()) => publish::after_success(&config.artifacts).map(|()| Outcome::Succeeded),
            Err(error) => {
                publish::after_failure(&config.artifacts);
                Err(error)
            }
        }
    }
}

/// The command that runs the tests that failed before; none if all tests run.
fn failed_tests_alone(config: &Config) -> Option<Vec<String>> {
    let tests = test_reports::failed_before()?;
    let selected = match &config.rerun {
        Some(rerun) => rerun.select(config.shell.as_ref(), &tests),
        None => Err("`with.rerun` doesn't say how to select some of them".to_owned()),
    };
    selected.inspect_err(|why| log::warn(format!("all tests run again: {why}"))).ok()
}

/// Reports problems and the results of tests. Fails if the program or one of its tests failed.
fn judge(config: &Config, argv: &[String], status: ExitStatus, mut problems: ProblemReport) -> Result<()> {
    let has_succeeded = status.code.is_some_and(|code| config.exit_codes.contains(&code));
    let cases = match reported_tests(config, &problems) {
        // A program that failed may have written no report, or a part of one.
        Err(error) if !has_succeeded => {
            log::warn(format!("no results of tests: {error}"));
            Vec::new()
        }
        cases => cases?,
    };
    let failed = cases.iter().filter(|case| is_failure(case)).collect::<Vec<_>>();
    let names = failed.iter().take(NAMED_TESTS).map(|case| case.name.clone()).collect::<Vec<_>>();
    if !failed.is_empty() {
        problems = problems.without_tests();
    }
    if !has_succeeded {
        // For a script this is only the shell; the script itself is in the pipeline file.
        let program = &argv[0];
        return Err(Error::failed(format!("`{program}` ended with {status}")).causes(names).causes(problems.report()));
    }
    problems.report_warnings();
    if failed.is_empty() || config.allow_failed_tests {
        return Ok(());
    }
    let total = cases.iter().filter(|case| case.outcome != TestOutcome::Skipped).count();
    let message = format!("{} of {} failed, although the program succeeded", failed.len(), count(total as u64, "test"));
    Err(Error::failed(message).causes(names).help("if tests may fail, set `allow-failed-tests = true`"))
}

/// The cases of the reports, which are reported to the host and counted.
fn reported_tests(config: &Config, problems: &ProblemReport) -> Result<Vec<TestCase>> {
    if config.junit.is_empty() {
        return Ok(Vec::new());
    }
    let Some(mut cases) = junit::read(&config.junit)? else {
        let patterns = config.junit.iter().map(WorkspacePath::as_str).collect::<Vec<_>>().join("`, `");
        return Err(Error::failed(format!("no test report matches `{patterns}`"))
            .help("make the program write one, or remove `junit`"));
    };
    let mut files = SourceFiles::new(config.cwd.as_ref());
    for case in &mut cases {
        if let Some((path, position)) = case.file.take() {
            case.file = files.resolve(&SourcePlace::of_file(&path)).map(|path| (path, position));
        }
        if is_failure(case) && case.file.is_none() {
            case.file = problems.place_of_test(&case.name);
        }
        case.clone().report();
    }
    let number = |outcome: fn(&TestCase) -> bool| cases.iter().filter(|case| outcome(case)).count();
    outputs::set("passed", &number(|case| case.outcome == TestOutcome::Passed))?;
    outputs::set("failed", &number(is_failure))?;
    Ok(cases)
}

fn is_failure(case: &TestCase) -> bool {
    matches!(case.outcome, TestOutcome::Failed | TestOutcome::Errored)
}

/// Sets the outputs of a program that succeeded.
fn set_outputs(config: &Config, captured: &CapturedOutput) -> Result<()> {
    if let Some(name) = &config.capture {
        outputs::set(name, &captured.text()?)?;
    }
    if let Some(path) = &config.outputs_file {
        for (name, value) in outputs_file::read(path)? {
            outputs::set(&name, &value)?;
        }
    }
    Ok(())
}

/// The beginning of the program's standard output.
#[derive(Default)]
struct CapturedOutput(Vec<u8>);

impl CapturedOutput {
    fn push(&mut self, source: Source, data: &[u8]) {
        if source == Source::Stdout {
            // Keep one byte more than the limit, to detect that the output exceeds it.
            let room = (CAPTURE_LIMIT + 1).saturating_sub(self.0.len());
            self.0.extend_from_slice(&data[..data.len().min(room)]);
        }
    }

    /// Standard output as text, without the last line end.
    fn text(&self) -> Result<String> {
        if self.0.len() > CAPTURE_LIMIT {
            return Err(Error::failed(format!(
                "the program printed more than {CAPTURE_LIMIT} bytes, the limit of `capture`"
            ))
            .help("write a file instead, and publish it as an artifact"));
        }
        let text = String::from_utf8_lossy(&self.0).replace("\r\n", "\n");
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }
}

stagewright_sdk::export_stage!(Command);

#[cfg(test)]
mod tests;
