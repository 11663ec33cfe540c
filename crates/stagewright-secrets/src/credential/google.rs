//! `google`: tokens of a service account, requested with a JWT (RFC 7523) that its key signs.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::json;
use stagewright_model::{Origin, SecretValue};
use zeroize::Zeroizing;

use super::token::TokenIssuer;
use crate::error::Fault;

/// How long a JWT is valid, in seconds: the most that Google accepts.
const VALIDITY: u64 = 3600;
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The key of a service account, as it is downloaded.
#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    private_key_id: Option<String>,
    private_key: Zeroizing<String>,
    token_uri: String,
}

/// A service account that requests tokens.
pub(super) struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    key: RsaKeyPair,
    private_key: SecretValue,
    url: Url,
    scope: String,
}

/// Omits the key.
impl std::fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceAccount").field("email", &self.email).finish_non_exhaustive()
    }
}

impl ServiceAccount {
    /// `file`: the text of the key's file. `authority`: the origin that its `token_uri` must have.
    pub(super) fn read(file: &SecretValue, scope: &str, authority: &Origin) -> Result<ServiceAccount, Fault> {
        let refused = |what: &str, help: &str| Fault::new(format!("can't be used: its key {what}")).help(help);
        let create = "store the JSON that `gcloud iam service-accounts keys create` writes";
        // The parser's error is dropped, since it may quote the text.
        let file: KeyFile = serde_json::from_str(file.expose())
            .map_err(|_| refused("isn't the key file of a service account", create))?;
        if file.kind != "service_account" {
            return Err(refused(&format!("is of type `{}`, not of a service account", file.kind), create));
        }
        let url = Url::parse(&file.token_uri).ok().filter(|url| Origin::of(url).as_ref() == Some(authority));
        let url = url.ok_or_else(|| {
            let what = format!("requests tokens at {}, which isn't at {authority}", file.token_uri);
            refused(&what, "set `authority` to the origin of its `token_uri`, if that is intended")
        })?;
        let invalid = || refused("has no RSA key in PKCS#8", create);
        let der = PrivatePkcs8KeyDer::from_pem_slice(file.private_key.as_bytes()).map_err(|_| invalid())?;
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| invalid())?;
        Ok(ServiceAccount {
            email: file.client_email,
            key_id: file.private_key_id,
            key,
            private_key: file.private_key.into(),
            url,
            scope: scope.to_owned(),
        })
    }

    /// The claims of "Using OAuth 2.0 for Server to Server Applications", signed by RS256 (RFC 7518, section 3.3).
    fn assertion(&self, now: SystemTime) -> Result<Zeroizing<String>, Fault> {
        let issued = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let Some(id) = &self.key_id {
            header["kid"] = json!(id);
        }
        let claims = json!({
            "iss": self.email,
            "scope": self.scope,
            "aud": self.url.as_str(),
            "iat": issued,
            "exp": issued + VALIDITY,
        });
        let encoded = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let mut token = Zeroizing::new(format!("{}.{}", encoded(&header), encoded(&claims)));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
            .map_err(|_| Fault::new("can't be used: its key could not sign a token request"))?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }
}

impl TokenIssuer for ServiceAccount {
    fn service(&self) -> &'static str {
        "Google"
    }

    fn url(&self) -> &Url {
        &self.url
    }

    fn form(&self, now: SystemTime) -> Result<Vec<(&'static str, Zeroizing<String>)>, Fault> {
        Ok(vec![("grant_type", Zeroizing::new(GRANT.to_owned())), ("assertion", self.assertion(now)?)])
    }

    fn confidential(&self) -> Vec<SecretValue> {
        vec![self.private_key.clone()]
    }
}
