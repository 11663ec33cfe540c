//! The server checks signatures as AWS describes them ("Create a signed AWS API request"), by a computation of its own.

use std::time::{Duration, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use super::*;
use crate::server::{Received, Response, Server, respond};

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// RFC 2104, for keys of at most a block.
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

/// Whether a request carries the signature that it should.
fn is_signed(request: &Received) -> bool {
    let authorization = &request.headers["authorization"];
    let part = |name: &str| {
        let start = authorization.find(name).unwrap() + name.len();
        authorization[start..].split(',').next().unwrap().to_owned()
    };
    let (credential, signed_headers, given) = (part("Credential="), part("SignedHeaders="), part("Signature="));
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
        && given == signature(SECRET_KEY, scope, &string_to_sign)
}

/// As the reference of GetSecretValue shows its answers.
fn manager(request: &Received) -> Response {
    if !is_signed(request) {
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

fn ask(server: &Server, from: &str, more: &[(&str, &str)]) -> Result<String, String> {
    let url = server.url();
    let variables = [
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", url.as_str()),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    ];
    let variables = variables.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let around = SourceContext { variables: variables.collect(), ..SourceContext::default() };
    let (name, key) = from.split_once('#').map_or((from, None), |(name, key)| (name, Some(key)));
    secret(name, key, &around).map(|value| value.to_string()).map_err(|fault| fault.of("x").message)
}

#[test]
fn values_are_read_with_a_signed_request() {
    let server = Server::start(manager);
    assert_eq!(ask(&server, "ci/token", &[]).unwrap(), "hunter22");
    assert_eq!(ask(&server, "ci/json#token", &[]).unwrap(), "hunter23");
    assert_eq!(ask(&server, "ci/json#port", &[]).unwrap(), "1");
    assert_eq!(ask(&server, "ci/binary", &[]).unwrap(), "hunter24");
    assert_eq!(ask(&server, "ci/session", &[("AWS_SESSION_TOKEN", "a session")]).unwrap(), "s");
}

#[test]
fn what_goes_wrong_is_told_in_the_services_words() {
    let server = Server::start(manager);
    let refusal = |from: &str, more: &[(&str, &str)]| ask(&server, from, more).unwrap_err();
    let missing = refusal("ci/none", &[]);
    assert!(
        missing.contains("in eu-central-1 answered for `ci/none` with status 400: ResourceNotFoundException Secrets")
    );
    let wrong = refusal("ci/token", &[("AWS_SECRET_ACCESS_KEY", "another-secret-key")]);
    assert!(wrong.contains("InvalidSignatureException") && !wrong.contains("another-secret-key"), "{wrong}");
    assert!(refusal("ci/json#none", &[]).contains("there is no key `none`"));
    assert!(refusal("ci/json#list", &[]).contains("no single value"));
    assert!(refusal("ci/token#a", &[]).contains("no JSON object"));
    assert!(refusal("ci/token", &[("AWS_ACCESS_KEY_ID", "")]).contains("AWS_ACCESS_KEY_ID is not set"));
    assert!(refusal("ci/token", &[("AWS_REGION", "evil.example.org/")]).contains("is no region"));
}

/// The key that AWS documents for "Deriving a signing key": 20150830, us-east-1, iam.
#[test]
fn the_tests_own_computation_agrees_with_the_documentation() {
    let start = format!("AWS4{SECRET_KEY}").into_bytes();
    let key =
        ["20150830", "us-east-1", "iam", "aws4_request"].iter().fold(start, |key, part| hmac(&key, part.as_bytes()));
    assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
}

#[test]
fn an_arn_says_its_region_and_the_region_its_host() {
    let none = SourceContext::default();
    let region = |name: &str| region(name, &none).ok();
    assert_eq!(region("arn:aws:secretsmanager:eu-west-1:123456789012:secret:ci-AbCdEf").as_deref(), Some("eu-west-1"));
    assert_eq!(region("ci"), None);
    assert_eq!(endpoint("eu-west-1", &none).unwrap().as_str(), "https://secretsmanager.eu-west-1.amazonaws.com/");
    let credentials = Credentials::new(KEY_ID, SECRET_KEY, None, None, "test");
    let at = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
    let url = endpoint("eu-west-1", &none).unwrap();
    let headers = signed(&url, b"{}", "eu-west-1", credentials, at).ok().unwrap();
    assert!(headers.contains(&("x-amz-date", "20150830T123600Z".to_owned())), "{headers:?}");
}
