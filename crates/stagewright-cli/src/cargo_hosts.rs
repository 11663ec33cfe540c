//! The origins behind `net = ["cargo"]`: the registries that cargo is configured with, mirrors included.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What cargo calls when nothing is configured.
const DEFAULT: [&str; 3] = ["https://index.crates.io", "https://static.crates.io", "https://crates.io"];

/// Reads the configuration files that cargo would read at `root`. One that isn't TOML is cargo's to complain about.
pub(crate) fn cargo_hosts(root: &Path, environment: &BTreeMap<String, String>) -> Vec<String> {
    let mut origins: BTreeSet<String> = DEFAULT.iter().map(|&origin| origin.to_owned()).collect();
    let home = match (environment.get("CARGO_HOME"), environment.get("HOME")) {
        (Some(home), _) => Some(PathBuf::from(home)),
        (None, Some(home)) => Some(Path::new(home).join(".cargo")),
        (None, None) => None,
    };
    let folders = root.ancestors().map(|folder| folder.join(".cargo")).chain(home);
    for file in folders.flat_map(|folder| [folder.join("config.toml"), folder.join("config")]) {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
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

/// `scheme://host[:port]` of an index URL, as in `sparse+https://mirror.example/index/`.
fn origin(url: &str) -> Option<String> {
    let url = url.strip_prefix("sparse+").unwrap_or(url);
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    (matches!(scheme, "http" | "https") && !host.is_empty()).then(|| format!("{scheme}://{host}"))
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
        let hosts = cargo_hosts(&project, &environment);
        for expected in ["https://m.test:8443", "https://git.acme.test", "http://127.0.0.1:9", DEFAULT[0]] {
            assert!(hosts.iter().any(|host| host == expected), "{expected} is not among {hosts:?}");
        }
    }

    #[test]
    fn what_is_no_web_address_is_left_out() {
        assert_eq!(origin("ssh://git@example.test/index"), None);
        assert_eq!(origin("/srv/mirror"), None);
        assert_eq!(origin("https://"), None);
    }
}
