//! `command:`: what a program prints.
//!
//! It runs as the engine does, with its whole environment: it is the pipeline's author who asks for it, not a plugin. What
//! a stage could have put into the workspace must not be executed by it, so it is given neither a program from there nor
//! the workspace as its working folder: interpreters take modules, and tools their configuration, from where they are
//! started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use stagewright_process::{Command, path_outside, run_to_end, which, which_outside};
use zeroize::Zeroizing;

use crate::error::Fault;
use crate::text::{text, without_last_newline};
use crate::{LARGEST, SourceContext};

/// For a keychain or a service to answer.
const LIMIT: Duration = Duration::from_secs(30);
/// What is shown of the program's complaints.
const COMPLAINT: usize = 500;

pub(crate) fn output(words: &[String], around: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    within(words, LIMIT, around)
}

fn within(words: &[String], limit: Duration, around: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    let Some((program, args)) = words.split_first() else {
        return Err(Fault::new("comes from a command without a program"));
    };
    let path = around.variable("PATH").unwrap_or_default();
    let named = if program.contains('/') { around.root.join(program) } else { PathBuf::from(program) };
    let found = which_outside(&named, path, &around.root).ok_or_else(|| missing(program, &named, path))?;
    // What the program starts in turn comes from nowhere else.
    let mut variables = around.variables.clone();
    variables.insert("PATH".to_owned(), path_outside(path, &around.root).to_string_lossy().into_owned());
    let command = Command {
        program: found,
        args: args.iter().map(|word| absolute(word, &around.root)).collect(),
        env: variables.into_iter().collect(),
        current_dir: PathBuf::from("/"),
        stdin: None,
    };
    let ended = run_to_end(command, limit).map_err(|error| {
        Fault::new(format!("can't be fetched: {error}"))
            .help("try the command by hand; it reads nothing from a terminal")
    })?;
    let (stdout, stderr) = (Zeroizing::new(ended.stdout), String::from_utf8_lossy(&ended.stderr).into_owned());
    if !ended.status.success() {
        let complaint = without_value(&stderr, &stdout);
        let said = if complaint.is_empty() { String::new() } else { format!(": {complaint}") };
        let help = match args.iter().find(|word| names_a_file(word, &around.root)) {
            Some(word) => {
                format!("to name the file of the repository, write `./{word}`: the program is started in `/`")
            }
            None => "try the command by hand; it is started in `/`, and reads nothing from a terminal".to_owned(),
        };
        return Err(Fault::new(format!("can't be fetched: `{program}` ended with {}{said}", ended.status)).help(help));
    }
    if stdout.len() > LARGEST + 2 {
        return Err(Fault::new(format!("has more than {LARGEST} bytes: `{program}` printed {}", stdout.len())));
    }
    let value = without_last_newline(text(stdout.to_vec(), &format!("what `{program}` printed"))?);
    if value.is_empty() {
        return Err(Fault::new(format!("is empty: `{program}` printed nothing"))
            .help("make the command print the value to its standard output"));
    }
    Ok(value)
}

/// A word that begins with `./` names a file of the repository.
fn absolute(word: &str, root: &Path) -> String {
    let below = word.strip_prefix("./").and_then(|below| root.join(below).to_str().map(str::to_owned));
    below.unwrap_or_else(|| word.to_owned())
}

/// Whether the word would be a file of the repository, and doesn't say so.
fn names_a_file(word: &str, root: &Path) -> bool {
    !word.starts_with(['/', '-', '.']) && !word.is_empty() && root.join(word).exists()
}

fn missing(program: &str, named: &Path, path: &str) -> Fault {
    if which(named, path).is_some() {
        return Fault::new(format!("can't be fetched: the program `{program}` is a file of the workspace"))
            .help("install it elsewhere: it runs outside of any sandbox, and a stage could change it");
    }
    let place = if program.contains('/') { "not there" } else { "not in PATH" };
    Fault::new(format!("can't be fetched: the program `{program}` is {place}"))
        .help(format!("install `{program}`, or change `from` in [secrets.*]"))
}

/// The last of what a program complained of, on one line, without what it printed as well.
fn without_value(stderr: &str, stdout: &[u8]) -> String {
    let mut shown = stderr.to_owned();
    for line in String::from_utf8_lossy(stdout).lines().map(str::trim).filter(|line| line.len() >= 4) {
        shown = shown.replace(line, "***");
    }
    let line = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    let from = line.char_indices().rev().map(|(at, _)| at).take(COMPLAINT).last().unwrap_or(0);
    line[from..].chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Result<Zeroizing<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let variables = [("PATH", "/usr/bin:/bin"), ("GIVEN", "by env")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let around = SourceContext { variables, root: folder.path().to_owned(), ..SourceContext::default() };
        let words = ["sh", "-c", script].map(str::to_owned);
        output(&words, &around).map_err(|fault| fault.of("x").message)
    }

    #[test]
    fn what_is_printed_is_the_value() {
        assert_eq!(*run("echo \"$GIVEN\"; echo noise >&2").unwrap(), "by env");
        assert_eq!(*run("printf 'two\\n\\n'").unwrap(), "two\n");
    }

    #[test]
    fn a_failure_shows_what_the_program_complained_of_and_never_what_it_printed() {
        let error = run("echo hunter22; echo 'no such entry: hunter22' >&2; exit 3").unwrap_err();
        assert_eq!(error, "the secret `x` can't be fetched: `sh` ended with exit code 3: no such entry: ***");
        assert_eq!(run("kill -9 $$").unwrap_err(), "the secret `x` can't be fetched: `sh` ended with signal 9");
        assert_eq!(run("true").unwrap_err(), "the secret `x` is empty: `sh` printed nothing");
        assert!(run("head -c 70000 /dev/zero").unwrap_err().contains("more than 65536 bytes"));
    }

    /// A stage could have put it there, and this runs outside of any sandbox.
    #[test]
    fn a_program_of_the_workspace_is_never_run() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for name in ["true", "planted"] {
            std::fs::copy("/bin/true", bin.join(name)).unwrap();
        }
        let path = format!("{}:bin::/usr/bin:/bin", bin.display());
        let variables = std::collections::BTreeMap::from([("PATH".to_owned(), path)]);
        let around = SourceContext { variables, root: folder.path().to_owned(), ..SourceContext::default() };
        let run = |words: &[&str]| {
            let words = words.iter().map(ToString::to_string).collect::<Vec<_>>();
            output(&words, &around).map(|value| value.to_string()).map_err(|fault| fault.of("x").message)
        };
        for program in ["planted", "bin/planted", "./bin/../bin/planted"] {
            assert!(run(&[program]).unwrap_err().contains("is a file of the workspace"), "{program}");
        }
        assert!(run(&["sh", "-c", "planted || echo not found"]).unwrap().contains("not found"));
        assert_eq!(run(&["sh", "-c", "command -v true; echo \"$PATH\""]).unwrap(), "true\n/usr/bin:/bin");
    }

    /// As `python3 -m` takes modules from there.
    #[test]
    fn a_program_is_not_started_in_the_workspace_and_is_told_where_its_files_are() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("value"), "of the file").unwrap();
        let variables = std::collections::BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
        let around = SourceContext { variables, root: folder.path().to_owned(), ..SourceContext::default() };
        let run = |words: &[&str]| {
            let words = words.iter().map(ToString::to_string).collect::<Vec<_>>();
            output(&words, &around).map(|value| value.to_string()).map_err(|fault| fault.of("x"))
        };
        assert_eq!(run(&["pwd"]).unwrap(), "/");
        assert_eq!(run(&["cat", "./value"]).unwrap(), "of the file");
        let help = run(&["cat", "value"]).unwrap_err().help;
        assert!(help.contains("write `./value`"), "{help}");
    }

    #[test]
    fn a_program_that_hangs_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let around = SourceContext { root: folder.path().to_owned(), ..SourceContext::default() };
        let words = ["/bin/sh", "-c", "while :; do :; done"].map(str::to_owned);
        let error = within(&words, Duration::from_secs(1), &around).unwrap_err().of("x");
        assert!(error.message.contains("took longer than 1 s"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = output(&["nowhere-to-be-found".to_owned()], &SourceContext::default()).unwrap_err().of("x");
        assert!(error.message.contains("`nowhere-to-be-found` is not in PATH"), "{error}");
    }
}
