//! `aws-sm:`: AWS Secrets Manager.
//!
//! One action of its API, GetSecretValue, signed with Signature Version 4. Credentials come from variables alone:
//! profiles, SSO, web identities and instance roles are left to `aws configure export-credentials`.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, Url};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use crate::SourceContext;
use crate::error::Fault;
use crate::http::{Answer, Call, scalar};
use crate::text::text;

const SERVICE: &str = "AWS Secrets Manager";
const TARGET: &str = "secretsmanager.GetSecretValue";
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

pub(crate) fn secret(name: &str, key: Option<&str>, around: &SourceContext) -> Result<Zeroizing<String>, Fault> {
    let region = region(name, around)?;
    let url = endpoint(&region, around)?;
    let credentials = credentials(around)?;
    let body = json!({ "SecretId": name }).to_string().into_bytes();
    let headers = signed(&url, &body, &region, credentials, SystemTime::now())?;
    let answer = Call { method: Method::POST, headers, body, ..Call::get(SERVICE, url) }.send(around)?;
    if answer.status != 200 {
        return Err(refused(&answer, name, &region));
    }
    let document = answer.json().unwrap_or_default();
    let value = match (&document["SecretString"], &document["SecretBinary"]) {
        (Json::String(value), _) => Zeroizing::new(value.clone()),
        (_, Json::String(encoded)) => {
            let bytes = STANDARD.decode(encoded);
            text(
                bytes.map_err(|_| Fault::new(format!("can't be used: the binary value of `{name}` is no base64")))?,
                name,
            )?
        }
        _ => return Err(Fault::new(format!("can't be used: {SERVICE} gave no value for `{name}`"))),
    };
    let Some(key) = key else { return Ok(value) };
    let Ok(Json::Object(entries)) = serde_json::from_str(&value) else {
        return Err(Fault::new(format!("can't be picked from `{name}`: its value is no JSON object"))
            .help(format!("leave `#{key}` out in [secrets.*]")));
    };
    match entries.get(key).map(scalar) {
        Some(Some(value)) => Ok(value),
        Some(None) => Err(Fault::new(format!("can't be used: `{key}` of `{name}` is no single value"))),
        None => Err(Fault::new(format!("is not in `{name}`: there is no key `{key}`"))),
    }
}

/// An ARN says where its secret is; a name doesn't.
fn region(name: &str, around: &SourceContext) -> Result<String, Fault> {
    let of_arn = name.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2)).filter(|region| !region.is_empty());
    let region = of_arn.or_else(|| around.variable("AWS_REGION")).or_else(|| around.variable("AWS_DEFAULT_REGION"));
    let region = region.ok_or_else(|| {
        Fault::new("can't be fetched: AWS_REGION is not set").help("set AWS_REGION, as in `eu-central-1`")
    })?;
    // It becomes part of a host's name.
    if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(Fault::new(format!("can't be fetched: `{region}` is no region of AWS")));
    }
    Ok(region.to_owned())
}

fn endpoint(region: &str, around: &SourceContext) -> Result<Url, Fault> {
    let given = around.variable("AWS_ENDPOINT_URL_SECRETS_MANAGER").or_else(|| around.variable("AWS_ENDPOINT_URL"));
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let url = given.map_or_else(|| format!("https://secretsmanager.{region}.{domain}/"), str::to_owned);
    url.parse().map_err(|_| Fault::new("can't be fetched: AWS_ENDPOINT_URL is no URL"))
}

fn credentials(around: &SourceContext) -> Result<Credentials, Fault> {
    let variable = |name: &str| {
        around.variable(name).map(str::to_owned).ok_or_else(|| {
            Fault::new(format!("can't be fetched: {name} is not set")).help(
                "`eval \"$(aws configure export-credentials --format env)\"` sets it from a profile, SSO or a role",
            )
        })
    };
    let session = around.variable("AWS_SESSION_TOKEN").map(str::to_owned);
    Ok(Credentials::new(
        variable("AWS_ACCESS_KEY_ID")?,
        variable("AWS_SECRET_ACCESS_KEY")?,
        session,
        None,
        "environment",
    ))
}

/// The headers of the request, its signature included.
fn signed(
    url: &Url,
    body: &[u8],
    region: &str,
    credentials: Credentials,
    now: SystemTime,
) -> Result<Vec<(&'static str, String)>, Fault> {
    let cannot =
        |error: &dyn std::fmt::Display| Fault::new(format!("can't be fetched: the request can't be signed: {error}"));
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("secretsmanager")
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| cannot(&error))?
        .into();
    let mut headers = vec![("content-type", CONTENT_TYPE.to_owned()), ("x-amz-target", TARGET.to_owned())];
    let given = headers.iter().map(|(name, value)| (*name, value.as_str()));
    let request =
        SignableRequest::new("POST", url.as_str(), given, SignableBody::Bytes(body)).map_err(|error| cannot(&error))?;
    let (instructions, _) = sign(request, &params).map_err(|error| cannot(&error))?.into_parts();
    let (added, _) = instructions.into_parts();
    headers.extend(added.iter().map(|header| (header.name(), header.value().to_owned())));
    Ok(headers)
}

/// `{"__type": "ResourceNotFoundException", "Message": "…"}`; the message's key has both spellings in the wild.
fn refused(answer: &Answer, name: &str, region: &str) -> Fault {
    let document = answer.json().unwrap_or_default();
    let kind = document["__type"].as_str().unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default();
    let message = document["message"].as_str().or_else(|| document["Message"].as_str()).unwrap_or_default();
    let reason = answer.reason(&format!("{kind} {message}"));
    let fault = Fault::new(format!("can't be fetched: {SERVICE} in {region} answered for `{name}` with {reason}"));
    match kind {
        "ResourceNotFoundException" => fault.help("create the secret, or correct `from` in [secrets.*] or AWS_REGION"),
        "AccessDeniedException" => {
            fault.help(format!("allow `secretsmanager:GetSecretValue` for `{name}`, and `kms:Decrypt` for its key"))
        }
        _ => fault.help("look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and the machine's clock"),
    }
}

#[cfg(test)]
mod tests;
