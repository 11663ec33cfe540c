//! Remarks for reviewers of a pipeline: consequences of grants that are easily overlooked.
//!
//! The absence of a remark doesn't mean that a grant is harmless.

use std::collections::BTreeSet;
use std::path::Path;

use super::{CredentialUse, PackageManager, PathRule, ProcessRule, SecretRule, SecretUse};
use crate::plan::{Plan, PluginRef, Stage};
use crate::secret::{SecretHolder, SecretReach};
use crate::words::list;
use crate::workspace_path::WorkspacePath;

/// Sockets of container engines. A program that can connect to one controls the machine.
const ENGINES: [&str; 5] = ["docker.sock", "podman.sock", "containerd.sock", "crio.sock", "buildkitd.sock"];
/// Programs that run arbitrary code or start arbitrary programs, depending on their arguments.
const INTERPRETERS: [&str; 25] = [
    "ash", "awk", "bash", "bun", "busybox", "csh", "dash", "deno", "env", "fish", "gawk", "ksh", "lua", "make", "node",
    "npx", "perl", "php", "python", "ruby", "sh", "sudo", "tclsh", "xargs", "zsh",
];
/// Files of the workspace that configure the hosts of a package manager.
const PACKAGE_CONFIGS: [(&str, &str); 3] =
    [("cargo", ".cargo/config.toml"), ("cargo", ".cargo/config"), ("npm", ".npmrc")];

/// The file, and the folder, in which pipelines are looked for.
const PIPELINES: [&str; 2] = ["stagewright.toml", "pipelines"];

/// The remarks on a stage's grants. `files` are all pipeline files of the repository, relative to the workspace.
pub fn remarks(plan: &Plan, stage: &Stage, files: &[&str]) -> Vec<String> {
    let mut remarks = Vec::new();
    let granted = &stage.permissions;
    for socket in &granted.socket {
        if socket.is_docker() || ENGINES.iter().any(|name| socket.as_str().ends_with(&format!("/{name}"))) {
            remarks
                .push(format!("full control of this machine: through `{socket}`, programs can start anything as root"));
        }
    }
    let changing = granted.net.iter().filter_map(|rule| rule.socket()).filter(|route| !route.is_read_only());
    let sockets: BTreeSet<&str> = changing.map(|route| route.socket()).collect();
    for socket in sockets.into_iter().filter(|socket| ENGINES.iter().any(|name| socket.ends_with(&format!("/{name}"))))
    {
        remarks.push(format!(
            "full control of this machine: by its requests to `{socket}`, the plugin can start anything as root"
        ));
    }
    remarks.extend(granted.process.iter().filter_map(|rule| program_remark(rule, stage)));
    remarks.extend(write_remarks(plan, stage, files));
    let secrets = granted.secrets_beyond_hosts(&plan.secrets).into_iter().map(|reach| secret_remark(&reach));
    remarks.extend(secrets);
    remarks.extend(granted.secrets.iter().filter_map(|rule| download_remark(rule, plan)));
    remarks.extend(granted.service.iter().filter_map(|rule| {
        let address = rule.address().filter(|address| !address.ip().is_loopback())?;
        Some(format!("`{}` is reached at {address} from other machines, without encryption", rule.name()))
    }));
    remarks.extend(granted.credentials.iter().filter_map(|rule| {
        let (name, declared) = (rule.name(), plan.credentials.get(rule.name())?);
        let whose = match rule.usage() {
            CredentialUse::Plugin => "",
            CredentialUse::Programs => ", for programs,",
        };
        Some(format!("the credential `{name}` ({}){whose} {}", declared.type_name(), declared.phrase()))
    }));
    remarks
}

fn download_remark(rule: &SecretRule, plan: &Plan) -> Option<String> {
    let declared = plan.secrets.get(rule.name()).filter(|_| rule.allows(SecretUse::Proxy))?;
    let hosts = list(&declared.hosts);
    let what = format!("everything from {hosts} that the secret `{}` gives access to", rule.name());
    (!hosts.is_empty()).then(|| format!("programs can download {what}"))
}

fn program_remark(rule: &ProcessRule, stage: &Stage) -> Option<String> {
    let Some(program) = rule.program() else {
        return Some("can start any program on this machine".to_owned());
    };
    if program.starts_with("./") && WorkspacePath::parse(program).is_ok_and(|path| stage.permissions.writes(&path)) {
        return Some(format!("can replace `{program}`, which it may start"));
    }
    let name = program.rsplit('/').next().unwrap_or(program);
    // Names can end in a version, as in `python3.12`.
    let name = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    (INTERPRETERS.contains(&name) && !rule.is_exact())
        .then(|| format!("`{rule}` can run any program that it can access"))
}

/// Remarks on write access to files that determine what later runs do.
fn write_remarks(plan: &Plan, stage: &Stage, files: &[&str]) -> Vec<String> {
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
    // The stage could add a pipeline that doesn't exist yet.
    let rules = stage.permissions.write.iter().map(|rule| rule.as_str().trim_start_matches("./"));
    paths.extend(rules.filter(|rule| rule.starts_with("pipelines/")));
    // Only a grant that names `.git` itself opens it, because git's hooks run outside of the sandbox.
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

fn secret_remark(reach: &SecretReach<'_>) -> String {
    let SecretReach { secret, holder, origins } = reach;
    let who = match holder {
        SecretHolder::Process => "programs can get",
        SecretHolder::Plugin => "the plugin can read",
    };
    let packages = if origins.iter().any(|entry| PackageManager::of(entry).is_some()) {
        ", including uploads to package hosts"
    } else {
        ""
    };
    format!("{who} the secret `{secret}`, and could send it to {}{packages}", origins.join(", "))
}
