//! Reads pip's configuration: <https://pip.pypa.io/en/stable/topics/configuration/>.

use std::path::PathBuf;

use stagewright_model::PackageManager;

use super::ConfigReader;
use crate::client_config::pip_entries;

const PIP: PackageManager = PackageManager::Pip;

/// Reads the `pip.conf` files of the machine, the user and a virtual environment, and variables. pip reads no file of the
/// repository, unless one of these paths leads there.
pub(super) fn read(reader: &mut ConfigReader<'_>) {
    let files = [
        Some(PathBuf::from("/etc/pip.conf")),
        reader.folder("XDG_CONFIG_HOME", "pip/pip.conf").or_else(|| reader.folder("HOME", ".config/pip/pip.conf")),
        reader.folder("HOME", ".pip/pip.conf"),
        reader.folder("VIRTUAL_ENV", "pip.conf"),
        reader.variable("PIP_CONFIG_FILE").map(PathBuf::from),
    ];
    for path in files.into_iter().flatten() {
        let Some(file) = reader.file(&path) else { continue };
        for entry in pip_entries(&file.text).iter().filter(|entry| is_index(&entry.key)) {
            for url in entry.value.split_whitespace() {
                reader.name_in(PIP, &file, entry.line, url);
            }
        }
    }
    for name in ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"] {
        let urls = reader.variable(name).unwrap_or_default().to_owned();
        urls.split_whitespace().for_each(|url| reader.name_by_variable(PIP, name, url));
    }
}

fn is_index(key: &str) -> bool {
    matches!(key, "index-url" | "extra-index-url")
}
