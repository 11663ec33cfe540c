//! AWS Signature Version 4 of requests, in their headers.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use reqwest::Url;

/// Who signs, and what the signature is valid for.
pub(crate) struct SigningScope<'a> {
    pub(crate) credentials: Credentials,
    pub(crate) region: &'a str,
    /// The service's name in the scope, as in `s3`.
    pub(crate) service: &'a str,
}

impl SigningScope<'_> {
    /// The headers to add to a request, one of which is `authorization`. All of `headers`, the query and the body are
    /// covered. The signature is valid for a few minutes around `now`. Errors don't contain the credentials.
    pub(crate) fn sign(
        self,
        method: &str,
        url: &Url,
        headers: &[(&str, &str)],
        body: SignableBody<'_>,
        now: SystemTime,
    ) -> Result<Vec<(&'static str, String)>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("the request could not be signed: {error}");
        let identity = self.credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(now)
            .settings(settings(self.service))
            .build()
            .map_err(|error| failed(&error))?
            .into();
        let url = if is_s3(self.service) { as_object(url) } else { url.clone() };
        let request = SignableRequest::new(method, url.as_str(), headers.iter().copied(), body)
            .map_err(|error| failed(&error))?;
        let (instructions, _) = sign(request, &params).map_err(|error| failed(&error))?.into_parts();
        let (added, _) = instructions.into_parts();
        Ok(added.iter().map(|header| (header.name(), header.value().to_owned())).collect())
    }
}

/// S3 has rules of its own, since the path is the name of an object: it is encoded once and isn't normalised. The digest of
/// the body is sent as a header ("Authenticating Requests (AWS Signature Version 4)" in the reference of its API).
fn is_s3(service: &str) -> bool {
    matches!(service, "s3" | "s3-object-lambda" | "s3-outposts" | "s3express")
}

/// The URL as S3 reads it: whatever is encoded in the path of the request, it encodes all but unreserved characters.
fn as_object(url: &Url) -> Url {
    let path = percent_encoding::percent_decode_str(url.path()).collect::<Vec<_>>();
    let mut url = url.clone();
    url.set_path(&percent_encoding::percent_encode(&path, RESERVED).to_string());
    url
}

/// All characters but those that RFC 3986 calls unreserved, and the slash.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

fn settings(service: &str) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if is_s3(service) {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings
}
