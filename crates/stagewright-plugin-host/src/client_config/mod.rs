//! Configuration files of clients (git, cargo, npm, pip) as programs in a sandbox may see them.
//!
//! ```text
//! file ── parser of its format ── keys ── allow-list, each with the kind of its value ── text in the same format
//! ```
//!
//! A copy holds what was recognised and nothing else: a key that isn't listed is left out, as is a
//! value that isn't of its key's kind. Addresses are copied without user, password and query. Nothing of the file's
//! own text is passed on, so that comments, continued lines and quoting can't carry anything through.

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

/// The text of a configuration file without what its client's allow-list doesn't name. Of a file that isn't in its
/// format, what comes before the mistake, or nothing.
pub(crate) fn without_secrets(format: ConfigFormat, text: &str) -> String {
    match format {
        ConfigFormat::Cargo => cargo::copy(text),
        ConfigFormat::Git => git::copy(text),
        ConfigFormat::Npm => npm::copy(text),
        ConfigFormat::Php => php::copy(text),
        ConfigFormat::Pip => pip::copy(text),
        ConfigFormat::Other(instead) => instead.to_owned(),
    }
}

/// Whether all of a configuration file's settings are known to hold no credential. A file that isn't in its format isn't
/// known to.
pub(crate) fn is_harmless(format: ConfigFormat, text: &str) -> bool {
    match format {
        ConfigFormat::Cargo => cargo::is_harmless(text),
        ConfigFormat::Npm => npm::is_harmless(text),
        ConfigFormat::Pip => pip::is_harmless(text),
        // Files of the workspace that configure these can't publish to package hosts.
        ConfigFormat::Git | ConfigFormat::Php | ConfigFormat::Other(_) => false,
    }
}

/// Files and folders of a folder that is copied.
const ENTRIES: usize = 1000;

/// Copies a file, or a folder with all files below that have its format. What can't be read as a file is empty.
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
            // Where it leads is what the sandbox has there: the copy, if it is in the same folder.
            symlink(fs::read_link(entry.path())?, to)?;
        } else if kind.is_dir() || entry.path().extension().is_some_and(|extension| extension == "ini") {
            copy_entry(format, &entry.path(), &to, entries)?;
        }
    }
    Ok(())
}

/// The 1-based line of a place in a text.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
