//! `cargo xtask cluster`: a Kubernetes of one node on this machine, for tests of deployments.
//!
//! The input is options; the output is a state folder with kubeconfigs, running daemons, and a description of them for
//! tests. Programs are built once ([`programs`]). Only one cluster can run on a machine: it has one bridge, one cgroup, and
//! rules in the machine's packet filter. Nothing here may end a process or remove a folder that isn't the cluster's.

mod certificates;
mod cgroup;
mod daemons;
mod details;
mod folder;
mod kubeconfig;
mod network;
mod processes;
mod programs;
mod readiness;
mod registration;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand};

use self::daemons::{ClusterDaemon, DaemonSetup};
use self::details::ClusterDetails;
use self::folder::ClusterFolder;
use self::network::{ClusterPorts, PortOptions};
use self::processes::ProcessIdentity;
use self::programs::Programs;
use self::readiness::Client;
use self::registration::Registration;
use crate::cargo::{Result, root};
use crate::packages;

/// What a running cluster needs, and the packages that contain it.
const FOR_RUNNING: [(&str, &str); 7] = [
    ("dockerd", "docker.io"),
    ("docker-registry", "docker-registry"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("nsenter", "util-linux"),
    ("openssl", "openssl"),
    ("runc", "runc"),
];

/// The state folder, in the target folder.
const DEFAULT_FOLDER: &str = "cluster";

#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Start the cluster, and print where it is
    ///
    /// Builds Kubernetes first if that hasn't been done. If the cluster runs already, only prints where it is.
    Up(UpOptions),
    /// End the cluster, and remove its state folder
    Down(FolderOptions),
    /// Show which parts run; fails if the cluster can't be used
    Status(FolderOptions),
}

#[derive(Args, Default)]
pub(crate) struct UpOptions {
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    ports: PortOptions,
    /// Print JSON instead of variables for a shell
    #[arg(long)]
    json: bool,
}

#[derive(Args, Default)]
pub(crate) struct FolderOptions {
    /// The state folder; by default that of the running cluster, or else `cluster` in the target folder
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl FolderOptions {
    fn choose(&self, registration: &Registration) -> Result<ClusterFolder> {
        match (&self.folder, registration.folder()) {
            (Some(named), _) => ClusterFolder::new(named),
            (None, Some(registered)) => Ok(registered.clone()),
            (None, None) => {
                let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
                ClusterFolder::new(&root().join(target).join(DEFAULT_FOLDER))
            }
        }
    }
}

pub(crate) fn run(command: &ClusterCommand) -> Result<()> {
    if !packages::is_root() {
        return Err("not root\n  help: run this as root, which containers, bridges and mounts require".to_owned());
    }
    match command {
        ClusterCommand::Up(options) => up(options),
        ClusterCommand::Down(options) => down(options),
        ClusterCommand::Status(options) => status(options),
    }
}

/// A cluster for the tests of this repository.
pub(crate) struct TestCluster {
    details: ClusterDetails,
    /// Whether it was started for them, and ends with them.
    is_own: bool,
}

impl TestCluster {
    /// The cluster of this machine, which is started if that takes no more than seconds. None if Kubernetes hasn't been built,
    /// or this isn't root.
    pub(crate) fn find() -> Result<Option<TestCluster>> {
        if !packages::is_root() || !Programs::new(&cache()?).are_built() {
            return Ok(None);
        }
        let (details, is_own) = ensure(&UpOptions::default())?;
        Ok(Some(TestCluster { details, is_own }))
    }

    /// The variables that tell tests where it is.
    pub(crate) fn variables(&self) -> Vec<(&'static str, &str)> {
        self.details.variables()
    }

    /// Ends it, if it was started for the tests.
    pub(crate) fn end(self) -> Result<()> {
        if self.is_own { down(&FolderOptions::default()) } else { Ok(()) }
    }
}

fn up(options: &UpOptions) -> Result<()> {
    let (details, _) = ensure(options)?;
    details.print(options.json);
    Ok(())
}

/// The running cluster, and whether it had to be started.
fn ensure(options: &UpOptions) -> Result<(ClusterDetails, bool)> {
    let mut registration = Registration::lock()?;
    let folder = options.folder.choose(&registration)?;
    registration.require(&folder)?;
    let programs = Programs::new(&cache()?);
    if programs.are_built() && unusable(&folder, &programs).is_empty() {
        let details = ClusterDetails::read(&folder)?;
        details.require(&options.ports)?;
        return Ok((details, false));
    }
    cgroup::require_controllers()?;
    packages::require("a cluster needs", &FOR_RUNNING)?;
    programs.build()?;
    tear_down(&folder, &programs, &mut registration)?;
    network::require_unused()?;
    let begun = Instant::now();
    let ports = ClusterPorts::choose(&options.ports)?;
    folder.create()?;
    registration.register(&folder)?;
    let details = start(&folder, &programs, &ports).map_err(|error| {
        format!(
            "{error}\n  help: {} has the logs; `cargo xtask cluster down` removes everything",
            folder.path().display()
        )
    })?;
    eprintln!("==> ready after {:.1} s", begun.elapsed().as_secs_f64());
    details.write(&folder)?;
    Ok((details, true))
}

fn start(folder: &ClusterFolder, programs: &Programs, ports: &ClusterPorts) -> Result<ClusterDetails> {
    let details = ClusterDetails::new(folder, programs, ports);
    eprintln!("==> making certificates");
    certificates::make(folder)?;
    kubeconfig::write_all(folder, &details.api())?;
    let setup = DaemonSetup { folder, programs, ports };
    setup.write_configs()?;
    cgroup::create()?;
    network::create()?;
    let client = Client::new(folder, programs);
    eprintln!("==> starting dockerd, a registry, etcd and the API server");
    for daemon in [ClusterDaemon::Registry, ClusterDaemon::Docker, ClusterDaemon::Etcd, ClusterDaemon::ApiServer] {
        setup.start(daemon)?;
    }
    client.await_docker()?;
    client.import_pause_image()?;
    client.await_api()?;
    eprintln!("==> starting the controller manager, the scheduler, the kubelet and kube-proxy");
    let others =
        [ClusterDaemon::ControllerManager, ClusterDaemon::Scheduler, ClusterDaemon::Kubelet, ClusterDaemon::Proxy];
    for daemon in others {
        setup.start(daemon)?;
    }
    client.create_deployer()?;
    client.await_node()?;
    Ok(details)
}

fn down(options: &FolderOptions) -> Result<()> {
    let mut registration = Registration::lock()?;
    let folder = options.choose(&registration)?;
    registration.require(&folder)?;
    tear_down(&folder, &Programs::new(&cache()?), &mut registration)
}

/// Ends and removes everything that a cluster with this folder may have left; every step also succeeds when there is nothing
/// to do. The registration ends last, so that an interrupted `down` can be repeated without naming the folder.
fn tear_down(folder: &ClusterFolder, programs: &Programs, registration: &mut Registration) -> Result<()> {
    cgroup::remove()?;
    network::remove(programs, registration.folder().is_some())?;
    folder.remove()?;
    registration.clear()
}

fn status(options: &FolderOptions) -> Result<()> {
    let folder = options.choose(&Registration::read()?)?;
    for daemon in ClusterDaemon::ALL {
        eprintln!("{:<24} {}", daemon.name(), if is_running(&folder, daemon) { "runs" } else { "doesn't run" });
    }
    let reasons = unusable(&folder, &Programs::new(&cache()?));
    if reasons.is_empty() {
        eprintln!("the cluster in {} is ready", folder.path().display());
        return Ok(());
    }
    Err(format!("the cluster in {} can't be used: {}", folder.path().display(), reasons.join("; ")))
}

/// Why the cluster can't be used; empty if it can.
fn unusable(folder: &ClusterFolder, programs: &Programs) -> Vec<String> {
    let stopped: Vec<_> = ClusterDaemon::ALL.into_iter().filter(|daemon| !is_running(folder, *daemon)).collect();
    if stopped.len() == ClusterDaemon::ALL.len() {
        return vec!["it doesn't run".to_owned()];
    }
    let mut reasons: Vec<_> = stopped.iter().map(|daemon| format!("{} doesn't run", daemon.name())).collect();
    if !folder.details().is_file() {
        reasons.push("`up` hasn't finished".to_owned());
    }
    if reasons.is_empty() && !Client::new(folder, programs).is_node_ready() {
        reasons.push("the node isn't ready".to_owned());
    }
    reasons
}

fn is_running(folder: &ClusterFolder, daemon: ClusterDaemon) -> bool {
    ProcessIdentity::read(&folder.pid_file(daemon.name())).is_some_and(|identity| identity.is_alive())
}

/// The folder of all versions of the programs.
fn cache() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    Ok(cache.ok_or("neither XDG_CACHE_HOME nor HOME is set")?.join("stagewright-cluster"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(subcommand)]
        command: ClusterCommand,
    }

    fn parse(line: &str) -> std::result::Result<ClusterCommand, clap::Error> {
        CommandLine::try_parse_from(line.split(' ')).map(|line| line.command)
    }

    #[test]
    fn ports_are_options_of_up_alone() {
        let Ok(ClusterCommand::Up(options)) = parse("cluster up --folder state --registry-port 5000 --json") else {
            panic!("the line is valid");
        };
        assert_eq!(options.folder.folder.as_deref(), Some(Path::new("state")));
        assert!(options.json);
        for invalid in ["up --api-port 65536", "down --api-port 6443", "status --json", "restart"] {
            assert!(parse(&format!("cluster {invalid}")).is_err(), "{invalid}");
        }
    }

    #[test]
    fn a_named_folder_precedes_that_of_the_running_cluster_which_precedes_the_default() {
        let parent = tempfile::tempdir().unwrap();
        let mut registration = Registration::open(&parent.path().join("registration")).unwrap();
        let chosen = |registration: &Registration, named: Option<&str>| {
            let options = FolderOptions { folder: named.map(PathBuf::from) };
            options.choose(registration).unwrap().path().to_owned()
        };
        assert!(chosen(&registration, None).ends_with(DEFAULT_FOLDER));
        registration.register(&ClusterFolder::new(Path::new("/running")).unwrap()).unwrap();
        assert_eq!(chosen(&registration, None), Path::new("/running"));
        assert_eq!(chosen(&registration, Some("/named")), Path::new("/named"));
    }
}
