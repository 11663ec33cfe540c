//! What a service refuses, and what to do about it.

use std::fmt;

use serde_json::Value as Json;
use stagewright_sdk::{Error, ErrorCode};

use crate::clock_lag::ClockLag;
use crate::xml::texts;

/// Why a request has no usable answer.
#[derive(Debug)]
pub enum Failure {
    /// The service refused it.
    Refused(Refusal),
    /// It wasn't sent, or not answered.
    Host(Error),
}

impl Failure {
    /// Whether the service refused it with this code, as in `ResourceNotFoundException`.
    pub fn is(&self, code: &str) -> bool {
        matches!(self, Failure::Refused(refusal) if refusal.code == code)
    }

    /// Whether the service refused it with this status.
    pub fn has_status(&self, status: u16) -> bool {
        matches!(self, Failure::Refused(refusal) if refusal.status == status)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Host(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Refused(refusal) => refusal.into_error(),
            Failure::Host(error) => error,
        }
    }
}

/// The answer of a service that refused a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    action: String,
    credential: String,
    /// The HTTP status.
    pub status: u16,
    /// The service's own code, as in `ThrottlingException`; empty if the answer has none.
    pub code: String,
    message: String,
    /// Only if the answer says that this machine's clock is wrong.
    lag: Option<ClockLag>,
}

impl Refusal {
    /// Reads the answer: JSON, XML, or none in answers to HEAD. `code`: that of the header `X-Amzn-ErrorType`, if there is one.
    pub(crate) fn read(action: &str, credential: &str, status: u16, code: Option<String>, body: &[u8]) -> Refusal {
        let (of_body, message) = of_json(body).or_else(|| of_xml(body)).unwrap_or_default();
        // A namespace may be before the code, and a URL after it.
        let code = code.unwrap_or(of_body);
        let code = code.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
        Refusal { action: action.to_owned(), credential: credential.to_owned(), status, code, message, lag: None }
    }

    /// With what the answer's `Date` says about this machine's clock.
    pub(crate) fn with_clock(self, lag: Option<ClockLag>) -> Refusal {
        Refusal { lag, ..self }
    }

    /// The refusal that the body of an answer has, whatever its status.
    pub(crate) fn of_body(action: &str, credential: &str, status: u16, body: &[u8]) -> Option<Refusal> {
        let (code, message) = of_xml(body)?;
        let (action, credential) = (action.to_owned(), credential.to_owned());
        Some(Refusal { action, credential, status, code, message, lag: None })
    }

    /// Whether the service has too many requests, and so didn't carry out this one.
    pub(crate) fn is_throttled(&self) -> bool {
        let codes =
            ["SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"];
        codes.contains(&self.code.as_str()) || matches!(self.status, 429 | 503)
    }

    fn into_error(self) -> Error {
        let error = Error::new(self.error_code(), self.to_string());
        match self.help() {
            Some(help) => error.help(help),
            None => error,
        }
    }

    fn error_code(&self) -> ErrorCode {
        match self.status {
            _ if self.is_of_credential() => ErrorCode::Unauthenticated,
            404 => ErrorCode::NotFound,
            409 | 412 => ErrorCode::Aborted,
            429 => ErrorCode::ResourceExhausted,
            500.. => ErrorCode::Unavailable,
            _ if self.code.contains("NotFound") => ErrorCode::NotFound,
            _ => ErrorCode::FailedPrecondition,
        }
    }

    /// Whether the service doesn't accept the credential, whatever the request.
    fn is_of_credential(&self) -> bool {
        self.is_expired_token() || self.is_unknown_key() || self.is_bad_signature()
    }

    fn is_expired_token(&self) -> bool {
        ["ExpiredToken", "ExpiredTokenException"].contains(&self.code.as_str())
    }

    fn is_unknown_key(&self) -> bool {
        let codes = ["InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken", "UnrecognizedClientException"];
        codes.contains(&self.code.as_str())
    }

    fn is_bad_signature(&self) -> bool {
        let codes = [
            "AuthorizationHeaderMalformed",
            "IncompleteSignatureException",
            "InvalidSignatureException",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
        ];
        codes.contains(&self.code.as_str())
    }

    fn help(&self) -> Option<String> {
        let table = format!("[credentials.{}]", self.credential);
        if let Some(lag) = self.lag.filter(|_| self.is_bad_signature()) {
            return Some(format!("this machine's clock is {lag} that of the service: set it"));
        }
        if self.is_expired_token() {
            return Some(format!(
                "the temporary keys of {table} have expired: renew the values of its secrets, `session-token` among them"
            ));
        }
        if self.is_unknown_key() {
            return Some(format!("check the secrets `access-key-id` and `session-token` of {table}"));
        }
        if self.is_bad_signature() {
            return Some(format!(
                "check the secret `secret-access-key` of {table}, its `region` and `service`, and this machine's clock"
            ));
        }
        let is_denied = matches!(self.code.as_str(), "AccessDenied" | "AccessDeniedException") || self.status == 403;
        is_denied.then(|| format!("allow {} for the user or role of {table} in its policy", self.action))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { action, status, code, message, .. } = self;
        write!(f, "{action} was refused with {status}")?;
        for part in [code, message.trim()].into_iter().filter(|part| !part.is_empty()) {
            write!(f, ": {part}")?;
        }
        Ok(())
    }
}

fn of_json(body: &[u8]) -> Option<(String, String)> {
    let body: Json = serde_json::from_slice(body).ok()?;
    let text =
        |keys: [&str; 3]| keys.into_iter().find_map(|key| body.get(key)?.as_str()).unwrap_or_default().to_owned();
    Some((text(["__type", "Code", "code"]), text(["message", "Message", "errorMessage"])))
}

/// S3 has `Error` at the root, CloudFront in an `ErrorResponse`.
fn of_xml(body: &[u8]) -> Option<(String, String)> {
    let text = String::from_utf8_lossy(body);
    let first = |name: &str| {
        let found = [&["Error", name][..], &["ErrorResponse", "Error", name]].map(|path| texts(&text, path));
        found.into_iter().find_map(|found| found.ok()?.into_iter().next())
    };
    Some((first("Code")?, first("Message").unwrap_or_default()))
}
