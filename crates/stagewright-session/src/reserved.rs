//! The files that no stage may reach: the engine's own folders, the user's home, and what git executes.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use stagewright_plugin_host::{Claim, Purpose, Reserved, UserGit};

use crate::error::SessionError;
use crate::repository::Repository;

/// If the home is the workspace itself: folders that the user's programs trust or keep secrets in.
const FOLDERS_OF_A_HOME: [&str; 10] =
    [".aws", ".azure", ".cargo/bin", ".config", ".docker", ".gnupg", ".kube", ".local", ".pip", ".ssh"];
/// The same for files.
const FILES_OF_A_HOME: [&str; 27] = [
    ".bash_aliases",
    ".bash_login",
    ".bash_logout",
    ".bash_profile",
    ".bashrc",
    ".cargo/config",
    ".cargo/config.toml",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".curlrc",
    ".git-credentials",
    ".gitconfig",
    ".inputrc",
    ".netrc",
    ".npmrc",
    ".pam_environment",
    ".profile",
    ".pypirc",
    ".pythonrc",
    ".vault-token",
    ".wgetrc",
    ".yarnrc",
    ".zlogin",
    ".zprofile",
    ".zshenv",
    ".zshrc",
    ".yarnrc.yml",
];

/// Determines the reserved files of the repository in its current state. `secret_files`: those of the pipeline's secrets.
pub(crate) fn reserved(repository: &Repository, secret_files: &BTreeSet<PathBuf>) -> Result<Reserved, SessionError> {
    let mut claims = vec![
        Claim { purpose: Purpose::State, path: repository.state.clone() },
        Claim { purpose: Purpose::Cache, path: repository.cache.clone() },
    ];
    // The default state folder is reserved even if another one is configured and it doesn't exist. A later command
    // without `--state` reads its runs from there. If a stage could create that folder, it could forge a run that only
    // waits to be resumed, including the approvals of its gates.
    let usual = repository.root.join(".stagewright");
    if usual != repository.state {
        claims.push(Claim { purpose: Purpose::State, path: usual });
    }
    let policy = repository.policy.iter().map(|policy| policy.path.clone());
    claims.extend(policy.map(|path| Claim { purpose: Purpose::Policy, path }));
    claims.extend(home(repository));
    claims.extend(secret_files.iter().map(|path| Claim { purpose: Purpose::SecretFile, path: path.clone() }));
    let unknown = |error: io::Error, hint: &str| {
        SessionError::invalid_request("can't determine the files that stages must not reach")
            .caused_by(error)
            .hint(hint)
    };
    let git = UserGit::read(&repository.environment).and_then(|git| {
        claims.extend_from_slice(git.claims());
        claims.extend(git.repository(&repository.root, &repository.root.join(".git"))?);
        Ok(git)
    });
    let git = git
        .map_err(|error| unknown(error, "correct git's configuration, or reduce the number of files that it names"))?;
    let record = repository.state.join("nested-repositories.json");
    let reserved = Reserved::new(&repository.root, claims, Some(record)).with_git(git);
    let closed = reserved.closed_paths();
    closed
        .map_err(|error| unknown(error, "choose a state folder in the workspace or next to it with --state FOLDER"))?;
    Ok(reserved)
}

fn home(repository: &Repository) -> Vec<Claim> {
    let folder = |name: &str| repository.environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let configuration = folder("XDG_CONFIG_HOME").filter(|path| {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        real != repository.root && real.starts_with(&repository.root)
    });
    let configuration = configuration.map(|path| Claim { purpose: Purpose::Private, path });
    let Some(home) = folder("HOME") else { return configuration.into_iter().collect() };
    let real = home.canonicalize().unwrap_or_else(|_| home.clone());
    let home: Vec<_> = match repository.root.starts_with(&real) {
        false => vec![Claim { purpose: Purpose::Home, path: home }],
        // The usual case: the workspace is inside the home.
        true if repository.root != real => Vec::new(),
        true => {
            let folders = FOLDERS_OF_A_HOME.map(|name| (Purpose::Private, name));
            let files = FILES_OF_A_HOME.map(|name| (Purpose::PrivateFile, name));
            let all = folders.into_iter().chain(files);
            all.map(|(purpose, name)| Claim { purpose, path: home.join(name) }).collect()
        }
    };
    home.into_iter().chain(configuration).collect()
}
