//! Waits for the daemons through their clients, and creates what tests expect in the cluster.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::certificates::{ADMIN, NODE};
use super::daemons::{ClusterDaemon, PAUSE_IMAGE};
use super::folder::ClusterFolder;
use super::kubeconfig::NAMESPACE;
use super::network;
use super::processes::ProcessIdentity;
use super::programs::Programs;
use crate::cargo::{Result, describe};

/// Roles and their binding for [`super::certificates::DEPLOYER`].
const DEPLOYER_ROLE: &str = include_str!("deployer.yaml");

/// A daemon takes some seconds, and longer on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

const INTERVAL: Duration = Duration::from_millis(100);

/// The lines of a log that an error quotes.
const QUOTED_LINES: usize = 8;

/// The clients of one cluster.
pub(super) struct Client<'a> {
    folder: &'a ClusterFolder,
    programs: &'a Programs,
}

impl Client<'_> {
    pub(super) fn new<'a>(folder: &'a ClusterFolder, programs: &'a Programs) -> Client<'a> {
        Client { folder, programs }
    }

    pub(super) fn await_docker(&self) -> Result<()> {
        self.await_success(ClusterDaemon::Docker, || self.docker(["version"]))
    }

    /// Makes the image of each pod's first container.
    pub(super) fn import_pause_image(&self) -> Result<()> {
        let mut import = self.docker(["import", "--change", r#"ENTRYPOINT ["/pause"]"#]);
        succeed(import.arg(self.programs.pause_archive()).arg(PAUSE_IMAGE))
    }

    pub(super) fn await_api(&self) -> Result<()> {
        self.await_success(ClusterDaemon::ApiServer, || self.kubectl(["get", "--raw", "/readyz"]))
    }

    pub(super) fn create_deployer(&self) -> Result<()> {
        let path = self.folder.config("deployer.yaml");
        self.folder.write(&path, DEPLOYER_ROLE)?;
        succeed(self.kubectl(["apply", "--filename"]).arg(path))
    }

    /// Waits until pods can be created and run.
    pub(super) fn await_node(&self) -> Result<()> {
        self.await_success(ClusterDaemon::Kubelet, || self.node_condition("5s"))?;
        // Without it, the API refuses every pod of the namespace.
        let account = ["get", "serviceaccount", "default", "--namespace", NAMESPACE];
        self.await_success(ClusterDaemon::ControllerManager, || self.kubectl(account))?;
        self.await_success(ClusterDaemon::Proxy, network::services_chain)
    }

    pub(super) fn is_node_ready(&self) -> bool {
        output(&mut self.node_condition("0s")).is_ok_and(|output| output.status.success())
    }

    fn node_condition(&self, limit: &str) -> Command {
        self.kubectl(["wait", "--for=condition=Ready", &format!("node/{NODE}"), &format!("--timeout={limit}")])
    }

    fn kubectl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.programs.kubectl());
        command.arg("--request-timeout=10s").args(arguments);
        command.env("KUBECONFIG", self.folder.kubeconfig(ADMIN)).env("HOME", self.folder.path());
        command
    }

    fn docker<const COUNT: usize>(&self, arguments: [&str; COUNT]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.folder.docker_socket().display())).args(arguments);
        command
    }

    /// Repeats a command until it succeeds. Fails early if the daemon ends.
    fn await_success(&self, daemon: ClusterDaemon, command: impl Fn() -> Command) -> Result<()> {
        let begun = Instant::now();
        loop {
            let mut command = command();
            let output = output(&mut command)?;
            if output.status.success() {
                return Ok(());
            }
            let identity = ProcessIdentity::read(&self.folder.pid_file(daemon.name()));
            if identity.is_some_and(|identity| !identity.is_alive()) {
                return Err(format!("{} has ended:\n{}", daemon.name(), self.end_of_log(daemon)));
            }
            if begun.elapsed() > LIMIT {
                return Err(format!("{}\n{}", failure(&command, &output), self.end_of_log(daemon)));
            }
            std::thread::sleep(INTERVAL);
        }
    }

    fn end_of_log(&self, daemon: ClusterDaemon) -> String {
        let path = self.folder.log(daemon.name());
        let text = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // A program in Go that gives up writes the reason, and then where each of its goroutines was.
        let lines = text.lines().take_while(|line| !line.starts_with("goroutine ")).collect::<Vec<_>>();
        let end = &lines[lines.len().saturating_sub(QUOTED_LINES)..];
        format!("{} ends with:\n{}", path.display(), end.join("\n"))
    }
}

/// Runs a command to its end, silently unless it fails.
fn succeed(command: &mut Command) -> Result<()> {
    let output = output(command)?;
    if output.status.success() { Ok(()) } else { Err(failure(command, &output)) }
}

fn output(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output();
    output.map_err(|error| format!("can't start `{}`: {error}", describe(command)))
}

fn failure(command: &Command, output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("`{}` failed ({}): {}", describe(command), output.status, errors.trim_end())
}
