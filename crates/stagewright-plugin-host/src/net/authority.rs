//! The certificate authority of one attempt, by which its programs verify the proxy where it answers for a host.
//!
//! Its key exists in the engine's memory only, and ends with the attempt. No other program of the machine trusts it: its
//! certificate is only in the file that [`AttemptAuthority::bundle`] is written to, in the attempt's own sandbox.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use stagewright_model::Origin;

use crate::error::{CapabilityError, ErrorCode};

/// The subject of the authority, which programs show when they don't trust it.
const NAME: &str = "Stagewright, for one attempt of a stage";
/// The names of this machine, all of which lead to a forwarded port.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// The characters of a line in PEM (RFC 7468, section 2).
const LINE: usize = 64;

/// See the module's documentation.
pub(crate) struct AttemptAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl AttemptAuthority {
    pub(crate) fn new() -> Result<AttemptAuthority, CapabilityError> {
        let made = || {
            let mut params = params(&[])?;
            params.distinguished_name = named(NAME);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            Ok(AttemptAuthority { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
        };
        made().map_err(|error: rcgen::Error| failed(&error))
    }

    /// The configuration with which the proxy answers for `origin`, with HTTP/1.1.
    pub(super) fn server(&self, origin: &Origin) -> Result<Arc<ServerConfig>, CapabilityError> {
        let host = origin.host().trim_start_matches('[').trim_end_matches(']');
        let names = if origin.is_loopback() { [&[host][..], &LOOPBACK].concat() } else { vec![host] };
        // Serial numbers are derived from the key, so that each certificate has its own.
        let key = KeyPair::generate().map_err(|error| failed(&error))?;
        let certificate = self.issue(&names, &key).map_err(|error| failed(&error))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key));
        let mut config = config.map_err(|error| failed(&error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn issue(&self, names: &[&str], key: &KeyPair) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = params(names)?;
        params.distinguished_name = named(names.first().unwrap_or(&NAME));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(params.signed_by(key, &self.issuer)?.der().clone())
    }

    /// The authorities that programs should trust, in PEM: those that the engine itself trusts, and this one. Blocks.
    pub(crate) fn bundle(&self) -> String {
        // What can't be read of the machine's certificates is missing for the engine as well.
        let roots = rustls_native_certs::load_native_certs().certs;
        roots.iter().chain([self.issuer.der()]).map(pem).collect()
    }
}

fn params(names: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = BASE64.encode(certificate);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn failed(error: &dyn std::fmt::Display) -> CapabilityError {
    CapabilityError::new(ErrorCode::Internal, format!("could not set up TLS for the stage's programs: {error}"))
}

#[cfg(test)]
impl AttemptAuthority {
    /// The authority's own certificate.
    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }
}
