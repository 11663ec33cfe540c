//! Where things are: the repository, its pipeline files, the state folder, the built-in plugins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use stagewright_model::list;

use crate::args::Global;
use crate::error::CommandError;
use crate::git;

/// How the names of variables begin that are for the shared cache alone.
const OF_THE_CACHE: &str = "STAGEWRIGHT_SHARED_CACHE_";

/// The folders that commands work on.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    /// The workspace that stages see.
    pub(crate) root: PathBuf,
    /// Runs, artifacts and local environments.
    pub(crate) state: PathBuf,
    /// Folders with built-in plugins, `NAME.wasm`; the first that has one wins.
    pub(crate) plugins: Vec<PathBuf>,
    /// Compiled plugins; shared by all repositories of the user.
    pub(crate) cache: PathBuf,
    /// The operator's policy, when another than the machine's is named.
    pub(crate) policy: Option<PathBuf>,
    /// The environment that the process was started with, but for `cache_environment`.
    pub(crate) environment: BTreeMap<String, String>,
    /// What only the shared cache may know, as `TOKEN` and `AWS_SECRET_ACCESS_KEY`: no pipeline can ask for it.
    pub(crate) cache_environment: BTreeMap<String, String>,
}

/// A pipeline file, read.
#[derive(Clone, Debug)]
pub(crate) struct PipelineFile {
    /// Relative to the repository's root when it lies below it.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
}

/// The text of a file that people write, without a byte order mark and with line feeds alone: git, and editors on Windows,
/// write others, and a script in such a file would be executed with them.
pub(crate) fn document(path: &Path) -> std::io::Result<String> {
    let text = stagewright_files::read_text(path, stagewright_files::CONFIGURATION)?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok(if text.contains('\r') { text.replace("\r\n", "\n") } else { text })
}

impl Repository {
    /// Finds the repository around the current folder, or around `-C`.
    pub(crate) fn find(global: &Global) -> Result<Repository, CommandError> {
        let given = global.directory.clone().unwrap_or_else(|| PathBuf::from("."));
        let start = given.canonicalize().map_err(|error| {
            CommandError::usage(format!("can't enter the folder {}", given.display())).caused_by(error)
        })?;
        git::check_directory(&start)?;
        let root = git::working_tree(&start).map(Path::to_owned).unwrap_or(start);
        let (mut environment, mut cache_environment) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in std::env::vars_os() {
            let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else { continue };
            match name.strip_prefix(OF_THE_CACHE) {
                Some(name) => cache_environment.insert(name.to_owned(), value),
                None => environment.insert(name, value),
            };
        }
        let state = match &global.state {
            Some(state) => std::path::absolute(state).unwrap_or_else(|_| state.clone()),
            None => root.join(".stagewright"),
        };
        let plugins = plugin_folders(&environment);
        let cache = cache_folder(&environment, &state, &root);
        Ok(Repository { root, state, plugins, cache, policy: global.policy.clone(), environment, cache_environment })
    }

    /// Where files are that people approve of.
    pub(crate) fn captures(&self) -> PathBuf {
        self.state.join("captures")
    }

    /// Names of the plugins that are built in.
    pub(crate) fn builtin_names(&self) -> Vec<String> {
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
    pub(crate) fn pipelines(&self) -> Vec<PathBuf> {
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
    pub(crate) fn pipeline(&self, wanted: Option<&str>) -> Result<PipelineFile, CommandError> {
        let path = match wanted {
            Some(wanted) => self.named(wanted)?,
            None => self.default()?,
        };
        let text = document(&path).map_err(|error| {
            CommandError::not_ready(format!("can't read the pipeline file {}", path.display())).caused_by(error)
        })?;
        let name = path.strip_prefix(&self.root).unwrap_or(&path).display().to_string();
        Ok(PipelineFile { name, text })
    }

    /// A path has a `/` or ends in `.toml`. A name never means a file that happens to lie beside: a stage could put one
    /// there.
    fn named(&self, wanted: &str) -> Result<PathBuf, CommandError> {
        let is_path = wanted.contains('/') || wanted.ends_with(".toml");
        let candidates = match is_path {
            true => vec![PathBuf::from(wanted), self.root.join(wanted)],
            false => vec![self.root.join("pipelines").join(format!("{wanted}.toml"))],
        };
        let found = candidates.iter().find(|path| path.is_file()).map(|path| path.canonicalize());
        found.and_then(Result::ok).ok_or_else(|| {
            let missing =
                CommandError::not_ready(format!("there is no pipeline `{wanted}`")).hint(self.known_pipelines());
            match !is_path && Path::new(wanted).is_file() {
                true => missing
                    .hint(format!("a name means a file in `pipelines/`; for the file beside, write `./{wanted}`")),
                false => missing,
            }
        })
    }

    fn default(&self) -> Result<PathBuf, CommandError> {
        let mut files = self.pipelines();
        match files.len() {
            0 => Err(CommandError::not_ready(format!("{} has no pipeline", self.root.display()))
                .hint("write a `stagewright.toml` at its root, or a file in `pipelines/`")),
            1 => Ok(files.remove(0)),
            _ if files[0].ends_with("stagewright.toml") => Ok(files.remove(0)),
            _ => Err(CommandError::usage("which pipeline?").hint(self.known_pipelines())),
        }
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

/// `STAGEWRIGHT_PLUGINS`, else `plugins` beside the program.
fn plugin_folders(environment: &BTreeMap<String, String>) -> Vec<PathBuf> {
    if let Some(folders) = environment.get("STAGEWRIGHT_PLUGINS") {
        return std::env::split_paths(folders).collect();
    }
    let program = std::env::current_exe().and_then(|program| program.canonicalize());
    program.ok().and_then(|program| Some(program.parent()?.join("plugins"))).into_iter().collect()
}

/// Compiled code is as good as the engine's own, so it is never taken from the workspace: not from a home or a cache
/// folder there, as CI systems set them to keep caches. Only the state folder is beyond every stage's reach.
fn cache_folder(environment: &BTreeMap<String, String>, state: &Path, root: &Path) -> PathBuf {
    let base = match (environment.get("XDG_CACHE_HOME"), environment.get("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        // An account without a home has a path that isn't there (`/nonexistent`), and is not to be made.
        (_, Some(home)) if Path::new(home).is_dir() => PathBuf::from(home).join(".cache"),
        _ => return state.join("cache"),
    };
    let folder = base.join("stagewright");
    if is_below(&folder, root) { state.join("cache") } else { folder }
}

/// Whether a path leads into `root`, a real path. What of it isn't there yet leads where its nearest folder does.
fn is_below(path: &Path, root: &Path) -> bool {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find_map(|folder| folder.canonicalize().ok());
    existing.is_none_or(|existing| existing.starts_with(root))
}
