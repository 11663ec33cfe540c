//! A credential that is ready to sign requests, of a plugin or of its programs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

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

    /// For people, when a server hasn't accepted the credential: since when it has expired. None if it hasn't, or if its value
    /// doesn't say when it does.
    pub(crate) fn expiry_notice(&self) -> Option<String> {
        let ago = SystemTime::now().duration_since(self.signer.expires()?).ok()?;
        Some(format!(
            "the token of the credential `{}` expired {} ago, by this machine's clock: renew its secret",
            self.name,
            in_words(ago)
        ))
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

/// As in `42 s`, `12 min`, `3 h` and `2 d`.
fn in_words(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}
