//! Writes the text of a lock. The same grants always give the same bytes.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::{Lock, LockedPipeline, LockedStage};
use crate::credential::SshHost;
use crate::grants::{Amount, Permission};
use crate::is_invisible;

/// Lists longer than this number of bytes are written with one entry per line.
const WIDTH: usize = 100;

impl Lock {
    /// The text of the lock file, with a trailing newline.
    pub fn render(&self) -> String {
        let mut text =
            "# What the pipelines of this repository may do. Written by `stagewright lock`.\n# Review changes here \
                        as changes to permissions.\nschema = 1\n"
                .to_owned();
        for (name, pipeline) in &self.pipelines {
            let body = pipeline.render(name);
            text.push_str(&format!("\n[pipelines.{}]\nchecksum = {}\n{body}", key(name), quoted(&checksum(&body))));
        }
        text
    }
}

impl LockedPipeline {
    /// The section of a pipeline without its header and checksum: the text that the checksum is computed from.
    fn render(&self, name: &str) -> String {
        let prefix = format!("pipelines.{}", key(name));
        let mut text = format!("sandbox = {}\n", quoted(self.sandbox.key()));
        for (name, secret) in &self.secrets {
            header(&mut text, &[&prefix, "secrets", &key(name)]);
            if let Some(from) = &secret.from {
                line(&mut text, "from", &quoted(from.as_str()));
            }
            list(&mut text, "hosts", &secret.hosts);
            list(&mut text, "programs", &secret.programs);
        }
        for (name, declared) in &self.credentials {
            header(&mut text, &[&prefix, "credentials", &key(name)]);
            line(&mut text, "type", &quoted(declared.type_name()));
            list(&mut text, "origins", &declared.origins);
            for setting in declared.settings() {
                line(&mut text, setting.key, &quoted(&setting.value));
            }
            for (host, SshHost { address, host_keys }) in declared.ssh_hosts() {
                header(&mut text, &[&prefix, "credentials", &key(name), "hosts", &key(host)]);
                line(&mut text, "address", &quoted(address.as_str()));
                list(&mut text, "host-keys", host_keys);
            }
        }
        if !self.package_hosts.is_empty() {
            header(&mut text, &[&prefix, "package-hosts"]);
        }
        for (manager, origins) in &self.package_hosts {
            let origins = origins.iter().map(ToString::to_string).collect::<Vec<_>>();
            list(&mut text, manager.word(), &origins);
        }
        for (name, plugin) in &self.plugins {
            header(&mut text, &[&prefix, "plugins", &key(name)]);
            line(&mut text, "digest", &quoted(&plugin.digest));
            if let Some(wit) = &plugin.wit {
                line(&mut text, "wit", &quoted(wit));
            }
            list(&mut text, "imports", &plugin.imports.iter().cloned().collect::<Vec<_>>());
        }
        for (name, stage) in &self.stages {
            stage.render(&[&prefix, "stages", &key(name)], &mut text);
        }
        text
    }

    /// Whether `written`, the checksum in a file, is that of this section.
    pub(crate) fn has_checksum(&self, name: &str, written: &str) -> bool {
        // The checksum is computed from what was parsed rather than from the bytes of the file. So it covers everything
        // that has an effect, but comments, the order of tables, and line endings, which git can change on checkout,
        // don't matter.
        checksum(&self.render(name)) == written
    }
}

impl LockedStage {
    fn render(&self, path: &[&str], text: &mut String) {
        header(text, path);
        line(text, "uses", &quoted(&self.uses));
        line(text, "trust", &quoted(if self.is_native { "native" } else { "component" }));
        if let Some(environment) = &self.environment {
            line(text, "environment", &quoted(environment));
        }
        if self.permissions.unsandboxed {
            line(text, "sandbox", &quoted("off"));
        }
        for (key, granted) in [("permissions", &self.permissions), ("rehearse", &self.rehearse)] {
            if Permission::ALL.into_iter().any(|kind| !granted.of(kind).is_empty()) {
                header(text, &[path, &[key]].concat());
                for kind in Permission::ALL {
                    list(text, kind.key(), &granted.of(kind));
                }
            }
        }
        let limits = self.bounds.entries().into_iter().filter_map(|(key, amount)| Some((key, amount?)));
        let mut limits = limits.peekable();
        if limits.peek().is_some() {
            header(text, &[path, &["limits"]].concat());
        }
        for (key, amount) in limits {
            let value = amount.to_string();
            line(text, key, &if matches!(amount, Amount::Count(_)) { value } else { quoted(&value) });
        }
    }
}

fn checksum(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    digest.iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn header(text: &mut String, path: &[&str]) {
    text.push_str(&format!("\n[{}]\n", path.join(".")));
}

fn line(text: &mut String, key: &str, value: &str) {
    text.push_str(&format!("{key} = {value}\n"));
}

/// Writes a list. An empty list is left out.
fn list(text: &mut String, key: &str, entries: &[impl AsRef<str>]) {
    let entries: Vec<String> = entries.iter().map(|entry| quoted(entry.as_ref())).collect();
    let single = format!("[{}]", entries.join(", "));
    match entries.is_empty() {
        true => {}
        false if key.len() + single.len() <= WIDTH => line(text, key, &single),
        false => {
            let lines: String = entries.iter().map(|entry| format!("    {entry},\n")).collect();
            line(text, key, &format!("[\n{lines}]"));
        }
    }
}

/// Writes a TOML string on one line, which also makes it valid as a key. JSON's escapes are a subset of TOML's.
/// Invisible characters are escaped too, so that a reviewer of the file sees everything in it.
fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    if !json.contains(is_invisible) {
        return json;
    }
    let mut quoted = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        let number = u32::from(character);
        let _ = match (is_invisible(character), number) {
            (true, ..=0xFFFF) => write!(quoted, "\\u{number:04X}"),
            (true, _) => write!(quoted, "\\U{number:08X}"),
            (false, _) => write!(quoted, "{character}"),
        };
    }
    quoted
}

fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_escaped() {
        let text = "a\u{7f}\u{9b}\u{202e}\u{e0041}\u{200b}\"\\\n\té";
        let written = quoted(text);
        assert!(!written.contains(is_invisible), "{written}");
        let read: toml::Table = format!("{written} = {written}").parse().unwrap();
        assert_eq!(read.get(text).and_then(toml::Value::as_str), Some(text));
    }
}
