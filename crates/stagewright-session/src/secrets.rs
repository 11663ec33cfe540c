//! The secrets that a pipeline declares.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use stagewright_model::{Plan, SecretDeclaration, SecretLocation, SecretValue, Stage, WorkspacePath};
use stagewright_plugin_host::{SHORTEST_MASKED, Secret, SecretError, SecretSource};
use stagewright_secrets::{Resolver, SERVICE_ACCOUNT, SourceContext, SourceError};

use crate::error::SessionError;
use crate::git::IgnoreRules;
use crate::notice::Notice;
use crate::repository::Repository;

/// The bits of a mode with which a group or all users can read a file.
const READABLE_BY_OTHERS: u32 = 0o044;

/// The secrets that one pipeline declares.
pub(crate) struct DeclaredSecrets {
    declared: BTreeMap<String, SecretDeclaration>,
    resolver: Resolver,
    context: SourceContext,
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
        DeclaredSecrets { declared: BTreeMap::new(), resolver: Resolver::new(context.clone()), context }
    }

    /// The engine's variables and folders, which sources refer to.
    pub(crate) fn context(&self) -> &SourceContext {
        &self.context
    }

    /// Fetches the values of `names`, and reports all missing ones in one error. Returns warnings: of secrets that
    /// are too short to be masked, and of files that others could read. Blocks, for up to half a minute per secret.
    pub(crate) fn check(&self, names: &BTreeSet<String>) -> Result<Vec<Notice>, SessionError> {
        let declared = names.iter().filter_map(|name| Some((name.as_str(), &self.declared.get(name)?.from)));
        let declared = declared.collect::<Vec<_>>();
        let missing = self.resolver.fetch_all(&declared);
        if !missing.is_empty() {
            return Err(not_ready(&missing));
        }
        let is_short =
            |name, from| self.resolver.value(name, from).is_ok_and(|value| value.expose().len() < SHORTEST_MASKED);
        let short = declared.into_iter().filter(|&(name, from)| is_short(name, from));
        let mut notices: Vec<_> = short.map(|(name, _)| Notice::ShortSecret { name: name.to_owned() }).collect();
        notices.extend(self.exposed(&self.files_of(names.iter()))?);
        Ok(notices)
    }

    /// The dotenv files that have values of the declared secrets; absolute.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        self.files_of(self.declared.keys())
    }

    fn files_of<'a>(&self, names: impl Iterator<Item = &'a String>) -> BTreeSet<PathBuf> {
        let declared = names.filter_map(|name| self.declared.get(name));
        let files = declared.filter_map(|declared| match declared.from.location() {
            SecretLocation::Dotenv { path, .. } => Some(self.context.root.join(path)),
            _ => None,
        });
        files.collect()
    }

    fn exposed(&self, files: &BTreeSet<PathBuf>) -> Result<Vec<Notice>, SessionError> {
        let mut notices = Vec::new();
        if files.is_empty() {
            return Ok(notices);
        }
        let rules = IgnoreRules::open(&self.context.root)?;
        for file in files {
            let added = self.in_workspace(file).filter(|path| rules.adds(path.as_str()));
            notices.extend(added.map(|path| Notice::UnignoredSecret { file: path.shown().to_owned() }));
            let mode = file.metadata().map_or(0, |found| found.permissions().mode());
            if mode & READABLE_BY_OTHERS != 0 {
                notices.push(Notice::ReadableSecret { file: file.display().to_string() });
            }
        }
        Ok(notices)
    }

    /// Remarks on the files of secrets among those that a stage is granted.
    pub(crate) fn hidden_from(&self, stage: &Stage) -> Vec<String> {
        let granted = stage.permissions.readable().collect::<Vec<_>>();
        let files = self.files().into_iter().filter_map(|file| self.in_workspace(&file));
        let hidden = files.filter(|file| granted.iter().any(|pattern| pattern.matches_within(file)));
        hidden.map(|file| format!("`{file}` stays hidden, because it has the values of secrets")).collect()
    }

    fn in_workspace(&self, file: &Path) -> Option<WorkspacePath> {
        WorkspacePath::default().leads_to(file.strip_prefix(&self.context.root).ok()?.to_str()?)
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
        Ok(Some(to_secret(value, declared)))
    }

    fn stand_in(&self, name: &str) -> Option<Secret> {
        let declared = self.declared.get(name)?;
        Some(to_secret(declared.shape.stand_in(name), declared))
    }

    fn known(&self) -> Vec<SecretValue> {
        self.resolver.known()
    }
}

fn to_secret(value: SecretValue, declared: &SecretDeclaration) -> Secret {
    let SecretDeclaration { hosts, programs, scheme, .. } = declared;
    Secret { value, hosts: hosts.clone(), programs: programs.clone(), scheme: *scheme }
}
