//! `aws-sigv4`.

use std::fmt::Write as _;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::SignableBody;
use stagewright_model::{
    BodyDigest, OriginTarget, RequestSigner, RequestToSign, SecretValue, SignedHeaders, SigningError, TlsSettings,
};

use super::SignerParts;
use crate::error::Fault;
use crate::sigv4::SigningScope;

/// Signs with an access key. `Debug` shows none of the values.
#[derive(Debug)]
pub(super) struct AwsSigner {
    pub(super) parts: SignerParts,
    pub(super) access_key_id: SecretValue,
    pub(super) secret_access_key: SecretValue,
    pub(super) session_token: Option<SecretValue>,
    pub(super) region: String,
    pub(super) service: String,
}

impl RequestSigner for AwsSigner {
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
        let session_token = self.session_token.clone();
        [self.access_key_id.clone(), self.secret_access_key.clone()].into_iter().chain(session_token).collect()
    }

    fn sign(&self, request: &RequestToSign) -> Result<SignedHeaders, SigningError> {
        let credentials = Credentials::new(
            self.access_key_id.expose(),
            self.secret_access_key.expose(),
            self.session_token.as_ref().map(|token| token.expose().to_owned()),
            None,
            "stagewright",
        );
        let scope = SigningScope { credentials, region: &self.region, service: &self.service };
        let body = match request.body {
            // The host digests every body, because this signer covers it.
            BodyDigest::Empty | BodyDigest::Uncovered => SignableBody::Bytes(&[]),
            BodyDigest::Sha256(digest) => SignableBody::Precomputed(hex(&digest)),
        };
        let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>();
        let added = scope.sign(&request.method, &request.url, &headers, body, request.now);
        let added =
            added.map_err(|error| Fault::new(format!("can't be used: {error}")).for_credential(&self.parts.name))?;
        let signatures = added.iter().filter_map(|(_, value)| value.rsplit_once("Signature="));
        let confidential = signatures.map(|(_, signature)| SecretValue::from(signature)).collect();
        let headers = added.iter().map(|(name, value)| (*name, SecretValue::from(value.as_str()))).collect();
        Ok(SignedHeaders { headers, confidential })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
