//! Reads cargo's configuration: <https://doc.rust-lang.org/cargo/reference/config.html>.

use std::path::PathBuf;

use stagewright_model::PackageManager;
use toml::de::{DeTable, DeValue};

use super::{ConfigFile, ConfigReader};
use crate::client_config::line_at;

const CARGO: PackageManager = PackageManager::Cargo;

/// Reads the files at the root and above it, those in the home, and variables.
pub(super) fn read(reader: &mut ConfigReader<'_>) {
    let home = reader.variable("CARGO_HOME").map(PathBuf::from).or_else(|| reader.folder("HOME", ".cargo"));
    let folders = reader.root.ancestors().map(|folder| folder.join(".cargo")).chain(home).collect::<Vec<PathBuf>>();
    for folder in folders {
        for name in ["config.toml", "config"] {
            if let Some(file) = reader.file(&folder.join(name)) {
                config(&file, reader);
            }
        }
    }
    for (name, url) in reader.environment {
        if name.starts_with("CARGO_REGISTRIES_") && name.ends_with("_INDEX") {
            reader.name_by_variable(CARGO, name, url);
        }
    }
}

fn config(file: &ConfigFile, reader: &mut ConfigReader<'_>) {
    // An invalid file is ignored here; cargo reports it.
    let Ok(document) = DeTable::parse(&file.text) else { return };
    for (table, key) in [("source", "registry"), ("registries", "index")] {
        let Some(DeValue::Table(entries)) = document.get_ref().get(table).map(toml::Spanned::get_ref) else { continue };
        for (_, entry) in entries {
            let DeValue::Table(entry) = entry.get_ref() else { continue };
            if let Some(value) = entry.get(key)
                && let DeValue::String(url) = value.get_ref()
            {
                reader.name_in(CARGO, file, line_at(&file.text, value.span().start), url);
            }
        }
    }
}
