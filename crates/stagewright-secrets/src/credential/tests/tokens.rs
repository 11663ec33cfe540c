//! Tokens, with fakes of Google's and Microsoft's services in their documented form.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value as Json, json};

use super::*;
use crate::server::{StubRequest, StubResponse, StubServer, respond};

/// Made for these tests with `openssl genpkey`.
const RSA_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCYQSrTFMJZCcwV
+bzB28N1K78Qh8B+fHrV6bjo+T9el9b50TeDhMPNFDtOxb52rkYFYB4f08iW1hzt
O0dy1NBt8HvNsai99rezR/uYrM3JqflycLFC1oEbGF3RFtPeBQ2Idc5fRsEerjwN
RndfyqkKSZxu/55U/UsWNpkQtadakKdYYEN14jP88rOUyMWiYkee5RrxijOA4Yky
vfx2lpHqhb0f0bV+QXCzda/o861OnmOXZCmcDKSolH9JnZPIKPpqBAsga1MM54WE
HZ7Hn69sPUVNbSX7Qz+wO/HzQYbD/eJtZgc3a+TGoWvhEFDXVuYuyzpErCiE018B
mG1redjhAgMBAAECggEACuZZbkCVdEHdDDKzhm5Y9RWzaTfKulNniNJhZD5ZwMge
ggZuErqJuPAKmeZSrxTlWuOpbG5hNRkxe3NLt2cQX9qARnbCRY040/sigijW16nV
O5HhQs9v8TRinQIlG0ch06PZaR073JotHuctSxyLUvr3mcOvflaezkGM3jMe/r7x
gbNx4ENqW7HI/aB6q1D8Y3SIta85oPkufWdPdc0/EYAIQB7YBjy8Cbw1dp2Emn6h
VS0D2lM+WgD881vFXIhdWyf/HU0JqxsBE8Ws360G8x8Ul/DHFA9JYyBP4ExvtEd4
1kvBPGxgWjgURlN/2x1HdQwXweIaT3As5+V69mQeVQKBgQDTw7HRshzsvIdxAnqJ
wrXJZE9FjB+o70IM4Cy8hvcRwBzOVws8ObGxvPrmXhmXAzODv2grEipM5hUiv58y
19QPlLR4C2xhi0kvrbGm6W2sQoCVGeQvpa2Cl2Wr8pW6wB8EF8cu4NoyDLQvuHpV
Dy5qi/0K2evMXlMAiHnOofs9DQKBgQC4DyAYwnxxTPz2dbBBXllXGJwgb9PqDvPw
WRJGAAkWvB4AvbiQzsVy9P4xiX0jpf6Pl0CszAmegH9kKLizxwc1929X3S6wPXjy
92fMvktnrNo1kWDUWZNQPzK7Vg9jtFyF0Tdc6yrs+0xFneyUf/n2nmWK2ov31R7G
xJ1rtWyeJQKBgERyaYRs/LpsSZ72fSMQA3Af8xt4qjcRdpjw0KTzPuLG5MixC9mg
kFXxzmstmTndeAYqlQHu8is+5y//HfbyGgIbP6XZk2OIANTfYJ+hrahTKnqHDuFz
vLyMMPm+BDWDqcLJ6MC3Pu+UeZ0/FJNvv8ICk3yxaWz6Q/vVIQHwC2P1AoGARDtf
M66NgVcAA8GXKHR4fCAkaKXsEj2e0r/CVW7X77SnDrFGRXBRpA8MWILWgCueFc8F
a8lr23VZRGEQL50doDTs8s6M60qulqt+sFjvDSz365nMIoxeXwY+oVIC/Hw1PGpV
sr1/OUDjgn9L37Udjf4kOHhSIPrBoP/sN6yW6n0CgYBP8azLYPONnmeQTSV30rt9
ZJFgpZhZOM1AT2odTiulHz8xccTid6FNniQzePqRgA+l4hiACuCSnBu44CLPZeTH
8BnRWiZVBoc5YkuQ/ZklFwrPy8aMjqqmC+GjZ22XB5WDwPPUC7JmrVxB4NHI6r5U
a8AVFaJMA7ZO3yFd5bBXHw==
-----END PRIVATE KEY-----
";
const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> RequestToSign {
    RequestToSign { now: UNIX_EPOCH + Duration::from_secs(seconds), ..request("GET", "https://api.example.org/") }
}

fn form(request: &StubRequest) -> Vec<(String, String)> {
    let body = format!("form:?{}", std::str::from_utf8(&request.body).unwrap());
    reqwest::Url::parse(&body).unwrap().query_pairs().into_owned().collect()
}

fn key_file(token_uri: &str) -> String {
    json!({
        "type": "service_account",
        "project_id": "acme",
        "private_key_id": "key-1",
        "private_key": RSA_KEY,
        "client_email": "deployer@acme.iam.gserviceaccount.com",
        "token_uri": token_uri,
    })
    .to_string()
}

/// Checks the request as "Using OAuth 2.0 for Server to Server Applications" describes it.
fn google(request: &StubRequest, audience: &str) -> StubResponse {
    let fields = form(request);
    let [(grant, kind), (key, assertion)] = &fields[..] else { panic!("{fields:?}") };
    assert_eq!((grant.as_str(), kind.as_str()), ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"));
    assert_eq!(key, "assertion");
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let der = PrivatePkcs8KeyDer::from_pem_slice(RSA_KEY.as_bytes()).unwrap();
    let public = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap().public_key().as_ref().to_vec();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).verify(signed.as_bytes(), &signature).unwrap();
    let part = |text: &str| serde_json::from_slice::<Json>(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    assert_eq!(part(header), json!({ "alg": "RS256", "typ": "JWT", "kid": "key-1" }));
    let claims = part(claims);
    assert_eq!(claims["iss"], "deployer@acme.iam.gserviceaccount.com");
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
    assert_eq!(claims["aud"], audience);
    let issued = claims["iat"].as_u64().unwrap();
    assert_eq!(claims["exp"].as_u64().unwrap(), issued + 3600);
    let token = json!({ "access_token": format!("ya29.{issued}"), "expires_in": 3599, "token_type": "Bearer" });
    respond(200, &token.to_string())
}

#[test]
fn a_service_account_exchanges_a_signed_jwt_for_a_token_and_keeps_it_until_shortly_before_its_end() {
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    let server = StubServer::start(move |request| {
        seen.fetch_add(1, Ordering::SeqCst);
        google(request, &format!("http://{}/token", request.headers["host"]))
    });
    let keys =
        [("key", "key"), ("scope", "https://www.googleapis.com/auth/cloud-platform"), ("authority", &server.url())];
    let file = key_file(&format!("{}/token", server.url()));
    let signer = signer_of("google", &keys, &[("key", &file)]).unwrap();
    assert_eq!(requests.load(Ordering::SeqCst), 0, "nothing is sent before a request");
    let token = |seconds| signer.sign(&at(seconds)).unwrap().headers[0].1.expose().to_owned();
    assert_eq!(token(NOW), format!("Bearer ya29.{NOW}"));
    assert_eq!(token(NOW + 3599 - 61), format!("Bearer ya29.{NOW}"));
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    let late = NOW + 3599 - 60;
    assert_eq!(token(late), format!("Bearer ya29.{late}"), "a request may take a while");
    let confidential = signer.confidential();
    assert!(confidential.iter().any(|value| value.expose() == format!("ya29.{late}")));
    assert!(confidential.iter().any(|value| value.expose() == RSA_KEY));
    assert_eq!(signer.sign(&at(late)).unwrap().confidential[0].expose(), format!("ya29.{late}"));
}

#[test]
fn a_key_file_is_for_a_service_account_whose_tokens_come_from_the_authority() {
    let keys = [("key", "key"), ("scope", "s")];
    let refusal = |file: &str| signer_of("google", &keys, &[("key", file)]).unwrap_err().message;
    assert!(signer_of("google", &keys, &[("key", &key_file("https://oauth2.googleapis.com/token"))]).is_ok());
    for uri in
        ["https://evil.example/token", "http://oauth2.googleapis.com/token", "https://oauth2.googleapis.com.evil/"]
    {
        let message = refusal(&key_file(uri));
        let expected = format!("its key requests tokens at {uri}, which isn't at https://oauth2.googleapis.com");
        assert!(message.ends_with(&expected), "{message}");
    }
    let user = key_file("https://oauth2.googleapis.com/token").replace("service_account", "authorized_user");
    assert!(refusal(&user).ends_with("its key is of type `authorized_user`, not of a service account"));
    let broken = key_file("https://oauth2.googleapis.com/token").replace("MII", "XXX");
    assert!(refusal(&broken).ends_with("its key has no RSA key in PKCS#8"), "{}", refusal(&broken));
    assert!(refusal("hunter2hunter2").ends_with("its key isn't the key file of a service account"));
}

/// Checks the request as "Microsoft identity platform and the OAuth 2.0 client credentials flow" describes it.
fn entra(request: &StubRequest) -> StubResponse {
    assert_eq!(request.path, "/contoso.example/oauth2/v2.0/token");
    let fields = form(request);
    let value = |key: &str| fields.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str()).unwrap();
    assert_eq!((value("grant_type"), value("client_id")), ("client_credentials", "app-12345678"));
    assert_eq!(value("scope"), "https://management.azure.com/.default");
    if value("client_secret") != "s3cr&t=hunter22" {
        let description = format!("AADSTS7000215: Invalid client secret provided for app-12345678. {}", value("scope"));
        return respond(401, &json!({ "error": "invalid_client", "error_description": description }).to_string());
    }
    respond(200, &json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": "eyJ0.token" }).to_string())
}

fn azure(server: &StubServer, secret: &str) -> Arc<dyn RequestSigner> {
    let keys = [
        ("tenant", "contoso.example"),
        ("client-id", "app-12345678"),
        ("client-secret", "secret"),
        ("scope", "https://management.azure.com/.default"),
        ("authority", &server.url()),
    ];
    signer_of("azure", &keys, &[("secret", secret)]).unwrap()
}

#[test]
fn an_application_exchanges_its_secret_for_a_token() {
    let server = StubServer::start(entra);
    let signed = azure(&server, "s3cr&t=hunter22").sign(&at(NOW)).unwrap();
    assert_eq!(signed.headers[0].1.expose(), "Bearer eyJ0.token");
    assert_eq!(signed.confidential[0].expose(), "eyJ0.token");
}

#[test]
fn a_refused_exchange_quotes_the_service_but_no_secret() {
    let server = StubServer::start(entra);
    let refused = azure(&server, "wrong-secret-1").sign(&at(NOW)).unwrap_err();
    assert_eq!(
        refused.message,
        "the credential `api` can't be used: Microsoft Entra issued no token, and returned status 401: invalid_client \
         AADSTS7000215: Invalid client secret provided for app-12345678. https://management.azure.com/.default"
    );
    let echoing = StubServer::start(|request| {
        let secret = form(request).into_iter().find(|(key, _)| key == "client_secret").unwrap().1;
        respond(400, &json!({ "error": "invalid", "error_description": format!("not {secret}") }).to_string())
    });
    let refused = azure(&echoing, "wrong-secret-1").sign(&at(NOW)).unwrap_err();
    assert!(refused.message.ends_with("returned status 400"), "{}", refused.message);
}

#[test]
fn a_response_without_a_usable_token_is_refused_and_a_redirect_is_not_followed() {
    let sign = |status, body: &'static str| {
        let server = StubServer::start(move |_| respond(status, body).with_header("location", "http://127.0.0.1:1/"));
        azure(&server, "s3cr&t=hunter22").sign(&at(NOW)).unwrap_err().message
    };
    for body in [
        "not json",
        r#"{"token_type":"Bearer"}"#,
        r#"{"token_type":"mac","access_token":"x"}"#,
        r#"{"token_type":"Bearer","access_token":""}"#,
    ] {
        assert!(sign(200, body).ends_with("Microsoft Entra returned no bearer token"), "{body}");
    }
    let split = sign(200, "{\"token_type\":\"Bearer\",\"access_token\":\"a\\r\\nx-evil: 1\"}");
    assert!(split.ends_with("its token isn't one line of visible characters"), "{split}");
    assert!(sign(307, "").ends_with("issued no token, and returned status 307"));
}
