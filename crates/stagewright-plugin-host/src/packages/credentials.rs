//! Finds files of the workspace with credentials that would allow the clients of package hosts to publish.
//!
//! Files of a home are copied without credentials, but a file of the workspace is visible unchanged to every stage that may
//! read it. A stage that may read such a file and reach its host counts as one that may publish.
//!
//! Where there is an allow-list of a client's settings, a file is harmless if all its settings are on the list. Other files
//! are searched for names that credentials usually have, and for URLs with a user.

use std::path::Path;

use stagewright_files::{CONFIGURATION, read_text};
use stagewright_model::PackageManager;
use stagewright_process::sandbox::ConfigFormat;

use crate::client_config::is_harmless;

/// The most files and folders that are examined.
const ENTRIES: usize = 100_000;
/// Folders without configuration of clients: git's own, and installed packages.
const PASSED_OVER: [&str; 2] = [".git", "node_modules"];
/// The file that marks a tool's cache folder, such as cargo's `target`.
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// Parts of the names of settings with credentials, in lower case.
const WORDS: [&str; 5] = ["auth", "passwd", "password", "secret", "token"];
/// Ends of the names of settings with a client certificate or a user.
const ENDS: [&str; 5] = ["ident", "key", "keyfile", "keyfilepath", "username"];
/// Parts of the names of variables that clients of package hosts read.
const OF_CLIENTS: [&str; 10] = ["bun", "cargo", "node", "npm", "pip", "poetry", "pypi", "twine", "uv_", "yarn"];

/// A file of the workspace that contains, or could contain, a credential.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CredentialFile {
    /// Relative to the workspace.
    pub path: String,
    /// The client whose hosts it is for; none for all clients.
    pub manager: Option<PackageManager>,
}

/// How a file is searched.
#[derive(Clone, Copy)]
enum SearchMode {
    /// Any content counts as a credential.
    Whole,
    /// With the allow-list of its client.
    Client(ConfigFormat),
    /// By names of settings, and URLs.
    Words,
    /// By names of variables, and URLs.
    Variables,
    /// By URLs alone.
    Addresses,
}

/// The files below `root`, up to [`ENTRIES`]. Links to folders aren't followed.
pub fn credential_files(root: &Path) -> Vec<CredentialFile> {
    let (mut found, mut folders, mut seen) = (Vec::new(), vec![String::new()], 0);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = root.join(&folder).read_dir() else { continue };
        let entries = entries.flatten().filter_map(|entry| {
            let kind = entry.file_type().ok()?;
            Some((entry.file_name().into_string().ok()?, kind))
        });
        let entries: Vec<_> = entries.collect();
        seen += entries.len();
        if seen > ENTRIES {
            break;
        }
        if entries.iter().any(|(name, _)| name == CACHE_TAG) {
            continue;
        }
        for (name, kind) in entries {
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            if kind.is_dir() && !PASSED_OVER.contains(&name.as_str()) {
                folders.push(path);
            } else if let Some((manager, look)) = of_name(&folder, &name).filter(|_| !kind.is_dir())
                && holds_credential(&root.join(&path), look)
            {
                found.push(CredentialFile { path, manager });
            }
        }
    }
    found.sort();
    found
}

/// The client that reads a file of that name, and how the file is searched; none for files that no client reads.
fn of_name(folder: &str, name: &str) -> Option<(Option<PackageManager>, SearchMode)> {
    use PackageManager::{Cargo, Npm, Pip};
    let is_of_cargo = folder == ".cargo" || folder.ends_with("/.cargo");
    Some(match name {
        "credentials" | "credentials.toml" if is_of_cargo => (Some(Cargo), SearchMode::Whole),
        "config" | "config.toml" if is_of_cargo => (Some(Cargo), SearchMode::Client(ConfigFormat::Cargo)),
        ".npmrc" => (Some(Npm), SearchMode::Client(ConfigFormat::Npm)),
        ".yarnrc" | ".yarnrc.yml" | "bunfig.toml" => (Some(Npm), SearchMode::Words),
        "package.json" => (Some(Npm), SearchMode::Addresses),
        ".pypirc" => (Some(Pip), SearchMode::Whole),
        "pip.conf" | "pip.ini" => (Some(Pip), SearchMode::Client(ConfigFormat::Pip)),
        "uv.toml" | "poetry.toml" | "pdm.toml" | ".pdm.toml" => (Some(Pip), SearchMode::Words),
        "pyproject.toml" | "Pipfile" => (Some(Pip), SearchMode::Addresses),
        ".netrc" | "_netrc" => (None, SearchMode::Whole),
        _ if name == ".env" || name.starts_with(".env.") => (None, SearchMode::Variables),
        _ if name.starts_with("requirements") && name.ends_with(".txt") => (Some(Pip), SearchMode::Addresses),
        _ => return None,
    })
}

/// Whether a file contains a credential. True for a file that can't be read, or is too large or not text, since its content
/// is unknown.
fn holds_credential(file: &Path, look: SearchMode) -> bool {
    match read_text(file, CONFIGURATION) {
        Ok(text) => is_credential(&text, look),
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory),
    }
}

fn is_credential(text: &str, look: SearchMode) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    match look {
        SearchMode::Whole => lines.next().is_some(),
        SearchMode::Client(format) => !is_harmless(format, text),
        SearchMode::Addresses => lines.any(has_user),
        SearchMode::Words => lines.any(|line| has_user(line) || names_credential(line, |_| true)),
        SearchMode::Variables => {
            let is_of_client = |name: &str| OF_CLIENTS.iter().any(|client| name.contains(client));
            lines.any(|line| has_user(line) || names_credential(line, is_of_client))
        }
    }
}

/// Whether a line has a setting with a value whose name is that of a credential and passes `counts`, also in braces or
/// quotes.
fn names_credential(line: &str, counts: impl Fn(&str) -> bool) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || "_-./:@".contains(letter);
    let mut rest = line;
    while let Some(start) = rest.find(is_part) {
        let word = &rest[start..];
        let end = word.find(|letter| !is_part(letter)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        // In `key: value` the name ends in a colon; `//host/:_authToken` has one in the middle.
        let name = word.trim_end_matches(':').to_ascii_lowercase();
        let is_named = WORDS.iter().any(|part| name.contains(part)) || ENDS.iter().any(|part| name.ends_with(part));
        let value = after.trim_start_matches(['"', '\'', ' ', '\t', '=', ':']);
        let value = value.split(['"', '\'', ',', ' ']).next().unwrap_or_default();
        let value = if value.starts_with("${") { value } else { value.trim_end_matches('}') };
        let is_set = word.ends_with(':') || after.trim_start_matches(['"', '\'']).starts_with([' ', '\t', '=', ':']);
        if is_named && counts(&name) && is_set && !is_without_value(value) {
            return true;
        }
        rest = after;
    }
    false
}

/// Whether a value can't be a credential: a boolean, or a variable, which a stage only gets if it is granted. An empty one
/// can, since it may continue on the next line.
fn is_without_value(value: &str) -> bool {
    matches!(value, "true" | "false" | "null" | "yes" | "no") || crate::client_config::is_variable(value)
}

/// Whether a line has a URL with a user or a password. A user alone doesn't count for ssh, where it isn't a secret.
fn has_user(line: &str) -> bool {
    line.match_indices("://").any(|(at, _)| {
        let authority = line[at + 3..].split(['/', '?', '#', '"', '\'', ' ', '>']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        let is_ssh = line[..at].ends_with("ssh");
        user.is_some_and(|user| (!is_ssh || user.contains(':')) && !user.split(':').all(is_without_value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        let found = credential_files(folder.path());
        assert!(found.is_empty() || found[0].path == path, "{found:?}");
        !found.is_empty()
    }

    #[test]
    fn credentials_are_found_in_every_format_and_folder() {
        for (path, text) in [
            (".npmrc", "//registry.npmjs.org/:_authToken=npm_abc"),
            ("web/app/.npmrc", "_auth = abc"),
            (".npmrc", "\"//registry.npmjs.org/:_authToken\"=npm_abc"),
            (".npmrc", "//registry.npmjs.org/:_authToken=${A}npm_abc${B}"),
            (".npmrc", "//registry.npmjs.org/:_authToken=${NPM_TOKEN-npm_abc}"),
            (".npmrc", "registry=https://me:pw@npm.example.org/"),
            (".npmrc", "//registry.npmjs.org/:keyfile=./key.pem"),
            (".npmrc", "//r/:username=ada"),
            (".npmrc", "something-new = npm_abc"),
            (".yarnrc", "\"//registry.npmjs.org/:_authToken\" \"npm_abc\""),
            (".yarnrc.yml", "npmAuthToken: \"${NPM_TOKEN:-npm_abc}\""),
            (".yarnrc.yml", "npmScopes: { acme: { npmAuthToken: npm_abc } }"),
            (".yarnrc.yml", "npmAuthIdent: me:pw"),
            (".yarnrc.yml", "npmAuthToken:\n  npm_abc"),
            (".yarnrc.yml", "httpsKeyFilePath: ci/npm.key"),
            ("bunfig.toml", "[install]\nregistry = { url = \"https://r\", token = \"abc\" }"),
            ("package.json", "{ \"dependencies\": { \"a\": \"git+https://ghp_abc@github.com/a/a.git\" } }"),
            (".cargo/config.toml", "registries.acme = { index = 'sparse+https://r.example/', token = 'abc' }"),
            (".cargo/config.toml", "env = { CARGO_REGISTRY_TOKEN = 'abc' }"),
            (".cargo/config.toml", "[env]\nCARGO_REGISTRY_TOKEN = { value = 'abc' }"),
            (".cargo/config.toml", "[alias]\nship = 'publish --token abc'"),
            (".cargo/config.toml", "[registry]\nglobal-credential-providers = ['cargo:token-from-stdout cat x']"),
            (".cargo/config.toml", "not toml"),
            ("a/.cargo/credentials.toml", "registry.token = \"\"\"\nabc\"\"\""),
            (".cargo/credentials", "[registry]\ntoken = 'abc'"),
            ("sub/.pypirc", "[pypi]\npassword:\n  pw"),
            ("pip.conf", "[global]\nindex-url = https://u:p@pypi.example/simple"),
            ("pip.conf", "[global]\nproxy = http://u:p@proxy.example"),
            ("uv.toml", "publish-url = \"https://u:pw@pypi.example/\""),
            ("pyproject.toml", "[[tool.uv.index]]\nurl = \"https://u:pw@pypi.example/\""),
            ("requirements-dev.txt", "--index-url https://u:pw@pypi.example/simple"),
            (".netrc", "machine pypi.org\nlogin me\npassword pw"),
            (".env", "NPM_TOKEN=npm_abc"),
            (".env.local", "export TWINE_PASSWORD='pw'"),
        ] {
            assert!(found(path, text), "{path}: {text}");
        }
    }

    #[test]
    fn ordinary_settings_do_not_count_as_credentials() {
        for (path, text) in [
            (".npmrc", "registry=https://registry.npmjs.org/\nsave-exact=true\nstore-dir=.store\nsomething-new=3"),
            (".npmrc", "//registry.npmjs.org/:_authToken=${NPM_TOKEN}\nalways-auth=true"),
            (".npmrc", "# _authToken=x\n; _auth=y"),
            (".yarnrc.yml", "npmAlwaysAuth: true\nnodeLinker: node-modules\nnpmAuthToken: ${NPM_TOKEN}"),
            ("package.json", "{ \"name\": \"@a/b\", \"repository\": \"git+ssh://git@github.com/a/b.git\" }"),
            ("package.json", "{ \"homepage\": \"https://unpkg.com/@a/b\", \"keywords\": [\"token\"] }"),
            (
                ".cargo/config.toml",
                "[build]\nrustflags = ['-Ctarget-feature=+crt-static']\n[alias]\nxtask = 'run -p xtask --'",
            ),
            (".cargo/config.toml", "[env]\nRUST_BACKTRACE = '1'\nCC_x = { value = 'clang', relative = true }"),
            (".cargo/config.toml", "[target.x86_64-unknown-linux-musl]\nlinker = 'musl-gcc'\n[net]\nretry = 3"),
            (".cargo/config.toml", "[registries.acme]\nindex = 'sparse+https://r.example/index/'"),
            ("pip.conf", "[global]\nindex-url = https://pypi.example/simple\ntimeout = 60"),
            ("pyproject.toml", "[project]\nkeywords = ['token']\n[tool.x]\nsecret-names = true"),
            ("Pipfile", "[[source]]\nurl = \"https://${USER}:${PASSWORD}@pypi.example/simple\""),
            (".env", "SECRET_KEY=development\nPORT=8000"),
            (".pypirc", "# nothing yet\n"),
            ("node_modules/x/.npmrc", "_auth=abc"),
            ("config.toml", "token = 'of another program'"),
        ] {
            assert!(!found(path, text), "{path}: {text}");
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("target")).unwrap();
        std::fs::write(folder.path().join("target").join(CACHE_TAG), "").unwrap();
        std::fs::write(folder.path().join("target/.npmrc"), "_auth=abc").unwrap();
        assert_eq!(credential_files(folder.path()), []);
    }
}
