use std::time::{Duration, UNIX_EPOCH};

use stagewright_model::BodyDigest;

use super::*;

#[cfg(feature = "aws")]
mod aws;
mod docker;
#[cfg(feature = "kubernetes")]
mod kubeconfig;
mod tokens;

/// A credential `api` for `https://api.example.org`, or a socket for a registry. `keys`: those of its type, and `secrets`:
/// the values of the secrets that they name.
fn signer_of(
    kind: &str,
    keys: &[(&str, &str)],
    secrets: &[(&str, &str)],
) -> Result<Arc<dyn RequestSigner>, SigningError> {
    let origin = if kind == "docker-registry" { "unix:///run/docker.sock" } else { "https://api.example.org" };
    let origins = if kind == "kubeconfig" { "[]".to_owned() } else { format!("[\"{origin}\"]") };
    let origins = if kind == "kubeconfig" { String::new() } else { format!("origins = {origins}\n") };
    let keys = keys.iter().map(|(key, value)| format!("{key} = {}\n", toml_text(value))).collect::<String>();
    let declared = secrets.iter().map(|(name, _)| {
        let hosts =
            r#"["api.example.org", "*.googleapis.com", "*.microsoftonline.com", "127.0.0.1", "ghcr.io", "docker.io"]"#;
        format!("[secrets.{name}]\nfrom = \"env:X\"\nhosts = {hosts}\n")
    });
    let text = format!(
        "schema = 1\npipeline.name = \"x\"\n{}[credentials.api]\ntype = \"{kind}\"\n{origins}{keys}\
         [stages.a]\nuses = \"noop\"\npermissions.credentials = [\"api\"]\n",
        declared.collect::<String>()
    );
    let plan = stagewright_model::Plan::parse("stagewright.toml", &text, &["noop"].into_iter().collect());
    let plan =
        plan.unwrap_or_else(|errors| panic!("{:?}", errors.iter().map(|one| one.message()).collect::<Vec<_>>())).0;
    let value = |name: &str| {
        Ok(SecretValue::from(secrets.iter().find(|(own, _)| *own == name).expect("a value of the secret").1))
    };
    signer("api", &plan.credentials["api"], &value, &SourceContext::default())
}

fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn request(method: &str, url: &str) -> RequestToSign {
    RequestToSign {
        method: method.to_owned(),
        url: url.parse().unwrap(),
        headers: Vec::new(),
        body: BodyDigest::Empty,
        now: UNIX_EPOCH + Duration::from_secs(1_440_938_160),
    }
}

fn headers(signed: &SignedHeaders) -> Vec<(&str, &str)> {
    signed.headers.iter().map(|(name, value)| (*name, value.expose())).collect()
}

#[test]
fn a_token_and_a_password_become_the_header_of_their_scheme() {
    let get = request("GET", "https://api.example.org/x");
    let bearer = signer_of("bearer", &[("token", "t")], &[("t", "hunter22")]).unwrap();
    assert_eq!(headers(&bearer.sign(&get).unwrap()), [("authorization", "Bearer hunter22")]);
    // The example of RFC 7617, section 2.
    let keys = [("username", "Aladdin"), ("password", "p")];
    let basic = signer_of("basic", &keys, &[("p", "open sesame")]).unwrap();
    assert_eq!(headers(&basic.sign(&get).unwrap()), [("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")]);
    for (signer, secret) in [(bearer, "hunter22"), (basic, "open sesame")] {
        assert_eq!(signer.confidential()[0].expose(), secret);
        assert_eq!(signer.endpoint().as_deref(), Some("https://api.example.org"));
        assert!(!signer.covers_content() && !format!("{signer:?}").contains(secret));
    }
}

#[test]
fn a_secret_that_would_add_headers_is_refused_without_its_value() {
    for (kind, keys) in [("bearer", &[("token", "t")][..]), ("basic", &[("username", "u"), ("password", "t")])] {
        let refused = signer_of(kind, keys, &[("t", "hunter22\r\nx-evil: 1")]).unwrap_err();
        assert!(refused.message.contains("isn't one line of visible characters"), "{refused}");
        assert!(!refused.message.contains("hunter22"));
    }
}

#[test]
fn a_client_certificate_authenticates_the_connection_and_not_the_request() {
    let keys = [("certificate", "c"), ("key", "k"), ("ca", "a")];
    let signer = signer_of("client-certificate", &keys, &[("c", "CERT"), ("k", "KEY-12345"), ("a", "CA")]).unwrap();
    let text = |value: &Option<SecretValue>| value.as_ref().map(|value| value.expose().to_owned());
    assert_eq!(text(&signer.tls().identity).as_deref(), Some("CERT\nKEY-12345"));
    assert_eq!(text(&signer.tls().authorities).as_deref(), Some("CA"));
    assert_eq!(headers(&signer.sign(&request("GET", "https://api.example.org/")).unwrap()), []);
    assert_eq!(signer.confidential().iter().map(SecretValue::expose).collect::<Vec<_>>(), ["KEY-12345"]);
    let only = signer_of("certificate-authority", &[("ca", "a")], &[("a", "CA")]).unwrap();
    assert_eq!((text(&only.tls().identity), text(&only.tls().authorities).as_deref()), (None, Some("CA")));
}
