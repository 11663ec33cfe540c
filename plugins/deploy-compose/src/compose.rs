//! The program `docker compose`.

use std::collections::BTreeMap;

use compose_file::Release;
use serde_json::json;
use stagewright_sdk::process::{Command, Source};
use stagewright_sdk::secrets::{self, Secret};
use stagewright_sdk::{Requirement, Result};

use crate::config::Config;

/// How Compose is called for a project. The command lines depend on the configuration alone, so that they are what is granted.
pub(crate) struct Compose {
    socket: String,
    project: String,
    seconds: u64,
    /// The secret of each variable.
    secrets: BTreeMap<String, String>,
}

impl Compose {
    pub(crate) fn of(config: &Config) -> Compose {
        Compose {
            socket: config.socket.clone(),
            project: config.project.clone(),
            seconds: config.deadline.0.as_secs().max(1),
            secrets: config.secrets.clone(),
        }
    }

    /// The grants that both commands take.
    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        vec![
            Requirement::command("docker", self.up_args()).because("applies the release"),
            Requirement::command("docker", self.down_args()).because("removes a first release that failed"),
            Requirement::socket(&self.socket).because("is how Compose reaches the engine"),
        ]
    }

    /// Makes the project what the release says, and waits until its containers run and are healthy. The images have to be
    /// there. Returns why it doesn't come to that, if it doesn't.
    pub(crate) fn up(&self, release: &Release) -> Result<Option<String>> {
        self.run(self.up_args(), release)
    }

    /// Removes the project's containers and networks. Its volumes stay.
    pub(crate) fn down(&self, release: &Release) -> Result<Option<String>> {
        self.run(self.down_args(), release)
    }

    fn run(&self, args: Vec<String>, release: &Release) -> Result<Option<String>> {
        let mut command = Command::new("docker");
        command.args(args).stdin(json!(release.compose()).to_string().as_bytes());
        let secrets: Vec<(&String, Secret)> = self
            .secrets
            .iter()
            .map(|(variable, name)| secrets::get(name).map(|secret| (variable, secret)))
            .collect::<Result<_>>()?;
        for (variable, secret) in &secrets {
            command.secret_env(variable, secret);
        }
        let mut last = String::new();
        let status = command.run_lines(|line| {
            if line.source == Source::Stderr && !line.text.trim().is_empty() {
                last = line.text.trim().to_owned();
            }
        })?;
        Ok((!status.success())
            .then(|| if last.is_empty() { format!("`docker compose` ended with {status}") } else { last }))
    }

    fn up_args(&self) -> Vec<String> {
        let seconds = self.seconds.to_string();
        let up = [
            "up",
            "--detach",
            "--wait",
            "--wait-timeout",
            &seconds,
            "--remove-orphans",
            "--no-build",
            "--pull",
            "never",
        ];
        self.args(&up)
    }

    fn down_args(&self) -> Vec<String> {
        self.args(&["down"])
    }

    fn args(&self, command: &[&str]) -> Vec<String> {
        let host = format!("unix://{}", self.socket);
        let project = ["--host", &host, "compose", "--project-name", &self.project, "--file", "-"];
        project.iter().chain(command).map(|word| (*word).to_owned()).collect()
    }
}
