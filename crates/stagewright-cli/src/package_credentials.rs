//! Files of the workspace by which the clients of package hosts could publish.
//!
//! What lies in a home is copied without credentials; a file of the workspace is there as it is, for every stage that may
//! read it. A stage that reads one and reaches its host counts as one that may publish.

use std::path::Path;
use std::sync::Arc;

use stagewright_files::{CONFIGURATION, read_text};
use stagewright_model::{Permission, Plan};

/// By the word of `net`, the files that its clients read at the root of a project.
const FILES: [(&str, &[&str]); 3] = [
    ("cargo", &[".cargo/credentials.toml", ".cargo/credentials", ".cargo/config.toml", ".cargo/config"]),
    ("npm", &[".npmrc", ".yarnrc", ".yarnrc.yml"]),
    ("pip", &[".pypirc", "pip.conf", "pip.ini", ".netrc"]),
];
/// In keys, whatever their case.
const KEYS: [&str; 4] = ["auth", "password", "token", "secret"];
/// What keys end in that name a client's own certificate, or the one who has it.
const KEY_ENDS: [&str; 4] = ["key", "keyfile", "keyfilepath", "username"];

/// Notes in a plan which stages can read one for a host that they reach.
pub(crate) fn note(root: &Path, plan: &mut Plan) {
    let found = FILES.iter().flat_map(|(word, files)| files.iter().map(move |file| (*word, *file)));
    let found: Vec<(&str, &str)> = found.filter(|(_, file)| holds_credential(&root.join(file))).collect();
    for stage in &mut plan.stages {
        let granted = &stage.permissions;
        let can_read = |file: &str| {
            Permission::Read.is_within(file, &granted.read) || Permission::Write.is_within(file, &granted.write)
        };
        let in_reach = found
            .iter()
            .filter(|(word, file)| granted.net.iter().any(|entry| entry.as_str() == *word) && can_read(file));
        let files: Vec<String> = in_reach.map(|(_, file)| (*file).to_owned()).collect();
        if !files.is_empty() {
            Arc::make_mut(&mut stage.permissions).credential_files = files;
        }
    }
}

/// A file that can't be read as a small text counts: nobody can say what it holds.
fn holds_credential(file: &Path) -> bool {
    match read_text(file, CONFIGURATION) {
        Ok(text) => is_credential(&text),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

fn is_credential(text: &str) -> bool {
    text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])).any(|line| {
        let (key, value) = line.split_once(['=', ':', ' ']).unwrap_or((line, ""));
        // npm's keys hold the host, as in `//registry.npmjs.org/:_authToken=…`: the value is behind the last part.
        let key = if line.starts_with("//") { line.split('=').next().unwrap_or(line) } else { key };
        let value = if line.starts_with("//") { line.split_once('=').map_or("", |(_, value)| value) } else { value };
        let value = value.trim().trim_matches(['"', '\'']);
        // `${NAME}` is a variable, which has to be granted.
        let is_variable = value.starts_with("${") && value.ends_with('}');
        let is_value = !is_variable && !["", "true", "false"].contains(&value);
        let has_user =
            line.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().unwrap_or(rest).contains('@'));
        // As in `machine pypi.org login me password …` of a `.netrc`.
        let is_login = line.starts_with("machine ") && line.split_whitespace().any(|word| word == "password");
        let key = key.trim().trim_matches(['"', '\'']).to_ascii_lowercase();
        let is_named = KEYS.iter().any(|word| key.contains(word)) || KEY_ENDS.iter().any(|end| key.ends_with(end));
        has_user || is_login || (is_value && is_named)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_passwords_are_found_and_settings_are_not() {
        for text in [
            "//registry.npmjs.org/:_authToken=npm_abc",
            "_auth = abc",
            "registry=https://me:pw@npm.example.org/",
            "[registries.acme]\ntoken = \"x\"",
            "[pypi]\nusername = me\npassword = pw",
            "machine pypi.org login me password pw",
            "npmAuthToken: abc",
            "//npm.example.org/:keyfile=ci/npm.key",
            "  httpsKeyFilePath: ci/npm.key",
        ] {
            assert!(is_credential(text), "{text}");
        }
        for text in [
            "registry=https://registry.npmjs.org/\nsave-exact=true",
            "//registry.npmjs.org/:_authToken=${NPM_TOKEN}",
            "# _authToken=x",
            "[build]\nrustflags = [\"-Ctarget-feature=+crt-static\"]",
            "npmAlwaysAuth: true",
        ] {
            assert!(!is_credential(text), "{text}");
        }
    }
}
