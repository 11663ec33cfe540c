//! The test server verifies signatures with an independent implementation of "Create a signed AWS API request".

use std::time::{Duration, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use super::*;
use crate::server::{StubRequest, StubResponse, StubServer, respond};

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// HMAC-SHA256 of RFC 2104, for keys of at most 64 bytes.
fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(data).finalize();
    Sha256::new().chain_update(pad(0x5C)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signature(secret_key: &str, scope: &str, string_to_sign: &str) -> String {
    let start = format!("AWS4{secret_key}").into_bytes();
    let key = scope.split('/').fold(start, |key, part| hmac(&key, part.as_bytes()));
    hex(&hmac(&key, string_to_sign.as_bytes()))
}

/// Whether the signature of a request is valid.
fn has_valid_signature(request: &StubRequest) -> bool {
    let authorization = &request.headers["authorization"];
    let part = |name: &str| {
        let start = authorization.find(name).unwrap() + name.len();
        authorization[start..].split(',').next().unwrap().to_owned()
    };
    let (credential, signed_headers, claimed) = (part("Credential="), part("SignedHeaders="), part("Signature="));
    let scope = credential.strip_prefix(&format!("{KEY_ID}/")).unwrap();
    let headers = signed_headers.split(';').map(|name| format!("{name}:{}\n", request.headers[name]));
    let canonical = format!(
        "{}\n{}\n\n{}\n{signed_headers}\n{}",
        request.method,
        request.path,
        headers.collect::<String>(),
        hex(&Sha256::digest(&request.body))
    );
    let hashed = hex(&Sha256::digest(&canonical));
    let string_to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hashed}", request.headers["x-amz-date"]);
    scope.ends_with("/eu-central-1/secretsmanager/aws4_request")
        && ["host", "x-amz-date", "x-amz-target"].iter().all(|name| signed_headers.split(';').any(|one| one == *name))
        && claimed == signature(SECRET_KEY, scope, &string_to_sign)
}

/// Responds in the format of the reference of GetSecretValue.
fn secrets_manager(request: &StubRequest) -> StubResponse {
    if !has_valid_signature(request) {
        let message = "The request signature we calculated does not match the signature you provided.";
        return respond(400, &json!({ "__type": "InvalidSignatureException", "message": message }).to_string());
    }
    assert_eq!(request.headers["x-amz-target"], "secretsmanager.GetSecretValue");
    let body: Json = serde_json::from_slice(&request.body).unwrap();
    let value = match body["SecretId"].as_str().unwrap() {
        "ci/token" => json!({ "SecretString": "hunter22" }),
        "ci/json" => json!({ "SecretString": r#"{"token":"hunter23","port":1,"list":[]}"# }),
        "ci/binary" => json!({ "SecretBinary": "aHVudGVyMjQ=" }),
        "ci/session" if request.headers["x-amz-security-token"] == "a session" => json!({ "SecretString": "s" }),
        _ => {
            let message = "Secrets Manager can't find the specified secret.";
            return respond(400, &json!({ "__type": "ResourceNotFoundException", "Message": message }).to_string());
        }
    };
    respond(200, &value.to_string())
}

fn fetch_from(server: &StubServer, from: &str, more: &[(&str, &str)]) -> Result<String, String> {
    let url = server.url();
    let variables = [
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", url.as_str()),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    ];
    let variables = variables.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let context = SourceContext { variables: variables.collect(), ..SourceContext::default() };
    let (name, key) = from.split_once('#').map_or((from, None), |(name, key)| (name, Some(key)));
    fetch(name, key, &context).map(|value| value.to_string()).map_err(|fault| fault.for_secret("x").message)
}

#[test]
fn values_are_read_with_a_signed_request() {
    let server = StubServer::start(secrets_manager);
    assert_eq!(fetch_from(&server, "ci/token", &[]).unwrap(), "hunter22");
    assert_eq!(fetch_from(&server, "ci/json#token", &[]).unwrap(), "hunter23");
    assert_eq!(fetch_from(&server, "ci/json#port", &[]).unwrap(), "1");
    assert_eq!(fetch_from(&server, "ci/binary", &[]).unwrap(), "hunter24");
    assert_eq!(fetch_from(&server, "ci/session", &[("AWS_SESSION_TOKEN", "a session")]).unwrap(), "s");
}

#[test]
fn errors_quote_the_service_but_no_credentials() {
    let server = StubServer::start(secrets_manager);
    let refusal = |from: &str, more: &[(&str, &str)]| fetch_from(&server, from, more).unwrap_err();
    let missing = refusal("ci/none", &[]);
    assert!(missing.contains(
        "from `ci/none`: AWS Secrets Manager in eu-central-1 returned status 400: ResourceNotFoundException Secrets"
    ));
    let wrong = refusal("ci/token", &[("AWS_SECRET_ACCESS_KEY", "another-secret-key")]);
    assert!(wrong.contains("InvalidSignatureException") && !wrong.contains("another-secret-key"), "{wrong}");
    assert!(refusal("ci/json#none", &[]).contains("the key `none` does not exist"));
    assert!(refusal("ci/json#list", &[]).contains("isn't a string, a number or a boolean"));
    assert!(refusal("ci/token#a", &[]).contains("isn't a JSON object"));
    assert!(refusal("ci/token", &[("AWS_ACCESS_KEY_ID", "")]).contains("AWS_ACCESS_KEY_ID is not set"));
    assert!(refusal("ci/token", &[("AWS_REGION", "evil.example.org/")]).contains("isn't a valid AWS region"));
}

/// The expected key is the example in AWS's documentation of "Deriving a signing key".
#[test]
fn the_independent_implementation_derives_the_documented_key() {
    let start = format!("AWS4{SECRET_KEY}").into_bytes();
    let key =
        ["20150830", "us-east-1", "iam", "aws4_request"].iter().fold(start, |key, part| hmac(&key, part.as_bytes()));
    assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
}

#[test]
fn the_region_comes_from_the_arn_and_determines_the_host() {
    let none = SourceContext::default();
    let region = |name: &str| region(name, &none).ok();
    assert_eq!(region("arn:aws:secretsmanager:eu-west-1:123456789012:secret:ci-AbCdEf").as_deref(), Some("eu-west-1"));
    assert_eq!(region("ci"), None);
    assert_eq!(endpoint("eu-west-1", &none).unwrap().as_str(), "https://secretsmanager.eu-west-1.amazonaws.com/");
    let credentials = Credentials::new(KEY_ID, SECRET_KEY, None, None, "test");
    let at = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
    let url = endpoint("eu-west-1", &none).unwrap();
    let headers = signed_headers(&url, b"{}", "eu-west-1", credentials, at).ok().unwrap();
    assert!(headers.contains(&("x-amz-date", "20150830T123600Z".to_owned())), "{headers:?}");
}
