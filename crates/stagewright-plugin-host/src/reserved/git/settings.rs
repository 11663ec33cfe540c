//! Reads git's configuration files, with all files that they may include.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use stagewright_files::CONFIGURATION;

use crate::client_config::git_settings;

/// The most files of one configuration.
const FILES: usize = 256;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The settings of files, regardless of the conditions under which git includes them.
#[derive(Clone, Debug, Default)]
pub(super) struct GitSettings {
    /// Included files, whether they exist or not.
    pub(super) included: BTreeSet<PathBuf>,
    /// Section and key in lower case, without the subsection, and the value.
    pub(super) values: Vec<(String, OsString)>,
}

impl GitSettings {
    /// Reads files and those that they include. Missing and unreadable files are skipped.
    pub(super) fn read(files: Vec<PathBuf>, home: Option<&Path>) -> io::Result<GitSettings> {
        let mut settings = GitSettings::default();
        let (mut ahead, mut seen) = (files, BTreeSet::new());
        while let Some(file) = ahead.pop() {
            if !seen.insert(file.clone()) {
                continue;
            }
            if seen.len() > FILES {
                let many = format!("git's configuration has more than {FILES} files, including `{}`", file.display());
                return Err(io::Error::other(many));
            }
            match stagewright_files::read(&file, CONFIGURATION) {
                Ok(text) => ahead.extend(settings.add_file(&file, &text, home)),
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    return Err(io::Error::new(error.kind(), format!("{}: {error}", file.display())));
                }
                Err(_) => {}
            }
        }
        Ok(settings)
    }

    /// Adds the settings of a file, and returns the files that it includes.
    fn add_file(&mut self, file: &Path, text: &[u8], home: Option<&Path>) -> Vec<PathBuf> {
        let folder = file.parent().unwrap_or(Path::new("/"));
        let mut includes = Vec::new();
        // Decoded as one character for each byte, since a path needn't be UTF-8.
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let letters: String = text.iter().copied().map(char::from).collect();
        for setting in git_settings(&letters) {
            let Some(value) = setting.value else { continue };
            let bytes = value.chars().filter_map(|letter| u8::try_from(u32::from(letter)).ok());
            let value = OsString::from_vec(bytes.collect());
            if matches!(setting.section.as_str(), "include" | "includeif") && setting.key == "path" {
                includes.push(folder.join(expanded(&value, home)));
            } else {
                self.values.push((format!("{}.{}", setting.section, setting.key), value));
            }
        }
        self.included.extend(includes.iter().cloned());
        includes
    }

    /// Adds a setting that isn't in a file. `key`: as in `git config`.
    pub(super) fn add(&mut self, key: &str, value: &str) {
        let key = key.to_ascii_lowercase();
        if let (Some((section, _)), Some((_, name))) = (key.split_once('.'), key.rsplit_once('.')) {
            self.values.push((format!("{section}.{name}"), OsString::from(value)));
        }
    }

    pub(super) fn last(&self, key: &str) -> Option<&OsStr> {
        self.values.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_os_str())
    }
}

/// A path in which `~/` or `$HOME/` at the beginning is replaced with the home.
pub(super) fn expanded(value: &OsStr, home: Option<&Path>) -> PathBuf {
    let below = [&b"~/"[..], b"$HOME/", b"${HOME}/"].into_iter().find_map(|home| value.as_bytes().strip_prefix(home));
    match (below, home) {
        (Some(below), Some(home)) => home.join(OsStr::from_bytes(below)),
        _ => PathBuf::from(value),
    }
}
