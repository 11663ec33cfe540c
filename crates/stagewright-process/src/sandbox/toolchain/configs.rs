//! Configuration of clients that lies among programs: `/usr/share/maven/conf/settings.xml`, `npmrc` in npm's own
//! folder.
//!
//! Folders of programs are mounted whole, and administrators and images put credentials into them. Where is different
//! on each machine, so files are known by their names. A folder is looked through once in a process, not for each
//! sandbox, and not to its ground: clients read what lies in their prefix, in `etc` or `conf`, or beside their own
//! program, and what lies deeper is the content of packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::ConfigFormat;
use super::folders::is_system;

/// Folders below a mounted one that are looked into: `/usr/local/lib/node_modules/npm` is the fourth.
const DEPTH: usize = 4;
/// Folders that have many entries and no configuration, by name.
const DATA: [&str; 12] = [
    "__pycache__",
    "doc",
    "firmware",
    "fonts",
    "i18n",
    "icons",
    "include",
    "info",
    "locale",
    "man",
    "modules",
    "zoneinfo",
];
/// Files that hold credentials, or may, of clients for which there is no list of what is harmless. In lower case.
const OTHER: [&str; 44] = [
    ".boto",
    ".bunfig.toml",
    ".condarc",
    ".curlrc",
    ".dockercfg",
    ".gemrc",
    ".git-credentials",
    ".msmtprc",
    ".my.cnf",
    ".mylogin.cnf",
    ".netrc",
    ".odbc.ini",
    ".pgpass",
    ".pypirc",
    ".s3cfg",
    ".terraformrc",
    ".vault-token",
    ".wgetrc",
    ".yarnrc",
    ".yarnrc.yml",
    "_curlrc",
    "_netrc",
    "boto.cfg",
    "bunfig.toml",
    "condarc",
    "curlrc",
    "freetds.conf",
    "gemrc",
    "git-credentials",
    "gradle.properties",
    "lftp.conf",
    "msmtprc",
    "my.cnf",
    "netrc",
    "odbc.ini",
    "pg_service.conf",
    "pgpass.conf",
    "pypirc",
    "rclone.conf",
    "settings-security.xml",
    "uv.toml",
    "wgetrc",
    "yarnrc",
    "yarnrc.yml",
];

/// What lies where, as [`client_configs`] gives it.
type Found = Arc<Vec<(PathBuf, ConfigFormat)>>;

/// Configuration of clients below a folder of programs, each file at its true place: within the folder, or within one
/// of the system's. What was found the first time counts for as long as the process lives.
pub fn client_configs(folder: &Path) -> Found {
    static KNOWN: Mutex<BTreeMap<PathBuf, Found>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(folder) {
        return Arc::clone(found);
    }
    let found = Arc::new(search(folder));
    known.insert(folder.to_owned(), Arc::clone(&found));
    found
}

fn search(root: &Path) -> Vec<(PathBuf, ConfigFormat)> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![(root.to_owned(), 0)]);
    while let Some((folder, depth)) = folders.pop() {
        let within = folder.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        // What can't be read by this user can't be by their programs.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
            if kind.is_dir() {
                if depth < DEPTH && !DATA.contains(&name.as_str()) {
                    folders.push((entry.path(), depth + 1));
                }
                continue;
            }
            let Some(format) = format_of(&within, &name) else { continue };
            // By a link the file has another name, and is seen under that as well.
            let path = if kind.is_symlink() { fs::canonicalize(entry.path()).ok() } else { Some(entry.path()) };
            let path = path.filter(|path| path.is_file() && (path.starts_with(root) || is_system(path)));
            found.extend(path.map(|path| (path, format)));
        }
    }
    found.into_iter().collect()
}

/// Whose configuration a file is, by its name and its folder's, in lower case.
fn format_of(within: &str, name: &str) -> Option<ConfigFormat> {
    match name {
        "npmrc" | ".npmrc" => Some(ConfigFormat::Npm),
        "gitconfig" | ".gitconfig" => Some(ConfigFormat::Git),
        "pip.conf" | "pip.ini" => Some(ConfigFormat::Pip),
        "nuget.config" => Some(ConfigFormat::Other("<configuration/>\n")),
        _ if OTHER.contains(&name) => Some(ConfigFormat::Other("")),
        // Names that are anybody's, but for the folder.
        "config" if within == "git" => Some(ConfigFormat::Git),
        "config" | "config.toml" if matches!(within, "cargo" | ".cargo") => Some(ConfigFormat::Cargo),
        "credentials" | "credentials.toml" if matches!(within, "cargo" | ".cargo" | ".gem" | ".aws") => {
            Some(ConfigFormat::Other(""))
        }
        // Maven takes no empty file.
        "settings.xml" if matches!(within, "conf" | ".m2") || within.contains("maven") => {
            Some(ConfigFormat::Other("<settings/>\n"))
        }
        "auth.json" if matches!(within, "containers" | "docker" | ".docker" | "composer" | ".composer") => {
            Some(ConfigFormat::Other("{}\n"))
        }
        "config.json" if matches!(within, "docker" | ".docker") => Some(ConfigFormat::Other("{}\n")),
        "auth.toml" | "config.toml" if within == "pypoetry" => Some(ConfigFormat::Other("")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_found_by_its_name_and_packages_are_not_searched() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for path in [
            "pip.conf",
            "share/maven/conf/settings.xml",
            "share/kodi/settings.xml",
            "lib/node_modules/npm/npmrc",
            "lib/node_modules/npm/node_modules/x/y/.npmrc",
            "cargo/config.toml",
            "other/config.toml",
            "etc/Wgetrc",
            "share/doc/curl/.curlrc",
            "lib/python3/netrc.py",
            "store/real",
        ] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), "").unwrap();
        }
        std::os::unix::fs::symlink("../store/real", root.join("etc/.netrc")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("etc/netrc")).unwrap();
        let found = client_configs(&root);
        let shown = found.iter().map(|(path, format)| (path.strip_prefix(&root).unwrap().to_str().unwrap(), *format));
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                ("cargo/config.toml", ConfigFormat::Cargo),
                ("etc/Wgetrc", ConfigFormat::Other("")),
                ("lib/node_modules/npm/npmrc", ConfigFormat::Npm),
                ("pip.conf", ConfigFormat::Pip),
                ("share/maven/conf/settings.xml", ConfigFormat::Other("<settings/>\n")),
                ("store/real", ConfigFormat::Other("")),
            ]
        );
        fs::write(root.join("yarnrc"), "").unwrap();
        assert!(Arc::ptr_eq(&found, &client_configs(&root)), "it is looked for once");
    }
}
