//! Opens a session from the command line and the environment, and shows its notices on standard error.

use std::path::PathBuf;
use std::sync::Arc;

use stagewright_builtin_plugins::Component;
use stagewright_model::Diagnostic;
use stagewright_report::text;
use stagewright_session::{BuiltinPlugins, EmbeddedPlugin, Notice, Notices, Session, SessionConfig};

use crate::error::CommandError;
use crate::global::{ColorChoice, Global};
use crate::{console, diagnostics};

/// The session of the repository around the current folder, or around `-C`.
pub(crate) fn open(global: &Global) -> Result<Session, CommandError> {
    let variables = std::env::vars_os();
    let config = SessionConfig {
        current: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
        directory: global.directory.clone().unwrap_or_else(|| PathBuf::from(".")),
        state: global.state.clone(),
        policy: global.policy.clone(),
        plugins: builtin_plugins(),
        program: this_program()?,
        temporary: std::env::temp_dir(),
        environment: variables
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
    };
    Ok(Session::open(config, Arc::new(StandardError { color: global.color }))?)
}

/// Runs the asynchronous part of a command.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::internal("can't start the runtime").caused_by(error))?;
    let result = runtime.block_on(work);
    // A prompt may still be blocked on standard input. Dropping the runtime would wait for it, so that the command would
    // end only at the next key press. No other task is left at this point.
    runtime.shutdown_background();
    result
}

/// The built-in plugins: those in the folders of `STAGEWRIGHT_PLUGINS`, else in `plugins` beside the program; and for names
/// that these don't have, those in the program.
fn builtin_plugins() -> BuiltinPlugins {
    let embedded = stagewright_builtin_plugins::COMPONENTS.iter();
    let embedded = embedded.map(|&Component { name, digest, gzip }| EmbeddedPlugin { name, digest, gzip }).collect();
    BuiltinPlugins { folders: plugin_folders(), embedded }
}

fn plugin_folders() -> Vec<PathBuf> {
    if let Ok(folders) = std::env::var("STAGEWRIGHT_PLUGINS") {
        return std::env::split_paths(&folders).collect();
    }
    let program = std::env::current_exe().and_then(|program| program.canonicalize());
    program.ok().and_then(|program| Some(program.parent()?.join("plugins"))).into_iter().collect()
}

/// The path of this program for starting helpers. `/proc/self/exe` refers to the running program even if a stage has put
/// another file at its path since, which must not be executed with the engine's privileges.
fn this_program() -> Result<PathBuf, CommandError> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        return Ok(running);
    }
    std::env::current_exe()
        .map_err(|error| CommandError::internal("can't find this program's own file").caused_by(error))
}

/// Shows notices as lines, and diagnostics with their locations underlined.
struct StandardError {
    color: ColorChoice,
}

impl Notices for StandardError {
    fn diagnostics(&self, found: &[&Diagnostic]) {
        diagnostics::show(self.color, found.iter().copied());
    }

    fn notice(&self, notice: &Notice) {
        match notice {
            Notice::SendingResults => console::say(text!("{notice}; Ctrl-C leaves them unsent")),
            notice => console::say(text!("{notice}")),
        }
        if let Some(help) = notice.help() {
            console::say(text!("  help: {help}"));
        }
    }
}
