//! `.npmrc`, the configuration of npm, pnpm and yarn 1.
//!
//! Proxies are left out, because the sandbox has a proxy of its own and can't reach another. So are folders, which don't
//! exist in the sandbox.

use super::ini::npmrc_entries;
use super::value::{ValueKind, admit, is_known, is_variable};

/// Keys whose value is a word, or a list of words.
const WORDS: [&str; 59] = [
    "access",
    "audit",
    "audit-level",
    "auto-install-peers",
    "child-concurrency",
    "color",
    "dedupe-peer-dependents",
    "engine-strict",
    "fetch-retries",
    "fetch-retry-factor",
    "fetch-retry-maxtimeout",
    "fetch-retry-mintimeout",
    "fetch-timeout",
    "foreground-scripts",
    "fund",
    "hoist",
    "hoist-pattern",
    "ignore-scripts",
    "include",
    "install-links",
    "install-strategy",
    "legacy-bundling",
    "legacy-peer-deps",
    "link-workspace-packages",
    "lockfile",
    "lockfile-version",
    "loglevel",
    "maxsockets",
    "network-concurrency",
    "node-linker",
    "offline",
    "omit",
    "omit-lockfile-registry-resolved",
    "optional",
    "package-import-method",
    "package-lock",
    "prefer-dedupe",
    "prefer-frozen-lockfile",
    "prefer-offline",
    "prefer-online",
    "prefer-workspace-packages",
    "production",
    "progress",
    "public-hoist-pattern",
    "resolution-mode",
    "resolve-peers-from-workspace-root",
    "save",
    "save-exact",
    "save-prefix",
    "save-workspace-protocol",
    "shamefully-hoist",
    "shared-workspace-lockfile",
    "side-effects-cache",
    "strict-peer-dependencies",
    "strict-peer-deps",
    "strict-ssl",
    "tag",
    "update-notifier",
    "yes",
];

/// Keys whose value is a folder. They are left out of copies, but are harmless.
const FOLDERS: [&str; 6] = ["cache", "cache-dir", "modules-dir", "state-dir", "store-dir", "virtual-store-dir"];

/// The copy of a file's text.
pub(super) fn copy(text: &str) -> String {
    let mut copy = String::new();
    for entry in npmrc_entries(text) {
        let name = entry.key.strip_suffix("[]").unwrap_or(&entry.key);
        let Some(value) = kind(name).and_then(|kind| admit(kind, &entry.value)) else { continue };
        // Quoted as JSON, so that nothing in the value begins a comment, a line or a variable.
        copy.push_str(&format!("{}={}\n", entry.key, serde_json::Value::from(value.replace("${", "$ {"))));
    }
    copy
}

/// Whether no value could be a credential. A variable isn't one, since a stage only gets it if it is granted.
pub(super) fn is_harmless(text: &str) -> bool {
    let has_header = text.lines().any(|line| line.trim().starts_with('['));
    let mut entries = npmrc_entries(text).into_iter();
    !has_header
        && entries.all(|entry| {
            let name = entry.key.strip_suffix("[]").unwrap_or(&entry.key);
            let kind = kind(name).or_else(|| FOLDERS.contains(&name).then_some(ValueKind::Text));
            is_known(kind, &entry.value) || is_variable(&entry.value)
        })
}

fn kind(name: &str) -> Option<ValueKind> {
    let is_scope = |scope: &str| {
        scope.starts_with('@')
            && scope[1..].chars().all(|letter| letter.is_ascii_alphanumeric() || ".-_~".contains(letter))
    };
    match name {
        "registry" => Some(ValueKind::Url),
        "cafile" | "nodedir" => Some(ValueKind::Text),
        "ca" => Some(ValueKind::Certificate),
        _ if WORDS.contains(&name) => Some(ValueKind::Word),
        _ => name.strip_suffix(":registry").filter(|scope| is_scope(scope)).map(|_| ValueKind::Url),
    }
}
