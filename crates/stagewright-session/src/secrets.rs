//! The secrets that a pipeline declares.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use stagewright_model::{Plan, SecretDeclaration, SecretValue};
use stagewright_plugin_host::{SHORTEST_MASKED, Secret, SecretError, SecretSource};
use stagewright_secrets::{Resolver, SERVICE_ACCOUNT, SourceContext, SourceError};

use crate::error::SessionError;
use crate::repository::Repository;

/// The secrets that one pipeline declares.
pub(crate) struct DeclaredSecrets {
    declared: BTreeMap<String, SecretDeclaration>,
    resolver: Resolver,
}

impl DeclaredSecrets {
    pub(crate) fn of(plan: &Plan, repository: &Repository) -> DeclaredSecrets {
        DeclaredSecrets { declared: plan.secrets.clone(), ..DeclaredSecrets::none(repository) }
    }

    /// For plugins outside of any pipeline.
    pub(crate) fn none(repository: &Repository) -> DeclaredSecrets {
        let context = SourceContext {
            variables: repository.environment.clone(),
            root: repository.root.clone(),
            home: repository.environment.get("HOME").map(PathBuf::from).unwrap_or_default(),
            service_account: PathBuf::from(SERVICE_ACCOUNT),
        };
        DeclaredSecrets { declared: BTreeMap::new(), resolver: Resolver::new(context) }
    }

    /// Fetches the values of `names`, and reports all missing ones in one error. Returns the names of secrets that are
    /// too short to be masked. Blocks, for up to half a minute per secret.
    pub(crate) fn check(&self, names: &BTreeSet<String>) -> Result<Vec<String>, SessionError> {
        let declared = names.iter().filter_map(|name| Some((name.as_str(), &self.declared.get(name)?.from)));
        let declared = declared.collect::<Vec<_>>();
        let missing = self.resolver.fetch_all(&declared);
        if !missing.is_empty() {
            return Err(not_ready(&missing));
        }
        let is_short =
            |name, from| self.resolver.value(name, from).is_ok_and(|value| value.expose().len() < SHORTEST_MASKED);
        let short = declared.into_iter().filter(|&(name, from)| is_short(name, from));
        Ok(short.map(|(name, _)| name.to_owned()).collect())
    }
}

fn not_ready(missing: &[SourceError]) -> SessionError {
    let mut failed = match missing {
        [one] => SessionError::not_ready(&one.message),
        all => SessionError::not_ready(format!("could not resolve {} secrets:", all.len()))
            .details(all.iter().map(|error| error.message.clone())),
    };
    for error in missing {
        if !failed.hints.contains(&error.help) {
            failed.hints.push(error.help.clone());
        }
    }
    failed
}

impl SecretSource for DeclaredSecrets {
    fn secret(&self, name: &str) -> Result<Option<Secret>, SecretError> {
        let Some(declared) = self.declared.get(name) else { return Ok(None) };
        let value = self.resolver.value(name, &declared.from);
        let value = value.map_err(|SourceError { message, help }| SecretError { message, help: Some(help) })?;
        Ok(Some(Secret { value, hosts: declared.hosts.clone(), programs: declared.programs.clone() }))
    }

    fn stand_in(&self, name: &str) -> Option<Secret> {
        let SecretDeclaration { hosts, programs, shape, .. } = self.declared.get(name)?;
        Some(Secret { value: shape.stand_in(name), hosts: hosts.clone(), programs: programs.clone() })
    }

    fn known(&self) -> Vec<SecretValue> {
        self.resolver.known()
    }
}
