//! What grants come to, in plain words, for those who review a pipeline.
//!
//! A remark is about a power that is easily overlooked; its absence says nothing.

use std::collections::BTreeSet;
use std::path::Path;

use super::{PackageManager, PathRule, ProcessRule};
use crate::plan::{Plan, PluginRef, Stage};
use crate::secret::{SecretHolder, SecretReach};
use crate::workspace_path::WorkspacePath;

/// Sockets by which a container engine, and so the machine, can be had.
const ENGINES: [&str; 5] = ["docker.sock", "podman.sock", "containerd.sock", "crio.sock", "buildkitd.sock"];
/// Programs that run what they are told to.
const INTERPRETERS: [&str; 25] = [
    "ash", "awk", "bash", "bun", "busybox", "csh", "dash", "deno", "env", "fish", "gawk", "ksh", "lua", "make", "node",
    "npx", "perl", "php", "python", "ruby", "sh", "sudo", "tclsh", "xargs", "zsh",
];
/// Configuration that says what a word of `net` stands for.
const PACKAGE_CONFIGS: [(&str, &str); 3] =
    [("cargo", ".cargo/config.toml"), ("cargo", ".cargo/config"), ("npm", ".npmrc")];

/// Where pipelines are: in a file of this name, or in this folder.
const PIPELINES: [&str; 2] = ["stagewright.toml", "pipelines"];

/// What a reviewer should know of a stage's grants. `files`: the pipeline's own, and those of others, relative to the
/// workspace.
pub fn remarks(plan: &Plan, stage: &Stage, files: &[&str]) -> Vec<String> {
    let mut remarks = Vec::new();
    let granted = &stage.permissions;
    for socket in &granted.socket {
        if socket.is_docker() || ENGINES.iter().any(|name| socket.as_str().ends_with(&format!("/{name}"))) {
            remarks.push(format!("full power over this machine: by `{socket}`, programs can start anything as root"));
        }
    }
    remarks.extend(granted.process.iter().filter_map(|rule| of_program(rule, stage)));
    remarks.extend(of_writing(plan, stage, files));
    let secrets = granted.secrets_beyond_hosts(&plan.secrets).into_iter().map(|reach| of_secret(&reach));
    remarks.extend(secrets);
    remarks
}

fn of_program(rule: &ProcessRule, stage: &Stage) -> Option<String> {
    let Some(program) = rule.program() else {
        return Some("can start any program of this machine".to_owned());
    };
    if program.starts_with("./") && WorkspacePath::parse(program).is_ok_and(|path| stage.permissions.writes(&path)) {
        return Some(format!("can replace `{program}`, which it may start"));
    }
    let name = program.rsplit('/').next().unwrap_or(program);
    // As in `python3.12`.
    let name = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    (INTERPRETERS.contains(&name) && !rule.is_exact()).then(|| format!("`{rule}` can run any program in its reach"))
}

/// A stage that can write what later runs go by can change what they do.
fn of_writing(plan: &Plan, stage: &Stage, files: &[&str]) -> Vec<String> {
    let can_write = |path: &str| WorkspacePath::parse(path).is_ok_and(|path| stage.permissions.writes(&path));
    let plugins = plan.stages.iter().filter_map(|stage| match &stage.uses {
        PluginRef::Path(path) => Some(path.as_str()),
        _ => None,
    });
    let own = files.iter().copied().chain(["stagewright.lock"]).chain(plugins);
    let mut paths: Vec<&str> = own.filter(|path| can_write(path)).collect();
    let is_named = |place: &str, paths: &[&str]| paths.iter().any(|path| Path::new(path).starts_with(place));
    paths
        .extend(PIPELINES.into_iter().filter(|place| can_write(place) && !is_named(place, &paths)).collect::<Vec<_>>());
    // A pipeline that isn't there yet.
    let rules = stage.permissions.write.iter().map(|rule| rule.as_str().trim_start_matches("./"));
    paths.extend(rules.filter(|rule| rule.starts_with("pipelines/")));
    // No other grant opens it: hooks run outside of any sandbox.
    let is_git = |rule: &&str| rule.trim_end_matches('/').rsplit('/').next() == Some(".git");
    let repositories = stage.permissions.write.iter().map(PathRule::as_str).filter(is_git);
    paths.splice(0..0, repositories);
    let mut seen = BTreeSet::new();
    paths.retain(|path| seen.insert(*path));
    let mut remarks = Vec::new();
    if !paths.is_empty() {
        let paths = paths.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
        remarks.push(format!("can change what runs next: it may write {paths}"));
    }
    let uses_word =
        |word: &str| plan.stages.iter().any(|stage| stage.permissions.net.iter().any(|entry| entry.as_str() == word));
    let words = PACKAGE_CONFIGS.into_iter().filter(|(word, path)| uses_word(word) && can_write(path));
    remarks
        .extend(words.map(|(word, path)| format!("can change which hosts `{word}` stands for: it may write `{path}`")));
    remarks.dedup_by_key(|remark| remark.split(": ").next().map(str::to_owned));
    remarks
}

fn of_secret(reach: &SecretReach<'_>) -> String {
    let SecretReach { secret, holder, origins } = reach;
    let who = match holder {
        SecretHolder::Process => "programs can get",
        SecretHolder::Plugin => "the plugin can read",
    };
    let packages = if origins.iter().any(|entry| PackageManager::of(entry).is_some()) {
        ", uploads to package hosts included"
    } else {
        ""
    };
    format!("{who} the secret `{secret}`, and could send it to {}{packages}", origins.join(", "))
}
