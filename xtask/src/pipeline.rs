//! `cargo xtask pipeline`: builds the engine and its plugins if they are out of date, then replaces itself with
//! `stagewright`.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use crate::cargo::{Result, cargo, describe, is_installed, root, run as run_command};
use crate::packages;

/// A variable that names the engine's features to build with, separated by commas; none by default.
const FEATURES: &str = "STAGEWRIGHT_FEATURES";

/// All of the engine's features, as they are released.
pub(crate) const FULL: &str = "full";

/// The pipeline for commands that name none.
const DEFAULT_PIPELINE: &str = "release";

/// Subcommands of `stagewright` that take one pipeline file. `validate` isn't one of them: without a name, it checks all
/// files.
const TAKES_PIPELINE: [&str; 3] = ["run", "plan", "graph"];

/// Builds what is out of date, then replaces this process with `stagewright`. Returns only if one of these fails.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let features = std::env::var(FEATURES).unwrap_or_default();
    let (program, plugins) = build(&features, Stdio::null())?;
    let mut command = Command::new(program);
    command.env("STAGEWRIGHT_PLUGINS", plugins);
    command.args(with_default_pipeline(arguments, &pipeline_names(&root().join("pipelines"))?));
    Err(format!("can't start `{}`: {}", describe(&command), command.exec()))
}

/// Builds the engine with `features`, separated by commas, and the plugins, as far as they are out of date. Returns the path
/// of the `stagewright` executable and the folder of the plugins' components. `list` receives a line for each plugin.
pub(crate) fn build(features: &str, list: Stdio) -> Result<(PathBuf, PathBuf)> {
    require_c_compiler()?;
    let program = build_engine(features)?;
    packages::install_wasm_compiler()?;
    let plugins = components_folder(&program)?.join("plugins");
    build_components(&program, "plugins", &plugins, list)?;
    Ok((program, plugins))
}

/// As [`build`], with all features, the components that only tests use, and what tests find beside them.
pub(crate) fn build_for_tests() -> Result<()> {
    let (program, _) = build(FULL, Stdio::inherit())?;
    let folder = components_folder(&program)?;
    packages::install_python(&folder)?;
    build_components(&program, "tests/guests", &folder.join("test-plugins"), Stdio::inherit())
}

/// The folder for components, next to the folder of the profile with which the executable was built.
fn components_folder(program: &Path) -> Result<PathBuf> {
    let target = program.ancestors().nth(2).ok_or_else(|| format!("{} has no target folder", program.display()))?;
    Ok(target.join("stagewright"))
}

/// Builds the plugins in a folder of the repository. One that is up to date takes `stagewright` a few milliseconds.
fn build_components(program: &Path, folder: &str, out: &Path, list: Stdio) -> Result<()> {
    remove_components(&root().join(folder), out)
        .map_err(|error| format!("can't remove old plugins from {}: {error}", out.display()))?;
    let mut command = Command::new(program);
    command.current_dir(root()).args(["plugin", "build", folder, "--out"]).arg(out);
    run_command(command.stdout(list))
}

/// Removes the components of plugins that are no longer in the folder, so that nothing finds them.
fn remove_components(folder: &Path, out: &Path) -> std::io::Result<()> {
    let Ok(built) = std::fs::read_dir(out) else { return Ok(()) };
    for file in built {
        let path = file?.path();
        let is_component = path.extension().is_some_and(|extension| extension == "wasm");
        let is_there = path.file_stem().is_some_and(|name| folder.join(name).join("Cargo.toml").is_file());
        if is_component && !is_there {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// SQLite and libgit2 are compiled from C, and rustc links with `cc`.
fn require_c_compiler() -> Result<()> {
    if std::env::var_os("CC").is_some() || is_installed("cc") {
        Ok(())
    } else {
        Err("no C compiler: `cc` is not in PATH\n  help: apt-get install gcc libc6-dev".to_owned())
    }
}

/// Builds `stagewright` without plugins inside, and returns its path.
fn build_engine(features: &str) -> Result<PathBuf> {
    build_executable(cargo().args(["build", "--package", "stagewright-cli", "--features", features]))
}

/// Runs a `cargo build` of `stagewright`, and returns the path of the executable. Shows the output of cargo only if something
/// was out of date.
pub(crate) fn build_executable(command: &mut Command) -> Result<PathBuf> {
    command.args(["--message-format", "json-render-diagnostics"]);
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always").env("CARGO_TERM_PROGRESS_WHEN", "always");
        command.env("CARGO_TERM_PROGRESS_WIDTH", "80");
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("can't start `{}`: {error}", describe(command)))?;
    let progress =
        child.stderr.take().map(|stderr| std::thread::spawn(move || show_progress(stderr, std::io::stderr())));
    let program = child.stdout.take().and_then(|stdout| executable_named(BufReader::new(stdout), "stagewright"));
    let status = child.wait().map_err(|error| format!("can't wait for `{}`: {error}", describe(command)))?;
    if let Some(progress) = progress {
        // Fails only if the terminal has been closed, so that the error can't be shown either.
        let _ = progress.join();
    }
    match program {
        Some(program) if status.success() => Ok(program),
        _ => Err(format!("`{}` failed ({status})", describe(command))),
    }
}

/// The path of an executable, from the JSON messages that cargo prints about its artifacts.
fn executable_named(messages: impl BufRead, name: &str) -> Option<PathBuf> {
    let executables = messages.lines().map_while(std::result::Result::ok).filter_map(|line| {
        // Most messages are about libraries, which needn't be parsed.
        let message: Json = line.contains("\"executable\":\"").then(|| serde_json::from_str(&line).ok())??;
        (message["target"]["name"] == name).then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    // Reads all lines, even after the executable's: cargo would fail if the pipe were closed.
    executables.last()
}

/// Copies the standard error of cargo as it arrives, except for the single line of a build with nothing to do.
fn show_progress(from: impl Read, mut to: impl Write) -> std::io::Result<()> {
    let mut from = BufReader::new(from);
    let mut first = Vec::new();
    // A progress bar ends with a carriage return, so that it is shown as soon as it is drawn.
    for byte in from.by_ref().bytes() {
        first.push(byte?);
        if matches!(first.last(), Some(b'\n' | b'\r')) {
            break;
        }
    }
    if !String::from_utf8_lossy(&first).contains("Finished") {
        to.write_all(&first)?;
    }
    let mut buffer = [0; 4096];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count])?;
        to.flush()?;
    }
}

/// The names of the pipelines in a folder.
fn pipeline_names(folder: &Path) -> Result<Vec<OsString>> {
    let files = list(folder)?.into_iter().filter(|path| path.extension() == Some(OsStr::new("toml")));
    Ok(files.filter_map(|path| path.file_stem().map(OsStr::to_owned)).collect())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(|error| format!("can't list {}: {error}", folder.display()))
}

/// Adds the default pipeline to a command line that takes a pipeline and names none.
///
/// A word counts as a pipeline if it follows the subcommand directly, is the name of one, or ends in `.toml`. Only
/// `stagewright` knows which options take a value.
fn with_default_pipeline(arguments: &[OsString], known: &[OsString]) -> Vec<OsString> {
    let mut arguments = arguments.to_vec();
    let Some((command, rest)) = arguments.split_first() else { return arguments };
    let takes_pipeline = TAKES_PIPELINE.iter().any(|name| command == name);
    let is_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
    let is_pipeline = |word: &OsString| known.contains(word) || Path::new(word).extension() == Some(OsStr::new("toml"));
    let asks_for_help = rest.iter().any(|word| word == "--help" || word == "-h");
    let names_one = rest.first().is_some_and(|word| !is_option(word)) || rest.iter().any(is_pipeline);
    if takes_pipeline && !names_one && !asks_for_help {
        arguments.insert(1, DEFAULT_PIPELINE.into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_of_plugins_that_are_gone_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (plugins, out) = (folder.path().join("plugins"), folder.path().join("out"));
        std::fs::create_dir_all(plugins.join("kept")).unwrap();
        std::fs::create_dir(&out).unwrap();
        for file in [plugins.join("kept/Cargo.toml"), out.join("kept.wasm"), out.join("gone.wasm"), out.join("other")] {
            std::fs::write(file, "").unwrap();
        }
        remove_components(&plugins, &out).unwrap();
        assert!(out.join("kept.wasm").is_file() && out.join("other").is_file() && !out.join("gone.wasm").exists());
    }

    fn completed(line: &str) -> String {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let words = with_default_pipeline(&words, &["release".into(), "self".into()]);
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_release_pipeline_is_meant_when_none_is_named() {
        assert_eq!(completed("run"), "run release");
        assert_eq!(completed("run --rehearse"), "run release --rehearse");
        assert_eq!(completed("plan --format json"), "plan release --format json");
    }

    #[test]
    fn a_named_pipeline_stays() {
        for line in ["run self", "run --rehearse self", "run misspelt --rehearse", "run --rehearse other/file.toml"] {
            assert_eq!(completed(line), line);
        }
    }

    #[test]
    fn commands_without_a_pipeline_stay() {
        for line in ["", "--help", "run --help", "validate", "logs latest", "plugin build plugins/noop"] {
            assert_eq!(completed(line), line);
        }
    }

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"libc"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/debug/other"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"stagewright"},"executable":"/t/debug/stagewright"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable_named(messages.as_bytes(), "stagewright"), Some(PathBuf::from("/t/debug/stagewright")));
        assert_eq!(executable_named(messages.as_bytes(), "absent"), None);
    }

    #[test]
    fn a_build_with_nothing_to_do_is_silent_and_any_other_is_shown_whole() {
        let shown = |text: &str| {
            let mut shown = Vec::new();
            show_progress(text.as_bytes(), &mut shown).expect("a vector takes everything");
            String::from_utf8(shown).expect("UTF-8 in, UTF-8 out")
        };
        assert_eq!(shown("    Finished `dev` profile in 0.1s\n"), "");
        assert_eq!(shown(""), "");
        let busy = "   Compiling a v0.1.0\nerror: no\n    Finished `dev` profile in 2s\n";
        assert_eq!(shown(busy), busy);
    }
}
