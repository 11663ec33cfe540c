//! Access tokens that an authority issues in exchange for a secret (OAuth 2.0, RFC 6749).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::{Method, Url};
use stagewright_model::{
    OriginTarget, RequestSigner, RequestToSign, SecretValue, SignedHeaders, SigningError, TlsSettings,
};
use zeroize::Zeroizing;

use super::{SignerParts, one_line};
use crate::SourceContext;
use crate::error::Fault;
use crate::http::SecretRequest;

/// How long before its end a token isn't used any more: a request with it may take a while until it is checked.
const MARGIN: Duration = Duration::from_secs(60);
/// The lifetime of a token whose response doesn't say it.
const LIFETIME: Duration = Duration::from_secs(300);

/// The fields of a form that no message may contain.
const CONFIDENTIAL: [&str; 2] = ["assertion", "client_secret"];

/// Where a token is requested, and how.
pub(super) trait TokenIssuer: Send + Sync + std::fmt::Debug {
    /// The service's name for messages.
    fn service(&self) -> &'static str;

    fn url(&self) -> &Url;

    /// The fields of the form that is sent.
    fn form(&self, now: SystemTime) -> Result<Vec<(&'static str, Zeroizing<String>)>, Fault>;

    /// The values in a form, or of which one is made, that no message may contain.
    fn confidential(&self) -> Vec<SecretValue>;
}

/// Signs with tokens, each of which is requested once and used until shortly before it expires.
#[derive(Debug)]
pub(super) struct TokenSigner {
    parts: SignerParts,
    issuer: Box<dyn TokenIssuer>,
    context: SourceContext,
    /// Held while a token is requested, so that the requests of a stage wait for the same one.
    token: Mutex<Option<AccessToken>>,
}

#[derive(Clone, Debug)]
struct AccessToken {
    value: SecretValue,
    expires: SystemTime,
}

impl TokenSigner {
    pub(super) fn new(parts: SignerParts, issuer: Box<dyn TokenIssuer>, context: SourceContext) -> TokenSigner {
        TokenSigner { parts, issuer, context, token: Mutex::default() }
    }

    fn token(&self, now: SystemTime) -> Result<SecretValue, Fault> {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = token.as_ref().filter(|token| now + MARGIN < token.expires) {
            return Ok(token.value.clone());
        }
        let requested = self.request(now)?;
        Ok(token.insert(requested).value.clone())
    }

    fn request(&self, now: SystemTime) -> Result<AccessToken, Fault> {
        let service = self.issuer.service();
        let fields = self.issuer.form(now)?;
        let form = Url::parse_with_params("form:", fields.iter().map(|(key, value)| (key, value.as_str())));
        let form = form.map_err(|_| Fault::new("can't be used: its token request can't be encoded"))?;
        let request = SecretRequest {
            method: Method::POST,
            headers: vec![
                ("content-type", "application/x-www-form-urlencoded".to_owned()),
                ("accept", "application/json".to_owned()),
            ],
            body: form.query().unwrap_or_default().as_bytes().to_vec(),
            confidential: fields
                .into_iter()
                .filter(|(key, _)| CONFIDENTIAL.contains(key))
                .map(|(_, value)| value)
                .collect(),
            ..SecretRequest::get(service, self.issuer.url().clone())
        };
        let response = request.send(&self.context)?;
        let document = response.json().unwrap_or_default();
        if response.status != 200 {
            // RFC 6749, section 5.2.
            let [error, description] =
                ["error", "error_description"].map(|key| document[key].as_str().unwrap_or_default());
            let reason = response.reason(format!("{error} {description}").trim());
            return Err(Fault::new(format!("can't be used: {service} issued no token, and returned {reason}")));
        }
        let is_bearer = document["token_type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        let value = document["access_token"].as_str().filter(|value| !value.is_empty() && is_bearer);
        let value = value.map(SecretValue::from);
        let value = value.ok_or_else(|| Fault::new(format!("can't be used: {service} returned no bearer token")))?;
        one_line(&value, "token")?;
        let seconds = &document["expires_in"];
        let seconds = seconds.as_u64().or_else(|| seconds.as_str()?.parse().ok());
        Ok(AccessToken { value, expires: now + seconds.map_or(LIFETIME, Duration::from_secs) })
    }
}

impl RequestSigner for TokenSigner {
    fn origins(&self) -> &[OriginTarget] {
        &self.parts.origins
    }

    fn tls(&self) -> &TlsSettings {
        &self.parts.tls
    }

    fn covers_content(&self) -> bool {
        false
    }

    fn confidential(&self) -> Vec<SecretValue> {
        // Not while a token is requested: this must not block.
        let token = self.token.try_lock().ok().and_then(|token| Some(token.as_ref()?.value.clone()));
        self.issuer.confidential().into_iter().chain(token).collect()
    }

    fn sign(&self, request: &RequestToSign) -> Result<SignedHeaders, SigningError> {
        let token = self.token(request.now).map_err(|fault| fault.for_credential(&self.parts.name))?;
        let value = Zeroizing::new(format!("Bearer {}", token.expose()));
        Ok(SignedHeaders { headers: vec![("authorization", value.into())], confidential: vec![token] })
    }
}
