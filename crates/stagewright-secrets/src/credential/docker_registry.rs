//! `docker-registry`: the login for a registry in requests to the API of the Docker Engine.
//!
//! The engine sends the login to whichever registry the request pulls from, so it is added only where it is certain which
//! one that is: in a request to create an image whose query names it once, and that has no form as its body, which the
//! engine would prefer to the query.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::json;
use stagewright_model::{
    BodyDigest, OriginTarget, REGISTRY_AUTH, RequestSigner, RequestToSign, SecretValue, SignedHeaders, SigningError,
    TlsSettings,
};
use zeroize::Zeroizing;

use super::SignerParts;

/// The registry of image names that have none, and the other name under which the engine knows it.
const DEFAULT: [&str; 2] = ["docker.io", "index.docker.io"];

/// Logs in to one registry.
#[derive(Debug)]
pub(super) struct RegistryLogin {
    pub(super) parts: SignerParts,
    pub(super) registry: String,
    pub(super) username: String,
    pub(super) password: SecretValue,
}

impl RequestSigner for RegistryLogin {
    fn origins(&self) -> &[OriginTarget] {
        &self.parts.origins
    }

    fn tls(&self) -> &TlsSettings {
        &self.parts.tls
    }

    fn covers_content(&self) -> bool {
        true
    }

    fn confidential(&self) -> Vec<SecretValue> {
        vec![self.password.clone(), self.header()]
    }

    fn sign(&self, request: &RequestToSign) -> Result<SignedHeaders, SigningError> {
        let headers = self.is_pull(request).then(|| (REGISTRY_AUTH, self.header()));
        Ok(SignedHeaders { headers: headers.into_iter().collect(), confidential: Vec::new() })
    }
}

impl RegistryLogin {
    /// The `AuthConfig` of the API's reference, "Authentication".
    fn header(&self) -> SecretValue {
        let login = json!({
            "username": self.username,
            "password": self.password.expose(),
            "serveraddress": self.registry,
        });
        Zeroizing::new(URL_SAFE.encode(Zeroizing::new(login.to_string()).as_bytes())).into()
    }

    fn is_pull(&self, request: &RequestToSign) -> bool {
        let create = request.url.path().strip_suffix("/images/create");
        let is_create = create.is_some_and(|before| before.is_empty() || is_version(before));
        let values = |of: &'static str| request.url.query_pairs().filter(move |(key, _)| key == of);
        let named = values("fromImage").collect::<Vec<_>>();
        let has_odd_tag = values("tag").any(|(_, tag)| tag.contains('/'));
        // The engine takes the value of a form before that of the query, and splits the query at semicolons in some versions.
        let is_plain = request.body == BodyDigest::Empty && !request.url.query().unwrap_or_default().contains(';');
        let [(_, image)] = &named[..] else { return false };
        request.method == "POST" && is_create && is_plain && !has_odd_tag && self.is_own(image)
    }

    /// Whether the engine pulls an image of this name from the registry.
    fn is_own(&self, image: &str) -> bool {
        let first = image.split_once('/').map(|(first, _)| first);
        let is_host = |first: &&str| {
            first.contains(['.', ':']) || *first == "localhost" || first.contains(|letter: char| letter.is_uppercase())
        };
        let host = first.filter(is_host);
        match DEFAULT.contains(&self.registry.as_str()) {
            true => host.is_none_or(|host| DEFAULT.contains(&host)),
            false => host == Some(self.registry.as_str()),
        }
    }
}

/// Whether the text is a version of the API in a path, as in `/v1.41`.
fn is_version(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let version = text.strip_prefix("/v").and_then(|version| version.split_once('.'));
    version.is_some_and(|(major, minor)| digits(major) && digits(minor))
}
