//! Finds the repository that a session is for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::SessionConfig;
use crate::error::SessionError;
use crate::git;
use crate::repository::{PolicyPath, Repository};

/// The prefix of variables that are only available to the shared cache.
const OF_THE_CACHE: &str = "STAGEWRIGHT_SHARED_CACHE_";

/// The repository that contains the folder of the configuration.
pub(crate) fn repository(config: SessionConfig) -> Result<Repository, SessionError> {
    let SessionConfig { current, directory, state, policy, plugins, program, temporary, environment: given } = config;
    let start = current.join(&directory).canonicalize().map_err(|error| {
        SessionError::invalid_request(format!("can't enter the folder {}", directory.display())).caused_by(error)
    })?;
    git::check_directory(&start)?;
    let root = git::working_tree(&start).map(Path::to_owned).unwrap_or(start);
    let (mut environment, mut cache_environment) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in given {
        match name.strip_prefix(OF_THE_CACHE) {
            Some(name) => cache_environment.insert(name.to_owned(), value),
            None => environment.insert(name, value),
        };
    }
    let state = match state {
        Some(state) => absolute(&current, &state),
        None => root.join(".stagewright"),
    };
    let cache = cache_folder(&environment, &current, &state, &root);
    let policy = policy.map(|named| PolicyPath { path: absolute(&current, &named), named });
    Ok(Repository { current, root, state, plugins, cache, policy, program, temporary, environment, cache_environment })
}

/// The folder of compiled plugins. Compiled code has the powers of the engine, so it must never be loaded from a place
/// that a stage can write. CI systems often set the home or the cache folder to a place in the workspace in order to
/// keep caches. In that case the state folder is used, which no stage can reach.
fn cache_folder(environment: &BTreeMap<String, String>, current: &Path, state: &Path, root: &Path) -> PathBuf {
    let base = match (environment.get("XDG_CACHE_HOME"), environment.get("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        // An account without a home has a path that doesn't exist (`/nonexistent`) and must not be created.
        (_, Some(home)) if Path::new(home).is_dir() => PathBuf::from(home).join(".cache"),
        _ => return state.join("cache"),
    };
    let folder = base.join("stagewright");
    if is_below(&absolute(current, &folder), root) { state.join("cache") } else { folder }
}

/// Resolves a path relative to `current`.
fn absolute(current: &Path, path: &Path) -> PathBuf {
    let path = current.join(path);
    std::path::absolute(&path).unwrap_or(path)
}

/// Whether an absolute path leads into `root`, which must be canonical. For a path that doesn't exist yet, its nearest
/// existing parent decides.
pub(crate) fn is_below(path: &Path, root: &Path) -> bool {
    let existing = path.ancestors().find_map(|folder| folder.canonicalize().ok());
    existing.is_none_or(|existing| existing.starts_with(root))
}
