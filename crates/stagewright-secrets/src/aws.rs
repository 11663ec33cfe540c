//! `aws-sm:`: reads a secret from AWS Secrets Manager.
//!
//! The only action of the API that is used is GetSecretValue, signed with Signature Version 4. Credentials are read
//! only from variables; `aws configure export-credentials` sets them from profiles, SSO, web identities and instance
//! roles.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::SignableBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, Url};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use crate::SourceContext;
use crate::error::Fault;
use crate::http::{SecretRequest, SecretResponse, scalar};
use crate::sigv4::SigningScope;
use crate::text::into_text;

const SERVICE: &str = "AWS Secrets Manager";
const TARGET: &str = "secretsmanager.GetSecretValue";
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// Fetches the secret `name`. Returns its whole value, or with `key`, the value of that key of its JSON.
pub(crate) fn fetch(name: &str, key: Option<&str>, context: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    let region = region(name, context)?;
    let url = endpoint(&region, context)?;
    let credentials = credentials(context)?;
    let body = json!({ "SecretId": name }).to_string().into_bytes();
    let headers = signed_headers(&url, &body, &region, credentials, SystemTime::now())?;
    let response =
        SecretRequest { method: Method::POST, headers, body, ..SecretRequest::get(SERVICE, url) }.send(context)?;
    if response.status != 200 {
        return Err(error_from_response(&response, name, &region));
    }
    let document = response.json().unwrap_or_default();
    let value = match (&document["SecretString"], &document["SecretBinary"]) {
        (Json::String(value), _) => Zeroizing::new(value.clone()),
        (_, Json::String(encoded)) => {
            let bytes = STANDARD.decode(encoded);
            into_text(
                bytes.map_err(|_| {
                    Fault::new(format!("can't be used: the binary value of `{name}` is invalid base64"))
                })?,
                name,
            )?
        }
        _ => return Err(Fault::new(format!("can't be used: {SERVICE} returned no value for `{name}`"))),
    };
    let Some(key) = key else { return Ok(value) };
    let Ok(Json::Object(entries)) = serde_json::from_str(&value) else {
        return Err(Fault::new(format!("can't be read from `{name}`: its value isn't a JSON object"))
            .help(format!("remove `#{key}` from `from` in [secrets.*]")));
    };
    match entries.get(key).map(scalar) {
        Some(Some(value)) => Ok(value),
        Some(None) => {
            Err(Fault::new(format!("can't be used: `{key}` of `{name}` isn't a string, a number or a boolean")))
        }
        None => Err(Fault::new(format!("is not in `{name}`: the key `{key}` does not exist"))),
    }
}

/// The region of the secret: the one in its ARN, or else the one in the variables.
fn region(name: &str, context: &SourceContext) -> Result<String, Fault> {
    let arn_region =
        name.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2)).filter(|region| !region.is_empty());
    let region =
        arn_region.or_else(|| context.variable("AWS_REGION")).or_else(|| context.variable("AWS_DEFAULT_REGION"));
    let region = region.ok_or_else(|| {
        Fault::new("can't be fetched: AWS_REGION is not set").help("set AWS_REGION, for example to `eu-central-1`")
    })?;
    // The region becomes part of the host name. Without this check, an ARN with the region `evil.example.org/` would
    // send the signed request, which includes the session token, to a host below `evil.example.org`, whose owner can
    // get a valid certificate for it.
    if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(Fault::new(format!("can't be fetched: `{region}` isn't a valid AWS region")));
    }
    Ok(region.to_owned())
}

fn endpoint(region: &str, context: &SourceContext) -> Result<Url, Fault> {
    let configured =
        context.variable("AWS_ENDPOINT_URL_SECRETS_MANAGER").or_else(|| context.variable("AWS_ENDPOINT_URL"));
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let url = configured.map_or_else(|| format!("https://secretsmanager.{region}.{domain}/"), str::to_owned);
    url.parse().map_err(|_| Fault::new("can't be fetched: AWS_ENDPOINT_URL isn't a valid URL"))
}

fn credentials(context: &SourceContext) -> Result<Credentials, Fault> {
    let variable = |name: &str| {
        context.variable(name).map(str::to_owned).ok_or_else(|| {
            Fault::new(format!("can't be fetched: {name} is not set")).help(
                "set it from a profile, SSO or a role: `eval \"$(aws configure export-credentials --format env)\"`",
            )
        })
    };
    let session = context.variable("AWS_SESSION_TOKEN").map(str::to_owned);
    Ok(Credentials::new(
        variable("AWS_ACCESS_KEY_ID")?,
        variable("AWS_SECRET_ACCESS_KEY")?,
        session,
        None,
        "environment",
    ))
}

/// The headers of the request, including its signature, which is valid for a few minutes around `now`.
fn signed_headers(
    url: &Url,
    body: &[u8],
    region: &str,
    credentials: Credentials,
    now: SystemTime,
) -> Result<Vec<(&'static str, String)>, Fault> {
    let scope = SigningScope { credentials, region, service: "secretsmanager" };
    let mut headers = vec![("content-type", CONTENT_TYPE.to_owned()), ("x-amz-target", TARGET.to_owned())];
    let unsigned = headers.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>();
    let signed = scope.sign("POST", url, &unsigned, SignableBody::Bytes(body), now);
    headers.extend(signed.map_err(|error| Fault::new(format!("can't be fetched: {error}")))?);
    Ok(headers)
}

/// The error that the service returned: `{"__type": "ResourceNotFoundException", "Message": "…"}`. Some errors spell
/// the key `message`, and some prefix the type with a namespace and `#`.
fn error_from_response(response: &SecretResponse, name: &str, region: &str) -> Fault {
    let document = response.json().unwrap_or_default();
    let kind = document["__type"].as_str().unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default();
    let message = document["message"].as_str().or_else(|| document["Message"].as_str()).unwrap_or_default();
    let reason = response.reason(&format!("{kind} {message}"));
    let fault = Fault::new(format!("can't be fetched from `{name}`: {SERVICE} in {region} returned {reason}"));
    match kind {
        "ResourceNotFoundException" => fault.help("create the secret, or correct `from` in [secrets.*] or AWS_REGION"),
        "AccessDeniedException" => {
            fault.help(format!("allow `secretsmanager:GetSecretValue` for `{name}`, and `kms:Decrypt` for its key"))
        }
        _ => fault.help("check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and the machine's clock"),
    }
}

#[cfg(test)]
mod tests;
