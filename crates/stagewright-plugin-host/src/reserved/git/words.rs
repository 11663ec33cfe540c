//! Files of the workspace that a value of git's configuration names.
//!
//! Git gives many values to a shell, and which ones it does changes with its versions, so that no list of keys is kept: each
//! word of each value that leads to a file counts, but for texts that are never a path.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::settings::expanded;

/// Words of one value that are looked at.
const WORDS: usize = 256;
/// Sections of names and texts.
const TEXT: [&str; 7] = ["author", "color", "column", "committer", "gui", "submodule", "user"];
/// Keys of which git runs the value, even when the program is still to be built.
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

/// Those in `workspace`, seen from `folder`.
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
    for Word { text, is_first } in &words {
        // The shell looks for a program without a slash in `PATH`; what follows is seen from where it runs.
        let counts = is_path(text) || (!is_first && !TEXT.contains(&section)) || key.ends_with("file");
        for path in counts.then(|| places(OsStr::from_bytes(text), home, folder)).into_iter().flatten() {
            if path.is_file() && lies_in(&path, workspace) {
                files.insert(path);
            }
        }
    }
    files
}

/// The program of a command line that isn't there yet, if its path says where in `workspace` it will be.
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

/// Where a word leads. What follows a substitution, as in `$(git rev-parse --show-toplevel)/x`, may be seen from the folder.
fn places(word: &OsStr, home: Option<&Path>, folder: &Path) -> Vec<PathBuf> {
    let mut places = vec![folder.join(expanded(word, home))];
    if let Some(below) = word.as_bytes().strip_prefix(b"/") {
        places.push(folder.join(OsStr::from_bytes(below)));
    }
    places
}

/// Whether it is spelled below the workspace, or leads there.
fn lies_in(path: &Path, workspace: &Path) -> bool {
    stagewright_files::follow(path).is_ok_and(|led| led.meets(workspace))
}

/// A part of a command line.
struct Word {
    text: Vec<u8>,
    /// Nothing is before it.
    is_first: bool,
}

/// The value as a shell would take it apart, roughly and with more words than that: in words with and without quotes, at
/// signs that join words (`--hook=x`, `a;b`, `$(a)/b`), and as a whole.
fn words(value: &[u8]) -> Vec<Word> {
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
        all.push(Word { text: word.clone(), is_first: at == 0 });
        let parts = word.split(is_joint).enumerate();
        all.extend(parts.map(|(part, text)| Word { text: text.to_owned(), is_first: at == 0 && part == 0 }));
    }
    all.push(Word { text: value.to_owned(), is_first: true });
    all
}
