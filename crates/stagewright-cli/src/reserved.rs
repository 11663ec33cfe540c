//! What of this machine no stage may reach: the engine's own folders, the user's home, and what git runs.
//!
//! Git is asked for paths alone. Its own answers would go through the configuration that is being protected, and it
//! refuses to open a repository of another user.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use stagewright_plugin_host::{Claim, Purpose, Reserved};

use crate::error::CommandError;
use crate::repository::Repository;

/// Bytes of a file that leads to a git directory: a path and a word.
const POINTER: u64 = 8 * 1024;
/// Where a home is the workspace itself, what the user's programs believe or keep secret there.
const OF_A_HOME: [&str; 16] = [
    ".aws",
    ".azure",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".config",
    ".docker",
    ".git-credentials",
    ".gitconfig",
    ".gnupg",
    ".kube",
    ".local",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".ssh",
    ".vault-token",
];

/// Looks at the repository as it is now.
pub(crate) fn reserved(repository: &Repository) -> Result<Reserved, CommandError> {
    let mut claims = vec![
        Claim { purpose: Purpose::State, path: repository.state.clone() },
        Claim { purpose: Purpose::Cache, path: repository.cache.clone() },
    ];
    let policy = repository.policy.iter().map(|policy| std::path::absolute(policy).unwrap_or_else(|_| policy.clone()));
    claims.extend(policy.map(|path| Claim { purpose: Purpose::Policy, path }));
    claims.extend(home(repository));
    claims.extend(git(&repository.root));
    let record = repository.state.join("nested-repositories.json");
    let reserved = Reserved::new(&repository.root, claims, Some(record));
    reserved.closed_paths().map_err(|error| {
        CommandError::usage("what stages must not reach can't be determined")
            .caused_by(error)
            .hint("choose a state folder within the workspace or beside it: --state FOLDER")
    })?;
    Ok(reserved)
}

fn home(repository: &Repository) -> Vec<Claim> {
    let home = repository.environment.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let Some(home) = home else { return Vec::new() };
    let real = home.canonicalize().unwrap_or_else(|_| home.clone());
    match repository.root.starts_with(&real) {
        false => vec![Claim { purpose: Purpose::Home, path: home }],
        // The workspace lies in the home, as it usually does.
        true if repository.root != real => Vec::new(),
        true => {
            let there =
                OF_A_HOME.into_iter().map(|name| home.join(name)).filter(|path| path.symlink_metadata().is_ok());
            // Where git has no configuration, none may be made: it could name hooks.
            let git = Claim { purpose: Purpose::Config, path: home.join(".gitconfig") };
            there.map(|path| Claim { purpose: Purpose::Private, path }).chain([git]).collect()
        }
    }
}

/// The git directory, where it really is, with what it shares with other working trees, hooks and configuration.
fn git(root: &Path) -> Vec<Claim> {
    let pointer = root.join(".git");
    let directory = led_by(&pointer).unwrap_or_else(|| pointer.clone());
    let common = shared_by(&directory).unwrap_or_else(|| directory.clone());
    let directories = BTreeSet::from([pointer, directory.clone(), common.clone()]);
    let (mut files, mut outside) = (BTreeSet::new(), BTreeSet::new());
    let own = [&directory, &common]
        .into_iter()
        .flat_map(|folder| ["config", "config.worktree"].map(|name| folder.join(name)));
    for file in own.collect::<BTreeSet<_>>() {
        let Ok(config) = git2::Config::open(&file) else { continue };
        let folder = file.parent().unwrap_or(root);
        configured(&config, &[folder], root, &mut files, &mut outside);
    }
    if let Ok(config) = git2::Config::open_default() {
        let homes = [git2::Config::find_global(), git2::Config::find_xdg(), git2::Config::find_system()];
        let homes = homes.into_iter().flatten().filter_map(|file| Some(file.parent()?.to_owned())).collect::<Vec<_>>();
        let homes = homes.iter().map(PathBuf::as_path).collect::<Vec<_>>();
        configured(&config, &homes, root, &mut files, &mut outside);
    }
    let of = |purpose, paths: BTreeSet<PathBuf>| paths.into_iter().map(move |path| Claim { purpose, path });
    of(Purpose::Git, directories).chain(of(Purpose::Hooks, outside)).chain(of(Purpose::Config, files)).collect()
}

/// The folder that a file named `.git` leads to; none when it is a folder itself.
fn led_by(pointer: &Path) -> Option<PathBuf> {
    let text = pointer_text(pointer)?;
    let path = text.strip_prefix("gitdir:")?.trim();
    Some(pointer.parent()?.join(path))
}

/// The git directory of the repository that a working tree was added to.
fn shared_by(directory: &Path) -> Option<PathBuf> {
    Some(directory.join(pointer_text(&directory.join("commondir"))?.trim()))
}

fn pointer_text(file: &Path) -> Option<String> {
    stagewright_files::read_text(file, POINTER).ok()
}

/// Adds the files that a configuration includes, below any of the folders that it may mean, and the programs that it
/// names.
fn configured(
    config: &git2::Config,
    folders: &[&Path],
    root: &Path,
    included: &mut BTreeSet<PathBuf>,
    programs: &mut BTreeSet<PathBuf>,
) {
    let home = git2::Config::find_global().ok().and_then(|file| Some(file.parent()?.to_owned()));
    let expanded = |value: &str| match (value.strip_prefix("~/"), &home) {
        (Some(below), Some(home)) => home.join(below),
        _ => PathBuf::from(value),
    };
    let Ok(mut entries) = config.entries(None) else { return };
    while let Some(Ok(entry)) = entries.next() {
        let (Ok(name), Ok(value)) = (entry.name(), entry.value()) else { continue };
        let name = name.to_ascii_lowercase();
        if name == "core.hookspath" || (name == "core.fsmonitor" && value.contains('/')) {
            programs.insert(root.join(expanded(value)));
        } else if name.starts_with("include") && name.ends_with(".path") {
            included.extend(folders.iter().map(|folder| folder.join(expanded(value))));
        }
    }
}
