//! `pip.conf`. Proxies are left out, because the sandbox has a proxy of its own and can't reach another.

use super::ini::pip_entries;
use super::value::{ValueKind, admit, is_known};

/// Keys whose value is a word, or a list of words.
const WORDS: [&str; 31] = [
    "break-system-packages",
    "compile",
    "default-timeout",
    "disable-pip-version-check",
    "format",
    "ignore-installed",
    "ignore-requires-python",
    "isolated",
    "no-binary",
    "no-build-isolation",
    "no-cache-dir",
    "no-color",
    "no-compile",
    "no-deps",
    "no-index",
    "no-input",
    "no-python-version-warning",
    "no-warn-script-location",
    "only-binary",
    "pre",
    "prefer-binary",
    "progress-bar",
    "quiet",
    "require-hashes",
    "require-virtualenv",
    "resume-retries",
    "retries",
    "root-user-action",
    "timeout",
    "upgrade-strategy",
    "user",
];

/// The copy of a file's text.
pub(super) fn copy(text: &str) -> String {
    let mut copy = String::new();
    let mut section = None;
    for entry in pip_entries(text) {
        let is_name = |name: &String| name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
        let (Some(own), Some(kind)) = (entry.section.filter(is_name), kind(&entry.key)) else { continue };
        let values = entry.value.lines().flat_map(str::split_whitespace).filter_map(|value| admit(kind, value));
        let values = values.collect::<Vec<_>>();
        if values.is_empty() {
            continue;
        }
        if section.as_ref() != Some(&own) {
            copy.push_str(&format!("[{own}]\n"));
            section = Some(own);
        }
        copy.push_str(&format!("{} = {}\n", entry.key, values.join("\n    ")));
    }
    copy
}

/// Whether no value could be a credential.
pub(super) fn is_harmless(text: &str) -> bool {
    let is_known = |key: &str, value: &str| value.split_whitespace().all(|value| is_known(kind(key), value));
    pip_entries(text).iter().all(|entry| entry.section.is_some() && is_known(&entry.key, &entry.value))
}

fn kind(key: &str) -> Option<ValueKind> {
    match key {
        "index-url" | "extra-index-url" | "find-links" => Some(ValueKind::Url),
        "cert" | "constraint" => Some(ValueKind::Text),
        // A host with a port.
        "trusted-host" => Some(ValueKind::Text),
        _ if WORDS.contains(&key) => Some(ValueKind::Word),
        _ => None,
    }
}
