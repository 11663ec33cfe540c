//! The secrets that a pipeline declares, looked up in this user's surroundings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use stagewright_model::{Plan, SecretDeclaration};
use stagewright_plugin_host::{SHORTEST_MASKED, Secret, SecretError, SecretSource};
use stagewright_report::text;
use stagewright_secrets::{Resolver, SERVICE_ACCOUNT, SourceContext, SourceError};
use zeroize::Zeroizing;

use crate::console;
use crate::error::CommandError;
use crate::repository::Repository;

/// The secrets that one pipeline declares.
pub(crate) struct Secrets {
    declared: BTreeMap<String, SecretDeclaration>,
    resolver: Resolver,
}

impl Secrets {
    pub(crate) fn of(plan: &Plan, repository: &Repository) -> Secrets {
        let context = SourceContext {
            variables: repository.environment.clone(),
            root: repository.root.clone(),
            home: repository.environment.get("HOME").map(PathBuf::from).unwrap_or_default(),
            service_account: PathBuf::from(SERVICE_ACCOUNT),
        };
        Secrets { declared: plan.secrets.clone(), resolver: Resolver::new(context) }
    }

    /// Fetches the values of `names`, and says of all that can't be had at once. Warns of those that are too short to be
    /// masked.
    pub(crate) fn check(&self, names: &BTreeSet<&str>) -> Result<(), CommandError> {
        let wanted = names.iter().filter_map(|&name| Some((name, self.declared.get(name)?.from.as_str())));
        let wanted = wanted.collect::<Vec<_>>();
        let missing = self.resolver.missing(&wanted);
        if !missing.is_empty() {
            return Err(not_ready(&missing));
        }
        for (name, from) in wanted {
            let short = self.resolver.value(name, from).is_ok_and(|value| value.expose().len() < SHORTEST_MASKED);
            if short {
                console::say(text!(
                    "warning: the secret `{name}` is shorter than {SHORTEST_MASKED} bytes, and so isn't masked in logs"
                ));
            }
        }
        Ok(())
    }
}

fn not_ready(missing: &[SourceError]) -> CommandError {
    let mut failed = match missing {
        [one] => CommandError::not_ready(&one.message),
        all => CommandError::not_ready(format!("{} secrets can't be had:", all.len()))
            .details(all.iter().map(|error| error.message.clone())),
    };
    for error in missing {
        if !failed.hints.contains(&error.help) {
            failed.hints.push(error.help.clone());
        }
    }
    failed
}

impl SecretSource for Secrets {
    fn secret(&self, name: &str) -> Result<Option<Secret>, SecretError> {
        let Some(declared) = self.declared.get(name) else { return Ok(None) };
        let value = self.resolver.value(name, &declared.from);
        let value = value.map_err(|SourceError { message, help }| SecretError { message, help: Some(help) })?;
        let value = value.expose().to_owned();
        Ok(Some(Secret { value, hosts: declared.hosts.clone(), programs: declared.programs.clone() }))
    }

    fn stand_in(&self, name: &str) -> Option<Secret> {
        let SecretDeclaration { hosts, programs, shape, .. } = self.declared.get(name)?;
        Some(Secret { value: shape.stand_in(name), hosts: hosts.clone(), programs: programs.clone() })
    }

    fn known(&self) -> Vec<Zeroizing<String>> {
        self.resolver.known().iter().map(|value| Zeroizing::new(value.expose().to_owned())).collect()
    }
}
