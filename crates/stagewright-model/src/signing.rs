//! What the host and the signer of a credential tell each other about a request.
//!
//! The host knows the request and sends it; a signer knows the secrets of one credential. The types are here because
//! neither crate may depend on the other.

use std::time::SystemTime;

use url::Url;

use crate::credential::OriginTarget;
use crate::secret_value::SecretValue;

/// Signs requests with one credential.
pub trait RequestSigner: Send + Sync + std::fmt::Debug {
    /// Where requests are signed; never empty.
    fn origins(&self) -> &[OriginTarget];

    /// The URL that paths of requests are appended to, without a slash at the end; none if there are several origins.
    fn endpoint(&self) -> Option<String> {
        match self.origins() {
            [one] => Some(one.to_string()),
            _ => None,
        }
    }

    /// How connections to these origins are made.
    fn tls(&self) -> &TlsSettings;

    /// Whether the signature covers the headers and the body, so that a request to sign must have them.
    fn covers_content(&self) -> bool;

    /// The values that no guest may see, as far as they are known before a request.
    fn confidential(&self) -> Vec<SecretValue>;

    /// When the credential expires, if its own value says so. That is only a hint: the server decides, by its own clock.
    fn expires(&self) -> Option<SystemTime> {
        None
    }

    /// The headers that authorise a request. Blocks, if a token has to be requested first.
    ///
    /// # Errors
    /// If a token can't be obtained, or the request can't be signed.
    fn sign(&self, request: &RequestToSign) -> Result<SignedHeaders, SigningError>;
}

/// How a client connects to the origins of a credential. By default, like to any other origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificates, as PEM, that the server's is checked against; none for those that the machine trusts.
    pub authorities: Option<SecretValue>,
    /// The client's certificates and their key, as PEM.
    pub identity: Option<SecretValue>,
}

/// A request as it is going to be sent.
#[derive(Clone, Debug)]
pub struct RequestToSign {
    /// In upper case.
    pub method: String,
    /// For a request over a Unix socket, its host has no meaning.
    pub url: Url,
    /// The headers that are sent, names in lower case; none if the signer doesn't
    /// [cover them](RequestSigner::covers_content).
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: BodyDigest,
    /// The time of the signature.
    pub now: SystemTime,
}

/// What a signer gets to know of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyDigest {
    /// There is none.
    Empty,
    /// Its SHA-256.
    Sha256([u8; 32]),
    /// It isn't computed, because the signer doesn't [cover it](RequestSigner::covers_content).
    Uncovered,
}

/// The headers that a signer adds to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedHeaders {
    /// Names in lower case.
    pub headers: Vec<(&'static str, SecretValue)>,
    /// The values derived from the credential, such as tokens and signatures, that are masked from now on.
    pub confidential: Vec<SecretValue>,
}

/// Why a request could not be signed. Names the credential, and never contains a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SigningError {
    /// A sentence on one line, without a full stop.
    pub message: String,
    /// How to fix it.
    pub help: String,
}
