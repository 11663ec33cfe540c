//! Where things are: the repository, its pipeline files, the state folder, the built-in plugins. How one is found is in
//! [`locate`](crate::locate).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use stagewright_model::list;

use crate::error::SessionError;

/// The lock file, at the repository's root for git to keep.
pub const LOCK_FILE: &str = "stagewright.lock";

/// The folders that a session works on, and the variables that it was given.
#[derive(Clone)]
pub struct Repository {
    /// See [`SessionConfig::current`](crate::SessionConfig).
    pub current: PathBuf,
    /// The workspace that stages see.
    pub root: PathBuf,
    /// Runs, artifacts and local environments.
    pub state: PathBuf,
    /// Folders with built-in plugins, `NAME.wasm`; the first that has one wins.
    pub plugins: Vec<PathBuf>,
    /// Compiled plugins; shared by all repositories of the user.
    pub cache: PathBuf,
    /// The operator's policy, when another than the machine's is named.
    pub policy: Option<PolicyPath>,
    /// The program that sandboxes and services are started with, see [`SessionConfig::program`](crate::SessionConfig).
    pub program: PathBuf,
    /// The folder for files that live as long as one operation.
    pub temporary: PathBuf,
    /// The variables that programs and secrets may be granted, without those of `cache_environment`.
    pub environment: BTreeMap<String, String>,
    /// What only the shared cache may know, as `TOKEN` and `AWS_SECRET_ACCESS_KEY`: no pipeline can ask for it.
    pub cache_environment: BTreeMap<String, String>,
}

/// The file of a policy.
#[derive(Clone, Debug)]
pub struct PolicyPath {
    /// As it was named, for messages.
    pub named: PathBuf,
    /// From the root on.
    pub path: PathBuf,
}

/// A pipeline file, read.
#[derive(Clone, Debug)]
pub struct PipelineFile {
    /// Relative to the repository's root when it lies below it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The text of a file that people write, without a byte order mark and with line feeds alone: git, and editors on Windows,
/// write others, and a script in such a file would be executed with them.
pub(crate) fn document(path: &Path) -> std::io::Result<String> {
    let text = stagewright_files::read_text(path, stagewright_files::CONFIGURATION)?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok(if text.contains('\r') { text.replace("\r\n", "\n") } else { text })
}

impl Repository {
    /// Files that were captured at gates, for people to approve of.
    pub fn captures(&self) -> PathBuf {
        self.state.join("captures")
    }

    /// Contents of artifacts, and their names by run.
    pub fn artifacts(&self) -> PathBuf {
        self.state.join("artifacts")
    }

    /// Results of the cache.
    pub fn results(&self) -> PathBuf {
        self.state.join("cache/results")
    }

    /// Download caches of stages.
    pub fn kept(&self) -> PathBuf {
        self.state.join("kept")
    }

    /// The stand-ins of rehearsals: a folder for each run.
    pub fn rehearsals(&self) -> PathBuf {
        self.state.join("rehearsal/runs")
    }

    /// Names of the plugins that are built in.
    pub fn builtin_names(&self) -> Vec<String> {
        let mut names = self
            .plugins
            .iter()
            .filter_map(|folder| folder.read_dir().ok())
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".wasm").map(str::to_owned))
            .collect::<Vec<_>>();
        names.sort();
        names.dedup();
        names
    }

    /// Every pipeline file: `stagewright.toml`, and those in `pipelines/`.
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

    /// Reads the pipeline that is meant by a file's path, a name in `pipelines/`, or nothing.
    ///
    /// # Errors
    /// When there is no such pipeline, when several could be meant, or when the file can't be read.
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

    /// A path has a `/` or ends in `.toml`. A name never means a file that happens to lie beside: a stage could put one
    /// there.
    fn named(&self, name: &str) -> Result<PathBuf, SessionError> {
        let is_path = name.contains('/') || name.ends_with(".toml");
        let candidates = match is_path {
            true => vec![self.current.join(name), self.root.join(name)],
            false => vec![self.root.join("pipelines").join(format!("{name}.toml"))],
        };
        let found = candidates.iter().find(|path| path.is_file()).map(|path| path.canonicalize());
        found.and_then(Result::ok).ok_or_else(|| {
            let missing =
                SessionError::not_ready(format!("there is no pipeline `{name}`")).hint(self.known_pipelines());
            match !is_path && self.current.join(name).is_file() {
                true => {
                    missing.hint(format!("a name means a file in `pipelines/`; for the file beside, write `./{name}`"))
                }
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
            _ => Err(SessionError::invalid_request("which pipeline?").hint(self.known_pipelines())),
        }
    }

    /// The names of all pipelines, for a command that is given none; the error says how to write the first.
    ///
    /// # Errors
    /// When the repository has no pipeline.
    pub fn all_pipelines(&self) -> Result<Vec<String>, SessionError> {
        let all: Vec<String> = self.pipelines().iter().map(|path| path.display().to_string()).collect();
        if all.is_empty() { Err(self.no_pipeline()) } else { Ok(all) }
    }

    fn no_pipeline(&self) -> SessionError {
        SessionError::not_ready(format!("{} has no pipeline", self.root.display()))
            .hint("write a `stagewright.toml` at its root, or a file in `pipelines/`")
    }

    fn known_pipelines(&self) -> String {
        let names =
            self.pipelines().iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect::<Vec<_>>();
        match names.as_slice() {
            [] => "the repository has none: write a `stagewright.toml` at its root".to_owned(),
            _ => format!("the repository has: {}", list(names)),
        }
    }
}
