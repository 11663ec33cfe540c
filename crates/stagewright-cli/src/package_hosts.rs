//! The origins behind `net = ["cargo"]`, `["npm"]` and `["pip"]`: the registries that those are configured with, mirrors
//! included.
//!
//! Configuration of the repository counts, too: whoever can change it can change what the words stand for, which is why
//! `plan` shows the origins.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each calls when nothing is configured.
const CARGO: [&str; 3] = ["https://index.crates.io", "https://static.crates.io", "https://crates.io"];
const NPM: [&str; 1] = ["https://registry.npmjs.org"];
const PIP: [&str; 2] = ["https://pypi.org", "https://files.pythonhosted.org"];

/// By word, the origins that it stands for at `root`.
pub(crate) fn package_hosts(root: &Path, environment: &BTreeMap<String, String>) -> BTreeMap<String, Vec<String>> {
    let hosts = [("cargo", cargo(root, environment)), ("npm", npm(root, environment)), ("pip", pip(environment))];
    hosts.into_iter().map(|(word, origins)| (word.to_owned(), origins)).collect()
}

fn defaults(origins: &[&str]) -> BTreeSet<String> {
    origins.iter().map(|&origin| origin.to_owned()).collect()
}

/// Reads the configuration files that cargo would read at `root`. One that isn't TOML is cargo's to complain about.
fn cargo(root: &Path, environment: &BTreeMap<String, String>) -> Vec<String> {
    let mut origins = defaults(&CARGO);
    let home = match (environment.get("CARGO_HOME"), environment.get("HOME")) {
        (Some(home), _) => Some(PathBuf::from(home)),
        (None, Some(home)) => Some(Path::new(home).join(".cargo")),
        (None, None) => None,
    };
    let folders = root.ancestors().map(|folder| folder.join(".cargo")).chain(home);
    for file in folders.flat_map(|folder| [folder.join("config.toml"), folder.join("config")]) {
        let Ok(text) = stagewright_files::read_text(&file, stagewright_files::CONFIGURATION) else { continue };
        let Ok(config) = text.parse::<toml::Table>() else { continue };
        for (table, key) in [("source", "registry"), ("registries", "index")] {
            let entries = config.get(table).and_then(toml::Value::as_table).into_iter().flatten();
            origins.extend(entries.filter_map(|(_, entry)| origin(entry.get(key)?.as_str()?)));
        }
    }
    let variables = environment.iter().filter(|(name, _)| name.starts_with("CARGO_REGISTRIES_"));
    origins.extend(variables.filter(|(name, _)| name.ends_with("_INDEX")).filter_map(|(_, url)| origin(url)));
    origins.into_iter().collect()
}

/// Reads the `.npmrc` files of the repository and of the user, and npm's variables.
fn npm(root: &Path, environment: &BTreeMap<String, String>) -> Vec<String> {
    let mut origins = defaults(&NPM);
    // npm takes its variables in either case.
    let is = |name: &str, wanted: &str| name.eq_ignore_ascii_case(wanted);
    let named = environment.iter().find(|(name, _)| is(name, "npm_config_userconfig")).map(|(_, file)| file.into());
    let user = named.or_else(|| Some(Path::new(environment.get("HOME")?).join(".npmrc")));
    for file in [Some(root.join(".npmrc")), user].into_iter().flatten() {
        let Ok(text) = stagewright_files::read_text(&file, stagewright_files::CONFIGURATION) else { continue };
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let registries = pairs.filter(|(key, _)| matches!(key.trim(), "registry") || key.trim().ends_with(":registry"));
        origins.extend(registries.filter_map(|(_, url)| origin(url.trim().trim_matches(['"', '\'']))));
    }
    let variables = environment.iter().filter(|(name, _)| is(name, "npm_config_registry"));
    origins.extend(variables.filter_map(|(_, url)| origin(url)));
    origins.into_iter().collect()
}

/// Reads the `pip.conf` files of the machine and of the user, and pip's variables.
fn pip(environment: &BTreeMap<String, String>) -> Vec<String> {
    let mut origins = defaults(&PIP);
    let folder = |name: &str, below: &str| Some(Path::new(environment.get(name)?).join(below));
    let files = [
        Some(PathBuf::from("/etc/pip.conf")),
        folder("XDG_CONFIG_HOME", "pip/pip.conf").or_else(|| folder("HOME", ".config/pip/pip.conf")),
        folder("HOME", ".pip/pip.conf"),
        folder("VIRTUAL_ENV", "pip.conf"),
        environment.get("PIP_CONFIG_FILE").map(PathBuf::from),
    ];
    for text in files
        .into_iter()
        .flatten()
        .filter_map(|file| stagewright_files::read_text(&file, stagewright_files::CONFIGURATION).ok())
    {
        let mut is_index = false;
        for line in text.lines() {
            // An indented line goes on with the value before.
            let values = match line.split_once(['=', ':']) {
                Some((key, values)) if !line.starts_with(char::is_whitespace) => {
                    is_index = matches!(key.trim().replace('_', "-").as_str(), "index-url" | "extra-index-url");
                    values
                }
                _ => line,
            };
            if is_index {
                origins.extend(values.split_whitespace().filter_map(origin));
            }
        }
    }
    let variables = ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"].into_iter().filter_map(|name| environment.get(name));
    origins.extend(variables.flat_map(|urls| urls.split_whitespace()).filter_map(origin));
    origins.into_iter().collect()
}

/// `scheme://host[:port]` of an index URL, as in `sparse+https://mirror.example/index/`.
fn origin(url: &str) -> Option<String> {
    let url = url.strip_prefix("sparse+").unwrap_or(url);
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_' | ':' | '[' | ']');
    (matches!(scheme, "http" | "https") && !host.is_empty() && host.chars().all(is_plain))
        .then(|| format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_and_registries_of_every_configuration_file_count() {
        let root = tempfile::tempdir().unwrap();
        let (home, project) = (root.path().join("home"), root.path().join("project"));
        for folder in [home.clone(), project.join(".cargo")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let mirror =
            "[source.crates-io]\nreplace-with = 'm'\n[source.m]\nregistry = 'sparse+https://u:p@m.test:8443/i/'";
        std::fs::write(home.join("config.toml"), mirror).unwrap();
        let private = "[registries.acme]\nindex = 'https://git.acme.test/index'";
        std::fs::write(project.join(".cargo/config.toml"), private).unwrap();
        let environment = BTreeMap::from([
            ("CARGO_HOME".to_owned(), home.display().to_string()),
            ("CARGO_REGISTRIES_OTHER_INDEX".to_owned(), "sparse+http://127.0.0.1:9/".to_owned()),
        ]);
        let hosts = cargo(&project, &environment);
        for expected in ["https://m.test:8443", "https://git.acme.test", "http://127.0.0.1:9", CARGO[0]] {
            assert!(hosts.iter().any(|host| host == expected), "{expected} is not among {hosts:?}");
        }
    }

    #[test]
    fn registries_of_npm_are_those_of_its_files_and_variables() {
        let root = tempfile::tempdir().unwrap();
        let (home, project) = (root.path().join("home"), root.path().join("project"));
        std::fs::create_dir_all(&home).unwrap();
        std::fs::create_dir_all(&project).unwrap();
        std::fs::write(
            home.join(".npmrc"),
            "# mine\nregistry = \"https://npm.test:4873/\"\n//npm.test/:_authToken=x\n",
        )
        .unwrap();
        std::fs::write(project.join(".npmrc"), "@acme:registry=https://acme.test/npm/\n; registry=https://off.test\n")
            .unwrap();
        let environment = BTreeMap::from([
            ("HOME".to_owned(), home.display().to_string()),
            ("NPM_CONFIG_REGISTRY".to_owned(), "http://127.0.0.1:9/".to_owned()),
        ]);
        let expected = ["http://127.0.0.1:9", "https://acme.test", "https://npm.test:4873", NPM[0]];
        assert_eq!(npm(&project, &environment), expected);
    }

    #[test]
    fn indexes_of_pip_are_those_of_its_files_and_variables() {
        let home = tempfile::tempdir().unwrap();
        let config = "[global]\ntimeout = 60\nextra_index_url =\n    https://one.test/simple\n    https://two.test/simple\n\
                      [install]\nproxy = http://proxy.test:1\n  https://no.test\n";
        std::fs::create_dir_all(home.path().join(".config/pip")).unwrap();
        std::fs::write(home.path().join(".config/pip/pip.conf"), config).unwrap();
        let environment = BTreeMap::from([
            ("HOME".to_owned(), home.path().display().to_string()),
            ("PIP_INDEX_URL".to_owned(), "https://u:p@mirror.test/simple".to_owned()),
        ]);
        let found = pip(&environment);
        for expected in ["https://one.test", "https://two.test", "https://mirror.test", PIP[1]] {
            assert!(found.iter().any(|origin| origin == expected), "{expected} is not among {found:?}");
        }
        assert!(!found.iter().any(|origin| origin.contains("proxy") || origin.contains("no.test")), "{found:?}");
    }

    #[test]
    fn what_is_no_web_address_is_left_out() {
        assert_eq!(origin("ssh://git@example.test/index"), None);
        assert_eq!(origin("/srv/mirror"), None);
        assert_eq!(origin("https://"), None);
        assert_eq!(origin("https://${HOST}/npm"), None);
    }
}
