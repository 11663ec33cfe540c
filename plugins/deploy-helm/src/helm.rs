//! Helm's program, whose requests the host's proxy signs.

use kubernetes::value_arguments;
use stagewright_sdk::process::Command;
use stagewright_sdk::{Error, Result};

use crate::config::Config;
use crate::revision::{RUN, Stored};

/// The most bytes that Helm may print: a release with its chart.
const PRINTED: u64 = 64 << 20;

/// Helm, for one release.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Helm<'a> {
    pub(crate) config: &'a Config,
    /// The URL of the cluster's API.
    pub(crate) server: &'a str,
}

impl Helm<'_> {
    /// What an upgrade would consist of, with what `lookup` finds in the cluster. Changes nothing.
    pub(crate) fn render(&self) -> Result<Stored> {
        self.upgraded(&["--dry-run=server"])
    }

    /// Installs or upgrades the release, and runs its hooks. Doesn't wait for its workloads. The revision has the run in a
    /// label.
    pub(crate) fn upgrade(&self, run: &str) -> Result<Stored> {
        self.upgraded(&["--labels", &format!("{RUN}={run}")])
    }

    /// Goes back to a revision, as a new one.
    pub(crate) fn rollback(&self, revision: u64) -> Result<()> {
        let history = self.config.history.to_string();
        self.run("rollback", &[&self.config.service, &revision.to_string(), "--history-max", &history]).map(drop)
    }

    /// Removes the release and its history.
    pub(crate) fn uninstall(&self) -> Result<()> {
        self.run("uninstall", &[&self.config.service]).map(drop)
    }

    fn upgraded(&self, more: &[&str]) -> Result<Stored> {
        let Config { service, chart, values, set, history, .. } = self.config;
        // Without the dot, Helm would look for a repository of this name.
        let (chart, history) = (format!("./{}", chart.as_str()), history.to_string());
        let mut args = vec![service.as_str(), &chart, "--install", "--history-max", &history, "--output", "json"];
        // Otherwise an upgrade without values would keep those of the release before.
        args.push("--reset-values");
        let values = value_arguments(values.iter().map(|file| file.as_str()), set);
        args.extend(values.iter().map(String::as_str));
        args.extend_from_slice(more);
        let printed = self.run("upgrade", &args)?;
        serde_json::from_slice(&printed)
            .map_err(|error| Error::failed("what helm printed isn't a release").cause(error.to_string()))
    }

    /// Returns what Helm prints.
    fn run(&self, verb: &str, args: &[&str]) -> Result<Vec<u8>> {
        let timeout = format!("{}s", self.config.readiness.deadline.0.as_secs().max(1));
        let place = ["--namespace", &self.config.namespace, "--kube-apiserver", self.server, "--timeout", &timeout];
        let output = Command::new("helm")
            .args([verb])
            .args(args.iter().copied())
            .args(place)
            .quiet()
            .capture_limit(PRINTED)
            .output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let lines = text.lines().map(|line| line.trim_start_matches("Error: ")).filter(|line| !line.is_empty());
        Err(Error::failed(format!("`helm {verb} {}` failed", self.config.service)).causes(lines))
    }
}
