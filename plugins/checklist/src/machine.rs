//! What the machine has on which the pipeline runs.

use std::collections::BTreeMap;

use serde::Deserialize;
use stagewright_sdk::process::Command;
use stagewright_sdk::{JsonSchema, Requirement, Result, WorkspacePath, schemars};

/// What is expected of the machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Evidence {
    /// The least number of processors.
    cores: Option<u64>,
    /// The least memory, in GiB.
    memory_gib: Option<f64>,
    /// The least free space where a file or folder of the workspace is.
    disk: Option<Disk>,
    /// Programs with their least versions, as in `{ docker = "24", git = "2.30" }`. A program is asked with `--version`.
    #[serde(default)]
    tools: BTreeMap<String, String>,
}

/// Free space.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Disk {
    /// A file or folder that is there. The rest of the workspace isn't seen by programs.
    path: WorkspacePath,
    /// In GiB.
    gib: f64,
}

impl Disk {
    fn args(&self) -> [&str; 3] {
        ["--output=avail", "--block-size=1", self.path.as_str()]
    }
}

const NPROC: [&str; 1] = ["--all"];
const FREE: [&str; 1] = ["--bytes"];
const VERSION: [&str; 1] = ["--version"];

#[expect(clippy::cast_precision_loss, reason = "for people, and for limits in GiB")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1_u32 << 30)
}

impl Evidence {
    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        let mut needed = Vec::new();
        needed.extend(self.cores.map(|_| Requirement::command("nproc", NPROC)));
        needed.extend(self.memory_gib.map(|_| Requirement::command("free", FREE)));
        if let Some(disk) = &self.disk {
            needed.extend([Requirement::command("df", disk.args()), Requirement::read(disk.path.as_str())]);
        }
        needed.extend(self.tools.keys().map(|tool| Requirement::command(tool, VERSION)));
        needed
    }

    /// What there is, or else what is missing.
    pub(crate) fn look(&self) -> Result<std::result::Result<String, String>> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        let mut compare = |what: &str, has: f64, wanted: f64| match has >= wanted {
            true => found.push(format!("{has:.1} {what}")),
            false => missing.push(format!("{has:.1} {what} instead of {wanted:.1}")),
        };
        #[expect(clippy::cast_precision_loss, reason = "numbers of processors")]
        if let Some(wanted) = self.cores {
            compare("processors", said("nproc", &NPROC)?.trim().parse().unwrap_or_default(), wanted as f64);
        }
        if let Some(wanted) = self.memory_gib {
            let said = said("free", &FREE)?;
            let total =
                said.lines().find_map(|line| line.strip_prefix("Mem:")?.split_whitespace().next()?.parse().ok());
            compare("GiB of memory", gib(total.unwrap_or_default()), wanted);
        }
        if let Some(disk) = &self.disk {
            let free = said("df", &disk.args())?.lines().last().and_then(|line| line.trim().parse().ok());
            compare("GiB of free space", gib(free.unwrap_or_default()), disk.gib);
        }
        for (tool, wanted) in &self.tools {
            let said = said(tool, &VERSION)?;
            match version(&said) {
                Some(has) if numbers(&has) >= numbers(wanted) => found.push(format!("{tool} {has}")),
                Some(has) => missing.push(format!("{tool} {has} instead of {wanted}")),
                None => missing.push(format!("{tool} doesn't say its version")),
            }
        }
        Ok(if missing.is_empty() { Ok(found.join(", ")) } else { Err(missing.join(", ")) })
    }
}

/// The output of a program that only reads; empty if it fails or isn't there.
fn said(program: &str, args: &[&str]) -> Result<String> {
    match Command::new(program).args(args.iter().copied()).read_only().capture_limit(64 << 10).quiet().output() {
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// The first word that is a version, as in `Docker version 24.0.5, build ced0996`.
fn version(said: &str) -> Option<String> {
    let words = said.split(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')'));
    let words = words.map(|word| word.trim_start_matches('v'));
    words
        .filter(|word| word.contains('.'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
}

/// The numbers of a version, up to what isn't one.
fn numbers(version: &str) -> Vec<u64> {
    let parts = version.split('.').map(|part| part.chars().take_while(char::is_ascii_digit).collect::<String>());
    parts.map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_compared_by_their_numbers() {
        for (said, expected) in [
            ("Docker version 24.0.5, build ced0996", "24.0.5"),
            ("git version 2.39.2", "2.39.2"),
            ("v20.11.0\n", "20.11.0"),
            ("openssl 3.0.11 19 Sep 2023 (Library: OpenSSL 3.0.11)", "3.0.11"),
        ] {
            assert_eq!(version(said).as_deref(), Some(expected));
        }
        assert_eq!(version("no version"), None);
        assert!(numbers("24.0.5") >= numbers("24") && numbers("2.10") > numbers("2.9") && numbers("1.0-rc1") == [1, 0]);
    }
}
