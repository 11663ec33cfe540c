//! What the proxy adds to requests of programs: secrets to downloads (`secrets = ["NAME:proxy"]`), and the signatures of
//! credentials to all requests to their origins (`credentials = ["NAME:proxy"]`).
//!
//! A program never has either. It sends a request without one, and the proxy adds the headers on the way to the host. For
//! https, that takes a proxy which answers for the host, with a certificate of the attempt's own [`AttemptAuthority`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::header::{HeaderMap, HeaderValue};
use stagewright_model::{HostPattern, Origin, RequestToSign, SecretScheme, SecretValue};

use super::authority::AttemptAuthority;
use super::client::SharedClient;
use super::signing::Signing;
use crate::error::{CapabilityError, ErrorCode};
use crate::mask::Masker;

/// The credentials of one attempt.
pub(crate) struct ProxyCredentials {
    downloads: Vec<ProxyCredential>,
    signers: Vec<ProxySigner>,
    pub(crate) authority: AttemptAuthority,
    /// Sends the requests that may carry a secret.
    pub(super) client: SharedClient,
    /// Masks the credentials in responses, and no other secrets: a response can be a package, which must not change.
    pub(super) masker: Masker,
    /// Masks what is derived from credentials in what the attempt writes.
    log: Masker,
}

/// A secret that is granted to the proxy.
pub(crate) struct ProxySecret {
    /// Its key in `[secrets]`.
    pub(crate) name: String,
    pub(crate) value: SecretValue,
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) scheme: SecretScheme,
}

/// A credential with which the proxy signs.
pub(crate) struct ProxySigner {
    /// Where requests are signed.
    pub(crate) origins: Vec<Origin>,
    /// The headers that only the host may set.
    pub(crate) headers: &'static [&'static str],
    pub(crate) signing: Signing,
}

struct ProxyCredential {
    hosts: Vec<HostPattern>,
    /// The value of `Authorization`.
    authorization: HeaderValue,
}

/// What the proxy adds to requests to an origin.
#[derive(Clone, Copy)]
pub(super) enum OriginCredential<'c> {
    /// This value of `Authorization`, to downloads.
    Download(&'c HeaderValue),
    /// The signature of a credential, to all requests.
    Signed(&'c ProxySigner),
}

impl ProxyCredentials {
    /// `secrets`: in the order of the stage's grants. `log`: the masker of what the attempt writes.
    pub(crate) fn new(
        secrets: Vec<ProxySecret>,
        signers: Vec<ProxySigner>,
        client: SharedClient,
        log: Masker,
    ) -> Result<ProxyCredentials, CapabilityError> {
        let masker = Masker::default();
        secrets.iter().for_each(|secret| masker.add(secret.value.clone(), false));
        let confidential = signers.iter().flat_map(|signer| signer.signing.signer.confidential());
        confidential.for_each(|value| masker.add(value, false));
        let downloads = secrets.into_iter().map(|secret| {
            let authorization = authorization(&secret)?;
            Ok(ProxyCredential { hosts: secret.hosts, authorization })
        });
        let downloads = downloads.collect::<Result<_, CapabilityError>>()?;
        Ok(ProxyCredentials { downloads, signers, authority: AttemptAuthority::new()?, client, masker, log })
    }

    /// The origins to which requests are signed.
    pub(crate) fn signed_origins(&self) -> impl Iterator<Item = &Origin> {
        self.signers.iter().flat_map(|signer| &signer.origins)
    }

    pub(crate) fn has_for(&self, origin: &Origin) -> bool {
        self.for_origin(origin).is_some()
    }

    /// What is added to requests to `origin`: the signature of the credential that has it among its origins, or the first
    /// secret whose hosts include it. Never in plain text, except on this machine.
    pub(super) fn for_origin(&self, origin: &Origin) -> Option<OriginCredential<'_>> {
        if let Some(signer) = self.signers.iter().find(|signer| signer.origins.contains(origin)) {
            return Some(OriginCredential::Signed(signer));
        }
        let is_private = origin.is_https() || origin.is_loopback();
        let is_for = |credential: &&ProxyCredential| {
            credential.hosts.iter().any(|pattern| pattern.admits(origin.host(), origin.port()))
        };
        let found = self.downloads.iter().find(is_for).filter(|_| is_private);
        found.map(|credential| OriginCredential::Download(&credential.authorization))
    }

    /// Sets the headers that sign a request. What is derived from the credential for it is masked from now on.
    pub(super) async fn sign(
        &self,
        signer: &ProxySigner,
        request: RequestToSign,
        headers: &mut HeaderMap,
    ) -> Result<(), CapabilityError> {
        let mask = |value: SecretValue| {
            self.masker.add(value.clone(), false);
            self.log.add(value, false);
        };
        signer.headers.iter().for_each(|own| drop(headers.remove(*own)));
        signer.signing.sign(request, headers, mask).await
    }
}

fn authorization(secret: &ProxySecret) -> Result<HeaderValue, CapabilityError> {
    let (name, value) = (&secret.name, secret.value.expose());
    let invalid = |why: &str, help: &str| {
        let message = format!("the proxy can't send the secret `{name}`: {why}");
        CapabilityError::new(ErrorCode::FailedPrecondition, message).with_help(help)
    };
    let text = match secret.scheme {
        SecretScheme::Bearer => format!("Bearer {value}"),
        SecretScheme::Plain => value.to_owned(),
        SecretScheme::Basic if !value.contains(':') => {
            return Err(invalid("its value has no colon", "for `scheme = \"basic\"`, store it as `USER:PASSWORD`"));
        }
        SecretScheme::Basic => format!("Basic {}", BASE64.encode(value)),
    };
    let mut header = HeaderValue::from_str(&text)
        .map_err(|_| invalid("its value isn't one line of visible characters", "store the token alone"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str, scheme: SecretScheme) -> ProxySecret {
        ProxySecret { name: "token".to_owned(), value: value.into(), hosts: Vec::new(), scheme }
    }

    #[test]
    fn a_secret_is_sent_by_its_scheme() {
        let header = |value, scheme| {
            let header = authorization(&secret(value, scheme)).unwrap();
            (header.to_str().unwrap().to_owned(), header.is_sensitive())
        };
        assert_eq!(header("hunter22", SecretScheme::Bearer), ("Bearer hunter22".to_owned(), true));
        assert_eq!(header("hunter22", SecretScheme::Plain), ("hunter22".to_owned(), true));
        assert_eq!(header("ada:hunter22", SecretScheme::Basic), ("Basic YWRhOmh1bnRlcjIy".to_owned(), true));
        for (value, scheme) in [("hunter22", SecretScheme::Basic), ("two\nlines", SecretScheme::Bearer)] {
            let refused = authorization(&secret(value, scheme)).unwrap_err();
            assert!(refused.message.contains("`token`") && !refused.message.contains(value), "{refused:?}");
        }
    }
}
