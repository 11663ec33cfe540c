//! Finds files of the workspace that a value of git's configuration names.
//!
//! Git passes many values to a shell, and the keys for which it does change between versions, so there is no list of keys.
//! Every word of every value that is the path of a file counts. In sections whose values are names and texts, a word
//! without a slash counts only if the key ends in `file`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::settings::expanded;

/// The most words of one value that are examined.
const WORDS: usize = 256;
/// Sections whose values are names and texts.
const TEXT: [&str; 7] = ["author", "color", "column", "committer", "gui", "submodule", "user"];
/// Keys whose value git runs. Their program is claimed even if it doesn't exist yet.
const RUN: [&str; 22] = [
    "core.alternaterefscommand",
    "core.askpass",
    "core.editor",
    "core.fsmonitor",
    "core.gitproxy",
    "core.pager",
    "core.sshcommand",
    "credential.helper",
    "diff.command",
    "diff.external",
    "diff.textconv",
    "environment.command",
    "filter.clean",
    "filter.process",
    "filter.smudge",
    "gpg.program",
    "interactive.difffilter",
    "merge.driver",
    "remote.receivepack",
    "remote.uploadpack",
    "sequence.editor",
    "uploadpack.packobjectshook",
];

/// The folder that new repositories get their hooks from.
pub(super) fn template(key: &str, value: &OsStr, home: Option<&Path>) -> Option<PathBuf> {
    (key == "init.templatedir" && !value.is_empty()).then(|| expanded(value, home))
}

/// The files in `workspace` that the value names, relative to `folder`.
pub(super) fn named_files(
    key: &str,
    value: &OsStr,
    home: Option<&Path>,
    folder: &Path,
    workspace: &Path,
) -> BTreeSet<PathBuf> {
    let section = key.split_once('.').map_or(key, |(section, _)| section);
    let value = value.as_bytes();
    let command = value.strip_prefix(b"!").unwrap_or(value);
    let words = words(command);
    let mut files = BTreeSet::new();
    let is_path = |word: &[u8]| word.contains(&b'/');
    for CommandWord { text, is_first } in &words {
        // The first word without a slash is a program that the shell looks up in `PATH`. Arguments are relative to the folder.
        let counts = is_path(text) || (!is_first && !TEXT.contains(&section)) || key.ends_with("file");
        for path in counts.then(|| places(OsStr::from_bytes(text), home, folder)).into_iter().flatten() {
            if path.is_file() && lies_in(&path, workspace) {
                files.insert(path);
            }
        }
    }
    files
}

/// The program of a command line, if it doesn't exist and its path is in `workspace`.
pub(super) fn missing_program(
    key: &str,
    value: &OsStr,
    home: Option<&Path>,
    folder: &Path,
    workspace: &Path,
) -> Option<PathBuf> {
    let value = value.as_bytes();
    if !(value.starts_with(b"!") || RUN.contains(&key) || key.starts_with("pager.")) {
        return None;
    }
    let words = words(value.strip_prefix(b"!").unwrap_or(value));
    let first = words.into_iter().map(|word| word.text).find(|text| !text.is_empty())?;
    let path = folder.join(expanded(OsStr::from_bytes(&first), home));
    let is_one = first.contains(&b'/') && path.symlink_metadata().is_err() && lies_in(&path, workspace);
    is_one.then_some(path)
}

/// The paths that a word may mean. The rest of a substitution, as in `$(git rev-parse --show-toplevel)/x`, may be relative
/// to the folder.
fn places(word: &OsStr, home: Option<&Path>, folder: &Path) -> Vec<PathBuf> {
    let mut places = vec![folder.join(expanded(word, home))];
    if let Some(below) = word.as_bytes().strip_prefix(b"/") {
        places.push(folder.join(OsStr::from_bytes(below)));
    }
    places
}

/// Whether the path, or what it leads to, is in the workspace.
fn lies_in(path: &Path, workspace: &Path) -> bool {
    stagewright_files::follow(path).is_ok_and(|led| led.meets(workspace))
}

/// A part of a command line.
struct CommandWord {
    text: Vec<u8>,
    /// Whether it begins the command line.
    is_first: bool,
}

/// The words of a value, roughly as a shell would split it, and more: each word is also split at characters that can join
/// words (`--hook=x`, `a;b`, `$(a)/b`), and the whole value counts as a word.
fn words(value: &[u8]) -> Vec<CommandWord> {
    let mut words = Vec::new();
    let (mut word, mut quote) = (Vec::new(), None);
    let mut letters = value.iter().copied();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, b'\'' | b'"') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            (None | Some(b'"'), b'\\') => word.extend(letters.next()),
            (None, letter) if letter.is_ascii_whitespace() => words.push(std::mem::take(&mut word)),
            (_, letter) => word.push(letter),
        }
    }
    words.push(word);
    words.truncate(WORDS);
    let is_joint = |letter: &u8| b"=;|&<>()`,:".contains(letter) || letter.is_ascii_whitespace();
    let mut all = Vec::new();
    for (at, word) in words.iter().enumerate() {
        all.push(CommandWord { text: word.clone(), is_first: at == 0 });
        let parts = word.split(is_joint).enumerate();
        all.extend(parts.map(|(part, text)| CommandWord { text: text.to_owned(), is_first: at == 0 && part == 0 }));
    }
    all.push(CommandWord { text: value.to_owned(), is_first: true });
    all
}
