//! The credentials that a pipeline declares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use stagewright_model::{
    CredentialDeclaration, CredentialKind, CredentialSetting, OriginTarget, Plan, RequestSigner, SecretValue,
    SigningError,
};
use stagewright_plugin_host::{Secret, SecretError, SecretSource as _, SignerSource};
use stagewright_secrets::{SourceContext, signer};

use crate::error::SessionError;
use crate::secrets::DeclaredSecrets;

/// The credentials that one pipeline declares, with the signers of those that were used. All stages of a run share them, and
/// with them the tokens that were issued.
pub(crate) struct DeclaredCredentials {
    declared: BTreeMap<String, CredentialDeclaration>,
    secrets: Arc<DeclaredSecrets>,
    context: SourceContext,
    signers: Mutex<BTreeMap<String, Arc<dyn RequestSigner>>>,
}

impl DeclaredCredentials {
    /// `context`: the variables that name the engine's proxy.
    pub(crate) fn of(
        plan: Option<&Plan>,
        secrets: Arc<DeclaredSecrets>,
        context: SourceContext,
    ) -> DeclaredCredentials {
        let declared = plan.map(|plan| plan.credentials.clone()).unwrap_or_default();
        DeclaredCredentials { declared, secrets, context, signers: Mutex::default() }
    }

    /// Checks that the credentials `names` can be used, and reports all that can't in one error. Sends nothing, but
    /// fetches the values of secrets that weren't fetched yet. Blocks.
    pub(crate) fn check(&self, names: &BTreeSet<String>) -> Result<(), SessionError> {
        let declared = names.iter().filter(|name| self.declared.contains_key(*name));
        let unusable = declared.filter_map(|name| self.prepare(name).err()).collect::<Vec<_>>();
        let error = match &unusable[..] {
            [] => return Ok(()),
            [one] => SessionError::not_ready(&one.message),
            all => SessionError::not_ready(format!("{} credentials can't be used:", all.len()))
                .details(all.iter().map(|error| error.message.clone())),
        };
        let hints = unusable.into_iter().map(|error| error.help).collect::<BTreeSet<_>>();
        Err(hints.into_iter().fold(error, SessionError::hint))
    }

    /// Fetches what a credential consists of.
    fn prepare(&self, name: &str) -> Result<(), SigningError> {
        match self.declared.get(name).map(|declared| &declared.kind) {
            Some(CredentialKind::Ssh { .. }) => self.private_key(name).map(drop),
            _ => self.signer(name).map(drop),
        }
    }

    fn create(&self, name: &str, declared: &CredentialDeclaration) -> Result<Arc<dyn RequestSigner>, SigningError> {
        let created = signer(name, declared, &|secret| Ok(self.secret(name, secret)?.value), &self.context)?;
        // The server of a kubeconfig is only known now; that of other credentials was checked in the pipeline file.
        for setting in declared.settings().iter().filter(|setting| setting.names_secret() && setting.key != "ca") {
            self.check_hosts(name, setting, created.origins())?;
        }
        Ok(created)
    }

    fn secret(&self, name: &str, secret: &str) -> Result<Secret, SigningError> {
        let found = self
            .secrets
            .secret(secret)
            .map_err(|SecretError { message, help }| SigningError { message, help: help.unwrap_or_default() })?;
        found.ok_or_else(|| SigningError {
            message: format!("the secret `{secret}` of the credential `{name}` isn't declared"),
            help: format!("declare it: `[secrets.{secret}]`"),
        })
    }

    fn check_hosts(
        &self,
        name: &str,
        CredentialSetting { value: secret, .. }: &CredentialSetting,
        origins: &[OriginTarget],
    ) -> Result<(), SigningError> {
        let hosts = self.secret(name, secret)?.hosts;
        let hosts_of_origins = origins.iter().filter_map(|origin| match origin {
            OriginTarget::Host(origin) => Some(origin),
            OriginTarget::Socket(_) => None,
        });
        for origin in hosts_of_origins {
            if !hosts.iter().any(|host| host.admits(origin.host(), origin.port())) {
                let listed = hosts.iter().map(ToString::to_string).chain([origin.host().to_owned()]);
                return Err(SigningError {
                    message: format!(
                        "the credential `{name}` can't be used: its server is {origin}, which isn't among the `hosts` of the \
                         secret `{secret}`"
                    ),
                    help: format!("change in [secrets.{secret}]: hosts = {:?}", listed.collect::<Vec<_>>()),
                });
            }
        }
        Ok(())
    }
}

impl SignerSource for DeclaredCredentials {
    fn declared(&self, name: &str) -> Option<&CredentialDeclaration> {
        self.declared.get(name)
    }

    fn signer(&self, name: &str) -> Result<Arc<dyn RequestSigner>, SigningError> {
        let known = |signers: &BTreeMap<String, Arc<dyn RequestSigner>>| signers.get(name).cloned();
        if let Some(signer) = known(&self.signers.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(signer);
        }
        let declared = self.declared.get(name).ok_or_else(|| SigningError {
            message: format!("unknown credential `{name}`"),
            help: format!("declare it: `[credentials.{name}]`"),
        })?;
        // Not under the lock, since fetching a secret may take long. If two threads create the same one, the first counts.
        let created = self.create(name, declared)?;
        let mut signers = self.signers.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(signers.entry(name.to_owned()).or_insert(created)))
    }

    fn private_key(&self, name: &str) -> Result<Option<SecretValue>, SigningError> {
        let Some(CredentialKind::Ssh { key: Some(secret), .. }) =
            self.declared.get(name).map(|declared| &declared.kind)
        else {
            return Ok(None);
        };
        // The source of secrets keeps it, and knows it from now on as one to mask.
        Ok(Some(self.secret(name, secret)?.value))
    }

    fn known(&self) -> Vec<SecretValue> {
        let signers = self.signers.lock().unwrap_or_else(PoisonError::into_inner);
        signers.values().flat_map(|signer| signer.confidential()).collect()
    }
}
