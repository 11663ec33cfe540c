//! A credential that is ready to sign requests, of a plugin or of its programs.

use std::sync::Arc;

use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use stagewright_model::{RequestSigner, RequestToSign, SecretValue, SigningError};

use crate::blocking::blocking;
use crate::error::{CapabilityError, ErrorCode};

/// A credential whose secrets were fetched; cheap to clone.
#[derive(Clone)]
pub(crate) struct Signing {
    /// Its key in `[credentials]`.
    pub(crate) name: String,
    pub(crate) signer: Arc<dyn RequestSigner>,
    /// Sends the requests to its origins.
    pub(crate) client: Client,
}

impl Signing {
    /// Sets the headers that authorise a request, in the place of others with their names. `mask` is called with what was
    /// derived from the credential for it.
    pub(crate) async fn sign(
        &self,
        request: RequestToSign,
        headers: &mut HeaderMap,
        mask: impl Fn(SecretValue),
    ) -> Result<(), CapabilityError> {
        let signer = Arc::clone(&self.signer);
        // Blocks, if a token has to be requested.
        let added = blocking(move || signer.sign(&request)).await?.map_err(failed)?;
        added.confidential.into_iter().for_each(mask);
        for (name, value) in added.headers {
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| self.invalid())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(())
    }

    fn invalid(&self) -> CapabilityError {
        let message =
            format!("the credential `{}` can't be used: it has characters that a header can't contain", self.name);
        CapabilityError::new(ErrorCode::FailedPrecondition, message)
    }
}

pub(crate) fn failed(SigningError { message, help }: SigningError) -> CapabilityError {
    CapabilityError::new(ErrorCode::FailedPrecondition, message).with_help(help)
}
