//! Signers of requests: a credential's declaration with the values of its secrets.

use std::sync::Arc;
use std::time::SystemTime;

use stagewright_model::{
    CredentialDeclaration, CredentialKind, CredentialOrigin, OriginTarget, RequestSigner, RequestToSign, SecretValue,
    SignedHeaders, SigningError, TlsSettings,
};
use zeroize::Zeroizing;

use crate::SourceContext;
use crate::error::Fault;
use crate::login::Login;

#[cfg(feature = "aws")]
mod aws_sigv4;
mod azure;
mod docker_registry;
mod google;
#[cfg(feature = "kubernetes")]
mod kubeconfig;
mod token;

use docker_registry::RegistryLogin;
use token::TokenSigner;

/// The value of a secret of a credential, by the secret's name.
pub type SecretValues<'a> = dyn Fn(&str) -> Result<SecretValue, SigningError> + 'a;

/// The signer of the credential `name`. Fetches the values of its secrets, but sends nothing.
///
/// # Errors
/// If a secret has no value, or has one that the credential can't use.
pub fn signer(
    name: &str,
    declared: &CredentialDeclaration,
    secrets: &SecretValues<'_>,
    context: &SourceContext,
) -> Result<Arc<dyn RequestSigner>, SigningError> {
    let parts = SignerParts {
        name: name.to_owned(),
        origins: declared.origins.iter().map(CredentialOrigin::target).cloned().collect(),
        tls: TlsSettings { authorities: declared.ca.as_deref().map(secrets).transpose()?, identity: None },
    };
    let unusable = |fault: Fault| fault.for_credential(name);
    Ok(match &declared.kind {
        CredentialKind::Bearer { token } => {
            let token = secrets(token)?;
            let login = Login::Bearer(owned(one_line(&token, "token").map_err(unusable)?));
            HeaderSigner::shared(parts, Some(&login), vec![token])
        }
        CredentialKind::Basic { username, password } => {
            let password = secrets(password)?;
            let secret = owned(one_line(&password, "password").map_err(unusable)?);
            let login = Login::Basic { username: username.clone(), password: secret };
            HeaderSigner::shared(parts, Some(&login), vec![password])
        }
        CredentialKind::ClientCertificate { certificate, key } => {
            let (certificate, key) = (secrets(certificate)?, secrets(key)?);
            let identity = Zeroizing::new(format!("{}\n{}", certificate.expose(), key.expose()));
            let tls = TlsSettings { identity: Some(identity.into()), ..parts.tls };
            HeaderSigner::shared(SignerParts { tls, ..parts }, None, vec![key])
        }
        CredentialKind::CertificateAuthority => HeaderSigner::shared(parts, None, Vec::new()),
        #[cfg(feature = "aws")]
        CredentialKind::AwsSigV4 { access_key_id, secret_access_key, session_token, region, service } => {
            Arc::new(aws_sigv4::AwsSigner {
                parts,
                access_key_id: secrets(access_key_id)?,
                secret_access_key: secrets(secret_access_key)?,
                session_token: session_token.as_deref().map(secrets).transpose()?,
                region: region.clone(),
                service: service.clone(),
            })
        }
        #[cfg(not(feature = "aws"))]
        CredentialKind::AwsSigV4 { .. } => return Err(unusable(Fault::not_built_in("aws-sigv4", "aws"))),
        #[cfg(feature = "kubernetes")]
        CredentialKind::Kubeconfig { file, context } => {
            kubeconfig::signer(parts, secrets(file)?.expose(), context.as_deref()).map_err(unusable)?
        }
        #[cfg(not(feature = "kubernetes"))]
        CredentialKind::Kubeconfig { .. } => return Err(unusable(Fault::not_built_in("kubeconfig", "kubernetes"))),
        CredentialKind::DockerRegistry { registry, username, password } => {
            let password = secrets(password)?;
            Arc::new(RegistryLogin { parts, registry: registry.clone(), username: username.clone(), password })
        }
        CredentialKind::Google { key, scope, authority } => {
            let issuer = google::ServiceAccount::read(&secrets(key)?, scope, authority).map_err(unusable)?;
            Arc::new(TokenSigner::new(parts, Box::new(issuer), context.clone()))
        }
        CredentialKind::Azure { tenant, client_id, client_secret, scope, authority } => {
            let client_secret = secrets(client_secret)?;
            let issuer =
                azure::Application::new(tenant, client_id, client_secret, scope, authority).map_err(unusable)?;
            Arc::new(TokenSigner::new(parts, Box::new(issuer), context.clone()))
        }
        CredentialKind::Ssh { .. } => {
            let fault = Fault::new("signs no requests: it is for commands over SSH");
            return Err(unusable(fault.help("use a credential of another type for requests")));
        }
    })
}

/// What all signers have.
#[derive(Debug)]
struct SignerParts {
    /// The key in `[credentials]`.
    name: String,
    origins: Vec<OriginTarget>,
    tls: TlsSettings,
}

/// Adds the same header to every request, or none.
#[derive(Debug)]
struct HeaderSigner {
    parts: SignerParts,
    /// If it isn't that of the only origin.
    endpoint: Option<String>,
    authorization: Option<SecretValue>,
    confidential: Vec<SecretValue>,
    expires: Option<SystemTime>,
}

impl HeaderSigner {
    fn shared(parts: SignerParts, login: Option<&Login>, confidential: Vec<SecretValue>) -> Arc<dyn RequestSigner> {
        let authorization = login.map(|login| login.authorization().into());
        let expires = login.and_then(Login::expires);
        Arc::new(HeaderSigner { parts, endpoint: None, authorization, confidential, expires })
    }
}

impl RequestSigner for HeaderSigner {
    fn origins(&self) -> &[OriginTarget] {
        &self.parts.origins
    }

    fn endpoint(&self) -> Option<String> {
        match &self.parts.origins[..] {
            [one] => Some(self.endpoint.clone().unwrap_or_else(|| one.to_string())),
            _ => None,
        }
    }

    fn tls(&self) -> &TlsSettings {
        &self.parts.tls
    }

    fn covers_content(&self) -> bool {
        false
    }

    fn confidential(&self) -> Vec<SecretValue> {
        self.confidential.clone()
    }

    fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    fn sign(&self, _request: &RequestToSign) -> Result<SignedHeaders, SigningError> {
        let headers = self.authorization.iter().map(|value| ("authorization", value.clone()));
        Ok(SignedHeaders { headers: headers.collect(), confidential: Vec::new() })
    }
}

fn owned(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

/// A value that is a part of a header.
fn one_line<'a>(value: &'a SecretValue, what: &str) -> Result<&'a str, Fault> {
    let is_visible = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte) || byte >= 0x80;
    match value.expose() {
        text if text.bytes().all(is_visible) => Ok(text),
        _ => Err(Fault::new(format!("can't be used: its {what} isn't one line of visible characters"))
            .help(format!("store the {what} alone in its secret"))),
    }
}

#[cfg(test)]
mod tests;
