//! The stage's `with` table.

use std::collections::BTreeMap;

use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, WorkspacePath, schemars};

/// What Terraform is to do.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "action": "plan",
    "dir": "infra",
    "vars": { "region": "eu-central-1" },
    "secrets": { "AWS_ACCESS_KEY_ID": "aws-key-id", "AWS_SECRET_ACCESS_KEY": "aws-key" },
}))]
pub struct Config {
    /// `plan` finds out what would change, and publishes it as an artifact. `apply` carries out such an artifact.
    pub(crate) action: Action,
    /// The folder with the configuration.
    pub(crate) dir: WorkspacePath,
    /// For `apply`: the output `plan` of the stage that has planned.
    pub(crate) plan: Option<String>,
    /// The program. OpenTofu's is `tofu`.
    #[serde(default = "default_program")]
    pub(crate) program: String,
    /// For `plan`: values of variables. They are part of the command line: secrets are in `secrets`.
    #[serde(default)]
    pub(crate) vars: BTreeMap<String, String>,
    /// For `plan`: files with values of variables.
    #[serde(default)]
    pub(crate) var_files: Vec<WorkspacePath>,
    /// Variables of the environment that are secrets, by their names: those of providers, and `TF_VAR_name`.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, String>,
    /// For `plan`: whether everything is to be destroyed.
    #[serde(default)]
    pub(crate) destroy: bool,
    /// A folder of the workspace with the providers, in place of a registry.
    pub(crate) plugin_dir: Option<WorkspacePath>,
    /// How long another run's lock of the state is waited for.
    #[serde(default = "DurationText::seconds::<60>")]
    pub(crate) lock_timeout: DurationText,
}

/// What Terraform is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// Find out what would change.
    Plan,
    /// Carry out a plan.
    Apply,
}

fn default_program() -> String {
    "terraform".to_owned()
}

impl Config {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let is_plan = self.action == Action::Plan;
        let of_plan =
            [("vars", !self.vars.is_empty()), ("var-files", !self.var_files.is_empty()), ("destroy", self.destroy)];
        for (key, _) in of_plan.into_iter().filter(|(_, is_set)| *is_set && !is_plan) {
            found.push(
                Problem::at(key, "applies to `action = \"plan\"` alone: a plan has its values in it").help("remove it"),
            );
        }
        match (&self.plan, is_plan) {
            (Some(_), true) => {
                found.push(Problem::at("plan", "applies to `action = \"apply\"` alone").help("remove it"));
            }
            (None, false) => {
                let help = "name the stage that has planned, as in plan = \"${{ stages.plan.outputs.plan }}\"";
                found.push(Problem::at("plan", "is missing for `action = \"apply\"`").help(help));
            }
            (Some(plan), false) if !plan.contains("@sha256:") => {
                found.push(Problem::at("plan", format!("`{plan}` isn't an artifact by digest, as in `NAME@sha256:…`")));
            }
            _ => {}
        }
        for name in self.vars.keys().filter(|name| !is_variable(name)) {
            found.push(Problem::at(format!("vars.{name}"), "isn't the name of a variable"));
        }
        found
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}
