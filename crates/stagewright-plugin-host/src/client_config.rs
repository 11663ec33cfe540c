//! Copies the configuration files of clients (git, cargo, npm, pip, asdf) for programs in a sandbox, without credentials.
//!
//! ```text
//! file ── parser of its format ── keys ── allow-list, each with the kind of its value ── text in the same format
//! ```
//!
//! A copy holds only what was recognised: keys that aren't listed are left out, and so are values that aren't of their
//! key's kind. URLs are copied without user, password and query. The copy is written from the parsed values, never from the
//! text of the file, so that comments, continued lines and quoting can't carry anything through.

mod asdf;
mod cargo;
mod git;
mod ini;
mod npm;
mod php;
mod pip;
mod value;

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use stagewright_files::CONFIGURATION;
use stagewright_process::sandbox::ConfigFormat;

pub(crate) use git::parse as git_settings;
pub(crate) use ini::{npmrc_entries, pip_entries};
pub(crate) use value::is_variable;

/// The text of a configuration file with only the settings on its client's allow-list. For an invalid file, the settings
/// before the syntax error, or nothing.
pub(crate) fn without_secrets(format: ConfigFormat, text: &str) -> String {
    match format {
        ConfigFormat::Asdf => asdf::copy(text),
        ConfigFormat::Cargo => cargo::copy(text),
        ConfigFormat::Git => git::copy(text),
        ConfigFormat::Npm => npm::copy(text),
        ConfigFormat::Php => php::copy(text),
        ConfigFormat::Pip => pip::copy(text),
        ConfigFormat::ToolVersions => asdf::copy_versions(text),
        ConfigFormat::Other(instead) => instead.to_owned(),
    }
}

/// Whether every setting of a configuration file is known not to hold a credential. False for an invalid file.
pub(crate) fn is_harmless(format: ConfigFormat, text: &str) -> bool {
    match format {
        ConfigFormat::Cargo => cargo::is_harmless(text),
        ConfigFormat::Npm => npm::is_harmless(text),
        ConfigFormat::Pip => pip::is_harmless(text),
        // Files of the workspace that configure these can't publish to package hosts.
        ConfigFormat::Asdf
        | ConfigFormat::Git
        | ConfigFormat::Php
        | ConfigFormat::ToolVersions
        | ConfigFormat::Other(_) => false,
    }
}

/// The most files and folders that are copied of a folder.
const ENTRIES: usize = 1000;

/// Copies a file, or a folder with all files of the format below it. The copy of an unreadable file is empty.
pub(crate) fn copy(format: ConfigFormat, from: &Path, to: &Path) -> io::Result<()> {
    let mut entries = ENTRIES;
    copy_entry(format, from, to, &mut entries)
}

fn copy_entry(format: ConfigFormat, from: &Path, to: &Path, entries: &mut usize) -> io::Result<()> {
    if !from.is_dir() {
        let text = stagewright_files::read(from, CONFIGURATION).unwrap_or_default();
        return fs::write(to, without_secrets(format, &String::from_utf8_lossy(&text)));
    }
    fs::create_dir_all(to)?;
    for entry in from.read_dir()?.flatten() {
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        *entries = entries.saturating_sub(1);
        if *entries == 0 {
            break;
        } else if kind.is_symlink() {
            // In the sandbox, the target of a link within the folder is the copy.
            symlink(fs::read_link(entry.path())?, to)?;
        } else if kind.is_dir() || entry.path().extension().is_some_and(|extension| extension == "ini") {
            copy_entry(format, &entry.path(), &to, entries)?;
        }
    }
    Ok(())
}

/// The 1-based line number of a byte offset in a text.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
