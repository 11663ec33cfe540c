//! The shell that runs scripts.

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Problem, schemars};

/// The command that a script is passed to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a list of arguments, or a text such as `\"bash -eo pipefail\"`")]
pub enum Shell {
    /// The program and its arguments.
    Words(Vec<String>),
    /// The same in one text, quoted as for a shell.
    Line(String),
}

/// The longest argument that Linux accepts, in bytes, without the closing zero byte.
pub(crate) const MAX_ARGUMENT: usize = 32 * 4096 - 1;

/// The programs that take a script as the argument of `-c`.
const WITH_SCRIPT_OPTION: [&str; 8] = ["sh", "bash", "dash", "ash", "ksh", "zsh", "python", "python3"];

/// The command that runs a script.
pub(crate) fn command(shell: Option<&Shell>, script: &str) -> std::result::Result<Vec<String>, Problem> {
    let default = || Ok(["sh", "-eu", "-c"].map(str::to_owned).to_vec());
    let mut argv = shell.map_or_else(default, Shell::words)?;
    argv.push(script.to_owned());
    Ok(argv)
}

impl Shell {
    fn words(&self) -> std::result::Result<Vec<String>, Problem> {
        let empty = || Problem::at("shell", "`shell` is empty");
        let mut words = match self {
            Shell::Words(words) if words.is_empty() => return Err(empty()),
            Shell::Words(words) => return Ok(words.clone()),
            Shell::Line(line) => shlex::split(line).ok_or_else(|| {
                Problem::at("shell", "`shell` has a quote that isn't closed").help("write it as a list of arguments")
            })?,
        };
        let program = words.first().ok_or_else(empty)?;
        let takes_option = WITH_SCRIPT_OPTION.iter().any(|name| program.rsplit('/').next() == Some(name));
        let has_option =
            words.iter().any(|word| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c'));
        if takes_option && !has_option {
            words.push("-c".to_owned());
        }
        Ok(words)
    }
}
