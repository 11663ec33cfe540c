//! Reads npm's configuration: <https://docs.npmjs.com/cli/configuring-npm/npmrc>.

use std::path::{Path, PathBuf};

use stagewright_model::PackageManager;

use super::ConfigReader;
use crate::client_config::npmrc_entries;

const NPM: PackageManager = PackageManager::Npm;

/// Reads the `.npmrc` files of the repository and the user, and variables.
pub(super) fn read(reader: &mut ConfigReader<'_>) {
    // npm accepts its variables in upper and in lower case.
    let named = |variable: &str| {
        let found = reader.environment.iter().find(|(name, _)| name.eq_ignore_ascii_case(variable));
        found.map(|(name, value)| (name.clone(), value.clone()))
    };
    let user = named("npm_config_userconfig").map(|(_, file)| PathBuf::from(file));
    let user = user.or_else(|| reader.folder("HOME", ".npmrc"));
    let variable = named("npm_config_registry");
    for path in [Some(Path::new(".npmrc").to_owned()), user].into_iter().flatten() {
        let Some(file) = reader.file(&path) else { continue };
        for entry in npmrc_entries(&file.text) {
            if entry.key == "registry" || entry.key.ends_with(":registry") {
                reader.name_in(NPM, &file, entry.line, &entry.value);
            }
        }
    }
    if let Some((name, url)) = variable {
        reader.name_by_variable(NPM, &name, &url);
    }
}
