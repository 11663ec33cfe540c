//! Where the values of a pipeline's secrets come from: an environment variable, or a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use stagewright_model::{Plan, SecretDeclaration};
use stagewright_plugin_host::{Secret, SecretError, SecretSource};

use crate::repository::Repository;

/// The secrets that one pipeline declares.
pub(crate) struct Secrets {
    declared: BTreeMap<String, SecretDeclaration>,
    environment: BTreeMap<String, String>,
    root: PathBuf,
}

impl Secrets {
    pub(crate) fn of(plan: &Plan, repository: &Repository) -> Secrets {
        Secrets {
            declared: plan.secrets.clone(),
            environment: repository.environment.clone(),
            root: repository.root.clone(),
        }
    }

    fn value(&self, name: &str, from: &str) -> Result<String, SecretError> {
        let unset = |message: String, help: String| Err(SecretError { message, help: Some(help) });
        match from.split_once(':') {
            Some(("env", variable)) => match self.environment.get(variable) {
                Some(value) if !value.is_empty() => Ok(value.clone()),
                Some(_) => unset(
                    format!("the secret `{name}` is empty: so is the environment variable {variable}"),
                    format!("set {variable} to the secret's value"),
                ),
                None => unset(
                    format!("the secret `{name}` is not set: there is no environment variable {variable}"),
                    format!("export {variable}, or change `from` in [secrets.{name}]"),
                ),
            },
            Some(("file", path)) => {
                let path = self.root.join(path);
                let text = std::fs::read_to_string(&path).map_err(|error| SecretError {
                    message: format!("the secret `{name}` can't be read from {}: {error}", path.display()),
                    help: Some(format!("write the file, or change `from` in [secrets.{name}]")),
                })?;
                // Editors end a file with a newline that is no part of the secret.
                match text.strip_suffix('\n').unwrap_or(&text) {
                    "" => unset(
                        format!("the secret `{name}` is empty: so is {}", path.display()),
                        "write the secret's value into the file".to_owned(),
                    ),
                    value => Ok(value.to_owned()),
                }
            }
            _ => unset(
                format!("the secret `{name}` comes from `{from}`, which this version can't read"),
                format!("use `env:NAME` or `file:PATH` in [secrets.{name}]"),
            ),
        }
    }
}

impl SecretSource for Secrets {
    fn secret(&self, name: &str) -> Result<Option<Secret>, SecretError> {
        let Some(declared) = self.declared.get(name) else { return Ok(None) };
        let value = self.value(name, &declared.from)?;
        Ok(Some(Secret { value, hosts: declared.hosts.clone(), programs: declared.programs.clone() }))
    }
}
