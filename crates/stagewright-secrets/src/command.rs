//! `command:`: reads what a program prints to its standard output.
//!
//! The program runs with the engine's rights and its whole environment, since the author of the pipeline requested it,
//! and not a plugin. It must not execute anything that a stage may have written to the workspace. Therefore no program
//! in the workspace is started, and the working folder is `/`: interpreters load modules, and tools their
//! configuration, from the working folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use stagewright_process::{Command, path_outside, run_to_end, which, which_outside};
use zeroize::Zeroizing;

use crate::error::Fault;
use crate::text::{into_text, without_last_newline};
use crate::{LARGEST, SourceContext};

/// How long a program may run, which includes a request to a keychain or a service.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How much of the program's standard error a message quotes, in characters.
const MAX_QUOTED_CHARS: usize = 500;

/// Runs the command that consists of `words`, and returns its output without the newline at the end. Blocks for at most
/// [`TIMEOUT`].
pub(crate) fn output(words: &[String], context: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    output_within(words, TIMEOUT, context)
}

fn output_within(words: &[String], limit: Duration, context: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    let Some((program, args)) = words.split_first() else {
        return Err(Fault::new("can't be fetched: the command is empty"));
    };
    let path = context.variable("PATH").unwrap_or_default();
    let named = if program.contains('/') { context.root.join(program) } else { PathBuf::from(program) };
    let found = which_outside(&named, path, &context.root).ok_or_else(|| missing_program(program, &named, path))?;
    // The program gets a `PATH` without the folders of the workspace, too. Otherwise a script of the machine that calls
    // `jq` by name could start a file that a stage has placed in a workspace folder of `PATH`, outside of any sandbox
    // and with the engine's environment.
    let mut variables = context.variables.clone();
    variables.insert("PATH".to_owned(), path_outside(path, &context.root).to_string_lossy().into_owned());
    let command = Command {
        program: found,
        args: args.iter().map(|word| resolve_path(word, &context.root)).collect(),
        env: variables.into_iter().collect(),
        current_dir: PathBuf::from("/"),
        stdin: None,
    };
    let finished = run_to_end(command, limit).map_err(|error| {
        Fault::new(format!("can't be fetched: {error}")).help("try the command by hand; it can't read from a terminal")
    })?;
    let (stdout, stderr) = (Zeroizing::new(finished.stdout), String::from_utf8_lossy(&finished.stderr).into_owned());
    if !finished.status.success() {
        let quoted = quotable(&stderr, &stdout);
        let reason = if quoted.is_empty() { String::new() } else { format!(": {quoted}") };
        let help = match args.iter().find(|word| is_repository_file(word, &context.root)) {
            Some(word) => format!("write `./{word}` for the file in the repository: the program runs in `/`"),
            None => "try the command by hand, in the folder `/`; it can't read from a terminal".to_owned(),
        };
        return Err(
            Fault::new(format!("can't be fetched: `{program}` ended with {}{reason}", finished.status)).help(help)
        );
    }
    if stdout.len() > LARGEST + 2 {
        return Err(Fault::new(format!("has more than {LARGEST} bytes: `{program}` printed {} bytes", stdout.len())));
    }
    let value = without_last_newline(into_text(stdout.to_vec(), &format!("the output of `{program}`"))?);
    if value.is_empty() {
        return Err(Fault::new(format!("is empty: `{program}` printed nothing"))
            .help("make the command print the value to its standard output"));
    }
    Ok(value)
}

/// Replaces the `./` at the beginning of an argument with the repository's root, because the program runs in `/`. Other
/// arguments are unchanged.
fn resolve_path(word: &str, root: &Path) -> String {
    let absolute = word.strip_prefix("./").and_then(|relative| root.join(relative).to_str().map(str::to_owned));
    absolute.unwrap_or_else(|| word.to_owned())
}

/// Whether an argument is the relative path of a file in the repository, but doesn't begin with `./`.
fn is_repository_file(word: &str, root: &Path) -> bool {
    !word.starts_with(['/', '-', '.']) && !word.is_empty() && root.join(word).exists()
}

fn missing_program(program: &str, named: &Path, path: &str) -> Fault {
    if which(named, path).is_some() {
        return Fault::new(format!("can't be fetched: the program `{program}` is in the workspace")).help(
            "install it outside of the workspace: it runs without a sandbox, and a stage could replace it there",
        );
    }
    let problem = if program.contains('/') { "does not exist" } else { "is not in PATH" };
    Fault::new(format!("can't be fetched: the program `{program}` {problem}"))
        .help(format!("install `{program}`, or change `from` in [secrets.*]"))
}

/// The end of a program's standard error, on one line. Lines that the program also printed to its standard output are
/// masked.
fn quotable(stderr: &str, stdout: &[u8]) -> String {
    // A program that fails may have printed the value, or a part of it, before that, and may repeat it in its error.
    // The usual masking can't remove it from the message, because the value of a secret that failed isn't known. Lines
    // of fewer than 4 bytes are kept: they occur in ordinary text by chance.
    let mut shown = stderr.to_owned();
    for line in String::from_utf8_lossy(stdout).lines().map(str::trim).filter(|line| line.len() >= 4) {
        shown = shown.replace(line, "***");
    }
    let line = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    let start = line.char_indices().rev().map(|(at, _)| at).take(MAX_QUOTED_CHARS).last().unwrap_or(0);
    line[start..].chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Result<Zeroizing<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let variables = [("PATH", "/usr/bin:/bin"), ("GIVEN", "by env")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let context = SourceContext { variables, root: folder.path().to_owned(), ..SourceContext::default() };
        let words = ["sh", "-c", script].map(str::to_owned);
        output(&words, &context).map_err(|fault| fault.for_secret("x").message)
    }

    #[test]
    fn the_value_is_the_standard_output() {
        assert_eq!(*run("echo \"$GIVEN\"; echo noise >&2").unwrap(), "by env");
        assert_eq!(*run("printf 'two\\n\\n'").unwrap(), "two\n");
    }

    #[test]
    fn an_error_quotes_standard_error_and_never_standard_output() {
        let error = run("echo hunter22; echo 'no such entry: hunter22' >&2; exit 3").unwrap_err();
        assert_eq!(error, "the secret `x` can't be fetched: `sh` ended with exit code 3: no such entry: ***");
        assert_eq!(run("kill -9 $$").unwrap_err(), "the secret `x` can't be fetched: `sh` ended with signal 9");
        assert_eq!(run("true").unwrap_err(), "the secret `x` is empty: `sh` printed nothing");
        assert!(run("head -c 70000 /dev/zero").unwrap_err().contains("more than 65536 bytes"));
    }

    /// A stage could have written it, and commands run outside of any sandbox.
    #[test]
    fn programs_in_the_workspace_are_never_run() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for name in ["true", "planted"] {
            std::fs::copy("/bin/true", bin.join(name)).unwrap();
        }
        let path = format!("{}:bin::/usr/bin:/bin", bin.display());
        let variables = std::collections::BTreeMap::from([("PATH".to_owned(), path)]);
        let context = SourceContext { variables, root: folder.path().to_owned(), ..SourceContext::default() };
        let run = |words: &[&str]| {
            let words = words.iter().map(ToString::to_string).collect::<Vec<_>>();
            output(&words, &context).map(|value| value.to_string()).map_err(|fault| fault.for_secret("x").message)
        };
        for program in ["planted", "bin/planted", "./bin/../bin/planted"] {
            assert!(run(&[program]).unwrap_err().contains("is in the workspace"), "{program}");
        }
        assert!(run(&["sh", "-c", "planted || echo not found"]).unwrap().contains("not found"));
        assert_eq!(run(&["sh", "-c", "command -v true; echo \"$PATH\""]).unwrap(), "true\n/usr/bin:/bin");
    }

    /// `python3 -m`, for example, loads modules from the working folder.
    #[test]
    fn a_program_runs_outside_of_the_workspace_and_gets_absolute_paths() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("value"), "of the file").unwrap();
        let variables = std::collections::BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
        let context = SourceContext { variables, root: folder.path().to_owned(), ..SourceContext::default() };
        let run = |words: &[&str]| {
            let words = words.iter().map(ToString::to_string).collect::<Vec<_>>();
            output(&words, &context).map(|value| value.to_string()).map_err(|fault| fault.for_secret("x"))
        };
        assert_eq!(run(&["pwd"]).unwrap(), "/");
        assert_eq!(run(&["cat", "./value"]).unwrap(), "of the file");
        let help = run(&["cat", "value"]).unwrap_err().help;
        assert!(help.contains("write `./value`"), "{help}");
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let context = SourceContext { root: folder.path().to_owned(), ..SourceContext::default() };
        let words = ["/bin/sh", "-c", "while :; do :; done"].map(str::to_owned);
        let error = output_within(&words, Duration::from_secs(1), &context).unwrap_err().for_secret("x");
        assert!(error.message.contains("took longer than 1 s"), "{error}");
    }

    #[test]
    fn the_error_names_a_missing_program() {
        let error = output(&["nowhere-to-be-found".to_owned()], &SourceContext::default()).unwrap_err().for_secret("x");
        assert!(error.message.contains("`nowhere-to-be-found` is not in PATH"), "{error}");
    }
}
