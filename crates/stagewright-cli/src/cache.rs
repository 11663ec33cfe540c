//! The cache of one repository, put before the plugin host.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stagewright_cache::{CacheConfig, Caching, Machine, Mode};
use stagewright_engine::{Artifact, RunId, StageRunner};
use stagewright_model::{Permissions, ProcessRule};
use stagewright_plugin_host::{ArtifactFolder, PluginHost};
use stagewright_process::sandbox::Provision;
use stagewright_process::which;

use crate::args::CacheMode;
use crate::repository::Repository;

/// Inherited by every program, and known by what is found there: the programs themselves.
const PLACES: [&str; 2] = ["PATH", "HOME"];

/// Where results are.
pub(crate) fn folder(repository: &Repository) -> PathBuf {
    repository.state.join("cache/results")
}

/// A runner that takes results from the cache. `sandboxed`: whether programs are confined.
pub(crate) fn caching(repository: &Repository, plugins: &PluginHost, sandboxed: bool, mode: CacheMode) -> Caching {
    let machine = ThisMachine {
        plugins: plugins.clone(),
        environment: repository.environment.clone(),
        root: repository.root.clone(),
        artifacts: ArtifactFolder { root: repository.state.join("artifacts") },
    };
    let config = CacheConfig {
        root: folder(repository),
        workspace: repository.root.clone(),
        reserved: repository.reserved(),
        sandboxed,
        mode: match mode {
            CacheMode::Use => Mode::Use,
            CacheMode::Read => Mode::Read,
            CacheMode::Refresh => Mode::Refresh,
            CacheMode::Off => Mode::Off,
        },
        machine: Arc::new(machine),
    };
    let work: Arc<dyn StageRunner> = Arc::new(plugins.clone());
    Caching::new(config, work)
}

struct ThisMachine {
    plugins: PluginHost,
    environment: BTreeMap<String, String>,
    root: PathBuf,
    artifacts: ArtifactFolder,
}

impl Machine for ThisMachine {
    fn variables(&self, permissions: &Permissions) -> BTreeMap<String, String> {
        let granted = permissions.env.iter().map(String::as_str).filter(|name| !PLACES.contains(name));
        let names = granted.chain(["LANG"]);
        names.filter_map(|name| Some((name.to_owned(), self.environment.get(name)?.clone()))).collect()
    }

    fn tools(&self, permissions: &Permissions, env: &BTreeMap<String, String>) -> Vec<PathBuf> {
        let path = env.get("PATH").or_else(|| self.environment.get("PATH")).map_or("", String::as_str);
        let rules = permissions.process.iter().filter_map(|rule| ProcessRule::parse(rule).ok());
        let programs = rules.filter_map(|rule| match rule.program()? {
            own if own.contains('/') => Some(self.root.join(own)),
            name => which(name, path)?.canonicalize().ok(),
        });
        let needs = self.plugins.tools(permissions, env).into_iter();
        // What is kept is a cache of downloads: what a result takes from there, its inputs name.
        let needs = needs.filter(|need| matches!(need.how, Provision::Execute | Provision::Copy));
        programs.chain(needs.map(|need| need.path)).collect()
    }

    fn published(&self, run: &RunId) -> io::Result<Vec<Artifact>> {
        self.artifacts.published(run)
    }

    fn content(&self, digest: &str) -> PathBuf {
        self.artifacts.content(digest)
    }

    fn publish(&self, run: &RunId, stage: &str, artifact: &Artifact, content: &Path) -> io::Result<()> {
        self.artifacts.publish(run, stage, artifact, content)
    }
}
