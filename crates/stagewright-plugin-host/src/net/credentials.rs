//! The secrets that the proxy adds to what programs download (`secrets = ["NAME:proxy"]`).
//!
//! A program never has such a secret. It sends a request without one, and the proxy adds the `Authorization` header on
//! the way to the secret's hosts. For https, that takes a proxy which answers for the host, with a certificate of the
//! attempt's own [`AttemptAuthority`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::header::HeaderValue;
use stagewright_model::{HostPattern, Origin, SecretScheme, SecretValue};

use super::authority::AttemptAuthority;
use super::client::SharedClient;
use crate::error::{CapabilityError, ErrorCode};
use crate::mask::Masker;

/// The credentials of one attempt.
pub(crate) struct ProxyCredentials {
    all: Vec<ProxyCredential>,
    pub(crate) authority: AttemptAuthority,
    /// Sends the requests that may carry a credential.
    pub(super) client: SharedClient,
    /// Masks the credentials in responses, and no other secrets: a response is a package, which must not change.
    pub(super) masker: Masker,
}

/// A secret that is granted to the proxy.
pub(crate) struct ProxySecret {
    /// Its key in `[secrets]`.
    pub(crate) name: String,
    pub(crate) value: SecretValue,
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) scheme: SecretScheme,
}

struct ProxyCredential {
    hosts: Vec<HostPattern>,
    /// The value of `Authorization`.
    authorization: HeaderValue,
}

impl ProxyCredentials {
    /// `secrets`: in the order of the stage's grants.
    pub(crate) fn new(secrets: Vec<ProxySecret>, client: SharedClient) -> Result<ProxyCredentials, CapabilityError> {
        let masker = Masker::default();
        secrets.iter().for_each(|secret| masker.add(secret.value.clone(), false));
        let all = secrets.into_iter().map(|secret| {
            let authorization = authorization(&secret)?;
            Ok(ProxyCredential { hosts: secret.hosts, authorization })
        });
        let all = all.collect::<Result<_, CapabilityError>>()?;
        Ok(ProxyCredentials { all, authority: AttemptAuthority::new()?, client, masker })
    }

    /// The value of `Authorization` in requests to `origin`: that of the first secret whose hosts include it. Never in
    /// plain text, except on this machine.
    pub(crate) fn for_origin(&self, origin: &Origin) -> Option<&HeaderValue> {
        let is_private = origin.is_https() || origin.is_loopback();
        let is_for = |credential: &&ProxyCredential| {
            credential.hosts.iter().any(|pattern| pattern.admits(origin.host(), origin.port()))
        };
        self.all.iter().find(is_for).filter(|_| is_private).map(|credential| &credential.authorization)
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
