//! The paths of a session: the repository, its pipeline files, the state folder, and the built-in plugins.
//! [`locate`](crate::locate) finds the repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use stagewright_model::list;
use stagewright_plugin_host::BuiltinPlugins;

use crate::error::SessionError;

/// The lock file, at the repository's root for git to keep.
pub const LOCK_FILE: &str = "stagewright.lock";

/// The folders and variables of a session.
#[derive(Clone)]
pub struct Repository {
    /// See [`SessionConfig::current`](crate::SessionConfig).
    pub current: PathBuf,
    /// The workspace that stages see.
    pub root: PathBuf,
    /// The folder of runs, artifacts and local environments.
    pub state: PathBuf,
    /// The built-in plugins.
    pub plugins: BuiltinPlugins,
    /// The folder of compiled plugins, shared by all repositories of the user.
    pub cache: PathBuf,
    /// The operator's policy, if one other than the machine's is configured.
    pub policy: Option<PolicyPath>,
    /// The program that sandboxes and services are started with, see [`SessionConfig::program`](crate::SessionConfig).
    pub program: PathBuf,
    /// The folder for temporary files of one operation.
    pub temporary: PathBuf,
    /// The variables that programs and secrets may be granted, without those of `cache_environment`.
    pub environment: BTreeMap<String, String>,
    /// The variables for the shared cache, such as `TOKEN` and `AWS_SECRET_ACCESS_KEY`, which no pipeline can be
    /// granted.
    pub cache_environment: BTreeMap<String, String>,
}

/// The path of a policy.
#[derive(Clone, Debug)]
pub struct PolicyPath {
    /// The path as given, for messages.
    pub named: PathBuf,
    /// The absolute path.
    pub path: PathBuf,
}

/// A pipeline file that has been read.
#[derive(Clone, Debug)]
pub struct PipelineFile {
    /// Its path, relative to the repository's root if it is inside the repository.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Reads a pipeline, a lock file or a policy, without its byte order mark and with `\r\n` replaced by `\n`. Git and editors
/// on Windows write these, and scripts inside the file would otherwise be executed with them.
pub(crate) fn document(path: &Path) -> std::io::Result<String> {
    let text = stagewright_files::read_text(path, stagewright_files::PIPELINE)?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok(if text.contains('\r') { text.replace("\r\n", "\n") } else { text })
}

impl Repository {
    /// The folder of files that were captured at gates.
    pub fn captures(&self) -> PathBuf {
        self.state.join("captures")
    }

    /// The folder of artifacts: their contents, and their names by run.
    pub fn artifacts(&self) -> PathBuf {
        self.state.join("artifacts")
    }

    /// The folder of cached results.
    pub fn results(&self) -> PathBuf {
        self.state.join("cache/results")
    }

    /// The folder of stages' download caches.
    pub fn kept(&self) -> PathBuf {
        self.state.join("kept")
    }

    /// The folder of rehearsals' stand-ins, with a subfolder per run.
    pub fn rehearsals(&self) -> PathBuf {
        self.state.join("rehearsal/runs")
    }

    /// All pipeline files: `stagewright.toml`, and those in `pipelines/`.
    pub fn pipelines(&self) -> Vec<PathBuf> {
        let mut files = self.root.join("pipelines").read_dir().map_or_else(
            |_| Vec::new(),
            |entries| {
                let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
                paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect()
            },
        );
        files.sort();
        let main = self.root.join("stagewright.toml");
        if main.is_file() {
            files.insert(0, main);
        }
        files
    }

    /// Reads a pipeline by the path of its file or its name in `pipelines/`, or the only pipeline if `name` is none.
    ///
    /// # Errors
    /// If the pipeline doesn't exist, the choice is ambiguous, or the file can't be read.
    pub fn pipeline(&self, name: Option<&str>) -> Result<PipelineFile, SessionError> {
        let path = match name {
            Some(name) => self.named(name)?,
            None => self.default()?,
        };
        let text = document(&path).map_err(|error| {
            SessionError::not_ready(format!("can't read the pipeline file {}", path.display())).caused_by(error)
        })?;
        let name = path.strip_prefix(&self.root).unwrap_or(&path).display().to_string();
        Ok(PipelineFile { name, text })
    }

    /// Resolves a path, which contains a `/` or ends in `.toml`, or a name. A name never refers to a file in the
    /// current folder, because a stage could create one there.
    fn named(&self, name: &str) -> Result<PathBuf, SessionError> {
        let is_path = name.contains('/') || name.ends_with(".toml");
        let candidates = match is_path {
            true => vec![self.current.join(name), self.root.join(name)],
            false => vec![self.root.join("pipelines").join(format!("{name}.toml"))],
        };
        let found = candidates.iter().find(|path| path.is_file()).map(|path| path.canonicalize());
        found.and_then(Result::ok).ok_or_else(|| {
            let missing = SessionError::not_ready(format!("unknown pipeline `{name}`")).hint(self.known_pipelines());
            match !is_path && self.current.join(name).is_file() {
                true => missing.hint(format!(
                    "a name refers to a file in `pipelines/`; for the file in this folder, use `./{name}`"
                )),
                false => missing,
            }
        })
    }

    fn default(&self) -> Result<PathBuf, SessionError> {
        let mut files = self.pipelines();
        match files.len() {
            0 => Err(self.no_pipeline()),
            1 => Ok(files.remove(0)),
            _ if files[0].ends_with("stagewright.toml") => Ok(files.remove(0)),
            _ => Err(SessionError::invalid_request("the repository has several pipelines: name one")
                .hint(self.known_pipelines())),
        }
    }

    /// The names of all pipelines, for commands that are called without one.
    ///
    /// # Errors
    /// If the repository has no pipeline.
    pub fn all_pipelines(&self) -> Result<Vec<String>, SessionError> {
        let all: Vec<String> = self.pipelines().iter().map(|path| path.display().to_string()).collect();
        if all.is_empty() { Err(self.no_pipeline()) } else { Ok(all) }
    }

    fn no_pipeline(&self) -> SessionError {
        SessionError::not_ready(format!("{} has no pipeline", self.root.display()))
            .hint("`stagewright init` writes one for what the repository uses")
    }

    fn known_pipelines(&self) -> String {
        let names =
            self.pipelines().iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect::<Vec<_>>();
        match names.as_slice() {
            [] => "the repository has none: `stagewright init` writes one".to_owned(),
            _ => format!("the repository has: {}", list(names)),
        }
    }
}
