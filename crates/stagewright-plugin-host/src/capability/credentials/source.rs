//! The interface through which a run gets the signers of its credentials.

use std::sync::Arc;

use stagewright_model::{CredentialDeclaration, RequestSigner, SecretValue, SigningError};

/// Provides the signers of credentials.
pub trait SignerSource: Send + Sync {
    /// What the pipeline declares as `[credentials.NAME]`; none if it doesn't.
    fn declared(&self, name: &str) -> Option<&CredentialDeclaration>;

    /// The signer of a declared credential, always the same one. Fetches its secrets, so it may block.
    ///
    /// # Errors
    /// If a secret has no value, or the credential can't be used.
    fn signer(&self, name: &str) -> Result<Arc<dyn RequestSigner>, SigningError>;

    /// The private key of a declared credential for SSH; none if the user's agent has it. Fetches its secret, so it may
    /// block.
    ///
    /// # Errors
    /// If the secret has no value.
    fn private_key(&self, name: &str) -> Result<Option<SecretValue>, SigningError>;

    /// The confidential values of the credentials that were used so far, by any stage of the run; see
    /// [`SecretSource::known`](crate::SecretSource::known).
    fn known(&self) -> Vec<SecretValue> {
        Vec::new()
    }
}

/// No credentials.
impl SignerSource for () {
    fn declared(&self, _name: &str) -> Option<&CredentialDeclaration> {
        None
    }

    fn signer(&self, name: &str) -> Result<Arc<dyn RequestSigner>, SigningError> {
        Err(unknown(name))
    }

    fn private_key(&self, name: &str) -> Result<Option<SecretValue>, SigningError> {
        Err(unknown(name))
    }
}

fn unknown(name: &str) -> SigningError {
    let (message, help) = (format!("unknown credential `{name}`"), format!("add a table [credentials.{name}]"));
    SigningError { message, help }
}
